"""Measurements of each image file: readable or not, size, brightness, thumbnails; cached on disk.

Records are cached on disk, so that the next run only asks for sizes and times of the files.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from hffruits.core.cache import cache_root
from hffruits.core.files import content_digest, optional_cache, write_aside
from hffruits.core.progress import progress_bar
from hffruits.data.images import MAX_PIXELS, check_regular, decoder_versions, open_small
from hffruits.data.near_duplicates import COLOUR_SIZE, GREY_SIZE, fingerprint

logger = logging.getLogger(__name__)
VERSION = 4  # of what is cached: raise it when a measure or `_ROW` changes
MEASURED_SIZE = 256  # pixels of the long side, for brightness, contrast and sharpness

_ROW = np.dtype(
    [
        ("key", "S32"),  # of what the file was when it was seen
        ("reason", "S120"),  # why it can't be used, in UTF-8, or ""
        ("digest", "S32"),  # of the file's bytes, hexadecimal
        ("bytes", "i8"), ("width", "i4"), ("height", "i4"), ("format", "S10"),
        ("brightness", "f4"),  # mean grey level, 0 to 255
        ("contrast", "f4"),  # standard deviation of the grey levels
        ("sharpness", "f4"),  # variance of the Laplacian, at 256 pixels
        ("grey", "u1", (GREY_SIZE, GREY_SIZE)), ("colour", "u1", (COLOUR_SIZE, COLOUR_SIZE, 3)),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class NamedImage:
    """One image to read: the name it goes by, and its file or its bytes."""

    name: str
    source: Path | bytes


def scan_images(
    images: Iterable[NamedImage],
    *,
    total: int | None = None,
    max_pixels: int = MAX_PIXELS,
    cache_name: str | None = None,
    num_workers: int | None = None,
    whole: bool = True,
) -> np.ndarray:
    """One record an image, in order: a structured array with the fields of `_ROW`.

    Records are cached under the name `cache_name` (of the data), and taken from there for files of
    unchanged size and time, and for bytes that are the same. Those of other images of the data stay
    where these are not its `whole`. Threads suffice: Pillow gives up the interpreter lock while it
    decodes.
    """
    file = cache_name and _file_of(cache_name)
    old = _read(file) if file else {}
    workers = num_workers or min(32, (os.cpu_count() or 1) + 1)
    rows, fresh = [np.empty(0, _ROW)], False
    bar = progress_bar(total=total, desc="Checking images", unit="img", leave=False)
    with ThreadPoolExecutor(workers) as pool:
        for block in _blocks(images, 128):
            keys = [_key(named, max_pixels) for named in block]
            new = [p for p, key in zip(block, keys, strict=True) if key not in old]
            bar.update(len(block) - len(new))
            seen = iter(pool.map(lambda named: _examine(named, max_pixels), new))
            table = np.empty(len(block), _ROW)
            for i, key in enumerate(keys):
                if key in old:
                    table[i] = old[key]
                else:
                    table[i] = next(seen)
                    if table[i]["digest"]:  # else it couldn't be read, which may change
                        table[i]["key"] = key
                    bar.update()
            rows.append(table)
            fresh |= bool(new)
    bar.close()
    records = np.concatenate(rows)
    if file and fresh:
        others = old.keys() - set(records["key"].tolist()) if not whole else ()
        _write(file, np.concatenate([records, *(old[key][None] for key in others)]))
    return records


def reason_of(record: np.void) -> str:
    """Why an image can't be used; empty if it can."""
    return record["reason"].decode(errors="replace")


def _blocks(images: Iterable[NamedImage], size: int) -> Iterator[list[NamedImage]]:
    """Some at a time, for they can be bytes of many megabytes."""
    images = iter(images)
    while block := list(islice(images, size)):
        yield block


# ---- one image ----


def _examine(named: NamedImage, max_pixels: int) -> np.void:
    row = np.zeros(1, _ROW)[0]
    try:
        source = named.source
        if isinstance(source, Path):
            check_regular(source)
        content = source if isinstance(source, bytes) else source.read_bytes()
        row["bytes"], row["digest"] = len(content), _digest(content)
        image, row["format"], (row["width"], row["height"]) = open_small(
            content, MEASURED_SIZE, max_pixels=max_pixels, name=named.name
        )
    except OSError as error:
        row["reason"] = (error.strerror or str(error)).encode(errors="replace")[:120]
        return row
    image.thumbnail((MEASURED_SIZE, MEASURED_SIZE), Image.Resampling.BILINEAR, reducing_gap=3.0)
    row["grey"], row["colour"] = fingerprint(image)
    grey = np.asarray(image.convert("L"), dtype=np.float32)
    row["brightness"], row["contrast"] = grey.mean(), grey.std()
    row["sharpness"] = _laplacian(grey).var() if min(grey.shape) > 2 else 0
    return row


def _laplacian(grey: np.ndarray) -> np.ndarray:
    middle = grey[1:-1, 1:-1]
    return grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle


# ---- the cache ----


def _key(named: NamedImage, max_pixels: int) -> bytes:
    if isinstance(named.source, bytes):
        state = _digest(named.source).decode()
    else:
        try:
            stat = named.source.stat()
        except OSError:  # gone since it was listed
            return b""
        state = f"{named.name}\0{stat.st_size}\0{stat.st_mtime_ns}"
    return _digest(f"{state}\0{max_pixels}\0{decoder_versions()}".encode(errors="surrogateescape"))


def _digest(content: bytes) -> bytes:
    return content_digest(content).encode()


def _file_of(name: str) -> Path:
    digest = _digest(name.encode(errors="surrogateescape")).decode()
    return cache_root() / f"scans-v{VERSION}" / f"{digest}.rows"


def _read(file: Path) -> dict[bytes, np.void]:
    """Key -> row; what is cut off or damaged fits no key."""
    try:
        rows = np.fromfile(file, _ROW)
    except OSError:  # not read yet
        return {}
    return {row["key"]: row for row in rows if row["key"]}


def _write(file: Path, rows: np.ndarray) -> None:
    with optional_cache(file), write_aside(file) as aside:
        rows.tofile(aside)
