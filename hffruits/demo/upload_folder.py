"""The demo's upload folder, and what is made of uploads: bounded and cleaned up.

The folder may be memory (tmpfs), so the bound is a share of the space that is there.
"""

import atexit
import os
import shutil
import tempfile
import time
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path

from hffruits.core.errors import InputError

MAX_BYTES = 20 * 10**9  # of all files, where there is more space than that
SHARE = 4  # at most one part of so many of the space that the folder could have
ENTRY_BYTES = 4096  # that the smallest file or folder takes
STALE_SECONDS = 2 * 3600  # since anything was written; gradio removes most after an hour
ABANDONED_SECONDS = 600  # the same of an upload that was broken off
MEASURED_FOR = 5.0  # seconds


@cache
def temporary_folder() -> Path:
    """A new folder, removed when the process ends: one for the process, and gradio's for uploads.

    It is made in GRADIO_TEMP_DIR where that is set. Raises `InputError` where it can't be made.
    """
    parent = os.environ.get("GRADIO_TEMP_DIR")
    try:
        if parent:
            Path(parent).mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(prefix="hffruits-demo-", dir=parent)
    except OSError as error:
        place = parent or tempfile.gettempdir()
        raise InputError(
            f"{place}: uploads can't be kept there ({error.strerror}). Set GRADIO_TEMP_DIR to "
            "another folder."
        ) from error
    atexit.register(_remove, Path(folder))
    os.environ["GRADIO_TEMP_DIR"] = folder
    return Path(folder)


def _remove(folder: Path) -> None:
    """At the end of the process, until it stays away: threads may still make it again."""
    absent = 0
    for _ in range(50):
        absent = 0 if folder.exists() else absent + 1
        if absent > 5:
            return
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.1)


class UploadFolder:
    """Counts all that lies below a folder, and removes leftovers.

    What lies there already stays: the page's own files.
    """

    def __init__(self, path: Path):
        self.path = path
        self._own = {entry.name for entry in path.iterdir()}
        self._kept = 0  # bytes, as far as is known
        self._measured = float("-inf")

    @property
    def bound(self) -> int:
        """How many bytes may lie here: never more than a share of what the file system has left."""
        self._make()
        left = self._kept + shutil.disk_usage(self.path).free
        return min(MAX_BYTES, left // SHARE)

    def is_full(self) -> bool:
        return self._kept > self.bound

    def add(self, size: int) -> None:
        """Count bytes that are being written, until it is measured again."""
        self._kept += size

    def measure(self) -> None:
        """Sweep and count, if that was long ago. Takes a moment where many files lie here."""
        if time.monotonic() < self._measured + MEASURED_FOR:
            return
        self._measured = time.monotonic()
        self._make()
        with os.scandir(self.path) as entries:
            self._kept = sum(self._swept(entry) for entry in entries)

    def _make(self) -> None:
        """Again, if something that cleans the temp folder has removed it."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _swept(self, entry: os.DirEntry) -> int:
        """The bytes of a file or folder, 0 if it was removed since nobody writes to it any more."""
        path, is_folder = Path(entry.path), entry.is_dir(follow_symlinks=False)
        size, written = _size_and_time(path, is_folder)
        # a file beside the folders is an upload that isn't complete
        longest = STALE_SECONDS if is_folder else ABANDONED_SECONDS
        if entry.name in self._own or time.time() - written < longest:
            return size
        if is_folder:
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):  # Windows removes no file that is open
                path.unlink()
        return 0


def _size_and_time(path: Path, is_folder: bool) -> tuple[int, float]:
    """Bytes of a file, or of a folder with all in it, and when one of them was written last."""
    inside = (Path(top, name) for top, *names in os.walk(path) for name in chain(*names))
    size, newest = 0, 0.0
    for each in chain([path], inside if is_folder else ()):
        with suppress(FileNotFoundError):  # removed meanwhile
            found = os.lstat(each)
            size += max(found.st_size, ENTRY_BYTES)
            newest = max(newest, found.st_mtime)
    return size, newest
