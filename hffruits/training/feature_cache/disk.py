"""Disk space of the feature cache: its limit, eviction of the oldest, locks of what is written.

Each set of features has a folder of its own. What is being computed lies in a hidden one, whose
lock its run holds; without a holder it is a leftover, which the next run of its kind resumes.
"""

import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from accelerate import PartialState
from filelock import FileLock, Timeout

from hffruits.core.cache import cache_root
from hffruits.core.distributed import gather
from hffruits.core.errors import DISK_FULL, InputError
from hffruits.core.hardware import total_memory

FILE, RECORD = "activations.bin", "activations.json"
DAY = 86_400  # seconds
A_MOMENT = 1.0  # seconds: others check whether a folder is taken by taking it
_ZEROS = bytes(1 << 24)


class NoRoomError(InputError):
    """The disk, or the share of it that features may take, is too small."""


def folder_of_features(cache_dir: Path | None = None) -> Path:
    """Where all features are cached. Raises `InputError` if it can't be made."""
    root = cache_root(cache_dir) / "features"
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(root, error) from error
    return root


def room_for_features() -> int:
    """Bytes that new features may take: half of the disk without them, and of all memory.

    What other runs are computing just now is taken off. Raises `InputError` where nothing can be
    written.
    """
    root = folder_of_features()
    sizes = {folder: cached.size for folder, cached in _list_features(root).items()}
    busy = sum(size for folder, size in sizes.items() if _is_busy(folder))
    return min(_allowed(root, sizes.values()) - busy, total_memory() // 2)


@contextmanager
def own_folder(root: Path, key: str) -> Iterator[Path]:
    """The hidden folder in which the processes of this machine compute the features `key`.

    What a run that was ended has left there is still in it. If another run is at work in it, this
    one gets a folder of its own. Raises `InputError` where nothing can be written.
    """
    machine, lock, name, error = os.environ.get("GROUP_RANK", "0"), None, None, None
    if PartialState().is_local_main_process:
        name = f".{key}-{machine}"
        try:
            lock = _lock_of(root / name)
            lock.acquire(timeout=A_MOMENT)
        except Timeout:
            name += f"-{secrets.token_hex(4)}"
            lock = _lock_of(root / name)
            lock.acquire()
        except OSError as caught:
            error = _not_writable(root, caught)
    gathered = gather((machine, name, error))
    try:
        for *_, caught in gathered:
            if caught:
                raise caught
        yield root / next(name for where, name, _ in gathered if where == machine and name)
    finally:
        if lock:
            lock.release()


def make_file(folder: Path, size: int, *, in_use: Collection[str] = ()) -> None:
    """A folder with an empty file of this size, for which older features may have to go.

    Those named in `in_use` stay. Raises `NoRoomError`, before anything is removed where there can't
    be any.
    """
    _make_room(folder, size, in_use)
    try:
        folder.mkdir(parents=True)
        with (folder / FILE).open("wb") as file:
            if hasattr(os, "posix_fallocate"):  # so that a full disk is reported now
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                for start in range(0, size, len(_ZEROS)):
                    file.write(_ZEROS[: size - start])
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        if error.errno in DISK_FULL:
            sizes = [cached.size for cached in _list_features(folder.parent).values()]
            raise _no_room(folder.parent, size, _allowed(folder.parent, sizes)) from error
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
    there = _list_features(root)
    for other, cached in list(there.items()):
        old = _is_hidden(other) and time.time() - cached.used > DAY
        if other != folder and old and _remove_free(other):
            del there[other]
    sizes = {other: cached.size for other, cached in there.items()}
    others = [other for other in there if other.name not in in_use and not _is_busy(other)]
    others.sort(key=lambda other: (not _is_hidden(other), there[other].used))  # leftovers first
    stays, allowed = sum(sizes.values()) + needed, _allowed(root, sizes.values())
    victims = []
    while stays > allowed:
        if not others:
            raise _no_room(root, needed, allowed)
        victims.append(others.pop(0))
        stays -= sizes[victims[-1]]
    for victim in victims:
        _remove_free(victim)


class _Cached(NamedTuple):
    """One set of features on the disk."""

    size: int
    used: float  # when


def _list_features(root: Path) -> dict[Path, _Cached]:
    """All there are; what another run renames or removes meanwhile is skipped."""
    found = {}
    for file in root.glob(f"*/{FILE}"):
        with suppress(OSError):
            record = file.with_name(RECORD)
            used = record if record.is_file() else file
            found[file.parent] = _Cached(file.stat().st_size, used.stat().st_mtime)
    return found


def _allowed(root: Path, sizes: Iterable[int]) -> int:
    """Bytes of all features together."""
    return (shutil.disk_usage(root).free + sum(sizes)) // 2


def _is_hidden(folder: Path) -> bool:
    return folder.name.startswith(".")


def _is_busy(folder: Path) -> bool:
    """Whether a run is at work in it just now."""
    with _held(folder) as free:
        return not free


def _remove_free(folder: Path) -> bool:
    """Remove it unless a run is at work in it; whether that was done."""
    with _held(folder) as free:
        if free:
            remove(folder)
        return free


@contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Within it no run can begin to work in a hidden folder; False where one does already."""
    if not _is_hidden(folder):
        yield True
        return
    try:
        lock = _lock_of(folder)
        lock.acquire()
    except Timeout:
        yield False
        return
    except OSError as error:
        raise _not_writable(folder.parent, error) from error
    try:
        yield True
    finally:
        lock.release()


def _lock_of(folder: Path) -> FileLock:
    """Its file stays: another process may just be taking the one that would be removed."""
    locks = folder.parent.with_name("features-locks")
    locks.mkdir(exist_ok=True)
    return FileLock(locks / f"{folder.name.lstrip('.')}.lock", timeout=0)


def _not_writable(root: Path, error: OSError) -> InputError:
    return InputError(
        f"feature_cache_views: {root} can't be written ({error.strerror}). Set HFFRUITS_CACHE, or "
        "feature_cache_views to 0."
    )


def _no_room(root: Path, needed: int, allowed: int) -> NoRoomError:
    return NoRoomError(
        f"feature_cache_views: needs {needed / 1e9:.1f} GB in {root}; all features together may "
        f"take {allowed / 1e9:.1f} GB, half of what is free. Cache fewer views, freeze more "
        "stages, or set HFFRUITS_CACHE."
    )
