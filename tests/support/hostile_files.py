"""Files that nobody should send to a demo, drawn by code. Not a test: others use it."""

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

from hffruits.data.images import readable_formats
from hffruits.data.synthetic.drawing import draw_fruit

PDF = b"%PDF-1.7\n%%EOF"
HTML = b"<html><script>alert(1)</script></html>"
SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><rect width="9" height="9"/></svg>'
)


def picture(form: str = "JPEG", **options) -> bytes:
    return encoded(draw_fruit("Pear", seed=3, size=160), form, **options)


def encoded(image: Image.Image, form: str, **options) -> bytes:
    readable_formats()  # has Pillow write HEIF, too
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png_bomb() -> bytes:
    """A PNG that states 60,000 x 60,000 pixels in a few bytes."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def huge_png() -> bytes:
    return encoded(Image.new("1", (8000, 8000)), "PNG")  # 64 MP in 8 KB


def lying_heic(side: int = 1600) -> bytes:
    """A HEIC that states 64 x 64 pixels and has many more."""
    content = encoded(Image.new("RGB", (side, side)), "HEIF")
    return content.replace(struct.pack(">II", side, side), struct.pack(">II", 64, 64))


def huge_heic() -> bytes:
    """A HEIC that states more pixels than may be decoded."""
    content = encoded(Image.new("RGB", (64, 64)), "HEIF")
    return content.replace(struct.pack(">II", 64, 64), struct.pack(">II", 8000, 8000))


def last_scan(progressive: bytes) -> bytes:
    """The last scan of a JPEG, with its header."""
    return progressive[progressive.rindex(b"\xff\xda") : -2]


def many_scans(scans: int = 300) -> bytes:
    """A progressive JPEG that repeats its last scan; each takes as long as a picture."""
    whole = picture(progressive=True)
    return whole[:-2] + last_scan(whole) * scans + b"\xff\xd9"


def slow_jpeg_2000() -> bytes:
    """A JPEG 2000 of some hundred bytes that takes its decoder seconds at 7000 x 7000."""
    return encoded(Image.new("L", (700, 700)), "JPEG2000", quality_layers=[500])


def film(form: str, frames: int, side: int = 16) -> bytes:
    """The first frame a pear, then noise."""
    first = draw_fruit("Pear", seed=3, size=side)
    rng = np.random.default_rng(0)
    shape = (side, side, 3)
    rest = [Image.fromarray(rng.integers(0, 255, shape, np.uint8)) for _ in range(4)]
    others = [rest[number % 4] for number in range(frames - 1)]
    return encoded(first, form, save_all=True, append_images=others)


def long_gif(frames: int = 10_000) -> bytes:
    """A GIF of many equal frames: written by hand, since Pillow would merge them."""
    short = encoded(Image.new("P", (16, 16), 1), "GIF")
    start = 13 + 3 * 2 ** (short[10] % 8 + 1) if short[10] & 0x80 else 13
    return short[:start] + short[start:-1] * frames + b";"


def unsized_bmp() -> bytes:
    """A BMP that states a length of 0, which no reader minds."""
    return picture("BMP")[:2] + bytes(4) + picture("BMP")[6:]


def lengthened_webp(more: bytes) -> bytes:
    """A WebP that states a length up to the end of what is appended."""
    whole = picture("WEBP") + more
    return whole[:4] + (len(whole) - 8).to_bytes(4, "little") + whole[8:]


def zipped(files: dict[str, bytes], *, link: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFLNK if link else stat.S_IFREG | 0o644) << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def directory_zip(entries: int, *, stated: int = 1, zip64: bool = False) -> bytes:
    """A zip of one file that its directory lists so often; its end says so, or lies."""
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 33, 0, 0, 0, 1, 0) + b"a"
    zeros = (0, 0, 0, 0, 0, 0)
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, *zeros) + b"a"
    directory = entry * entries
    size, start = len(directory), len(local)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, stated, stated, size, start, 0)
    if zip64:
        end = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, stated, stated, size, start)
        end += struct.pack("<4sIQI", b"PK\6\7", 0, start + size, 1)
        end += struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, *[2**16 - 1] * 2, *[2**32 - 1] * 2, 0)
    return local + directory + end


# What is refused, by the name it is sent under: how it is made, and a word of the reason.
REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty.jpg": (lambda: b"", "empty"),
    "text.jpg": (lambda: b"no picture", "not an image"),
    "cut.jpg": (lambda: picture()[:2000], "truncated"),
    "cut.png": (lambda: picture("PNG")[:2000], "."),
    "bomb.png": (png_bomb, "pixels"),
    "huge.png": (huge_png, "pixels"),
    "line.png": (lambda: encoded(Image.new("L", (1, 60_000), 99), "PNG"), "times as long"),
    "heavy.jpg": (lambda: picture() + bytes(20_000_001), "20 MB"),
    "page.html": (lambda: HTML, "not an image"),
    "page.jpg": (lambda: HTML, "not an image"),
    "drawing.svg": (lambda: SVG, "not an image"),
    "drawing.png": (lambda: b'<?xml version="1.0"?>' + SVG, "not an image"),
    "page-behind.jpg": (lambda: picture() + HTML, "page"),
    "progressive-page.jpg": (lambda: picture(progressive=True) + HTML, "page"),
    "page-inside.jpg": (lambda: picture(comment=HTML), "page"),
    "page-behind.gif": (lambda: picture("GIF") + SVG, "page"),
    "page-behind.png": (lambda: picture("PNG") + b"\n<SCRIPT >" + HTML, "page"),
    "page-behind.webp": (lambda: picture("WEBP") + HTML, "page"),
    "page-behind.bmp": (lambda: picture("BMP") + HTML, "page"),
    "pdf-behind.jpg": (lambda: picture() + PDF, "PDF"),
    "zip-behind.gif": (lambda: picture("GIF") + zipped({"a.class": b"x"}), "zip"),
    "zip.jpg": (lambda: zipped({"a.jpg": picture()}), "not an image"),
    "page-behind.tiff": (lambda: picture("TIFF") + HTML, "page"),
    "zip-behind.tiff": (lambda: picture("TIFF") + zipped({"a.class": b"x"}), "zip"),
    "pdf-behind.tiff": (lambda: picture("TIFF") + PDF, "PDF"),
    "page-behind.avif": (lambda: picture("AVIF") + HTML, "page"),
    "zip-behind.avif": (lambda: picture("AVIF") + zipped({"a.class": b"x"}), "zip"),
    "pdf-behind.avif": (lambda: picture("AVIF") + PDF, "PDF"),
    "page-behind.heic": (lambda: picture("HEIF") + HTML, "page"),
    "zip-behind.heic": (lambda: picture("HEIF") + zipped({"a.class": b"x"}), "zip"),
    "pdf-behind.heic": (lambda: picture("HEIF") + PDF, "PDF"),
    "cut.heic": (lambda: picture("HEIF")[:2000], "."),
    "huge.heic": (huge_heic, "pixels"),
    "lying.heic": (lying_heic, "exceeds"),
    "raw.cr2": (lambda: b"II*\0\x10\0\0\0CR\2\0" + bytes(500), "camera raw isn't read"),
    "film.mov": (lambda: b"\0\0\0\x14ftypqt  " + bytes(500), "a video"),
    "zip-behind.bmp": (lambda: unsized_bmp() + zipped({"a.class": b"x"}), "zip"),
    "pdf-behind.webp": (lambda: lengthened_webp(PDF), "decoder"),
    "far-behind.gif": (lambda: picture("GIF") + zipped({"a.class": b"x"}) + bytes(10**5), "zip"),
    "scans.jpg": (many_scans, "scans"),
    "strips.tif": (lambda: picture("TIFF", compression="jpeg"), "holds JPEGs"),
    "strips.jpg": (lambda: picture("TIFF", compression="jpeg"), "holds JPEGs"),
    "slow.jp2": (slow_jpeg_2000, "not an image"),
    "slow.jpg": (slow_jpeg_2000, "not an image"),
    "codestream.j2k": (lambda: picture("JPEG2000", no_jp2=True), "not an image"),
    "plain.ppm": (lambda: picture("PPM"), "not an image"),
    "text.ppm": (lambda: b"P3\n2 2\n255\n" + b"9 " * 12, "not an image"),
    "program.jpg": (lambda: b"\x7fELF" + bytes(500), "not an image"),
}

# What is odd but a picture all the same.
ACCEPTED: dict[str, Callable[[], bytes]] = {
    "plain.jpg": picture,
    "one-pixel.png": lambda: encoded(Image.new("RGB", (1, 1), "red"), "PNG"),
    "strip.png": lambda: encoded(Image.new("L", (3, 60), 99), "PNG"),
    "film.gif": lambda: film("GIF", 40),
    "long.gif": long_gif,
    "film.webp": lambda: film("WEBP", 12),
    "plain.tiff": lambda: picture("TIFF"),
    "plain.avif": lambda: picture("AVIF"),
    "plain.heic": lambda: picture("HEIF"),
    "plain.webp": lambda: picture("WEBP"),
    "plain.bmp": lambda: picture("BMP"),
    "pages.tiff": lambda: film("TIFF", 100),
    "film.png": lambda: film("PNG", 12),
    "wrong-name.txt": picture,
    "phone.jpg": lambda: picture() + picture() + bytes(5000),  # as cameras append a second one
}

ZIPS: dict[str, tuple[Callable[[], bytes], str]] = {
    "up.zip": (lambda: zipped({"../../up.jpg": picture()}), "'..' in its path"),
    "root.zip": (lambda: zipped({"/tmp/root.jpg": picture()}), "absolute path"),
    "link.zip": (lambda: zipped({"link.jpg": b"/etc/passwd"}, link=True), "symbolic link"),
    "bomb.zip": (lambda: zipped({"0.jpg": bytes(150 * 10**6)}), "times its size"),
    "many.zip": (lambda: zipped({f"{n}.txt": b"" for n in range(2100)}), "files in it"),
    "crowded.zip": (lambda: directory_zip(30_000, stated=30_000), "files in it"),
    "lying.zip": (lambda: directory_zip(30_000), "files in it"),
    "lying-64.zip": (lambda: directory_zip(30_000, zip64=True), "files in it"),
    "none.zip": (lambda: zipped({"notes.txt": b"x"}), "no images"),
    "cut.zip": (lambda: zipped({"a.jpg": picture()})[:900], "no zip"),
    "text.zip": (lambda: b"no zip at all", "no zip"),
}
