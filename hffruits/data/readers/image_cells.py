"""What a cell of a table says of an image: a path as people write it, its bytes, or base64 text.

No file is opened, and nothing is downloaded but what a dataset of the Hub names itself.
"""

import base64
import binascii
import logging
import os
import re
from collections import defaultdict
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import fsspec

from hffruits.core.errors import InputError
from hffruits.core.escaping import shorten
from hffruits.core.names import file_key, list_names
from hffruits.data.images import PHOTOS, is_image_head, kind_of, walk_files

logger = logging.getLogger(__name__)

# The start of base64 text, bare or as a data URL; a bare one may be a long path as well.
_BASE64 = re.compile(rb"(data:[\w/.+-]*;base64,)|[A-Za-z0-9+/_-]{44}")
_DATA_URL = 100  # bytes before the comma, at most
_STANDARD = bytes.maketrans(b"-_", b"+/")  # from the alphabet for URLs
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")  # how an absolute path begins there


def image_of(value: Any, finder: "FileFinder | None" = None) -> dict[str, Any]:
    """An image as `datasets` stores it; with only the bytes where there are any.

    With a path, too, it would drop the bytes where a file of that name is in the working folder.
    `finder` looks for the files that paths mean.
    """
    path = str(value) if isinstance(value, str | int) else None
    if isinstance(value, dict):
        path, value = value.get("path"), value.get("bytes")
        value = value.encode() if isinstance(value, str) and not is_base64(value) else value
    content = _decode(value) if isinstance(value, bytes | str) else None
    if content is None and isinstance(value, bytes):
        content = value
    if content is not None:
        return {"path": None, "bytes": content}
    if path and path.startswith("hf://") and finder is None:  # of a Hub dataset, streamed
        with fsspec.open(path) as file:
            return {"path": None, "bytes": file.read()}
    if path:
        return {"path": finder.find(path) if finder else path, "bytes": None}
    return {"path": None, "bytes": b""}


def is_base64(value: Any) -> bool:
    """Whether a cell holds an image as base64 text."""
    return isinstance(value, bytes | str) and _decode(value) is not None


def with_slashes(path: str) -> str:
    """A path as written on Windows, too, with slashes."""
    return path.replace("\\", "/")


def _decode(value: bytes | str) -> bytes | None:
    """The image in base64 text; None for anything else."""
    head = value[:_DATA_URL]
    found = _BASE64.match(head.encode(errors="replace") if isinstance(head, str) else head)
    if not found:
        return None
    text = value.encode(errors="replace") if isinstance(value, str) else value
    text = text.partition(b",")[2] if found[1] else text
    text = b"".join(text.split()).translate(_STANDARD)
    try:
        content = base64.b64decode(text + b"=" * (-len(text) % 4))
    except binascii.Error:
        return None
    return content if found[1] or is_image_head(content) else None


class _Photos(NamedTuple):
    """The photos below a folder, as paths from it on, by what a table may call them."""

    by_name: dict[str, list[PurePosixPath]]
    by_stem: dict[str, list[PurePosixPath]]  # the name without its suffix


class FileFinder:
    """Finds the files that the paths in a table mean, and counts them; see `find`.

    The photos below the table's folder are listed only once a path leads nowhere.
    """

    def __init__(self, folder: Path, source: object):
        self.folder, self.source = folder, str(source)
        self.moved, self.missing = 0, 0
        self.first_moved: tuple[str, str] | None = None
        self.first_missing = ""

    def find(self, path: str) -> str:
        """The file as the path says, from the table's folder on, with backslashes or slashes.

        Where none is there, the only photo below the folder whose own path ends so, in any letter
        case; of a name without a suffix, with any. Raises `InputError` where several do.
        """
        for written in (path, with_slashes(path)):
            place = os.path.join(self.folder, written)  # noqa: PTH118, faster
            if os.path.isfile(place):  # noqa: PTH113, faster
                return place
        found = self._below(with_slashes(path))
        if len(found) > 1:
            raise InputError(
                f"{self.source}: {shorten(path)} may be any of {list_names(found)}. Write the path "
                "from the table's folder on, or move the other photos away."
            )
        if found:
            self.moved += 1
            self.first_moved = self.first_moved or (path, str(found[0]))
            return str(self.folder / found[0])
        self.missing += 1
        self.first_missing = self.first_missing or path
        return place

    def report(self, column: str, total: int, *, of_stream: bool = False) -> None:
        """Say where files were found; warn, with the likely cause, where most are missing.

        Raises `InputError` where all are. `total` is how many were looked for: of a stream, the
        first ones.
        """
        if self.moved:
            logger.info(
                "%s: %d photos found by the end of their paths, such as %s for %s",
                *(self.source, self.moved, self.first_moved[1], shorten(self.first_moved[0])),
            )
        if self.missing * 2 <= total:
            return
        all_missing = self.missing == total
        count = f"all {total:,}" if all_missing else f"{self.missing:,} of {total:,}"
        count = f"the first {total:,}" if all_missing and of_stream else count
        said = (
            f"{self.source}: {count} files that the column {column} names are missing (such as "
            f"{shorten(self.first_missing)}): {self._cause()}"
        )
        if all_missing:
            raise InputError(f"{said}.")
        logger.warning("%s", said)

    def _cause(self) -> str:
        """Why files are missing, by the first of them, and the remedy."""
        path = self.first_missing
        from_table = "Write paths from the table's folder on"
        if "://" in path:
            return "URLs, which are not downloaded. Download them, and name the files"
        if _WINDOWS.match(path):
            return f"absolute paths of a Windows computer. {from_table}"
        if path.startswith("/"):
            return f"absolute paths, of another computer maybe. {from_table}"
        photos = [path for some in self._photos.by_name.values() for path in some]
        stem = file_key(PurePosixPath(with_slashes(path)).stem)
        if other := self._photos.by_stem.get(stem):
            return f"there is {other[0]}. Correct the folder or the suffix"
        if not photos:
            return f"no photo lies below {self.folder}. Put the table beside the photos' folders"
        return (
            f"of the {len(photos):,} photos below {self.folder}, such as {photos[0]}, none is "
            "called so. Correct the paths, or name their column as image_column_name"
        )

    def _below(self, path: str) -> list[PurePosixPath]:
        """The photos below the folder that a path may mean."""
        *folders, name = PurePosixPath(path).parts or ("",)
        if not name or ".." in folders or path.startswith("/") or "://" in path:
            return []
        photos = self._photos
        found = photos.by_name.get(file_key(name), [])
        if not found and kind_of(name) not in PHOTOS:
            found = photos.by_stem.get(file_key(name), [])
        wanted = [file_key(folder) for folder in folders]
        return [photo for photo in found if _ends_with(photo.parts[:-1], wanted)]

    @cached_property
    def _photos(self) -> _Photos:
        photos = _Photos(defaultdict(list), defaultdict(list))
        for file in walk_files(self.folder):
            if kind_of(file.name) in PHOTOS:
                path = PurePosixPath(file.relative_to(self.folder).as_posix())
                photos.by_name[file_key(path.name)].append(path)
                photos.by_stem[file_key(path.stem)].append(path)
        return photos


def _ends_with(folders: tuple[str, ...], wanted: list[str]) -> bool:
    return not wanted or [file_key(folder) for folder in folders[-len(wanted) :]] == wanted
