"""Claims: a folder that one process at a time may write to, for as long as that lives.

A lock of the system holds a claim, and ends with its process, however that ends. Locks of network
file systems may not reach other machines, so a record beside the lock says who holds it, and is
touched every few seconds: what another machine has left is watched before it counts as stale.
"""

import errno
import functools
import inspect
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import ParamSpec, TypeVar

from filelock import FileLock, Timeout

from hffruits.core.cache import make_once
from hffruits.core.errors import InputError
from hffruits.core.files import release_lock, translate_write_errors, write_json
from hffruits.core.launch import is_main_process

P, T = ParamSpec("P"), TypeVar("T")
logger = logging.getLogger(__name__)
CLAIM = ".claim"  # the record; the lock is beside it
BEAT = 5.0  # seconds between two signs of life
WATCHED = 4 * BEAT
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK, errno.EINVAL)


class InUseError(InputError):
    """Another process, which is alive, writes there."""


@contextmanager
def claim(folder: Path, *, beside: bool = False) -> Iterator[None]:
    """Within it, no other process may claim the folder. Raises `InUseError` where one has.

    The folder is made, and removed again if nothing is put there. `beside`: it isn't, for it is to
    appear as a whole later.
    """
    place = folder.with_name(f".{folder.name}{CLAIM}") if beside else folder / CLAIM
    with ExitStack() as stack:
        with translate_write_errors(folder, "Give another output_dir."):
            made = [path for path in (place.parent, *place.parent.parents) if not path.exists()]
            place.parent.mkdir(parents=True, exist_ok=True)
            stack.callback(_remove_empty, made)
            locked = _lock(folder, place, stack)
            record = _read(place)
            if record and not (locked and record.get("host") == socket.gethostname()):
                _watch(folder, place, record)
            _write(place)
        stack.callback(_remove, place)
        stack.enter_context(_beating(place))
        yield


def make_new(folder: Path, make: Callable[[Path], None], *, remedy: str) -> None:
    """Have `make` fill a new folder, which appears whole or not at all.

    Raises `InputError` for one that is there already, or that another process is making.
    """
    with claim(folder, beside=True):
        if folder.exists():
            raise InputError(f"{folder}: already exists. {remedy}")
        make_once(folder, make, remedy=remedy)


def claims_output_dir(function: Callable[P, T]) -> Callable[P, T]:
    """Has a function claim the folder that its keyword `output_dir` names, while it runs.

    Of the processes of one launch, the first one does.
    """
    default = inspect.signature(function).parameters["output_dir"].default

    @functools.wraps(function)
    def claiming(*args: P.args, **kwargs: P.kwargs) -> T:
        if not is_main_process():
            return function(*args, **kwargs)
        with claim(Path(kwargs.get("output_dir") or default).expanduser()):
            return function(*args, **kwargs)

    return claiming


def _lock(folder: Path, place: Path, stack: ExitStack) -> bool:
    """Hold the lock until the stack ends; False on a file system without locks."""
    # a stand-in by the file's existence would outlive its process
    lock = FileLock(place.with_name(f"{place.name}.lock"), timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise _in_use(folder, _read(place)) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.debug("%s: no locks here (%s)", folder, error)
        stack.callback(_remove, Path(lock.lock_file))  # which holds nothing here
        return False
    stack.callback(release_lock, lock)
    return True


def _in_use(folder: Path, record: dict[str, str | int]) -> InUseError:
    who = "another process"
    if record:
        who = f"process {record['pid']} on {record['host']}, since {record['since']},"
    return InUseError(
        f"{folder}: {who} is writing there. Choose another output_dir, or wait until it has ended."
    )


def _watch(folder: Path, place: Path, record: dict[str, str | int]) -> None:
    """Raise `InUseError` for a claim that is touched while it is watched; else it is stale."""
    first = _touched(place)
    logger.warning(
        "%s: process %s on %s has left a claim; watching for %.0f seconds whether it is alive",
        *(folder, record["pid"], record["host"], WATCHED),
    )
    deadline = time.monotonic() + WATCHED
    while time.monotonic() < deadline:
        time.sleep(BEAT / 5)
        if _touched(place) != first:
            if not _read(place):
                return  # it has ended
            raise _in_use(folder, record)


def _touched(place: Path) -> int:
    """By opening it: network file systems ask the server then."""
    with suppress(OSError), place.open("rb") as file:
        return os.fstat(file.fileno()).st_mtime_ns
    return 0


def _read(place: Path) -> dict[str, str | int]:
    """Who holds it; nothing where nobody does, or it is just being written."""
    try:
        record = json.loads(place.read_text(encoding="utf-8"))
        return {name: record[name] for name in ("pid", "host", "since")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write(place: Path) -> None:
    since = datetime.now().strftime("%Y-%m-%d %H:%M")
    write_json(place, {"pid": os.getpid(), "host": socket.gethostname(), "since": since})


@contextmanager
def _beating(place: Path) -> Iterator[None]:
    """Within it, a thread touches the record."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            with suppress(OSError):
                os.utime(place)

    thread = threading.Thread(target=beat, name="claim", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _remove(place: Path) -> None:
    with suppress(OSError):
        place.unlink(missing_ok=True)


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:  # the innermost first
        with suppress(OSError):  # it holds something by now
            folder.rmdir()
