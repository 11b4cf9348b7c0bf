"""Image files: which files are photos, and decoding to upright RGB, the same everywhere.

Knows nothing of labels, splits or tensors.
"""

import io
import logging
import os
import re
import stat
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, features

from hffruits.core.errors import InputError, short_reason
from hffruits.data.pixel_limit import MAX_PIXELS

logger = logging.getLogger(__name__)
SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff",
    ".avif", ".avifs", ".heic", ".heics", ".heif", ".heifs", ".hif", ".ppm", ".pgm",
    ".pbm", ".pnm", ".jp2",
}  # fmt: skip
# HEIF after AVIF: libheif also opens AVIF, but can't decode it.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF", "PPM", "JPEG2000")
LIMIT = "max_image_pixels"  # what the limit is called wherever it can be set
MOST_LOST = 0.1  # of its rows, that a truncated JPEG may lack

ImageSource = str | Path | bytes | Image.Image

# Why a file is not read, by its suffix and by its first bytes.
RAW = "camera raw isn't read: export it as JPEG"
_JPEG_XL = "JPEG XL isn't read: export it as JPEG"
_EDITOR = "an editor's file isn't read: export it as JPEG or PNG"
_VECTOR = "a vector graphic isn't read: export it as PNG"
VIDEO = "a video, not a photo"
_UNREAD_SUFFIXES = {
    **dict.fromkeys(
        (
            ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".dng", ".raf", ".orf",
            ".rw2", ".rwl", ".pef", ".srw", ".3fr", ".iiq", ".erf", ".kdc", ".dcr", ".mrw", ".x3f",
            ".raw",
        ),
        RAW,
    ),
    ".jxl": _JPEG_XL,
    **dict.fromkeys((".psd", ".psb", ".xcf", ".kra"), _EDITOR),
    **dict.fromkeys((".svg", ".svgz", ".eps", ".ai"), _VECTOR),
    **dict.fromkeys(
        (".tga", ".ico", ".icns", ".jxr", ".wdp", ".exr", ".hdr", ".pcx", ".bpg", ".flif"),
        "this format isn't read: export it as JPEG or PNG",
    ),
}  # fmt: skip
_VIDEO_SUFFIXES = {
    ".mov", ".mp4", ".m4v", ".avi", ".mkv", ".webm", ".3gp", ".3g2", ".mts", ".m2ts", ".wmv",
    ".mpg", ".mpeg", ".mpe", ".m2v", ".flv", ".f4v", ".asf", ".vob", ".ogv", ".mjpeg", ".insv",
}  # fmt: skip
# What is written about photos, and makes no class of the folder that it lies in.
_NOTE_SUFFIXES = {
    ".txt", ".json", ".jsonl", ".csv", ".tsv", ".xml", ".yaml", ".yml", ".toml", ".ini", ".cfg",
    ".md", ".rst", ".html", ".htm", ".log", ".py", ".ipynb", ".m", ".sh", ".parquet", ".arrow",
    ".npy", ".npz", ".mat", ".pkl", ".h5", ".hdf5", ".xmp", ".aae", ".cls", ".names", ".lock",
}  # fmt: skip
_NOTES = {"readme", "license", "licence", "copying", "changelog", "authors", "makefile"}
# What lies beside photos in numbers, and needn't be opened to know that it is none.
_OTHER_SUFFIXES = {
    ".pdf", ".doc", ".docx", ".xls", ".xlsx", ".rtf", ".pt", ".pth", ".onnx", ".safetensors",
    ".tfrecord", ".db", ".sqlite", ".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar",
    ".wav", ".mp3", ".m4a", ".lnk",
}  # fmt: skip


# What people name in place of photos.
_NO_IMAGES = {
    **dict.fromkeys(_NOTE_SUFFIXES, "a text or a table, not a photo"),
    **dict.fromkeys(
        (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"),
        "an archive, not a photo: unpack it, and give the folder",
    ),
}


class Kind(Enum):
    """What a file is, by its name alone."""

    PHOTO = "a photo in a format that is read"
    UNREAD = "a photo in another format"
    VIDEO = "a video"
    NOTE = "a text or a table, such as stand beside photos"
    OTHER = "something else"
    UNKNOWN = "a name that doesn't say"
    HIDDEN = "hidden, or one of macOS' leftovers"


PHOTOS = frozenset({Kind.PHOTO, Kind.UNREAD})
_KINDS = {
    **dict.fromkeys(SUFFIXES, Kind.PHOTO),
    **dict.fromkeys(_UNREAD_SUFFIXES, Kind.UNREAD),
    **dict.fromkeys(_VIDEO_SUFFIXES, Kind.VIDEO),
    **dict.fromkeys(_NOTE_SUFFIXES, Kind.NOTE),
    **dict.fromkeys(_OTHER_SUFFIXES, Kind.OTHER),
}
_HEAD_BYTES = 32
_READ_HEAD = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n|GIF8[79]a|RIFF.{4}WEBP|BM.{4}\0{4}|II\*\0|MM\0\*"
    rb"|.{4}ftyp(?:avi[fs]|he[iv][cmsx]|m[is]f1)|\0{3}\x0cjP  |\xff\x4f\xff\x51",
    re.DOTALL,
)
_UNREAD_HEADS = {
    RAW: rb"II\*\0.{4}CR|FUJIFILMCCD-RAW|II(?:RO|RS|U\0)|MMOR|FOVb|.{4}ftypcrx ",
    _JPEG_XL: rb"\xff\x0a|\0{3}\x0cJXL ",
    _EDITOR: rb"8BPS\0|gimp xcf",
    VIDEO: rb".{4}ftyp(?:qt  |mp4|isom|iso[2-9]|M4V|3gp|avc1)|\x1aE\xdf\xa3|RIFF.{4}AVI ",
}


def open_rgb(
    source: ImageSource,
    *,
    max_pixels: int = MAX_PIXELS,
    formats: Sequence[str] = FORMATS,
    check: Callable[[Image.Image], None] = lambda undecoded: None,
) -> Image.Image:
    """Decode a file, its bytes or a PIL image into an upright 8-bit RGB image.

    Only decoders of `formats`, some of `FORMATS`, see a file, and `check` its header before its
    pixels are decoded. A JPEG of more than `MAX_PIXELS` is decoded at a half, a quarter or an
    eighth of its size, the largest that has no more: the same whatever `max_pixels` is. Raises
    `OSError` with a short reason for anything that is not a complete image of at most `max_pixels`
    as decoded.
    """
    try:
        if isinstance(source, Image.Image):
            return _to_rgb(source)
        with _open(source, max_pixels, formats=formats) as image:
            check(image)
            _draft(image)
            return _to_rgb(image)
    except _DECODER_ERRORS as error:
        raise OSError(short_reason(error)) from error


@contextmanager
def translate_image_errors(source: str | bytes) -> Iterator[None]:
    """Within it, a photo that can't be read any more, after all were, is an `InputError`."""
    try:
        yield
    except OSError as error:
        name = source if isinstance(source, str) else "a photo"
        raise InputError(
            f"{name}: can't be read any more ({short_reason(error)}). Put it back and resume, or "
            "start again without it."
        ) from error


def open_small(
    source: str | Path | bytes, size: int, *, max_pixels: int = MAX_PIXELS, name: str = ""
) -> tuple[Image.Image, str, tuple[int, int]]:
    """An upright RGB image of at least `size` pixels a side, or of its own if smaller; quickly.

    Every byte is read, but a large JPEG is decoded at a fraction of its size. Gives the format
    ("JPEG") and the upright (width, height) of the file too. `name` is what bytes are called.
    Raises `OSError` as `open_rgb` does.
    """
    try:
        with _open(source, max_pixels, name) as image:
            width, height = image.size
            if image.getexif().get(0x0112, 1) >= 5:  # lies on its side
                width, height = height, width
            form = image.format or ""
            _draft(image, size)
            return _to_rgb(image), form, (width, height)
    except _DECODER_ERRORS as error:
        raise OSError(short_reason(error)) from error


def complete_jpeg(source: str | Path | bytes, *, max_pixels: int = MAX_PIXELS) -> bytes:
    """The bytes of a JPEG that lacks its last ones, with an end that decoders accept.

    What is missing is grey, or blurred if it is progressive. Raises `OSError` for other files, and
    where more than `MOST_LOST` of the rows are missing. Pillow's own switch for this would act on
    all threads, and on all formats.
    """
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    if not content.startswith(_JPEG_START):
        raise OSError("its end is missing, and it is no JPEG")
    content += _JPEG_END
    try:
        with _open(content, max_pixels, formats=("JPEG",)) as image:
            _draft(image, 1)
            lost = 1 - _rows_there(image) / image.height
    except _DECODER_ERRORS as error:
        raise OSError(short_reason(error)) from error
    if lost > MOST_LOST:
        raise OSError(f"{lost:.0%} of it is missing")
    return content


def _rows_there(image: Image.Image, block: int = 64) -> int:
    """How many rows there are until the last that isn't grey, as the decoder leaves missing ones.

    From the end on, a few at a time: a large image takes no more memory than it is decoded in.
    """
    for end in range(image.height, 0, -block):
        start = max(end - block, 0)
        rows = np.asarray(image.crop((0, start, image.width, end))).reshape(end - start, -1)
        there = np.flatnonzero(((rows < 127) | (rows > 129)).any(axis=1))
        if len(there):
            return start + int(there[-1]) + 1
    return 0


def is_over_limit(reason: str) -> bool:
    """Whether a photo isn't read since it has too many pixels, by the reason that was given."""
    return LIMIT in reason


def has_remedy(reason: str) -> bool:
    """Whether the reason that a photo isn't read says what to do, too."""
    return ": " in reason and reason in {*_UNREAD_SUFFIXES.values(), *_NO_IMAGES.values()}


TRUNCATED_REMEDY = "Set allow_truncated_images for JPEGs that lack only their last bytes."


def is_truncated(reason: str) -> bool:
    """Whether a photo can't be read since its end is missing, by the reason that was given."""
    return "truncated" in reason


def decode_images(batch: dict[str, list], max_pixels: int = MAX_PIXELS) -> dict[str, list]:
    """Turn the `image` column of a batch from `{"path", "bytes"}` into upright RGB images."""
    if "image" not in batch:
        return batch
    sources = [image["bytes"] or image["path"] for image in batch["image"]]
    return batch | {"image": [open_rgb(source, max_pixels=max_pixels) for source in sources]}


def list_images(folder: Path) -> list[Path]:
    """Every photo below a folder, sorted; hidden files and macOS' leftovers are passed over.

    Those in formats that are not read are among them: `open_rgb` refuses them with the reason.
    Follows links, but into no folder twice. Raises `InputError` for a folder that can't be read.
    """
    return [path for path in walk_files(folder) if is_image_file(path)]


def walk_files(folder: Path) -> Iterator[Path]:
    """Every file below a folder that isn't hidden, sorted, one folder after the other."""
    for parent, files in walk_folders(folder):
        yield from (Path(parent, name) for name in files)


def walk_folders(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Each folder from `folder` down, and the names of its files, sorted; none that are hidden."""

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: {error.strerror}. Make it readable, or remove it.")

    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        real = os.path.realpath(parent)
        if real in seen:
            logger.warning("%s: a link to a folder that is read already, so ignored", parent)
            folders.clear()
            continue
        seen.add(real)
        yield Path(parent), sorted(name for name in files if not is_hidden(name))


def is_hidden(name: str) -> bool:
    """True for `.thumbnails`, `._photo.jpg`, and folders that macOS and Synology add."""
    return name.startswith(".") or name in ("__MACOSX", "@eaDir")


def kind_of(name: str) -> Kind:
    """What a file of this name is, without opening it."""
    if is_hidden(name):
        return Kind.HIDDEN
    by_name = Kind.NOTE if name.lower() in _NOTES else Kind.UNKNOWN
    return _KINDS.get(_suffix(name), by_name)


def may_be_image(name: str) -> bool:
    """True for the name of a photo, and for one that doesn't say what the file is."""
    return kind_of(name) in {*PHOTOS, Kind.UNKNOWN}


def is_image_file(path: Path) -> bool:
    """True for a photo by its name; where that doesn't say, by its first bytes."""
    kind = kind_of(path.name)
    return kind in PHOTOS or (kind is Kind.UNKNOWN and _is_image_head(path))


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122, faster, for each of many files


def _is_image_head(path: Path) -> bool:
    try:
        check_regular(path)  # else to open a pipe would wait for ever
        return is_image_head(_head(path))
    except OSError:  # a link to nowhere, say
        return False


def is_image_head(content: bytes) -> bool:
    """True for what starts as a photo does, in a format that is read or not."""
    head = content[:_HEAD_BYTES]
    return bool(_READ_HEAD.match(head)) or unread_format(head=head) not in ("", VIDEO)


def check_regular(path: Path) -> os.stat_result:
    """The file's stat. Raises `OSError` for a pipe, socket, device or folder: reading may block."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError("not a regular file")
    return found


def unread_format(name: str = "", head: bytes = b"") -> str:
    """Why a file is in no format that is read, by its first bytes, else its name; "" if unknown."""
    found = (why for why, magic in _UNREAD_HEADS.items() if re.match(magic, head, re.DOTALL))
    suffix = _suffix(name)
    by_name = VIDEO if suffix in _VIDEO_SUFFIXES else _UNREAD_SUFFIXES.get(suffix, "")
    return next(found, by_name)


# What Pillow's decoders raise for broken data, beside OSError.
_DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, MemoryError, RuntimeError),
    *(struct.error, zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning),
)


def _open(
    source: str | Path | bytes, max_pixels: int, name: str = "", formats: Sequence[str] = FORMATS
) -> Image.Image:
    size = len(source) if isinstance(source, bytes) else check_regular(Path(source)).st_size
    if size == 0:
        raise OSError("empty file (0 bytes)")
    name, head = name if isinstance(source, bytes) else str(source), _head(source)
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        image = open_undecoded(file, head, formats)
    except Image.UnidentifiedImageError as error:
        why = unread_format(name, head) or _NO_IMAGES.get(_suffix(name))
        raise OSError(why or "not an image, or an unknown format") from error
    except Image.DecompressionBombError as error:  # at twice Pillow's own limit
        raise OSError(f"over the limit of {max_pixels:,} pixels ({LIMIT})") from error
    fault = _over_limit(image, max_pixels)
    if not fault and image.format == "TIFF" and _is_raw(image, name, head):
        fault = RAW  # of which Pillow would take the thumbnail
    if fault:
        image.close()
        raise OSError(fault)
    return image


def open_undecoded(
    file: str | Path | io.BytesIO, head: bytes, formats: Sequence[str] = FORMATS
) -> Image.Image:
    """By the decoder that its first bytes ask for, or Pillow's `UnidentifiedImageError`.

    Unlike `Image.open`, a JPEG of any size: it needn't be decoded whole.
    """
    known = [one for one in readable_formats() if one in formats]
    if "JPEG" not in known or not head.startswith(_JPEG_START):
        return Image.open(file, formats=known)
    try:
        return Image.OPEN["JPEG"][0](file, "")
    except (SyntaxError, IndexError, TypeError, struct.error) as error:  # as Image.open does
        raise Image.UnidentifiedImageError("no JPEG") from error


_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_JPEGS = ("JPEG", "MPO")  # MPO: several in a file, of which the first counts


def _over_limit(image: Image.Image, max_pixels: int) -> str:
    """Why an image would be too large when decoded; "" if it isn't."""
    width, height = image.size
    if image.format in _JPEGS:
        fits = width * height <= max_pixels * _reduction(image) ** 2
        # of several scans, libjpeg holds up to 6 bytes for each pixel, at any reduction
        fits &= width * height <= 2 * max_pixels or _has_one_scan(image)
    else:
        fits = width * height <= max_pixels
    limit = f"over the limit of {max_pixels:,} ({LIMIT})"
    return "" if fits else f"{width} x {height} pixels, {limit}"


def _reduction(image: Image.Image) -> int:
    """By how much a JPEG's sides are divided: with an eighth of them, none is over `MAX_PIXELS`."""
    width, height = image.size
    return next(times for times in (1, 2, 4, 8) if width * height <= MAX_PIXELS * times**2)


def _has_one_scan(image: Image.Image) -> bool:
    """Whether a JPEG's only scan holds all its components; Pillow has read up to its header."""
    size = 6 + 2 * image.layers
    image.fp.seek(-2 - size, io.SEEK_CUR)
    header = image.fp.read(2 + size)
    whole = header.startswith(b"\xff\xda" + size.to_bytes(2, "big") + bytes([image.layers]))
    return whole and "progressive" not in image.info


def _draft(image: Image.Image, size: int | None = None) -> None:
    """Have a JPEG decoded at a fraction: as all are by their size, or less, for `size` pixels."""
    if image.format in _JPEGS and (size or _reduction(image) > 1):
        most = min(image.size) // _reduction(image)
        side = min(size or most, most)
        image.draft("RGB", (side, side))


def _head(source: str | Path | bytes) -> bytes:
    if isinstance(source, bytes):
        return source[:_HEAD_BYTES]
    with Path(source).open("rb") as file:
        return file.read(_HEAD_BYTES)


def _is_raw(image: Image.Image, name: str, head: bytes) -> bool:
    """Whether a TIFF holds a camera's raw data: by name or head, or by its DNG or thumbnail tag."""
    tags = image.tag_v2
    return unread_format(name, head) == RAW or 50706 in tags or tags.get(254) == 1


@cache
def readable_formats() -> tuple[str, ...]:
    """Pillow's names of those of `FORMATS` that it can open here; registers the opener of HEIF.

    Its embedded thumbnails stay out of it: they may differ from the photo. A thread each, for
    photos are read by several workers.
    """
    from pillow_heif import register_heif_opener

    register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)  # some builds lack AVIF


@cache
def decoder_versions() -> str:
    """What decodes here, for the keys of caches: another version may give other pixels."""
    import pillow_heif

    known = {*features.codecs, *features.modules, *features.features}
    used = {name: features.version(name) for name in _DECODERS if name in known}
    libheif = pillow_heif.libheif_version()
    return f"{used} {pillow_heif.__version__} {libheif} {readable_formats()}"


_DECODERS = (
    *("pil", "jpg", "libjpeg_turbo", "mozjpeg", "jpg_2000", "zlib", "zlib_ng"),
    *("libtiff", "webp", "avif"),
)


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
    """16- and 32-bit greyscale to 8 bits by its nominal range; Pillow by itself would clip it."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
    if image.mode.startswith("I;16"):
        top = 65535.0
    else:  # 32 bits: the smallest usual range that holds it
        most = float(values.max())
        top = next((top for top in (1.0, 255.0, 65535.0) if most <= top), most)
    return Image.fromarray((values.clip(0, top) * (255 / top)).round().astype(np.uint8))
