"""Photos decoded and shrunk once, in an Arrow file, for training runs that would do it every epoch.

`resized` keeps what training needs of large photos, `decoded` every pixel of all of them.
"""

import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from PIL import Image

from hffruits.cache import cache_root, make_once
from hffruits.images import open_rgb, open_small

VERSION = 1  # of what is written: raise it when that changes


def _shrunk(source: str | bytes, size: int, max_pixels: int) -> bytes:
    """A JPEG with a shorter side of `size` pixels; a photo that is no larger stays as it is."""
    image, _, original = open_small(source, size, max_pixels=max_pixels)
    if min(original) <= size:
        return source if isinstance(source, bytes) else Path(source).read_bytes()
    scale = size / min(image.size)
    shape = [max(1, round(side * scale)) for side in image.size]
    return _encode(image.resize(shape, Image.Resampling.BICUBIC), "JPEG", quality=95, subsampling=0)


def _decoded(source: str | bytes, size: int, max_pixels: int) -> bytes:
    """Every pixel as it is, as PPM: some ten times the size of a JPEG, and nothing to decode."""
    return _encode(open_rgb(source, max_pixels=max_pixels), "PPM")


CACHES = {"none": None, "resized": _shrunk, "decoded": _decoded}


def cache_photos(
    rows: Dataset, digests: np.ndarray, kind: str, *, size: int, max_pixels: int
) -> Dataset:
    """The rows with their `image` (undecoded) from a file that is made at the first call.

    `digests` (N,) are hashes of the photos: other photos or settings make another file.
    """
    key = hashlib.blake2b(digests.tobytes(), digest_size=16)
    key.update(f"{kind}/{size if kind == 'resized' else ''}/{max_pixels}".encode())
    folder = cache_root() / f"photos-v{VERSION}" / f"{kind}-{key.hexdigest()}"
    make = partial(_write, rows, CACHES[kind], size=size, max_pixels=max_pixels)
    images = Dataset.from_file(str(make_once(folder, make) / "photos.arrow"))
    return rows.remove_columns("image").add_column("image", images.data.column("image"))


def _write(rows: Dataset, convert: Any, folder: Path, *, size: int, max_pixels: int) -> None:
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:

        def convert_batch(batch: dict[str, list]) -> dict[str, list]:
            sources = [image["bytes"] or image["path"] for image in batch["image"]]
            contents = pool.map(lambda source: convert(source, size, max_pixels), sources)
            return {"image": [{"bytes": content, "path": None} for content in contents]}

        rows.select_columns("image").map(
            convert_batch,
            batched=True,
            batch_size=32,
            cache_file_name=str(folder / "photos.arrow"),
            new_fingerprint="photos",
            desc="Caching photos",
        )


def _encode(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()
