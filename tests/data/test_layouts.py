"""No photo or class is dropped silently, and no layout is mistaken for another."""

import csv
import io
import logging
import shutil
import tarfile
from pathlib import Path
from unicodedata import normalize

import datasets
import pytest
from datasets import ClassLabel, Dataset, Features
from support.runs import paint

from hffruits.core.errors import InputError
from hffruits.data.arguments import DataArguments
from hffruits.data.load import load_fruits
from hffruits.data.readers.folders import find_image_files
from hffruits.data.sources import open_source
from hffruits.data.stream_dataset import load_streams
from hffruits.evaluation.dataset import choose_photos
from hffruits.exploration.run import explore

NFD = normalize("NFD", "Jalapeño")  # as macOS packs it


def names_of(data) -> list[str]:
    return data["train"].features["label"].names


def paths_of(data) -> set[str]:
    return {path for rows in data.values() for path in rows.with_format(None)["path"]}


def reasons_of(data) -> dict[str, str]:
    return {bad.path.as_posix(): bad.reason for bad in data.skipped}


def zip_of(root: Path) -> Path:
    return Path(shutil.make_archive(str(root), "zip", root))


def write_table(file: Path, rows: list[tuple[str, str]]) -> Path:
    """A CSV file; each photo that it names and that isn't there yet is drawn."""
    for seed, (path, _) in enumerate(rows):
        if not (file.parent / path).exists():
            paint(file.parent / path, seed=seed)
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("path", "label"), *rows])
    return file


# ---- formats ----


@pytest.mark.parametrize("suffix", [".heic", ".HEIF", ".avif", ".hif"])
@pytest.mark.parametrize("form", ["folder", "zip", "table"])
def test_photos_of_phones_are_read_in_every_form(tmp_path, suffix, form):
    root = tmp_path / "fruits"
    for number in range(12):
        paint(root / "AB"[number % 2] / f"{number}{suffix}", seed=number)
    if form == "table":
        files = sorted(path.relative_to(root) for path in root.rglob(f"*{suffix}"))
        write_table(root / "all.csv", [(str(path), path.parent.name) for path in files])
    source = {"folder": root, "zip": root, "table": root / "all.csv"}[form]
    data = load_fruits(zip_of(root) if form == "zip" else source)
    assert len(paths_of(data)) == 12 and not data.skipped
    assert data["train"][0]["image"].size == (40, 32)


def test_photos_of_phones_are_read_from_shards(tmp_path):
    with tarfile.open(tmp_path / "train-0.tar", "w") as tar:
        for number in range(6):
            photo = paint(tmp_path / "photo.heic", seed=number).read_bytes()
            for suffix, content in (("heic", photo), ("cls", b"ab"[number % 2 :][:1])):
                member = tarfile.TarInfo(f"{number}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    (tmp_path / "photo.heic").unlink()
    data = load_fruits(tmp_path / "train-0.tar")
    assert len(paths_of(data)) == 6 and not data.skipped


def test_photos_in_unread_formats_are_listed_with_their_reason_and_count(make_folder):
    root = make_folder({"A": 20, "B": 20})
    for name in ("A/x.CR2", "B/x.jxl"):
        (root / name).write_bytes(b"anything")
    reasons = {
        "A/x.CR2": "camera raw isn't read: export it as JPEG",
        "B/x.jxl": "JPEG XL isn't read: export it as JPEG",
    }
    for source in (root, zip_of(root)):
        assert reasons_of(load_fruits(source)) == reasons
        with pytest.raises(InputError, match=r"2 of 42 images can't be read.*camera raw"):
            load_fruits(source, max_unreadable_fraction=0.01)
    (root / "A" / "y.nef").write_bytes(b"anything")
    (root / "list.txt").write_text("A/x.CR2\nA/y.nef\n")
    assert set(reasons_of(load_fruits(root, exclude=root / "list.txt"))) == {"B/x.jxl"}


def test_photos_under_odd_names_are_read_by_their_content(make_folder):
    root = make_folder({"A": 6, "B": 6})
    names = {"A/photo", "B/a.jpg_large", "B/b.JPG.download", "A/c.heic!d"}
    for number, name in enumerate(sorted(names)):
        drawn = paint(root / f"x.{'heic' if 'heic' in name else 'jpg'}", seed=500 + number)
        drawn.rename(root / name)
    for source in (root, zip_of(root)):
        assert names <= paths_of(load_fruits(source))


def test_videos_beside_photos_are_listed_and_count_for_nothing(make_folder, caplog):
    root = make_folder({"A": 6, "B": 6})
    for number in range(6):
        (root / "A" / f"{number}.MOV").write_bytes(b"\0\0\0\x14ftypqt  ")
    for source in (root, zip_of(root)):
        caplog.clear()
        data = load_fruits(source)
        assert reasons_of(data) == {f"A/{n}.MOV": "a video, not a photo" for n in range(6)}
        assert "left out 6 videos, such as A/0.MOV" in caplog.text


# ---- classes that would be gone ----


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ([], "C: no file"),
        (["1.cr2", "2.cr2"], r"C: its 2 photos can't be read \(camera raw isn't read"),
        (["1.mov"], r"C: 1 video and no photo"),
        (["1.jpg"], r"C: its 1 photo can't be read \(not an image"),
        (["Thumbs.db", "a.pdf", "b.dat", "c.txt"], "C: no photo, but other files such as Thumbs"),
        ([".DS_Store", "a.pdf"], "C: no photo, but other files such as a.pdf"),
        ([f"{n}.mpg" for n in range(8)], r"C: 8 videos and no photo"),
    ],
)
def test_a_class_folder_without_a_usable_photo_is_an_error(make_folder, form, files, reason):
    root = make_folder({"A": 8, "B": 8})
    (root / "C").mkdir()
    for name in files:
        (root / "C" / name).write_bytes(b"anything")
    with pytest.raises(InputError, match=reason) as caught:
        load_fruits(zip_of(root) if form == "zip" else root, max_unreadable_fraction=0.5)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_class_folder_that_is_empty_in_one_split_only_is_warned_of(make_folder, form, caplog):
    root = make_folder({"train/A": 8, "train/Fruit/B": 8, "val/A": 2, "test/A": 2})
    (root / "val" / "Fruit" / "b").mkdir(parents=True)
    (root / "test" / "B").mkdir()
    data = load_fruits(zip_of(root) if form == "zip" else root)
    assert names_of(data) == ["A", "B"]
    for folder in ("val/Fruit", "test/B"):
        assert f"{folder}: no file; the class has photos elsewhere" in caplog.text
    (root / "test" / "C").mkdir()
    with pytest.raises(InputError, match="test/C: no file"):
        load_fruits(zip_of(root) if form == "zip" else root)


def test_a_class_of_a_table_without_a_usable_photo_is_an_error(tmp_path):
    rows = [(f"{label}{number}.jpg", label) for label in "ABC" for number in range(8)]
    table = write_table(tmp_path / "all.csv", rows)
    for file in tmp_path.glob("C*.jpg"):
        file.write_bytes(b"junk")
    with pytest.raises(InputError, match="C: its 8 photos can't be read"):
        load_fruits(table, max_unreadable_fraction=0.5)


def test_exploring_reports_a_class_without_a_usable_photo(make_folder, tmp_path):
    root = make_folder({"A": 8, "B": 8})
    (root / "C").mkdir()
    record = explore(DataArguments(str(root)), output_dir=tmp_path / "out", max_images=0).record
    (found,) = [found for found in record["findings"] if found["id"] == "lost_classes"]
    assert found["severity"] == "high" and found["classes"] == ["C"]


def test_a_folder_of_notes_is_no_class_and_is_warned_of(make_folder, caplog):
    root = make_folder({"A": 6, "B": 6})
    for folder in ("docs", "A/notes"):
        (root / folder).mkdir()
        (root / folder / "1.txt").write_text("ripe")
    for source in (root, zip_of(root)):
        caplog.clear()
        assert names_of(load_fruits(source)) == ["A", "B"]
        assert "docs: holds no photos, and is ignored" in caplog.text


def test_a_class_that_is_excluded_as_a_whole_is_warned_of(make_folder, tmp_path, caplog):
    root = make_folder({"A": 6, "B": 6, "C": 2})
    (tmp_path / "list.txt").write_text("C/0.jpg\nC/1.jpg\n")
    assert names_of(load_fruits(root, exclude=tmp_path / "list.txt")) == ["A", "B"]
    assert "list.txt: leaves no photo of C" in caplog.text


def test_a_class_that_split_lists_lack_is_warned_of(make_folder, tmp_path, caplog):
    root = make_folder({"A": 6, "B": 6})
    load_fruits(root).write_lists(tmp_path / "lists")
    make_folder({"C": 3}, root)
    assert names_of(load_fruits(root, split_lists=tmp_path / "lists")) == ["A", "B"]
    assert "lists: names no photo of C" in caplog.text
    make_folder({f"D{number:02}": 1 for number in range(21)}, root)
    load_fruits(root, split_lists=tmp_path / "lists")
    assert "D17, D18 and 2 more" in caplog.text


def test_a_split_folder_without_photos_is_warned_of(make_folder, caplog):
    root = make_folder({"train/A": 8, "train/B": 8})
    (root / "val" / "A").mkdir(parents=True)
    find_image_files(root)
    assert "val: holds no photos, so there is no validation split" in caplog.text


# ---- class folders of one name ----

SHOPS = {f"shop_{shop}/{name}": 6 for shop in (1, 2, 3) for name in ("Apple", "Kiwi")}


def test_groups_of_class_folders_are_ambiguous_and_both_readings_can_be_chosen(make_folder):
    root = make_folder(SHOPS)
    for source in (root, zip_of(root)):
        with pytest.raises(InputError, match=r"label_from=leaf .* one class, Apple, or label"):
            load_fruits(source)
    data = load_fruits(DataArguments(root, label_from="leaf"), group_by=r"shop_\d")
    assert names_of(data) == ["Apple", "Kiwi"] and not data.coarse
    names = names_of(load_fruits(DataArguments(root, label_from="path")))
    assert names == sorted(SHOPS)


def test_a_hierarchy_with_one_name_in_two_places_is_warned_of(make_folder, caplog):
    root = make_folder({"Apple/Red": 6, "Pepper/Red": 6, "Apple/Gala": 6, "Lime": 6})
    assert names_of(load_fruits(root)) == ["Apple/Red", "Gala", "Lime", "Pepper/Red"]
    assert "Apple/Red and Pepper/Red are two classes" in caplog.text
    assert "label_from=leaf" in caplog.text


def write_shards(root: Path, shards: list[list[str]]) -> Path:
    """A shard for each list of keys, with a photo each."""
    for number, keys in enumerate(shards):
        members = {}
        for seed, key in enumerate(keys):
            members[f"{key}.jpg"] = paint(root / "x.jpg", seed=100 * number + seed).read_bytes()
            (root / "x.jpg").unlink()
        pack(root / f"a-{number}.tar", members)
    return root


def pack(shard: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(shard, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return shard


def shard_classes(root: Path, label_from: str | None, streaming: bool) -> list[str]:
    """The classes that training has; those of the rows are the same."""
    source = DataArguments(str(root), label_from=label_from, streaming=streaming)
    if not streaming:
        return names_of(load_fruits(source))
    streams = load_streams(source)
    read = {row["label"] for part in streams.values() for row in part.read()}
    names = streams["train"].names
    assert read == {*names} and sum(sum(part.label_counts) for part in streams.values())
    return list(names)


@pytest.mark.parametrize("streaming", [False, True])
def test_keys_with_one_name_below_two_folders_of_other_shards_are_two_classes(tmp_path, streaming):
    first = [f"{name}/{n}" for name in ("Apple/Gala", "Apple/Red") for n in range(12)]
    folders = ("Lime", "Pepper/Hot", "Pepper/Red")
    second = [f"{name}/{n}" for name in folders for n in range(12)]
    second += [f"Apple/Red/{n}" for n in range(12, 20)]
    root = write_shards(tmp_path, [first, second])
    expected = ["Apple/Red", "Gala", "Hot", "Lime", "Pepper/Red"]
    for label_from in (None, "path"):
        assert shard_classes(root, label_from, streaming) == expected
    assert shard_classes(root, "leaf", streaming) == ["Gala", "Hot", "Lime", "Red"]
    with pytest.raises(InputError, match="label_from=top: must be one of leaf, path"):
        shard_classes(root, "top", streaming)


@pytest.mark.parametrize("streaming", [False, True])
def test_keys_of_shards_that_may_be_groups_are_ambiguous(tmp_path, streaming):
    root = write_shards(tmp_path, [[f"{shop}/{n}" for n in range(6)] for shop in SHOPS])
    with pytest.raises(InputError, match=r"label_from=leaf .* one class, Apple, or"):
        shard_classes(root, None, streaming)
    assert shard_classes(root, "leaf", streaming) == ["Apple", "Kiwi"]


def test_members_of_a_shard_are_photos_by_their_content_and_videos_count_for_nothing(tmp_path):
    photos = [paint(tmp_path / "x.jpg", seed=n).read_bytes() for n in range(12)]
    members = {f"{'AB'[n % 2]}/{n}.jpg": photo for n, photo in enumerate(photos)}
    members["A/12.jpg_large"] = paint(tmp_path / "x.jpg", seed=12).read_bytes()
    members["A/13"] = paint(tmp_path / "x.jpg", seed=13).read_bytes()
    members |= {"A/README": b"ripe", "B/20.mov": b"anything", "B/21.cr2": b"anything"}
    (tmp_path / "x.jpg").unlink()
    shard = pack(tmp_path / "train-0.tar", members)
    pack(tmp_path / "train-1.tar", {"A/30.jpg": photos[0]})
    data = load_fruits(tmp_path, max_unreadable_fraction=0.07)
    assert len(paths_of(data)) == 15
    assert reasons_of(data) == {
        "train-0/B/20.mov": "a video, not a photo",
        "train-0/B/21.cr2": "camera raw isn't read: export it as JPEG",
    }
    pack(shard, {"A/0.jpg": photos[0], "A/0.JPG": photos[1]})
    with pytest.raises(InputError, match=r"A/0\.JPG: its key has a \.jpg already"):
        load_fruits(tmp_path)


@pytest.mark.parametrize("above", [".", "top"])
def test_photos_beside_split_folders_are_counted_as_loose(make_folder, caplog, above):
    folders = {f"{above}/{split}/{name}": 3 for split in ("train", "val") for name in "AB"}
    root = make_folder(folders | {".": 2} | ({} if above == "." else {above: 1}))
    find_image_files(root)
    assert f"{2 if above == '.' else 3} images lie outside any class folder" in caplog.text


def test_a_camera_raw_beside_its_photo_is_listed_and_counts_for_nothing(make_folder):
    root = make_folder({"A": 6, "B": 6})
    for photo in sorted(root.rglob("*.jpg")):
        photo.with_suffix(".CR2").write_bytes(b"anything")
    data = load_fruits(root)
    assert len(paths_of(data)) == len(reasons_of(data)) == 12
    (root / "A" / "other.CR2").write_bytes(b"anything")
    with pytest.raises(InputError, match="1 of 13 images can't be read"):
        load_fruits(root)


def test_label_from_is_refused_where_a_column_names_the_classes(tmp_path):
    table = write_table(tmp_path / "all.csv", [("0.jpg", "A"), ("1.jpg", "B")])
    shard = pack(tmp_path / "a.tar", {"0.jpg": b"any", "0.cls": b"A"})
    for place in (table, shard):
        with pytest.raises(InputError, match="is for folders, and"):
            open_source(DataArguments(str(place), label_from="leaf", streaming=place == shard))


def test_a_second_link_to_a_class_folder_is_warned_of(make_folder, caplog):
    root = make_folder({"A": 6, "B": 6})
    (root / "C").symlink_to(root / "B")
    assert len(find_image_files(root)["train"]) == 12
    assert "C: a link to a folder that is read already" in caplog.text


def test_leaves_below_another_folder_in_another_split_have_no_coarse_labels(make_folder, caplog):
    train = {"train/Apple/Red": 6, "train/Apple/Green": 6, "train/Pepper/Yellow": 6}
    root = make_folder(train | {"val/Pepper/Red": 3, "val/Apple/Green": 3})
    assert not open_source(DataArguments(str(root), label_from="leaf")).coarse
    assert "so folders give no coarse labels" in caplog.text


def test_merged_leaves_without_coarse_labels_are_warned_of(make_folder, caplog):
    root = make_folder({"Apple/Red": 6, "Pepper/Red": 6, "Pepper/Hot": 6})
    assert not open_source(DataArguments(str(root), label_from="leaf")).coarse
    assert "so folders give no coarse labels" in caplog.text


def test_an_unknown_reading_lists_the_known_ones(make_folder):
    with pytest.raises(InputError, match="label_from=top: must be one of leaf, path"):
        load_fruits(DataArguments(make_folder(SHOPS), label_from="top"))


def test_leaves_of_one_name_under_other_parents_in_another_split_are_two_classes(make_folder):
    root = make_folder({"train/Apple/Red": 6, "train/Lime": 6, "val/Pepper/Red": 2})
    with pytest.raises(InputError, match=r"validation has classes that train lacks: Pepper/Red"):
        load_fruits(root)


# ---- names that look alike ----


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_class_folders_that_differ_in_case_are_one_class_with_a_warning(make_folder, form, caplog):
    root = make_folder({"Apple": 9, "apple": 3, "Kiwi": 6})
    data = load_fruits(zip_of(root) if form == "zip" else root)
    assert names_of(data) == ["Apple", "Kiwi"] and len(paths_of(data)) == 18
    assert "Apple (9 photos), apple (3 photos): treated as one name, Apple" in caplog.text


def test_folders_above_classes_that_differ_in_case_are_one_coarse_label(make_folder):
    root = make_folder({"Fruit/Apple": 6, "fruit/Kiwi": 3, "Veg/Leek": 6, "Veg/Beet": 6})
    data = load_fruits(root)
    assert set(data.coarse.values()) == {"Fruit", "Veg"}


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_an_accented_name_in_two_unicode_forms_is_one_class(make_folder, form, caplog):
    root = make_folder({"train/Jalapeño": 8, f"val/{NFD}": 2, "train/Kiwi": 8, "val/ Kiwi": 2})
    assert len(list((root / "val").iterdir())) == 2
    data = load_fruits(zip_of(root) if form == "zip" else root)
    assert names_of(data) == ["Jalapeño", "Kiwi"]
    assert {"label", "path"} <= set(data["validation"].with_format(None)[0])
    assert sorted(data["validation"].with_format(None)["label"]) == [0, 0, 1, 1]
    assert "treated as one" not in caplog.text


def test_labels_of_a_table_that_look_alike_are_one_class(tmp_path, caplog):
    labels = ["Apple"] * 5 + ["apple"] * 4 + ["Jalapeño"] * 4 + [f" {NFD}"] * 4
    rows = [(f"{number}.jpg", label) for number, label in enumerate(labels)]
    data = load_fruits(write_table(tmp_path / "all.csv", rows))
    assert names_of(data) == ["Apple", "Jalapeño"]
    assert "Apple (5 photos), apple (4 photos): treated as one name, Apple" in caplog.text


def test_class_labels_of_a_dataset_that_look_alike_are_one_class(tmp_path):
    features = Features({"image": datasets.Image(), "label": ClassLabel(names=["Fig", NFD, "fig"])})
    photos = [paint(tmp_path / f"{n}.jpg", seed=n).read_bytes() for n in range(18)]
    rows = {"image": [{"bytes": p, "path": None} for p in photos], "label": [0, 1, 2] * 6}
    file = tmp_path / "data" / "all.parquet"
    file.parent.mkdir()
    Dataset.from_dict(rows, features).to_parquet(file)
    assert names_of(load_fruits(file)) == ["Fig", "Jalapeño"]
    streams = load_streams(DataArguments(file, streaming=True))
    assert streams["train"].names == ("Fig", "Jalapeño")
    read = [row["label"] for part in streams.values() for row in part.read()]
    assert sorted(read) == ["Fig"] * 12 + ["Jalapeño"] * 6
    assert sum(sum(part.label_counts) for part in streams.values()) == 18


def test_new_photos_are_of_the_models_classes_whatever_their_case_and_form(make_folder):
    root = make_folder({"apple": 2, NFD: 2, "Durian": 1})
    photos = choose_photos(DataArguments(str(root)), ["Apple", "Jalapeño"], None)
    found = sorted(sample.label for sample in photos.samples())
    assert found == [-1, 0, 0, 1, 1] and photos.foreign == {"Durian": 1}


def test_coarse_labels_are_of_the_classes_whatever_their_case_and_form(make_folder, tmp_path):
    root = make_folder({"Apple": 6, "Pear": 6, "Jalapeño": 6})
    file = tmp_path / "kinds.csv"
    file.write_text(f"apple,Fruit\nPEAR,fruit\n{NFD},Veg\n", encoding="utf-8")
    data = load_fruits(root, coarse_labels=file)
    assert data.coarse["Apple"] == data.coarse["Pear"] and data.coarse["Jalapeño"] == "Veg"


def test_lists_in_another_unicode_form_mean_the_same_files(make_folder, tmp_path):
    root = make_folder({NFD: 6, "Kiwi": 6})
    first = load_fruits(root)
    first.write_lists(tmp_path / "lists")
    for file in (tmp_path / "lists").iterdir():
        assert NFD in file.read_text(encoding="utf-8")  # a file keeps its name
        text = normalize("NFC", file.read_text(encoding="utf-8"))
        file.write_text(text, encoding="utf-8")
    again = load_fruits(root, split_lists=tmp_path / "lists")
    assert [rows["path"][:] for rows in first.values()] == [
        rows["path"][:] for rows in again.values()
    ]
    (tmp_path / "exclude.txt").write_text("Jalapeño/0.jpg\n", encoding="utf-8")
    assert f"{NFD}/0.jpg" not in paths_of(load_fruits(root, exclude=tmp_path / "exclude.txt"))


# ---- tables, or notes of the photos beside them ----


@pytest.mark.parametrize("name", ["metadata.json", "metadata.csv", "notes.jsonl", "a.parquet"])
def test_a_note_in_a_class_folder_is_no_table_of_the_data(make_folder, name):
    root = make_folder({"Apple/images": 6, "Kiwi/images": 6})
    (root / "Apple" / name).write_text('{"sweet": true}')
    assert names_of(load_fruits(root)) == ["Apple", "Kiwi"]
    shutil.rmtree(root / "Kiwi")
    make_folder({"Kiwi": 6, "Lime": 6}, root)
    assert names_of(load_fruits(root)) == ["Apple", "Kiwi", "Lime"]


def test_a_table_beside_class_folders_of_folders_is_ignored_with_a_warning(make_folder, caplog):
    root = make_folder({"Apple/images": 6, "Kiwi/images": 6})
    (root / "prices.csv").write_text("label,price\nApple,2\n")
    assert names_of(load_fruits(root)) == ["Apple", "Kiwi"]
    assert "prices.csv: ignored next to class folders. Give one as data_dir" in caplog.text


def test_a_table_beside_one_folder_of_photos_is_read_and_says_so(tmp_path, caplog):
    rows = [(f"photos/{number}.jpg", "AB"[number % 2]) for number in range(12)]
    write_table(tmp_path / "all.csv", rows)
    (tmp_path / "more").mkdir()
    with caplog.at_level(logging.INFO):
        assert names_of(load_fruits(tmp_path)) == ["A", "B"]
    assert "all.csv: read as the table of the photos next to it" in caplog.text


def test_a_table_in_the_only_folder_of_photos_is_read_whatever_lies_beside(tmp_path):
    rows = [(f"{number}.jpg", "AB"[number % 2]) for number in range(12)]
    (tmp_path / "photos").mkdir()
    write_table(tmp_path / "photos" / "labels.csv", rows)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "readme.txt").write_text("ripe")
    assert names_of(load_fruits(tmp_path)) == ["A", "B"]
