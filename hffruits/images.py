"""One image file to one right-way-up RGB picture, the same for training and prediction.

Knows nothing of labels, splits or tensors.
"""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from hffruits.errors import InputError

SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif",
    ".ppm", ".pgm", ".jp2",
}  # fmt: skip
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM", "JPEG2000")
MAX_PIXELS = 89_478_485  # where Pillow begins to warn of decompression bombs; 256 MB as RGB

ImageSource = str | Path | bytes | Image.Image


def open_rgb(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a file, its bytes or a PIL image into an upright 8-bit RGB image.

    Raises `OSError` with a short reason for anything that is not a complete, sanely sized image.
    """
    try:
        if isinstance(source, Image.Image):
            return _to_rgb(source)
        with _open(source, max_pixels) as image:
            return _to_rgb(image)
    except _DECODER_ERRORS as error:
        raise OSError(_reason(error)) from error


@contextmanager
def gone_told(source: str | bytes) -> Iterator[None]:
    """Within it, a photo that can't be read, but could be when all were checked, is told."""
    try:
        yield
    except OSError as error:
        name = source if isinstance(source, str) else "a photo"
        raise InputError(
            f"{name}: can't be read any more ({_reason(error)}). Put it back and go on, or start "
            "again without it."
        ) from error


def open_small(
    source: str | Path | bytes, size: int, *, max_pixels: int = MAX_PIXELS
) -> tuple[Image.Image, str, tuple[int, int]]:
    """An upright RGB image of at least `size` pixels a side, or of its own if smaller; quickly.

    Every byte is read, but a large JPEG is decoded at a fraction of its size. Gives the format
    ("JPEG") and the upright (width, height) of the file too. Raises `OSError` as `open_rgb` does.
    """
    try:
        with _open(source, max_pixels) as image:
            width, height = image.size
            if image.getexif().get(0x0112, 1) >= 5:  # lies on its side
                width, height = height, width
            form = image.format or ""
            image.draft("RGB", (size, size))
            return _to_rgb(image), form, (width, height)
    except _DECODER_ERRORS as error:
        raise OSError(_reason(error)) from error


def decode_images(batch: dict[str, list], max_pixels: int = MAX_PIXELS) -> dict[str, list]:
    """Turn the `image` column of a batch from `{"path", "bytes"}` into upright RGB pictures."""
    if "image" not in batch:
        return batch
    sources = [image["bytes"] or image["path"] for image in batch["image"]]
    return batch | {"image": [open_rgb(source, max_pixels=max_pixels) for source in sources]}


def list_images(folder: Path) -> list[Path]:
    """Every image file below a folder, sorted; hidden ones and macOS' leftovers are passed over.

    Follows links, but into no folder twice. Raises `InputError` for a folder that can't be read.
    """
    return [path for path in walk_files(folder) if is_image_name(path.name)]


def walk_files(folder: Path) -> Iterator[Path]:
    """Every file below a folder that isn't hidden, sorted, one folder after the other."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: {error.strerror}. Make it readable, or remove it.")

    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(parent, name) for name in sorted(files) if not is_hidden(name))


def is_hidden(name: str) -> bool:
    """True for `.thumbnails`, `._photo.jpg` and the folder that macOS puts into zips."""
    return name.startswith(".") or name == "__MACOSX"


def is_image_name(name: str) -> bool:
    return not is_hidden(name) and Path(name).suffix.lower() in SUFFIXES


# What Pillow's decoders raise for broken data, beside OSError.
_DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, MemoryError, RuntimeError),
    *(struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning),
)


def _open(source: str | Path | bytes, max_pixels: int) -> Image.Image:
    size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
    if size == 0:
        raise OSError("empty file (0 bytes)")
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        image = Image.open(file, formats=_formats())
    except Image.UnidentifiedImageError as error:
        raise OSError("not an image, or an unknown format") from error
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise OSError(f"{width} x {height} pixels, over the limit of {max_pixels:,}")
    return image


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # some builds lack AVIF


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200] or type(error).__name__


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        return image
    if image.mode.startswith(("I", "F")):
        return _scale_depth(image).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")  # cut-out product photos stand on white
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _scale_depth(image: Image.Image) -> Image.Image:
    """16- and 32-bit greyscale to 8 bits by its nominal range; Pillow alone would clip it."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
    if image.mode.startswith("I;16"):
        top = 65535.0
    else:  # 32 bits: the smallest usual range that holds it
        most = float(values.max())
        top = next((top for top in (1.0, 255.0, 65535.0) if most <= top), most)
    return Image.fromarray((values.clip(0, top) * (255 / top)).round().astype(np.uint8))
