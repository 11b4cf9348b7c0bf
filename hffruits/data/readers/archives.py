"""Zip and tar archives of class folders, unpacked safely: only plain, wanted files, nothing nested.

One doubtful member refuses the whole archive. No size that an archive states is believed.
"""

import bz2
import gzip
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from hffruits.core.errors import InputError, short_reason
from hffruits.core.escaping import printable, shorten
from hffruits.core.progress import progress_bar
from hffruits.data.images import PHOTOS, kind_of

_OPENERS = {
    ".tar": open, ".tar.gz": gzip.open, ".tgz": gzip.open, ".tar.bz2": bz2.open,
    ".tar.xz": lzma.open,
}  # fmt: skip
SUFFIXES = (".zip", *_OPENERS)
RATIO_FROM = 100 * 10**6  # bytes that may come out before the compression ratio is checked
CHUNK = 2**18  # bytes
MAX_TAR_HEADER = 2**20  # bytes
MAX_DEPTH = 50  # folders; pathlib makes them by recursion
DIRECTORY_BYTES = 512  # of a zip's directory, for each file that it may hold: long paths are 300


def is_archive(path: Path) -> bool:
    """True for a file whose name ends in one of `SUFFIXES`, whatever is in it."""
    return path.name.lower().endswith(SUFFIXES) and path.is_file()


def unpack(
    archive: Path,
    folder: Path,
    *,
    wanted: Callable[[str], bool],
    file: BinaryIO | None = None,
    named: Callable[[str], bool] = lambda name: False,
    kind: Callable[[str], object] | None = None,
    max_bytes: int = 50 * 2**30,
    max_files: int = 5_000_000,
    max_ratio: float = 200.0,
) -> None:
    """Write the files whose name (last part) is `wanted` below the empty `folder`, as they lie.

    `file` is a zip that the caller has opened. Of those whose name is `named`, empty files are
    written, and of all others the first one of each `kind` in a folder; empty folders stay empty
    folders. Raises `InputError` for hostile names, links, duplicates, encryption, damage, more than
    `max_bytes` written or `max_files` members, `max_ratio` times the archive's size, a full disk,
    and when nothing is wanted. What is written by then stays: removing it is the caller's.
    """
    limits = _Limits(archive, max_bytes, max_files, max_ratio, file)
    read = _tar_members if _tar_opener(archive) else _zip_members
    written = 0
    folders: set[PurePosixPath] = set()  # those with an entry of their own
    others: dict[tuple[PurePosixPath, object], PurePosixPath] = {}  # the first of each kind
    filled: set[PurePosixPath] = set()  # those in which something lies, in any order of entries
    with (
        progress_bar(desc=f"Unpacking {printable(archive.name)}", unit="img", leave=False) as bar,
        closing(read(archive, limits)) as members,
    ):
        for member in members:
            limits.count_member()
            if fault := _name_fault(member.name) or member.fault:
                raise _refusal(archive, member.name, fault)
            path = PurePosixPath(member.name)  # without "." and doubled slashes
            filled.update(path.parents)
            if member.chunks is None:
                folders.add(path)
            elif wanted(path.name):
                _write(archive, member, folder / path, limits)
                written += 1
                bar.update()
            elif named(path.name):
                _write(archive, member._replace(chunks=()), folder / path, limits)
            elif kind is not None:
                place = path.parent, kind(path.name)
                others[place] = min(path, others.get(place, path))
    for path in sorted(others.values()):
        _write(archive, _Member(str(path), None, ()), folder / path, limits)
    for path in sorted(folders - filled):
        with _translate_write_errors(archive, str(path), folder):
            (folder / path).mkdir(parents=True, exist_ok=True)
    if not written:
        raise InputError(f"{archive}: no images in it. Pack a folder of class folders with photos.")


def looks_like_webdataset(archive: Path) -> bool:
    """True for a tar that starts with images beside a .cls, .json or .txt of the same key.

    Reads 20 files' names (see github.com/webdataset/webdataset); False for what can't be read.
    """
    if not _tar_opener(archive):
        return False
    limits = _Limits(archive, max_bytes=0, max_files=0, max_ratio=200.0)  # nothing is written
    images, sidecars = set(), set()
    try:
        with closing(_tar_members(archive, limits)) as members:
            files = (PurePosixPath(member.name) for member in members if member.chunks)
            for _, path in zip(range(20), files, strict=False):
                key = path.parent / path.name.split(".")[0]
                if path.suffix in (".cls", ".json", ".txt"):
                    sidecars.add(key)
                elif kind_of(path.name) in PHOTOS:
                    images.add(key)
    except InputError:
        return False
    return bool(images & sidecars)


class _Member(NamedTuple):
    name: str
    fault: str | None  # what forbids it, and the remedy
    chunks: Iterator[bytes] | None  # its content, read when asked for; None for a folder


@dataclass
class _Limits:
    """Counts what comes out of one archive, and refuses what is over."""

    archive: Path
    max_bytes: int
    max_files: int
    max_ratio: float
    file: BinaryIO | None = None  # opened by the caller
    members: int = 0
    written: int = 0  # bytes
    streamed: int = 0  # bytes of a decompressed tar, with the unwanted files and the headers

    def count_member(self) -> None:
        self.members += 1
        if self.members > self.max_files:
            self.refuse(f"more than {self.max_files:,} files in it")

    def count_written(self, size: int) -> None:
        self.written += size
        if self.written > self.max_bytes:
            self.refuse(f"unpacks to more than {self.max_bytes:,} bytes")
        self._check_ratio(self.written)  # a sparse file in a tar is more than its stream

    def count_streamed(self, size: int) -> None:
        self.streamed += size
        self._check_ratio(self.streamed)

    def _check_ratio(self, size: int) -> None:
        if size > RATIO_FROM and size > self.max_ratio * self.archive.stat().st_size:
            self.refuse(f"unpacks to more than {self.max_ratio:g} times its size")

    def refuse(self, reason: str) -> None:
        remedy = "If you trust it, unpack it yourself and give the folder."
        raise InputError(f"{self.archive}: {reason}. {remedy}")


_NAME_FAULTS = {
    "isn't named in UTF-8": r"[\ud800-\udfff]",  # what surrogateescape makes of other bytes
    "has a control character in its name": r"[\x00-\x1f\x7f-\x9f]",
    "has a backslash in its name": r"\\",
    "is an absolute path": r"^/",
    "has a drive letter in its path": r"(^|/)[A-Za-z]:",
    # Windows drops dots and spaces at the end.
    "has '..' in its path": r"(^|/)(?=[^/]*\.\.)[. ]+(/|$)",
}


def _name_fault(name: str) -> str | None:
    """What makes a member's name unfit as a path below any folder, and the remedy."""
    found = [fault for fault, pattern in _NAME_FAULTS.items() if re.search(pattern, name)]
    if not found and max(len(part.encode()) for part in name.split("/")) > 255:
        found = ["has a name longer than 255 bytes"]
    if not found and name.count("/") > MAX_DEPTH:
        found = [f"is nested more than {MAX_DEPTH} folders deep"]
    return f"{found[0]}. Rename it and pack the folder again." if found else None


def _refusal(archive: Path, name: str | bytes, fault: str) -> InputError:
    return InputError(f"{archive}: {shorten(repr(name))} {fault}")


def _write(archive: Path, member: _Member, path: Path, limits: _Limits) -> None:
    with _translate_write_errors(archive, member.name, path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            for chunk in member.chunks:
                limits.count_written(len(chunk))
                file.write(chunk)


@contextmanager
def _translate_write_errors(archive: Path, name: str, folder: Path) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        fault = (
            "comes twice, or as a file and a folder. Pack each file once, under names that differ "
            "in more than their case."
        )
        raise _refusal(archive, name, fault) from error
    except OSError as error:
        fault = f"can't be written to {folder} ({error.strerror})."
        remedy = "Free space there, or set HFFRUITS_CACHE to another folder."
        raise _refusal(archive, name, f"{fault} {remedy}") from error


def _chunks(archive: Path, open_member: Callable, info: object) -> Iterator[bytes]:
    with _translate_archive_errors(archive), open_member(info) as content:
        while chunk := content.read(CHUNK):
            yield chunk


def _zip_members(archive: Path, limits: _Limits) -> Iterator[_Member]:
    with (
        _translate_archive_errors(archive),
        nullcontext(limits.file) if limits.file else archive.open("rb") as opened,
        zipfile.ZipFile(_ShortReads(opened, limits)) as file,
    ):
        for info in file.infolist():
            name = _zip_name(archive, info)
            chunks = None if name.endswith("/") else _chunks(archive, file.open, info)
            yield _Member(name, _zip_fault(info), chunks)


def _zip_name(archive: Path, info: zipfile.ZipInfo) -> str:
    """A member's name as it was packed: by the UTF-8 flag, Info-ZIP's field, or as UTF-8.

    macOS and Info-ZIP write UTF-8 without the flag as well. What is neither is in the code page of
    the computer that packed it, which a zip doesn't state: classes with wrong letters would be
    trained, so that is refused.
    """
    name = info.orig_filename  # the other ends at a NUL
    if info.flag_bits & 0x800:
        return name
    packed = name.encode("cp437")  # which zipfile has decoded it by
    try:
        return (_unicode_path(info.extra, packed) or packed).decode("utf-8")
    except UnicodeDecodeError as error:
        readings = (packed.decode(page, errors="replace") for page in ("cp437", "cp1252"))
        dos, windows = (shorten(repr(reading), 60) for reading in readings)
        fault = (
            f"is named in a code page that the zip doesn't state ({dos} by cp437, {windows} by "
            "cp1252). Pack the folder again with names in UTF-8, or give the unpacked folder."
        )
        raise _refusal(archive, packed, fault) from error


def _unicode_path(extra: bytes, packed: bytes) -> bytes | None:
    """The name in Info-ZIP's Unicode path field (0x7075, APPNOTE 4.6.9), if it is of this name."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == 0x7075 and len(field) > 5 and field[0] == 1:
            is_own = int.from_bytes(field[1:5], "little") == zlib.crc32(packed)
            return field[5:] if is_own else None
    return None


class _ShortReads:
    """A zip's file for zipfile, which reads the whole directory before it can be counted.

    It reads as many bytes, and entries in them, as the archive states; here no more than
    `max_files` need. Everything else is read in small parts.
    """

    def __init__(self, file: BinaryIO, limits: _Limits):
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable
        self._file, self._limits = file, limits
        self._most = max(2**20, DIRECTORY_BYTES * limits.max_files)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(size, self._most + 1) if size >= 0 else self._most + 1)
        if len(data) > self._most:
            self._limits.refuse(f"more than {self._limits.max_files:,} files in it")
        return data


def _zip_fault(info: zipfile.ZipInfo) -> str | None:
    kind = stat.S_IFMT(info.external_attr >> 16)  # 0: not packed on a Unix
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return f"is {'a symbolic link' if kind == stat.S_IFLNK else 'no plain file'}. {_NO_LINKS}"
    if info.flag_bits & 1:
        return "is encrypted. Pack the folder again without a password."
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # zipfile would decompress bzip2 and LZMA without a bound on the memory.
        return f"is compressed by method {info.compress_type}. Pack the folder again with deflate."
    return None


_NO_LINKS = "Pack the files themselves (tar --dereference --hard-dereference; zip without -y)."
_TAR_KINDS = {
    tarfile.SYMTYPE: "a symbolic link", tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device", tarfile.FIFOTYPE: "a fifo",
}  # fmt: skip


def _tar_members(archive: Path, limits: _Limits) -> Iterator[_Member]:
    # tarfile's own decompression of streams has no bound on the memory, and checks no sums.
    # Its data_filter (3.11.4) strips the slash off absolute paths and allows links.
    with _translate_archive_errors(archive), _tar_opener(archive)(archive, "rb") as file:
        stream = _TarStream(file, limits)
        options = {"encoding": "utf-8", "errors": "surrogateescape", "tarinfo": _TarHeader}
        with tarfile.open(fileobj=stream, mode="r|", bufsize=2**16, **options) as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # it would remember every one
                kind = _TAR_KINDS.get(info.type, "no plain file")
                fault = None if info.isreg() or info.isdir() else f"is {kind}. {_NO_LINKS}"
                chunks = None if info.isdir() else _chunks(archive, tar.extractfile, info)
                yield _Member(info.name, fault, chunks)
        while stream.read_on(CHUNK):  # to the end, where the checksum is
            pass


def _tar_opener(archive: Path) -> Callable | None:
    name = archive.name.lower()
    return next((opener for end, opener in _OPENERS.items() if name.endswith(end)), None)


class _TarStream:
    """The decompressed tar, counted. A tar says where it ends, so to run out of bytes is damage."""

    def __init__(self, file: BinaryIO, limits: _Limits):
        self.file, self.limits = file, limits

    def read(self, size: int) -> bytes:
        if data := self.read_on(size):
            return data
        raise EOFError("it is cut short")  # tarfile would take that for the end, or loop

    def read_on(self, size: int) -> bytes:
        data = self.file.read(size)
        self.limits.count_streamed(len(data))
        return data


_EXTRA = (  # headers that describe the next one; tarfile reads them as a whole into memory
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)


class _TarHeader(tarfile.TarInfo):
    """A header of bounded size that raises for damage, which tarfile takes for the end."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf.count(0) == len(buf):  # the end mark
                raise
            raise tarfile.ReadError(str(error)) from error
        if header.size < 0 or (header.type in _EXTRA and header.size > MAX_TAR_HEADER):
            raise tarfile.ReadError(f"a header states {header.size:,} bytes")
        return header


# What the standard library raises for archives that are damaged, or made to do harm.
_DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError),
    *(OSError, ValueError, RuntimeError, IndexError, OverflowError, MemoryError),
)


@contextmanager
def _translate_archive_errors(archive: Path) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except UnicodeDecodeError as error:
        fault = "isn't named in UTF-8. Rename it and pack the folder again."
        raise _refusal(archive, error.object, fault) from error
    except _DAMAGE as error:
        remedy = "Copy, download or pack it again."
        raise InputError(f"{archive}: can't be read ({short_reason(error)}). {remedy}") from error
