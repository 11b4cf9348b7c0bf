"""Every image is read once, and its record is cached: no unchanged file is opened again."""

import io
import os
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage
from PIL import features
from support.runs import paint
from support.warm import Warm

from hffruits.core.cache import cache_root
from hffruits.core.errors import InputError
from hffruits.data.arguments import DataArguments
from hffruits.data.images import decoder_versions
from hffruits.data.near_duplicates import find_groups
from hffruits.data.scan import NamedImage, reason_of, scan_images
from hffruits.data.sources import RawRows
from hffruits.data.validation import check_images, join_parts


@pytest.fixture
def opened(monkeypatch) -> list[Path]:
    """The files that the scan reads."""
    paths: list[Path] = []
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: paths.append(path) or read(path))
    return paths


@pytest.fixture
def own_cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("HFFRUITS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def images_in(folder: Path) -> list[NamedImage]:
    return [NamedImage(path.name, path) for path in sorted(folder.iterdir())]


def encode(colour: str, *, seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 60, (32, 40, 3), dtype=np.uint8)
    file = io.BytesIO()
    PILImage.fromarray(np.asarray(PILImage.new("RGB", (40, 32), colour)) // 2 + noise).save(
        file, "JPEG"
    )
    return file.getvalue()


# ---- what is measured ----


def test_a_record_holds_what_an_image_measures(tmp_path):
    exif = PILImage.Exif()
    exif[0x0112] = 6  # lies on its side
    PILImage.new("RGB", (30, 20), (100, 100, 100)).save(tmp_path / "grey.png", exif=exif)
    (record,) = scan_images(images_in(tmp_path))
    assert (record["width"], record["height"], record["format"]) == (20, 30, b"PNG")
    assert record["bytes"] == (tmp_path / "grey.png").stat().st_size
    assert (record["brightness"], record["contrast"], record["sharpness"]) == (100, 0, 0)
    assert reason_of(record) == ""
    assert (record["grey"] == 100).all()
    assert (record["colour"] == 100).all()


def test_an_image_that_cannot_be_used_has_a_reason(tmp_path):
    (tmp_path / "0.jpg").touch()
    (tmp_path / "1.png").write_text("no image")
    PILImage.new("1", (2000, 2000)).save(tmp_path / "2.png")
    paint(tmp_path / "3.jpg")
    records = scan_images(
        [
            *images_in(tmp_path),
            NamedImage("gone", tmp_path / "gone.jpg"),
            NamedImage("none", b""),
        ],
        max_pixels=1_000_000,
    )
    reasons = [reason_of(record) for record in records]
    assert reasons[3] == ""
    assert all("0 bytes" in reasons[i] for i in (0, 5))
    assert "not an image" in reasons[1]
    assert "2000 x 2000" in reasons[2]
    assert "No such file" in reasons[4]


def test_records_come_in_the_order_of_the_images(tmp_path):
    for index in range(300):  # several blocks
        PILImage.new("L", (8, 8), index % 256).save(tmp_path / f"{index:03}.png")
    records = scan_images(images_in(tmp_path), num_workers=4)
    assert records["brightness"].astype(int).tolist() == [index % 256 for index in range(300)]


def test_nothing_to_scan_gives_no_records():
    assert len(scan_images([], cache_name="nothing")) == 0


# ---- what is kept ----


def test_unchanged_files_are_not_opened_again(make_folder, opened, own_cache):
    folder = make_folder({"A": 5}) / "A"
    first = scan_images(images_in(folder), cache_name="a")
    assert len(opened) == 5
    opened.clear()
    again = scan_images(images_in(folder), cache_name="a")
    assert opened == []
    assert (first == again).all()


def test_a_changed_file_is_read_again_and_so_is_one_of_the_same_size(
    make_folder, opened, own_cache
):
    folder = make_folder({"A": 5}) / "A"
    scan_images(images_in(folder), cache_name="a")
    opened.clear()
    paint(folder / "1.jpg", "lime", size=(64, 64))
    later = (folder / "2.jpg").stat().st_mtime_ns + 1
    os.utime(folder / "2.jpg", ns=(later, later))
    paint(folder / "5.jpg", "plum")
    records = scan_images(images_in(folder), cache_name="a")
    assert sorted(path.name for path in opened) == ["1.jpg", "2.jpg", "5.jpg"]
    assert records["width"].tolist() == [40, 64, 40, 40, 40, 40]


def test_a_file_that_could_not_be_opened_is_tried_again(make_folder, own_cache, monkeypatch):
    folder = make_folder({"A": 2}) / "A"

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        records = scan_images(images_in(folder), cache_name="a")
    assert [reason_of(record) for record in records] == ["denied", "denied"]
    records = scan_images(images_in(folder), cache_name="a")
    assert [reason_of(record) for record in records] == ["", ""]


def test_another_pixel_limit_looks_again(tmp_path, own_cache):
    PILImage.new("1", (200, 200)).save(tmp_path / "a.png")
    images = [NamedImage("a.png", tmp_path / "a.png")]
    for limit, usable in ((10_000, False), (100_000, True), (10_000, False)):
        (record,) = scan_images(images, cache_name="a", max_pixels=limit)
        assert (reason_of(record) == "") is usable


def test_another_version_of_a_decoder_looks_again(make_folder, opened, own_cache, request):
    folder = make_folder({"A": 5}) / "A"
    find_groups(scan_images(images_in(folder), cache_name="a"))
    opened.clear()
    files = set(own_cache.rglob("*.i8"))
    request.getfixturevalue("other_decoder")
    find_groups(scan_images(images_in(folder), cache_name="a"))
    assert len(opened) == 5
    assert len(set(own_cache.rglob("*.i8")) - files) == 1


def test_what_decodes_is_named_with_its_version():
    for name in ("pil", "libjpeg_turbo", "webp", "libtiff"):
        assert f"'{name}': '{features.version(name)}'" in decoder_versions()
    assert pillow_heif.libheif_version() in decoder_versions()


def test_bytes_are_known_by_what_they_are(opened, own_cache, monkeypatch):
    red, lime = encode("red"), encode("lime")
    first = scan_images([NamedImage("a", red), NamedImage("b", lime)], cache_name="a")
    monkeypatch.setattr("hffruits.data.scan.open_small", None)  # fails if anything is opened
    again = scan_images([NamedImage("c", lime), NamedImage("d", red)], cache_name="a")
    assert (again == first[::-1]).all()


@pytest.mark.parametrize("damage", ["empty", "cut", "text", "folder"])
def test_a_damaged_cache_is_made_again(make_folder, opened, own_cache, damage, caplog):
    folder = make_folder({"A": 5}) / "A"
    first = scan_images(images_in(folder), cache_name="a")
    (file,) = own_cache.rglob("*.rows")
    content = file.read_bytes()
    opened.clear()
    if damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes({"empty": b"", "cut": content[:-100], "text": b"text" * 9999}[damage])
    again = scan_images(images_in(folder), cache_name="a")
    assert (first == again).all()
    assert len(opened) == (1 if damage == "cut" else 5)
    if damage == "folder":
        assert "can't be written" in caplog.text
    else:
        assert file.read_bytes() == content


@pytest.mark.parametrize("obstacle", ["file", "read-only"])
def test_a_cache_that_cannot_be_written_only_warns(
    make_folder, tmp_path, monkeypatch, caplog, obstacle
):
    folder = make_folder({"A": 3}) / "A"
    place = tmp_path / "cache"
    if obstacle == "file":
        place.write_text("in the way")
    else:
        place.mkdir(mode=0o500)
        if os.access(place, os.W_OK):
            pytest.skip("root may write anywhere")
    monkeypatch.setenv("HFFRUITS_CACHE", str(place))
    records = scan_images(images_in(folder), cache_name="a")
    groups = find_groups(records)
    assert len(records) == len(groups) == 3
    assert caplog.text.count("can't be written") == 2


@pytest.mark.slow
def test_two_processes_at_once_leave_one_whole_cache(make_folder, own_cache, opened):
    folder = make_folder({"A": 40}) / "A"
    code = (
        "import sys; from pathlib import Path; from hffruits.data.scan import *\n"
        "images = [NamedImage(p.name, p) for p in sorted(Path(sys.argv[1]).iterdir())]\n"
        "for _ in range(5): scan_images(images, cache_name=f'a')\n"
    )
    running = [Warm(["-c", code, folder], output=own_cache.with_suffix(".txt")) for _ in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    scan_images(images_in(folder), cache_name="a")
    assert opened == []
    assert len(list(cache_root().rglob("*.*"))) == 1  # nothing is left aside


def test_groups_are_searched_once(make_folder, own_cache, monkeypatch):
    folder = make_folder({"A": 4}) / "A"
    (folder / "9.jpg").write_bytes((folder / "0.jpg").read_bytes())
    records = scan_images(images_in(folder))
    first = find_groups(records)
    assert first.tolist() == [0, 1, 2, 3, 0]
    monkeypatch.setattr("hffruits.data.near_duplicates.group_duplicates", None)
    assert find_groups(records).tolist() == first.tolist()
    monkeypatch.undo()
    monkeypatch.setenv("HFFRUITS_CACHE", str(own_cache))
    (file,) = own_cache.rglob("*.i8")
    file.write_bytes(b"cut")
    assert find_groups(records).tolist() == first.tolist()


# ---- check_images: what is left out, and why ----


def table(rows: list[tuple[bytes, str | None, str]]) -> Dataset:
    features = Features(
        {"image": Image(decode=False), "label": Value("string"), "path": Value("string")}
    )
    columns = {
        "image": [{"bytes": content, "path": None} for content, _, _ in rows],
        "label": [label for _, label, _ in rows],
        "path": [path for _, _, path in rows],
    }
    return Dataset.from_dict(columns, features=features)


def drawn_rows(names: str, **changes: tuple[bytes, str | None, str]) -> Dataset:
    """An image a letter, another one each."""
    rows = {name: (encode("red", seed=ord(name)), "Apple", f"{name}.jpg") for name in names}
    return table(list((rows | changes).values()))


def check(splits: dict[str, Dataset], **options):
    data = DataArguments("rows in a test", **{"max_unreadable_fraction": 1.0} | options)
    return check_images(RawRows(splits), data)


def test_what_has_no_label_or_cannot_be_read_is_left_out_and_the_order_stays(caplog):
    checked = check(
        {
            "train": drawn_rows(
                "abcd", b=(encode("red"), None, "b.jpg"), c=(b"", "Apple", "c.jpg")
            ),
            "test": drawn_rows("xyz", y=(b"junk", "Apple", "y.jpg")),
        }
    )
    assert {split: part.rows["path"][:] for split, part in checked.parts.items()} == {
        "train": ["a.jpg", "d.jpg"], "test": ["x.jpg", "z.jpg"],
    }  # fmt: skip
    assert [(bad.path.as_posix(), bad.reason) for bad in checked.skipped] == [
        ("b.jpg", "no label"),
        ("c.jpg", "empty file (0 bytes)"),
        ("y.jpg", "not an image, or an unknown format"),
    ]
    every = join_parts(list(checked.parts.values()))
    sizes = [len(image["bytes"]) for image in every.rows["image"]]
    assert every.records["bytes"].tolist() == sizes
    assert len(set(every.groups.tolist())) == 4
    assert "left out y.jpg" in caplog.text


def test_groups_reach_over_splits():
    same = encode("lime")
    checked = check(
        {
            "train": drawn_rows("ab", b=(same, "Lime", "b.jpg")),
            "test": drawn_rows("xy", x=(same, "Lime", "x.jpg")),
        }
    )
    groups = {split: part.groups.tolist() for split, part in checked.parts.items()}
    assert groups["train"][1] == groups["test"][0]
    assert len({*groups["train"], *groups["test"]}) == 3


def test_a_split_of_unreadable_images_only_is_an_error():
    with pytest.raises(InputError, match=r"test: none of its images can be read \(x.jpg: empty"):
        check({"train": drawn_rows("ab"), "test": drawn_rows("x", x=(b"", "Apple", "x.jpg"))})


def test_too_many_unreadable_images_are_an_error():
    bad = drawn_rows("abc", a=(b"", "Apple", "a.jpg"), b=(b"", "Apple", "b.jpg"))
    with pytest.raises(
        InputError, match=r"2 of 3 images can't be read, over max_unreadable_fraction=0\.5"
    ):
        check({"train": bad}, max_unreadable_fraction=0.5)


def test_many_unreadable_images_are_warned_of_by_their_reasons(caplog):
    rows = [(b"", "Apple", f"{'long' * 100}{i}.jpg") for i in range(40)]
    rows += [(b"junk", "Apple", f"{i}.jpg") for i in range(2)]
    checked = check({"train": table([*rows, (encode("red"), "Apple", "good.jpg")])})
    assert len(checked.skipped) == 42
    first, second = caplog.messages
    assert first.startswith("left out 40 images: empty file (0 bytes) (longlong") and "..." in first
    assert second == "left out 2 images: not an image, or an unknown format (0.jpg, 1.jpg)"
    assert len(first) < 700


def test_where_no_image_can_be_read_the_cause_is_said_once_and_no_limit_is_advised():
    rows = [(b"", "Apple", f"{i}.jpg") for i in range(40)]
    with pytest.raises(InputError, match=r"^none of the 40 images can be read") as caught:
        check({"train": table(rows)}, max_unreadable_fraction=0.05)
    assert str(caught.value).count("empty file") == 1
    assert "max_unreadable_fraction" not in str(caught.value)


def test_each_row_gets_a_name_of_its_own_over_all_splits():
    train = [(encode("red", seed=i), "Apple", path) for i, path in enumerate("aaab")]
    test = [(encode("red", seed=9), "Apple", "./a"), (encode("red", seed=10), "Apple", "a#2")]
    parts = check({"train": table(train), "test": table(test)}).parts
    assert parts["train"].rows["path"][:] == ["a", "a#2", "a#3", "b"]
    assert parts["test"].rows["path"][:] == ["a#4", "a#2#2"]
    assert parts["test"].rows.column_names == ["image", "label", "path"]
    assert len(join_parts(list(parts.values())).rows) == 6


# ---- exclude ----


def test_excluded_paths_are_left_out_and_the_rest_keeps_its_order(tmp_path):
    lines = ["# path, and why", "b.jpg\tblurred", "", "#d.jpg", "gone.jpg", "x.jpg"]
    (tmp_path / "list.txt").write_text("\r\n".join(lines), encoding="utf-8-sig")
    train = drawn_rows("abcd", d=(encode("red", seed=5), "Apple", "#d.jpg"))
    checked = check({"train": train, "test": drawn_rows("xyz")}, exclude=tmp_path / "list.txt")
    assert checked.parts["train"].rows["path"][:] == ["a.jpg", "c.jpg"]
    assert checked.parts["test"].rows["path"][:] == ["y.jpg", "z.jpg"]
    assert checked.skipped == []  # on purpose, so no fault of theirs


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't be read .*No such file"),
        (b"\xff\xfe\x00", "can't be read .*utf-8"),
        (b"other.jpg\nanother.jpg", r"none of its 2 paths is in the data \(first: another.jpg"),
        (b"x.jpg\ny.jpg", "leaves nothing of test"),
    ],
)
def test_a_list_that_cannot_be_used_is_explained_in_one_line(tmp_path, content, message):
    file = tmp_path / "list.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        check({"train": drawn_rows("ab"), "test": drawn_rows("xy")}, exclude=file)
    assert "\n" not in str(caught.value)


def test_a_list_of_only_comments_leaves_out_nothing(tmp_path):
    (tmp_path / "list.txt").write_text("# nothing\n")
    parts = check({"train": drawn_rows("ab")}, exclude=tmp_path / "list.txt").parts
    assert len(parts["train"].rows) == 2
