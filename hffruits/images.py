"""One image file to one right-way-up RGB picture, the same for training and prediction.

Knows nothing of labels, folders or tensors.
"""

import io
import warnings
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif",
    ".ppm", ".pgm", ".jp2",
}  # fmt: skip
MAX_PIXELS = 100_000_000  # 10,000 x 10,000: above any phone camera, 300 MB once decoded
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM", "JPEG2000")

ImageSource = str | Path | bytes | Image.Image


def is_image_file(path: Path) -> bool:
    """True for the suffixes we read, and never for hidden files such as macOS' `._photo.jpg`."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def open_rgb(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Decode a file, its bytes or a PIL image into an upright 8-bit RGB image.

    Raises `OSError` with a short reason for anything that is not a complete, sanely sized image.
    """
    if isinstance(source, Image.Image):
        return _to_rgb(source)
    with _open(source, max_pixels) as image:
        try:
            return _to_rgb(image)
        except _DECODER_ERRORS as error:
            raise OSError(_reason(error)) from error


def find_defect(path: Path, *, max_pixels: int = MAX_PIXELS) -> str | None:
    """Read every byte of an image file; the reason why it can't be used, or None if it can."""
    try:
        with _open(path, max_pixels) as image:
            image.draft("RGB", (1, 1))  # JPEG: all data is read, but little of it is computed
            image.load()
    except _DECODER_ERRORS as error:
        return _reason(error)
    return None


# What Pillow's decoders raise for broken data, beside OSError.
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, MemoryError)


def _open(source: str | Path | bytes, max_pixels: int) -> Image.Image:
    if (not isinstance(source, bytes) and Path(source).stat().st_size == 0) or source == b"":
        raise OSError("empty file (0 bytes)")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_pixels decides
        try:
            file = io.BytesIO(source) if isinstance(source, bytes) else source
            image = Image.open(file, formats=_formats())
        except Image.DecompressionBombError as error:
            raise OSError(f"decompression bomb: {error}") from error
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
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:200]


def _to_rgb(image: Image.Image) -> Image.Image:
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        return image
    if image.mode.startswith(("I", "F")):
        return _stretch_depth(image).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")  # cut-out product photos stand on white
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _stretch_depth(image: Image.Image) -> Image.Image:
    """16- and 32-bit greyscale to 8 bits by its nominal range; Pillow alone would clip it."""
    values = np.asarray(image, dtype=np.float64)
    values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    top = 65535.0 if image.mode.startswith("I;16") else max(float(values.max()), 1.0)
    if not image.mode.startswith("I;16"):  # 32 bits: take the smallest usual range that holds it
        top = next((t for t in (1.0, 255.0, 65535.0) if top <= t), top)
    return Image.fromarray((values.clip(0, top) * (255 / top)).round().astype(np.uint8))
