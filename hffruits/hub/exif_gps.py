"""GPS positions in photos, which phones write into them: found and removed.

EXIF and XMP blocks of every frame are read; what else a file may hold (a film behind a motion
photo, a maker's own notes) is not.
"""

import io
from collections.abc import Iterator

from PIL import ExifTags, Image, ImageSequence

from hffruits.data.images import open_undecoded

GPS = int(ExifTags.Base.GPSInfo)
_BLANKED = ("JPEG", "MPO", "HEIF")  # whose blocks are overwritten where they lie


def has_location(content: bytes) -> bool:
    """Whether a photo's EXIF or XMP holds a position."""
    with open_undecoded(io.BytesIO(content), content) as image:
        return any(
            frame.getexif().get_ifd(GPS) or b"GPSLatitude" in _xmp(frame)
            for frame in _frames(image)
        )


def without_location(content: bytes) -> bytes:
    """The photo without its position; without one, as it is.

    A JPEG or HEIC keeps its very pixels, and its EXIF blocks but for the position; of others the
    pixels are saved again, without loss. An XMP block goes where it holds a position.
    """
    if not has_location(content):
        return content
    with open_undecoded(io.BytesIO(content), content) as image:
        if image.format in _BLANKED:
            blanked = _blank(content, image)
            if not has_location(blanked):
                return blanked
            image.seek(0)
        exif = image.getexif()
        exif.pop(GPS, None)
        image.info.pop("xmp", None)
        file = io.BytesIO()
        if image.format == "WEBP":
            image.save(file, "WEBP", lossless=True, exact=True, exif=exif)
        else:
            image = image if image.mode in _PNG_MODES else image.convert("RGB")
            image.save(file, "PNG", exif=exif)
        return file.getvalue()


_PNG_MODES = ("1", "L", "LA", "I;16", "P", "RGB", "RGBA")


def _blank(content: bytes, image: Image.Image) -> bytes:
    """The same file with blocks of the same length that don't hold the position."""
    for number, frame in enumerate(_frames(image)):
        exif = frame.getexif()
        if exif.get_ifd(GPS) and (old := _exif_block(content, frame, number)):
            exif.pop(GPS, None)
            new = exif.tobytes()
            new = new if old.startswith(_EXIF) else new.removeprefix(_EXIF)
            if len(new) <= len(old):
                content = content.replace(old, new.ljust(len(old), b"\0"))
        if b"GPSLatitude" in (xmp := _xmp(frame)):
            content = content.replace(xmp, b" " * len(xmp))
    return content


_EXIF = b"Exif\0\0"


def _exif_block(content: bytes, frame: Image.Image, number: int) -> bytes | None:
    """As it lies in the file: of HEIF, Pillow is given one with another orientation."""
    if frame.format != "HEIF":
        return frame.info.get("exif")
    from pillow_heif import open_heif

    return open_heif(content)[number].info["exif"]


def _frames(image: Image.Image) -> Iterator[Image.Image]:
    """All frames of a JPEG or HEIC, which may have positions of their own; the first of others."""
    return ImageSequence.Iterator(image) if image.format in _BLANKED else iter([image])


def _xmp(image: Image.Image) -> bytes:
    xmp = image.info.get("xmp", b"")
    return xmp.encode() if isinstance(xmp, str) else xmp
