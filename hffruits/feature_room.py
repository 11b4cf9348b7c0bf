"""The disk that kept features take: how much of it, which make room for others, who writes what.

Each set of features has a folder of its own. What is being computed lies in a hidden one, whose
lock its run holds; without a holder it is a leftover, which the next run of its kind goes on with.
"""

import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from accelerate import PartialState
from filelock import FileLock, Timeout

from hffruits.cache import cache_root
from hffruits.distributed import gather
from hffruits.errors import DISK_FULL, InputError
from hffruits.memory_limit import total_memory

FILE, RECORD = "activations.bin", "activations.json"
DAY = 86_400  # seconds
_ZEROS = bytes(1 << 24)


class NoRoom(InputError):
    """The disk, or the share of it that features may take, is too small."""


def folder_of_features(cache_dir: Path | None = None) -> Path:
    """Where all features are kept. Raises `InputError` if it can't be made."""
    root = cache_root(cache_dir) / "features"
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(root, error) from error
    return root


def room_for_features() -> int:
    """Bytes that new features may take: half of the disk without them, and of all memory.

    What other runs are computing just now is taken off.
    """
    root = folder_of_features()
    busy = sum(size for folder, size in _sizes(root).items() if _is_busy(folder))
    return min(_allowed(root) - busy, total_memory() // 2)


@contextmanager
def own_folder(root: Path, key: str) -> Iterator[Path]:
    """The hidden folder in which the processes of this machine compute the features `key`.

    What a run that was ended has left there is still in it. If another run is at work in it, this
    one gets a folder of its own.
    """
    machine, lock, name = os.environ.get("GROUP_RANK", "0"), None, None
    if PartialState().is_local_main_process:
        name = f".{key}-{machine}"
        lock = _lock_of(root / name)
        try:
            lock.acquire()
        except Timeout:
            name += f"-{secrets.token_hex(4)}"
            lock = _lock_of(root / name)
            lock.acquire()
    named = {where: found for where, found in gather((machine, name)) if found}
    try:
        yield root / named[machine]
    finally:
        if lock:
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)


def make_file(folder: Path, size: int, *, in_use: Collection[str] = ()) -> None:
    """A folder with an empty file of this size, for which older features may have to go.

    Those named in `in_use` stay. Raises `NoRoom`, before anything is removed if there can't be any.
    """
    _make_room(folder, size, in_use)
    try:
        folder.mkdir(parents=True)
        with (folder / FILE).open("wb") as file:
            if hasattr(os, "posix_fallocate"):  # so that a full disk is told now
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                for start in range(0, size, len(_ZEROS)):
                    file.write(_ZEROS[: size - start])
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        if error.errno in DISK_FULL:
            raise _no_room(folder.parent, size) from error
        raise _not_writable(folder.parent, error) from error


def remove(folder: Path) -> None:
    """At once, for others: half of it must not be taken for the whole."""
    aside = folder.with_name(f".removed-{secrets.token_hex(4)}")
    with suppress(OSError):  # gone, or on Windows still open in another run
        folder.rename(aside)
        shutil.rmtree(aside)


def _make_room(folder: Path, needed: int, in_use: Collection[str]) -> None:
    """Remove leftovers, then the features used longest ago, until the new ones fit in."""
    root = folder.parent
    sizes = _sizes(root)
    for other in [other for other in sizes if other.name.startswith(".")]:
        old = time.time() - (other / FILE).stat().st_mtime > DAY
        if other != folder and old and not _is_busy(other):
            remove(other)
            del sizes[other]
    others = [other for other in sizes if other.name not in in_use and not _is_busy(other)]
    others.sort(key=_last_used)
    stays, allowed = sum(sizes.values()) + needed, _allowed(root)
    victims = []
    while stays > allowed:
        if not others:
            raise _no_room(root, needed)
        victims.append(others.pop(0))
        stays -= sizes[victims[-1]]
    for victim in victims:
        remove(victim)


def _sizes(root: Path) -> dict[Path, int]:
    return {file.parent: file.stat().st_size for file in root.glob(f"*/{FILE}")}


def _allowed(root: Path) -> int:
    """Bytes of all features together."""
    return (shutil.disk_usage(root).free + sum(_sizes(root).values())) // 2


def _is_busy(folder: Path) -> bool:
    """Whether a run is at work in it just now."""
    if not folder.name.startswith("."):
        return False
    lock = _lock_of(folder)
    try:
        lock.acquire()
    except Timeout:
        return True
    lock.release()
    Path(lock.lock_file).unlink(missing_ok=True)
    return False


def _lock_of(folder: Path) -> FileLock:
    return FileLock(folder.with_name(f"{folder.name}.lock"), timeout=0)


def _last_used(folder: Path) -> tuple[bool, float]:
    """Leftovers go first."""
    file = folder / RECORD if (folder / RECORD).is_file() else folder / FILE
    return not folder.name.startswith("."), file.stat().st_mtime


def _not_writable(root: Path, error: OSError) -> InputError:
    return InputError(
        f"cache_features: {root} can't be written ({error.strerror}). Set HFFRUITS_CACHE, or "
        "cache_features to none."
    )


def _no_room(root: Path, needed: int) -> NoRoom:
    return NoRoom(
        f"cache_features: needs {needed / 1e9:.1f} GB in {root}; all features together may take "
        f"{_allowed(root) / 1e9:.1f} GB, half of what is free. Keep fewer views, freeze more "
        "stages, or set HFFRUITS_CACHE."
    )
