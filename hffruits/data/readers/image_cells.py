"""What a cell of a table says of an image: a path as people write it, its bytes, or base64 text.

The photos below a table's folder are listed; only those of a streamed Hub dataset are opened.
"""

import base64
import binascii
import logging
import os
import re
from collections import Counter, defaultdict
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import datasets.config
import fsspec
from huggingface_hub import constants

from hffruits.core.counts import counted
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
    `finder` looks for the files that paths mean. Without one the rows are of the Hub; raises
    `InputError` for a path of theirs that `datasets` hasn't downloaded.
    """
    path = str(value) if isinstance(value, str | int) else None
    if isinstance(value, dict):
        path, value = value.get("path"), value.get("bytes")
        value = value.encode() if isinstance(value, str) else value
    if isinstance(value, bytes | str):
        content = _decode(value)
        if content is None and isinstance(value, bytes):
            content = value
        if content is not None:
            return {"path": None, "bytes": content}
    if not path:
        return {"path": None, "bytes": b""}
    if finder:
        return {"path": finder.find(path), "bytes": None}
    if path.startswith("hf://"):  # streamed
        with fsspec.open(path) as file:
            return {"path": None, "bytes": file.read()}
    if not _is_downloaded(path):
        raise InputError(
            f"{shorten(path)}: a file of this computer, which rows of the Hub name, and which is "
            "not read. Use a dataset that holds its images."
        )
    return {"path": path, "bytes": None}


def _is_downloaded(path: str) -> bool:
    """Whether a file lies in the caches of the Hub and of `datasets`, also behind links."""
    place = os.path.realpath(path)
    caches = map(os.path.realpath, (constants.HF_HUB_CACHE, datasets.config.HF_DATASETS_CACHE))
    return any(place.startswith(os.path.join(cache, "")) for cache in caches)  # noqa: PTH118


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
        content = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return None
    known = is_image_head(content) and not content.startswith(_TWO_BYTES)
    return content if found[1] or known else None


_TWO_BYTES = b"\xff\x0a"  # as JPEG XL may start, and `/wo`, so a path as well


class _Photos(NamedTuple):
    """The photos below a folder, as paths from it on, by what a table may call them.

    That is the file's name, by itself and with the folder that it lies in, as `file_key` has them.
    """

    by_name: dict[tuple[str, ...], list[PurePosixPath]]
    by_stem: dict[tuple[str, ...], list[PurePosixPath]]  # the name without its suffix


class FileFinder:
    """Finds the files that the paths in a table mean, and counts them; see `find`.

    The photos below the table's folder are listed only once a path leads nowhere.
    """

    def __init__(self, folder: Path, source: object):
        self.folder, self.source = folder, str(source)
        self.moved: dict[str, list[tuple[str, str]]] = defaultdict(list)  # by folder: see `_top`
        self.tops: Counter[str] = Counter()  # how many files were found in each
        self.missing, self.first_missing = 0, ""

    def find(self, path: str) -> str:
        """The file as the path says, from the table's folder on, with backslashes or slashes.

        Where none is there, the only photo below the folder whose own path ends so, in any letter
        case; of a name without a suffix, with any. Raises `InputError` where several do.
        """
        for written in dict.fromkeys((path, with_slashes(path))):
            place = os.path.join(self.folder, written)  # noqa: PTH118, faster
            if os.path.isfile(place):  # noqa: PTH113, faster
                self.tops[_top(with_slashes(written))] += 1
                return place
        found = self._below(with_slashes(path))
        if len(found) > 1:
            raise InputError(
                f"{self.source}: {shorten(path)} may be any of {list_names(found)}. Write the path "
                "from the table's folder on, or move the other photos away."
            )
        if found:
            top = _top(str(found[0]))
            self.tops[top] += 1
            self.moved[top].append((path, str(found[0])))
            return str(self.folder / found[0])
        self._miss(path)
        return place

    def _miss(self, path: str) -> None:
        self.missing += 1
        self.first_missing = self.first_missing or path

    def drop_strays(self) -> dict[str, str]:
        """Count files as missing that were found where few are: the mask of a missing photo, say.

        Those are in a folder with less than a quarter of the files that the usual one has. Gives
        such a file -> the one that the table names, and warns of them.
        """
        strays: dict[str, str] = {}
        most = max(self.tops.values(), default=0)
        for top in [top for top in self.moved if self.tops[top] * _FEW < most]:
            own = self.moved.pop(top)
            for path, found in own:
                self._miss(path)
                strays[str(self.folder / found)] = str(self.folder / with_slashes(path))
            logger.warning(
                "%s: %s (such as %s) missing, and %s is not taken for them, as the "
                "others lie elsewhere. Write paths from the table's folder on to use it",
                *(self.source, counted(len(own), "photo"), shorten(own[0][0]), shorten(own[0][1])),
            )
        return strays

    def report(self, column: str, total: int, *, of_stream: bool = False) -> None:
        """Say where files were found; warn, with the likely cause, where most are missing.

        Raises `InputError` where all are. `total` is how many were looked for: of a stream, the
        first ones.
        """
        for top, own in self.moved.items():
            logger.info(
                "%s: %s found by the end of their paths in %s, such as %s for %s",
                *(
                    self.source,
                    counted(len(own), "photo"),
                    self.folder / top,
                    own[0][1],
                    shorten(own[0][0]),
                ),
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
        named = self._photos.by_name.items()
        photos = [path for key, some in named if len(key) == 1 for path in some]
        stem = file_key(PurePosixPath(with_slashes(path)).stem)
        if other := self._photos.by_stem.get((stem,)):
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
        wanted = [file_key(part) for part in (*folders, name)]
        photos, key = self._photos, tuple(wanted[-2:])
        found = photos.by_name.get(key, [])
        if not found and kind_of(name) not in PHOTOS:
            found = photos.by_stem.get(key, [])
        if len(wanted) < 3:
            return found
        return [photo for photo in found if _ends_with(photo.parts[:-1], wanted[:-1])]

    @cached_property
    def _photos(self) -> _Photos:
        photos = _Photos(defaultdict(list), defaultdict(list))
        for file in walk_files(self.folder):
            if kind_of(file.name) in PHOTOS:
                path = PurePosixPath(file.relative_to(self.folder).as_posix())
                parent = tuple(file_key(part) for part in path.parts[-2:-1])
                for known, name in ((photos.by_name, path.name), (photos.by_stem, path.stem)):
                    for key in {(file_key(name),), (*parent, file_key(name))}:
                        known[key].append(path)
        return photos


_FEW = 4  # times fewer files than the usual folder has


def _top(path: str) -> str:
    """The first folder of a path; "." where it is only a file's name."""
    first, slash, _ = path.removeprefix("./").partition("/")
    return first if slash else "."


def _ends_with(folders: tuple[str, ...], wanted: list[str]) -> bool:
    return [file_key(folder) for folder in folders[-len(wanted) :]] == wanted
