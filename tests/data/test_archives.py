"""Archives unpack to what was packed; path traversal, links and bombs are rejected."""

import errno
import io
import re
import struct
import tarfile
import tracemalloc
import warnings
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hostile_files import directory_zip

from hffruits.core.cache import make_once
from hffruits.core.errors import InputError
from hffruits.data.readers import archives
from hffruits.data.readers.archives import SUFFIXES, is_archive, looks_like_webdataset, unpack

MODES = {".zip": "", ".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2",
         ".tar.xz": "w:xz"}  # fmt: skip
TREE = {
    "Apple/0.jpg": b"red" * 500, "Apple/1.JPG": b"", "Äpfel/Größe 1/0.png": b"green",
    "Apple/" + "n" * 200 + "/" + "m" * 200 + ".jpg": b"long",
}  # fmt: skip
LONG = 300  # characters, more than a file's name may have
every_suffix = pytest.mark.parametrize("suffix", SUFFIXES)
zip_and_tar = pytest.mark.parametrize("suffix", [".zip", ".tar"])
every_tar = pytest.mark.parametrize("suffix", [suffix for suffix in SUFFIXES if suffix != ".zip"])


def is_photo(name: str) -> bool:
    return name.lower().endswith((".jpg", ".png"))


def pack(archive: Path, files: dict[str, bytes] | list[tuple[str, bytes]]) -> Path:
    """Write files into an archive of the kind of its suffix, under exactly these names."""
    files = list(files.items() if isinstance(files, dict) else files)
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # names that come twice
            for name, content in files:
                info = zipfile.ZipInfo("x")
                info.filename, info.compress_type = name, zipfile.ZIP_DEFLATED
                file.writestr(info, content)
        return archive
    return pack_tar(archive, [(entry(name, size=len(content)), content) for name, content in files])


def entry(name: str, **fields) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def pack_tar(archive: Path, entries: list[tuple[tarfile.TarInfo, bytes]], **options) -> Path:
    mode = next(mode for suffix, mode in MODES.items() if archive.name.endswith(suffix))
    with tarfile.open(archive, mode, **options) as file:
        for info, content in entries:
            file.addfile(info, io.BytesIO(content))
    return archive


def unpacked(archive: Path, **options) -> dict[str, bytes]:
    """Unpack and read back, by relative path; beside the folder nothing may appear."""
    folder = archive.with_name(f"{archive.name} out")
    folder.mkdir()
    before = sorted(folder.parent.iterdir())
    try:
        unpack(archive, folder, wanted=is_photo, **options)
    finally:
        assert sorted(folder.parent.iterdir()) == before
        assert not any(path.is_symlink() for path in folder.rglob("*"))
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def refusal(archive: Path, **options) -> str:
    """What the user reads: one line with the archive, the reason and a remedy."""
    with pytest.raises(InputError) as caught:
        unpacked(archive, **options)
    value, rest = str(caught.value).split(": ", 1)
    reason, remedy = rest.split(". ", 1)
    assert value == str(archive) and rest.isprintable() and len(rest) < 500
    assert remedy.endswith(".") and reason
    return rest


@every_suffix
def test_what_was_packed_comes_out(tmp_path, suffix):
    archive = pack(tmp_path / f"fruits{suffix}", TREE)
    assert unpacked(archive) == TREE


def test_the_suffixes_are_the_ones_these_tests_know():
    assert set(SUFFIXES) == set(MODES)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar_is_read(tmp_path, form):
    files = {f"{'d' * 90}/{'e' * 90}.jpg": b"1", "Zoë/0.jpg": bytes(5000)}
    entries = [(entry(name, size=len(data)), data) for name, data in files.items()]
    assert unpacked(pack_tar(tmp_path / "fruits.tar", entries, format=form)) == files


@zip_and_tar
def test_only_wanted_files_come_out_and_only_the_folders_they_need(tmp_path, suffix):
    files = {"./Apple//0.jpg": b"a", "read me.txt": b"b", "Lime/more.zip": b"c", "Fig/0.cls": b"d"}
    assert unpacked(pack(tmp_path / f"fruits{suffix}", files)) == {"Apple/0.jpg": b"a"}
    assert [path.name for path in (tmp_path / f"fruits{suffix} out").iterdir()] == ["Apple"]


def test_folders_in_an_archive_are_skipped(tmp_path):
    folder = tmp_path / "fruits"
    (folder / "Fig.jpg").mkdir(parents=True)
    (folder / "Fig.jpg" / "0.jpg").write_bytes(b"0")
    with tarfile.open(tmp_path / "fruits.tar", "w") as file:
        file.add(folder, ".")
    with zipfile.ZipFile(tmp_path / "fruits.zip", "w") as file:
        file.mkdir("Fig.jpg")
        file.write(folder / "Fig.jpg" / "0.jpg", "Fig.jpg/0.jpg")
    for suffix in (".tar", ".zip"):
        assert unpacked(tmp_path / f"fruits{suffix}") == {"Fig.jpg/0.jpg": b"0"}


@zip_and_tar
def test_only_folders_in_which_nothing_lies_come_out_empty_in_any_order(tmp_path, suffix):
    files = {"Fig/0.jpg": b"0", "docs/a.txt": b"a", "Fig/": b"", "docs/": b"", "Lime/": b""}
    if suffix == ".zip":
        pack(tmp_path / "fruits.zip", files)
    else:
        kinds = {name: tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE for name in files}
        pack_tar(
            tmp_path / "fruits.tar",
            [(entry(n, type=kinds[n], size=len(data)), data) for n, data in files.items()],
        )
    unpacked(tmp_path / f"fruits{suffix}")
    assert {p.name for p in (tmp_path / f"fruits{suffix} out").iterdir()} == {"Fig", "Lime"}


@zip_and_tar
def test_of_unwanted_files_the_first_of_each_kind_in_a_folder_comes_out_empty(tmp_path, suffix):
    names = ("Fig/0.jpg", "C/b.txt", "C/a.txt", "C/y.pdf", "C/x.pdf", "C/z.pdf")
    archive = pack(tmp_path / f"fruits{suffix}", dict.fromkeys(names, b"0"))
    found = unpacked(archive, kind=lambda name: name[-3:])
    assert found == {"Fig/0.jpg": b"0", "C/a.txt": b"", "C/x.pdf": b""}


@every_tar
def test_modes_of_the_archive_are_not_taken_over(tmp_path, suffix):
    entries = [(entry("Apple/0.jpg", mode=0o4777, uid=12345), b"")]
    unpacked(pack_tar(tmp_path / f"fruits{suffix}", entries))
    (tmp_path / "new").write_bytes(b"")
    photo = tmp_path / f"fruits{suffix} out/Apple/0.jpg"
    assert photo.stat().st_mode == (tmp_path / "new").stat().st_mode


def test_an_archive_is_known_by_its_name_and_has_to_be_a_file(tmp_path):
    for suffix in SUFFIXES:
        (tmp_path / f"Fruits{suffix.upper()}").write_bytes(b"")
        assert is_archive(tmp_path / f"Fruits{suffix.upper()}")
        assert not is_archive(tmp_path / f"missing{suffix}")
    (tmp_path / "folder.zip").mkdir()
    (tmp_path / "fruits.gz").write_bytes(b"")
    assert not is_archive(tmp_path / "folder.zip") and not is_archive(tmp_path / "fruits.gz")


HOSTILE = {
    "/etc/0.jpg": "absolute path", "//host/0.jpg": "absolute path",
    "C:/0.jpg": "drive letter", "Apple/c:0.jpg": "drive letter",
    "..\\0.jpg": "backslash", "\\\\host\\0.jpg": "backslash", "Apple\\0.jpg": "backslash",
    "../0.jpg": r"'\.\.'", "Apple/../../0.jpg": r"'\.\.'", "Apple/.. /0.jpg": r"'\.\.'",
    "Apple/..": r"'\.\.'", "Apple/ .../0.jpg": r"'\.\.'",
    "Apple\n/0.jpg": "control character", "a\x1b[2J.jpg": "control character",
    "a\x9b2J.jpg": "control character", "a\x7f.jpg": "control character",
    "a" * LONG + ".jpg": "longer than 255 bytes", "ä" * 140 + "/0.jpg": "longer than 255 bytes",
    "a/" * 60 + "0.jpg": "nested more than 50 folders deep", "../read me.txt": r"'\.\.'",
}  # fmt: skip


@zip_and_tar
@pytest.mark.parametrize(("name", "reason"), HOSTILE.items(), ids=range(len(HOSTILE)))
def test_a_name_that_could_lead_elsewhere_is_refused(tmp_path, suffix, name, reason):
    archive = pack(tmp_path / f"fruits{suffix}", {"Apple/0.jpg": b"a", name: b"b"})
    assert re.search(f"{reason}.*Rename it", refusal(archive))


@pytest.mark.parametrize("name", ["Apple/...x.jpg", "Ap..ple/0.jpg", "10:30:00.jpg", " a .jpg"])
@zip_and_tar
def test_odd_but_harmless_names_are_kept(tmp_path, suffix, name):
    assert unpacked(pack(tmp_path / f"fruits{suffix}", {name: b"a"})) == {name: b"a"}


def test_a_nul_in_a_name_is_refused(tmp_path):
    info = entry("0.jpg", pax_headers={"path": "a\0/0.jpg"})
    packed = pack_tar(tmp_path / "a.tar", [(info, b"")], format=tarfile.PAX_FORMAT)
    for archive in (pack(tmp_path / "a.zip", {"a.jpg\0.txt": b"a"}), packed):
        assert "control character" in refusal(archive)


def test_a_name_that_is_not_utf_8_is_explained(tmp_path):
    archive = pack(tmp_path / "a.zip", {"ZZpfel/0.jpg": b"a"})
    archive.write_bytes(archive.read_bytes().replace(b"ZZ", b"\xe4\xff"))
    latin = {"format": tarfile.GNU_FORMAT, "encoding": "latin-1"}
    packed = pack_tar(tmp_path / "a.tar", [(entry("Äpfel/0.jpg"), b"")], **latin)
    assert "pfel/0.jpg' isn't named in UTF-8. Rename it" in refusal(packed)
    guesses = r"('Σ\xa0pfel/0.jpg' by cp437, 'äÿpfel/0.jpg' by cp1252)"
    assert f"in a code page that the zip doesn't state {guesses}. Pack" in refusal(archive)


def test_zips_with_utf_8_names_but_without_the_flag_for_it_are_read(tmp_path):
    archive = pack(tmp_path / "a.zip", {"ZZpfel/0.jpg": b"a"})  # as macOS packs them
    archive.write_bytes(archive.read_bytes().replace(b"ZZ", "Ä".encode()))
    assert unpacked(archive) == {"Äpfel/0.jpg": b"a"}


@pytest.mark.parametrize(
    ("page", "name"), [("cp850", "Äpfel/0.jpg"), ("cp866", "Яблоко/0.jpg"), ("gbk", "苹果/0.jpg")]
)
def test_names_of_windows_are_read_by_info_zips_field_and_else_refused(tmp_path, page, name):
    packed = name.encode(page)
    archive = pack_page(tmp_path / "a.zip", packed)
    assert "in a code page that the zip doesn't state" in refusal(archive)
    assert unpacked(pack_page(tmp_path / "b.zip", packed, name.encode())) == {name: b"a"}


def test_the_name_in_info_zips_field_is_checked_like_any_other(tmp_path):
    above = pack_page(tmp_path / "a.zip", b"\x8e.jpg", b"../0.jpg")
    assert "'..' in its path" in refusal(above)
    broken = pack_page(tmp_path / "c.zip", b"\x8e.jpg", b"\xff.jpg")
    assert "a code page" in refusal(broken)
    other = pack_page(tmp_path / "b.zip", b"0.jpg", b"1.jpg", crc=0)  # of another name
    assert unpacked(other) == {"0.jpg": b"a"}


def pack_page(
    archive: Path, name: bytes, unicode: bytes | None = None, crc: int | None = None
) -> Path:
    """A zip as Windows packs it: a name in a code page, maybe with Info-ZIP's Unicode path."""
    info = zipfile.ZipInfo("Z" * len(name))
    if unicode:
        crc = zlib.crc32(name) if crc is None else crc
        field = struct.pack("<BL", 1, crc) + unicode
        info.extra = struct.pack("<HH", 0x7075, len(field)) + field
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(info, b"a")
    archive.write_bytes(archive.read_bytes().replace(b"Z" * len(name), name))
    return archive


@every_tar
@pytest.mark.parametrize(
    ("kind", "shown"),
    [(tarfile.SYMTYPE, "a symbolic link"), (tarfile.LNKTYPE, "a hard link"),
     (tarfile.CHRTYPE, "a device"), (tarfile.BLKTYPE, "a device"), (tarfile.FIFOTYPE, "a fifo"),
     (b"V", "no plain file")],
)  # fmt: skip
def test_links_and_devices_in_a_tar_are_refused(tmp_path, suffix, kind, shown):
    for target in ("../../etc/passwd", "0.jpg"):
        entries = [(entry("0.jpg"), b""), (entry("a.jpg", type=kind, linkname=target), b"")]
        archive = pack_tar(tmp_path / f"{target[0]}{suffix}", entries)
        assert f"'a.jpg' is {shown}. Pack the files themselves" in refusal(archive)


@pytest.mark.parametrize(
    ("mode", "shown"), [(0o120777, "a symbolic link"), (0o010644, "no plain file")]
)
def test_links_in_a_zip_are_refused(tmp_path, mode, shown):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        info = zipfile.ZipInfo("a.jpg")
        info.external_attr = mode << 16
        file.writestr(info, "/etc/passwd")
    assert f"'a.jpg' is {shown}. Pack the files themselves" in refusal(tmp_path / "a.zip")


def test_an_encrypted_zip_is_refused(tmp_path):
    raw = bytearray(pack(tmp_path / "a.zip", {"0.jpg": b"a"}).read_bytes())
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        raw[raw.index(mark) + offset] |= 1
    (tmp_path / "a.zip").write_bytes(raw)
    assert "'0.jpg' is encrypted. Pack the folder again without" in refusal(tmp_path / "a.zip")


def test_compression_that_zipfile_reads_without_bound_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("0.jpg", bytes(1000))
    assert "method 12. Pack the folder again with deflate." in refusal(tmp_path / "a.zip")


@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize("stated", [1, 60_000])
def test_a_zips_directory_is_refused_before_it_is_read(tmp_path, stated, zip64):
    """zipfile would take seven times its size, whatever count its end states."""
    (tmp_path / "a.zip").write_bytes(directory_zip(200_000, stated=stated, zip64=zip64))
    tracemalloc.start()
    try:
        reason = refusal(tmp_path / "a.zip", max_files=2000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "more than 2,000 files in it" in reason
    assert peak < 4 * 10**6


@zip_and_tar
@pytest.mark.parametrize(
    "names", [("0.jpg", "0.jpg"), ("a/0.jpg", "./a//0.jpg"), ("a.jpg", "a.jpg/0.jpg"),
              ("a.jpg/0.jpg", "a.jpg"), ("a.jpg", "a.jpg/b/0.jpg")],
)  # fmt: skip
def test_two_members_for_one_path_are_refused(tmp_path, suffix, names):
    archive = pack(tmp_path / f"a{suffix}", [(name, b"a") for name in names])
    assert f"{names[1]!r} comes twice, or as a file and a folder" in refusal(archive)


@zip_and_tar
def test_paths_that_differ_in_case_are_two_files(tmp_path, suffix):
    files = {"Apple/0.jpg": b"a", "apple/0.jpg": b"b", "apple/0.JPG": b"c"}
    assert unpacked(pack(tmp_path / f"a{suffix}", files)) == files


@every_suffix
def test_more_bytes_than_allowed_are_refused(tmp_path, suffix):
    archive = pack(tmp_path / f"a{suffix}", {"0.jpg": bytes(600), "1.jpg": bytes(401), "b": b"bb"})
    assert len(unpacked(archive, max_bytes=1001)) == 2
    again = pack(tmp_path / f"b{suffix}", {"0.jpg": bytes(600), "1.jpg": bytes(401)})
    assert "unpacks to more than 1,000 bytes. If you trust it" in refusal(again, max_bytes=1000)


@every_suffix
def test_more_files_than_allowed_are_refused_wanted_or_not(tmp_path, suffix):
    archive = pack(tmp_path / f"a{suffix}", {f"{i}.txt": b"" for i in range(3)} | {"0.jpg": b""})
    assert "more than 3 files in it. If you trust it" in refusal(archive, max_files=3)
    again = pack(tmp_path / f"b{suffix}", {f"{i}.txt": b"" for i in range(3)} | {"0.jpg": b""})
    assert len(unpacked(again, max_files=4)) == 1


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_a_bomb_is_refused_by_its_ratio_but_a_small_one_does_no_harm(tmp_path, suffix, monkeypatch):
    files = {"0.jpg": bytes(2_000_000)}
    assert unpacked(pack(tmp_path / f"a{suffix}", files)) == files
    monkeypatch.setattr(archives, "RATIO_FROM", 1_000_000)
    message = refusal(pack(tmp_path / f"b{suffix}", files))
    assert "unpacks to more than 200 times its size. If you trust it" in message
    assert unpacked(pack(tmp_path / f"c{suffix}", files), max_ratio=1e6) == files


def test_an_unwanted_bomb_is_passed_over_in_a_zip_and_refused_in_a_tar(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "RATIO_FROM", 1_000_000)
    files = {"0.txt": bytes(2_000_000), "0.jpg": b"a"}
    assert unpacked(pack(tmp_path / "a.zip", files)) == {"0.jpg": b"a"}
    assert "200 times its size" in refusal(pack(tmp_path / "a.tar.gz", files))


def test_a_sparse_file_is_counted_by_what_it_unpacks_to(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "RATIO_FROM", 1_000_000)
    sparse = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(10**9), "GNU.sparse.numblocks": "1"}
    info = entry("0.jpg", size=1, pax_headers=sparse)
    archive = pack_tar(tmp_path / "a.tar", [(info, b"a")], format=tarfile.PAX_FORMAT)
    assert "200 times its size" in refusal(archive)


@pytest.mark.parametrize("content", [b"1\n", b"9999\n" + b"1\n" * 200], ids=["short", "endless"])
def test_a_sparse_map_without_an_end_does_not_hang(tmp_path, content):
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    info = entry("0.jpg", size=len(content), pax_headers=sparse)
    archive = pack_tar(tmp_path / "a.tar", [(info, content)], format=tarfile.PAX_FORMAT)
    assert "can't be read" in refusal(archive)


def test_a_tar_header_of_many_bytes_is_refused_unread(tmp_path):
    info = entry("0.jpg", pax_headers={"comment": "a" * 2**21})
    archive = pack_tar(tmp_path / "a.tar.gz", [(info, b"")], format=tarfile.PAX_FORMAT)
    assert "a header states 2,0" in refusal(archive)


@pytest.mark.parametrize("size", [2**60, -512], ids=["huge", "negative"])
def test_a_tar_that_lies_about_a_size_does_not_hang(tmp_path, size):
    block = entry("0.txt", size=size).tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "a.tar").write_bytes(block + bytes(10_240))
    assert "can't be read" in refusal(tmp_path / "a.tar")


def test_a_zip_that_understates_a_size_is_refused(tmp_path):
    raw = pack(tmp_path / "a.zip", {"0.jpg": bytes(4000)}).read_bytes()
    (tmp_path / "a.zip").write_bytes(raw.replace(struct.pack("<L", 4000), struct.pack("<L", 10)))
    assert "can't be read (Bad CRC-32 for file '0.jpg')" in refusal(tmp_path / "a.zip")


@every_suffix
def test_an_archive_cut_short_never_passes_for_a_smaller_one(tmp_path, suffix):
    raw = pack(tmp_path / f"whole{suffix}", TREE).read_bytes()
    end = len(raw.rstrip(b"\0")) // 512 * 512 + 1024  # of a tar: one empty block
    for number, cut in enumerate(range(0, len(raw), max(1, len(raw) // 40))):
        archive = tmp_path / f"{number}{suffix}"
        archive.write_bytes(raw[:cut])
        if suffix == ".tar" and cut >= end:
            assert unpacked(archive) == TREE  # only the filling at the end is missing
        else:
            assert "can't be read" in refusal(archive)


@every_suffix
def test_a_damaged_byte_is_found(tmp_path, suffix):
    raw = bytearray(pack(tmp_path / f"a{suffix}", TREE).read_bytes())
    # In a zip: in the content; in a tar: in a header, as its content has no checksum.
    places = {".zip": raw.find(b"0.jpg") + 8, ".tar": raw.find(b"1.JPG")}
    raw[places.get(suffix, len(raw) // 3)] ^= 0xFF
    (tmp_path / f"b{suffix}").write_bytes(raw)
    assert "Copy, download or pack it again." in refusal(tmp_path / f"b{suffix}")


@every_suffix
def test_what_is_no_archive_is_refused(tmp_path, suffix):
    for number, content in enumerate((b"", b"\xff\xd8\xff photo" * 2000)):
        (tmp_path / f"{number}{suffix}").write_bytes(content)
        assert "can't be read" in refusal(tmp_path / f"{number}{suffix}")
    assert "can't be read (No such file or directory)" in refusal(tmp_path / f"missing{suffix}")


@every_suffix
def test_an_archive_without_images_is_refused(tmp_path, suffix):
    for number, files in enumerate(({}, {"Apple/read me.txt": b"a", "more.zip": b"PK"})):
        archive = pack(tmp_path / f"{number}{suffix}", files)
        assert refusal(archive).startswith("no images in it. Pack a folder of class folders")


@zip_and_tar
def test_a_full_disk_is_reported_with_a_remedy(tmp_path, suffix, monkeypatch):
    archive = pack(tmp_path / f"a{suffix}", {"Apple/0.jpg": b"a"})
    (tmp_path / "out").mkdir()

    def fail(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(InputError, match=r"0.jpg' can't be written .*No space left.* Free space"):
        unpack(archive, tmp_path / "out", wanted=is_photo)


@zip_and_tar
def test_a_refused_archive_leaves_nothing_in_the_cache(tmp_path, suffix):
    archive = pack(tmp_path / f"a{suffix}", {"Apple/0.jpg": b"a", "../0.jpg": b"b"})
    with pytest.raises(InputError):
        make_once(tmp_path / "cache/a", lambda folder: unpack(archive, folder, wanted=is_photo))
    assert list((tmp_path / "cache").iterdir()) == []


WEBDATASETS = {
    ("0.jpg", "0.cls", "1.jpg", "1.cls"): True,
    ("train/0.cls", "train/0.left.png"): True,
    ("0.json", "0.txt", "0.webp"): True,
    ("Apple/0.jpg", "Apple/1.jpg", "read me.txt"): False,
    ("images/0.jpg", "labels/0.txt"): False,
    ("0.cls", "0.json"): False,
    (*(f"{i}.jpg" for i in range(20)), "0.cls"): False,  # too late
    (): False,
}


@every_tar
@pytest.mark.parametrize(("names", "expected"), WEBDATASETS.items(), ids=range(len(WEBDATASETS)))
def test_a_webdataset_is_known_by_its_first_members(tmp_path, suffix, names, expected):
    archive = pack(tmp_path / f"a{suffix}", dict.fromkeys(names, b"1"))
    assert looks_like_webdataset(archive) == expected


@every_suffix
def test_zips_and_what_can_not_be_read_are_no_webdatasets(tmp_path, suffix):
    raw = pack(tmp_path / f"a{suffix}", {"0.jpg": b"a", "0.cls": b"1"}).read_bytes()
    for number, content in enumerate((raw[:40], b"", b"photo" * 1000)):
        (tmp_path / f"{number}{suffix}").write_bytes(content)
        assert not looks_like_webdataset(tmp_path / f"{number}{suffix}")
    assert not looks_like_webdataset(tmp_path / f"missing{suffix}")
    assert looks_like_webdataset(tmp_path / f"a{suffix}") == (suffix != ".zip")


parts = st.text("aB é果~-_.:", min_size=1, max_size=8).filter(
    lambda part: part.strip(". ") and not re.match("[aB]:", part)
)
paths = st.lists(parts, min_size=1, max_size=4).map(lambda parts: "/".join(parts) + ".jpg")


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(paths, st.binary(max_size=2000), min_size=1, max_size=8), st.data())
def test_any_tree_comes_out_as_it_was_packed(tmp_path_factory, tree, data):
    folder = tmp_path_factory.mktemp("tree")
    suffix = data.draw(st.sampled_from(SUFFIXES))
    assert unpacked(pack(folder / f"a{suffix}", tree)) == tree


hostile = st.lists(st.sampled_from(["a", "b", "é", ".", "..", " ", "/", "\\", "C:", "\n", "~"]))


@settings(max_examples=200, deadline=None)
@given(st.lists(hostile.map("".join), min_size=1, max_size=3), st.sampled_from([".zip", ".tar"]))
def test_any_names_are_refused_or_stay_inside(tmp_path_factory, names, suffix):
    names = [f"{name}.jpg" for name in names]
    archive = pack(tmp_path_factory.mktemp("hostile") / f"a{suffix}", [(n, b"a") for n in names])
    try:
        files = unpacked(archive)  # looks that nothing is written beside the folder
    except InputError:
        return
    assert files.keys() == {PurePosixPath(name).as_posix() for name in names}
