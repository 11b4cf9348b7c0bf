"""Photos without the place where they were taken, which phones write into them."""

import io

from PIL import ExifTags, Image

GPS = int(ExifTags.Base.GPSInfo)


def has_location(content: bytes) -> bool:
    """Whether a photo's metadata hold a position."""
    with Image.open(io.BytesIO(content)) as image:
        xmp = image.info.get("xmp", b"")
        xmp = xmp.encode() if isinstance(xmp, str) else xmp
        return bool(image.getexif().get_ifd(GPS)) or b"GPSLatitude" in xmp


def without_location(content: bytes) -> bytes:
    """The photo without its position; without one, as it is.

    A JPEG keeps its very pixels, and its EXIF block but for the position; of others the pixels are
    saved anew, without loss, as PNG. The XMP block goes where it holds a position.
    """
    if not has_location(content):
        return content
    with Image.open(io.BytesIO(content)) as image:
        blocks = {name: image.info.get(name) for name in ("exif", "xmp")}
        exif = image.getexif()
        exif.pop(GPS, None)
        if image.format in ("JPEG", "MPO"):
            new = exif.tobytes()
            old = blocks["exif"] or b""
            if old and len(new) <= len(old):
                content = content.replace(old, new.ljust(len(old), b"\0"), 1)
            if blocks["xmp"]:
                content = content.replace(blocks["xmp"], b" " * len(blocks["xmp"]), 1)
            if not has_location(content):
                return content
        image.info.pop("xmp", None)
        file = io.BytesIO()
        image.save(file, "PNG", exif=exif)
        return file.getvalue()
