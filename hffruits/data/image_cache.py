"""The image cache: photos decoded or shrunk once, in an Arrow file, instead of in every epoch.

`resized` keeps what training needs of large photos, `decoded` every pixel of all of them.
"""

import hashlib
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, concatenate_datasets
from PIL import Image

from hffruits.core.cache import cache_root, make_once
from hffruits.core.errors import InputError, short_reason
from hffruits.data.images import decoder_versions, open_rgb, open_small, translate_image_errors

VERSION = 1  # of what is written: raise it when that changes
BATCH = 3  # photos in memory at once: decoded, each may have 540 MB, and Arrow's limit is 2 GB


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


def cache_images(
    rows: Dataset, digests: np.ndarray, kind: str, *, size: int, max_pixels: int
) -> Dataset:
    """The rows with their `image` (undecoded) from a file that is made at the first call.

    `digests` (N,) are hashes of the photos: other photos or settings make another file. It is
    mapped, not read, by any number of processes. Raises `InputError` for an unknown `kind`, and
    where the file can't be made.
    """
    convert = CACHES.get(kind)
    if convert is None:
        raise InputError(f"image_cache={kind}: must be one of {', '.join(CACHES)}.")
    if size < 1:
        raise InputError(f"image_cache_size={size}: must be a number of pixels. Try 512.")
    key = hashlib.blake2b(digests.tobytes(), digest_size=16)
    settings = kind, size if kind == "resized" else "", max_pixels, decoder_versions()
    key.update("/".join(map(str, settings)).encode())
    folder = cache_root() / f"photos-v{VERSION}" / f"{kind}-{key.hexdigest()}"
    make = partial(_write, rows, partial(convert, size=size, max_pixels=max_pixels))
    try:
        make_once(folder, make)
    except OSError as error:
        raise InputError(
            f"{folder.parent}: can't be written ({short_reason(error)}). Free space there, or "
            "set HFFRUITS_CACHE to another folder."
        ) from error
    images = Dataset.from_file(str(folder / "photos.arrow"))
    # Not `add_column`, which would take the pixels into memory to hash them.
    others = [name for name in rows.column_names if name != "image"]
    texts = Dataset.from_dict(
        {name: rows[name][:] for name in others},
        Features({name: rows.features[name] for name in others}),
    )
    return concatenate_datasets([images, texts], axis=1)


def _write(rows: Dataset, convert: Callable[[str | bytes], bytes], folder: Path) -> None:
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:

        def convert_batch(batch: dict[str, list]) -> dict[str, list]:
            sources = [image["bytes"] or image["path"] for image in batch["image"]]
            contents = pool.map(partial(_convert, convert), sources)
            return {"image": [{"bytes": content, "path": None} for content in contents]}

        rows.select_columns("image").map(
            convert_batch,
            batched=True,
            batch_size=BATCH,
            cache_file_name=str(folder / "photos.arrow"),
            new_fingerprint="photos",
            desc="Caching photos",
        )


def _convert(convert: Callable[[str | bytes], bytes], source: str | bytes) -> bytes:
    with translate_image_errors(source):
        return convert(source)


def _encode(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()
