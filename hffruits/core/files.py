"""Files written safely: beside their place, flushed, renamed, so that each is whole or not there.

They raise OSError where that can't be; `translate_write_errors` makes it one line for the user.
Left out: appending (the journal of a batch prediction), large arrays that are filled over hours
(the feature cache), and what is in a folder that is itself made aside and renamed whole
(checkpoints, exports, Spaces).
"""

import hashlib
import json
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from hffruits.core.errors import InputError, short_reason

logger = logging.getLogger(__name__)
WINDOWS = os.name == "nt"
CSV_ENCODING = "utf-8-sig"  # spreadsheets take a CSV without this mark for one in a local code page


def warn_if_replaced(file: Path) -> None:
    """Say that results will be replaced, where `file`, their record, is there already."""
    if file.exists():
        logger.warning("%s: replacing its results. Set output_dir to keep both", file.parent)


@contextmanager
def write_aside(file: Path) -> Iterator[Path]:
    """Within it, a path to write to, in the same folder; at the end it becomes `file`.

    The folder is made. If the block raises, nothing is left, and `file` is as it was. Processes
    that write the same file don't disturb each other: the last one's stays.

    >>> with write_aside(Path("predictions.csv")) as aside:
    ...     aside.write_text("path,label\\n", encoding="utf-8")
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.stem[:100]}-{secrets.token_hex(4)}{file.suffix}")
    try:
        yield aside
        flush(aside)
        aside.replace(file)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def content_digest(content: bytes) -> str:
    """BLAKE2b of 16 bytes, hexadecimal: equal for equal files, wherever they lie."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def write_text(file: Path, text: str) -> None:
    """In UTF-8; names of files that aren't are escaped."""
    with write_aside(file) as aside:
        aside.write_bytes(text.encode("utf-8", "backslashreplace"))


def write_json(file: Path, content: object) -> None:
    """Indented, with a line break at the end."""
    write_text(file, json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")


@contextmanager
def translate_write_errors(place: Path, remedy: str = "Choose another path.") -> Iterator[None]:
    """Within it, what the system refuses to write becomes an `InputError` that names `place`."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{place}: can't be written ({short_reason(error)}). {remedy}") from error


@contextmanager
def translate_open_errors(folder: Path) -> Iterator[None]:
    """Within it, a file that can't be replaced or removed is an `InputError` that names it.

    On Windows so is each that another program has open: a table in a spreadsheet, say.
    """
    try:
        yield
    except PermissionError as error:
        file = error.filename2 or error.filename or folder
        raise InputError(
            f"{file}: can't be replaced ({short_reason(error)}). Close it if a program has it "
            "open, or choose another folder."
        ) from error


@contextmanager
def optional_cache(file: Path) -> Iterator[None]:
    """Within it, a cache that can't be written is worth a warning: it is computed again."""
    try:
        yield
    except OSError as error:
        logger.warning("%s: can't be written (%s)", file, short_reason(error))


def check_writable(folder: Path, remedy: str = "Choose another folder.") -> None:
    """Make the folder. Raises `InputError` where it, or a file in it, can't be written."""
    probe = folder / f".writable-{secrets.token_hex(4)}"
    with translate_write_errors(folder, remedy):
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()


def file_below(folder: Path, name: str | Path) -> Path | None:
    """A regular file below a folder after links are followed; None for one that lies elsewhere.

    Of a folder from a stranger, a link may lead to any file of this machine. In the Hub's cache all
    files are links, to the `blobs` beside the snapshots.
    """
    root = folder.resolve()
    places = [root, *([root.parents[1] / "blobs"] if root.parent.name == "snapshots" else [])]
    try:
        file = (root / name).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):  # missing; a NUL or a loop of links
        return None
    return file if file.is_file() and any(map(file.is_relative_to, places)) else None


def release_lock(lock: FileLock) -> None:
    """Release it, and remove its file: where that can be, before anyone may take the same one."""
    if not WINDOWS:  # where filelock removes the file, once it is closed
        Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


def flush(path: Path) -> None:
    """Onto the disk, also where the power fails after it."""
    if WINDOWS:  # folders can't be opened there
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
