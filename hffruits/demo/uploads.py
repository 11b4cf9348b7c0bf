"""Checks of uploads: images and zips of them, within bounds, by content, not by name.

Only regular files below the folder of uploads are opened, and one that is also a web page, a PDF or
a zip is refused. Knows nothing of web servers. What it says names no path.
"""

import io
import os
import re
import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from PIL import Image

from hffruits.core.errors import InputError, short_reason
from hffruits.data.images import MAX_PIXELS, SUFFIXES, may_be_image, open_rgb
from hffruits.data.readers.archives import unpack

# Not JPEG 2000 nor PPM: a few bytes of the one and plain text of the other take seconds to decode.
UPLOAD_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF")
UPLOAD_SUFFIXES = SUFFIXES - {".jp2", ".ppm", ".pgm"}
MAX_IMAGE_BYTES = 50 * 10**6
MAX_SCANS = 20  # of a progressive JPEG, each decoded over all pixels; about 10 are usual
MAX_ASPECT = 20  # a thin line, resized by its short side, would fill the memory
MAX_IMAGES = 200  # at a time; of files too
MAX_ZIP_BYTES = 100 * 10**6
MAX_UNPACKED_BYTES = 500 * 10**6  # of all zips sent together
MAX_ZIP_MEMBERS = 2000  # images, folders and what else lies in a zip
MAX_NAME = 120  # characters shown
NOT_SENT = "it isn't among the uploaded files, which are kept for an hour"  # for all reasons

_MARKUP = rb"<(?:!doctype|script|svg|html|iframe|\?php)(?=[\s>/])"
_HEAD = re.compile(_MARKUP, re.IGNORECASE)
_TAIL = re.compile(_MARKUP + rb"|%PDF-\d", re.IGNORECASE)
_ZIP_HEAD, _ZIP_END = b"PK\x03\x04", b"PK\x05\x06"  # one of them may come by chance
_HEAD_BYTES = 1024
_JPEG_HEAD = b"\xff\xd8\xff"
_JPEG_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # but restarts, within the scans


class Upload(NamedTuple):
    """One image that was sent, by itself or in a zip, not opened yet."""

    name: str  # what its sender calls it
    path: Path


@contextmanager
def open_sent_file(path: str | Path, root: Path) -> Iterator[BinaryIO]:
    """A regular file below the folder `root`, links followed first, opened once.

    What is checked is what is read: devices and FIFOs are opened without waiting, and never read.
    Raises `InputError(NOT_SENT)` for everything else, so that no path is revealed.
    """
    try:
        real = Path(path).resolve(strict=True)
        if not real.is_relative_to(root.resolve()):
            raise InputError(NOT_SENT)
        file = os.fdopen(os.open(real, _OPEN_FLAGS), "rb")
    except (OSError, ValueError, RuntimeError) as error:  # such as a NUL, a loop of links
        raise InputError(NOT_SENT) from error
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise InputError(NOT_SENT)
        yield file


def open_upload(path: str | Path, root: Path, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image in a file below the folder `root`, upright and as RGB; the first frame of a film.

    Raises `InputError` with a short reason for what isn't below `root`, too large, damaged, no
    image by its content, or an image and something else at once.
    """
    try:
        with open_sent_file(path, root) as file:
            content = file.read(MAX_IMAGE_BYTES + 1)  # it may have grown since it was measured
        if len(content) > MAX_IMAGE_BYTES:
            raise InputError(f"over the limit of {MAX_IMAGE_BYTES / 1e6:.0f} MB")
        if content.startswith(_JPEG_HEAD) and _jpeg_end_and_scans(content)[1] > MAX_SCANS:
            raise InputError(f"a progressive JPEG of more than {MAX_SCANS} scans")
        options = {"formats": UPLOAD_FORMATS, "check": _check_compression}
        image = open_rgb(content, max_pixels=max_pixels, **options)
        if _is_something_else_too(content):  # only images are searched
            raise InputError("it holds a web page, a PDF or a zip besides the photo")
        if max(image.size) > MAX_ASPECT * min(image.size):
            raise InputError(f"more than {MAX_ASPECT} times as long as wide")
    except OSError as error:
        raise InputError(short_reason(error)) from error
    image.info.clear()  # comments and the like, which Pillow would write into copies
    return image


def _check_compression(image: Image.Image) -> None:
    """Refuse a TIFF whose strips are JPEGs: each may have any number of scans."""
    if image.format == "TIFF" and "jpeg" in image.info["compression"]:
        raise InputError("a TIFF that holds JPEGs. Send it as JPEG or PNG")


def list_uploads(
    files: list[Upload], folder: Path, root: Path
) -> tuple[list[Upload], list[tuple[str, str]]]:
    """The images among files and in the zips among them, and the (name, reason) of bad zips.

    A file that is named twice counts once. Zips, which lie below `root`, are unpacked below
    `folder`, which is empty, by the rules of `archives`, all of them within `MAX_UNPACKED_BYTES`
    and a quarter of the space there; removing it is the caller's. Raises `InputError` for more than
    `MAX_IMAGES`, as soon as that is known.
    """
    if len(files) > MAX_IMAGES:
        raise InputError(f"{len(files)} files: the limit is {MAX_IMAGES} at a time. Send fewer.")
    files = list({upload.path: upload for upload in files}.values())
    images_left = MAX_IMAGES - sum(not _is_zip(upload) for upload in files)
    most = min(MAX_UNPACKED_BYTES, shutil.disk_usage(root).free // 4)
    bytes_left = most
    found, refused = [], []
    for number, upload in enumerate(files):
        if not _is_zip(upload):
            found.append(upload)
            continue
        place = folder / str(number)
        try:
            with open_sent_file(upload.path, root) as file:
                unpacked = _unpacked(upload.path, file, place, images_left, bytes_left)
        except _TooManyError as error:
            reason = f"More than {MAX_IMAGES} photos, the limit for one request. Send fewer."
            raise InputError(reason) from error
        except InputError as error:
            together = f"{most:,} bytes, with the zips before it"
            reason = str(error).replace(f"{bytes_left:,} bytes", together)
            refused.append((upload.name, reason if bytes_left < most else str(error)))
            unpacked = []
        found += unpacked
        images_left -= len(unpacked)
        bytes_left -= sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        if not unpacked:
            shutil.rmtree(place, ignore_errors=True)  # what was written still counts
    return found, refused


def shown_name(name: str) -> str:
    """A file's name as its sender gave it, without folders and unprintable characters."""
    plain = PurePosixPath(name.replace("\\", "/")).name
    return "".join(letter for letter in plain if letter.isprintable())[-MAX_NAME:] or "photo"


class _TooManyError(Exception):
    """A zip holds more images than there is room for."""


# No waiting for a FIFO's other end, no terminal taken over, no link put there meanwhile.
_FLAGS = ("O_NOFOLLOW", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")  # where they are known
_OPEN_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in _FLAGS)


def _is_zip(upload: Upload) -> bool:
    return upload.path.suffix.lower() == ".zip"


def _unpacked(path: Path, file: BinaryIO, folder: Path, most: int, max_bytes: int) -> list[Upload]:
    """At most so many images, and bytes of them. Raises `_TooManyError` at the first one more."""
    if os.fstat(file.fileno()).st_size > MAX_ZIP_BYTES:
        raise InputError(f"over the limit of {MAX_ZIP_BYTES / 1e6:.0f} MB")
    if not zipfile.is_zipfile(file):
        raise InputError("no zip. Pack it again.")
    seen = 0

    def wanted(name: str) -> bool:
        nonlocal seen
        is_wanted = may_be_image(name)
        seen += is_wanted
        if seen > most:
            raise _TooManyError
        return is_wanted

    limits = {"max_bytes": max_bytes, "max_files": MAX_ZIP_MEMBERS}
    try:
        unpack(path, folder, wanted=wanted, file=file, **limits)
    except InputError as error:
        reason = str(error).removeprefix(f"{path}: ")
        reason = "it can't be unpacked here" if str(folder) in reason else reason
        raise InputError(reason) from error
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [Upload(shown_name(path.name), path) for path in files]


# ---- where an image ends ----


def _is_something_else_too(content: bytes) -> bool:
    """A browser or a reader may take it for another kind of file by its head or by its tail."""
    end = next((find(content) for head, find in _ENDS.items() if content.startswith(head)), 0)
    tail = content[end:]  # all of it where the end isn't known
    if zipfile.is_zipfile(io.BytesIO(content)) or 0 <= tail.find(_ZIP_HEAD) < tail.rfind(_ZIP_END):
        return True
    return bool(_HEAD.search(content[:_HEAD_BYTES]) or _TAIL.search(tail))


def _jpeg_end(content: bytes) -> int:
    return _jpeg_end_and_scans(content)[0]


def _jpeg_end_and_scans(content: bytes) -> tuple[int, int]:
    """The place behind its end marker, and in how many scans its pixels lie.

    Segments are passed over by their length, as libjpeg does: a thumbnail lies in one.
    """
    place, scans = 2, 0
    while found := _JPEG_MARKER.search(content, place):
        kind, place = found[1][0], found.end()
        if kind == 0xD9:
            return place, scans
        scans += kind == 0xDA
        if kind >= 0xC0:
            place += int.from_bytes(content[place : place + 2])
    return len(content), scans


def _png_end(content: bytes) -> int:
    place = 8
    while place + 8 <= len(content):
        size, kind = int.from_bytes(content[place : place + 4]), content[place + 4 : place + 8]
        place += 12 + size
        if kind == b"IEND":
            break
    return place


def _gif_end(content: bytes) -> int:
    place = 13 + _palette_bytes(content, 10)
    while place < len(content) and content[place] != 0x3B:
        place += 2 if content[place] == 0x21 else 11 + _palette_bytes(content, place + 9)
        while place < len(content) and content[place]:  # blocks of up to 255 bytes
            place += 1 + content[place]
        place += 1
    return place + 1


def _palette_bytes(content: bytes, place: int) -> int:
    flags = content[place] if place < len(content) else 0
    return 3 * 2 ** (flags % 8 + 1) if flags & 0x80 else 0


# The others end where they say (WebP, BMP, AVIF, HEIC) or anywhere (TIFF): no proof, so they are
# searched whole.
_ENDS = {
    _JPEG_HEAD: _jpeg_end,
    b"\x89PNG": _png_end,
    b"GIF8": _gif_end,
}
