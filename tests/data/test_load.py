"""From folders to validated, labelled, split datasets."""

import logging
import os
import shutil

import pytest
from PIL import Image
from support.runs import paint

from hffruits.core.errors import InputError
from hffruits.data.load import load_fruits
from hffruits.data.readers.folders import find_image_files
from hffruits.data.splits import write_lists


def labels_of(dataset) -> set[str]:
    names = dataset.features["label"].names
    return {names[index] for index in dataset["label"]}


# ---- labels and splits ----


def test_leaf_folders_at_uneven_depth_are_the_labels(make_folder):
    root = make_folder({"Fruit/Apple/Royal-Gala": 7, "Fruit/Apple/Pink-Lady": 7, "Banana": 7})
    data = load_fruits(root)
    names = data["train"].features["label"].names
    assert names == ["Banana", "Pink-Lady", "Royal-Gala"]
    row = data["train"][0]
    assert set(row) == {"image", "label", "path"}
    assert row["image"].mode == "RGB"
    assert names[row["label"]] == row["path"].split("/")[-2]
    assert (root / row["path"]).is_file()


def test_leaves_that_share_a_name_take_their_parents_along_in_every_split(make_folder):
    root = make_folder({"train/Apple/Red": 2, "train/Pepper/Red": 2, "train/Lime": 2})
    make_folder({"val/Apple/Red": 1, "val/Lime": 1}, root)
    data = load_fruits(root)
    assert data["train"].features["label"].names == ["Apple/Red", "Lime", "Pepper/Red"]
    assert labels_of(data["validation"]) == {"Apple/Red", "Lime"}


def test_leaves_that_share_parents_too_take_more_of_them_along(make_folder):
    root = make_folder({"A/Apple/Red": 3, "B/Apple/Red": 3})
    assert load_fruits(root)["train"].features["label"].names == ["A/Apple/Red", "B/Apple/Red"]


def test_a_leaf_may_lie_under_other_parents_in_another_split(make_folder):
    root = make_folder({"train/Veg/Mushroom": 2, "train/Lime": 2})
    make_folder({"val/Lime": 1, "test/Veg/Fungi/Mushroom": 1}, root)
    data = load_fruits(root)
    assert data["train"].features["label"].names == ["Lime", "Mushroom"]
    assert labels_of(data["test"]) == {"Mushroom"}


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [("train", "val", "test"), ("Training", "Validation", "Test"), ("TRAIN", "valid", "testing")],
)
def test_split_folders_are_known_by_their_usual_names(make_folder, train, validation, test):
    root = make_folder(
        {f"{train}/A": 3, f"{train}/B": 3, f"{validation}/A": 2, f"{test}/A": 1, f"{test}/B": 1}
    )
    data = load_fruits(root)
    assert {split: len(rows) for split, rows in data.items()} == {
        "train": 6, "validation": 2, "test": 2,
    }  # fmt: skip


def test_split_folders_are_found_inside_the_one_folder_of_a_zip(make_folder, tmp_path):
    make_folder({"archive/Training/A": 3, "archive/Training/B": 3, "archive/Test/A": 1})
    data = load_fruits(tmp_path / "fruits")
    assert data["train"].features["label"].names == ["A", "B"]
    assert len(data["test"]) == 1


def test_a_missing_validation_split_is_held_out_of_train_and_test_stays(make_folder):
    root = make_folder({"train/A": 10, "train/B": 10, "test/A": 4, "test/B": 4})
    data = load_fruits(root, validation_fraction=0.2)
    assert {split: len(rows) for split, rows in data.items()} == {
        "train": 16, "validation": 4, "test": 8,
    }  # fmt: skip


def test_a_class_only_in_test_is_an_error_that_names_it(make_folder):
    root = make_folder({"train/A": 2, "train/B": 2, "val/A": 1, "test/Durian": 3})
    with pytest.raises(InputError, match=r"test has classes that train lacks: Durian \(3 images"):
        load_fruits(root)


def test_a_split_that_lacks_classes_is_fine_and_keeps_the_label_ids(make_folder):
    root = make_folder({"train/A": 2, "train/B": 2, "train/C": 2, "val/C": 2})
    data = load_fruits(root)
    assert data["validation"]["label"][:] == [2, 2]


def test_a_folder_split_is_stratified_seeded_and_complete(make_folder):
    root = make_folder({"A": 20, "B": 10, "C": 3})
    one, again, other = (load_fruits(root, seed=seed) for seed in (1, 1, 2))
    for split in ("train", "validation", "test"):
        assert one[split]["path"][:] == again[split]["path"][:]
    assert one["test"]["path"][:] != other["test"]["path"][:]
    paths = [path for rows in one.values() for path in rows["path"]]
    assert len(paths) == len(set(paths)) == 33
    assert [one["test"]["label"][:].count(label) for label in range(3)] == [3, 2, 1]
    assert [one["validation"]["label"][:].count(label) for label in range(3)] == [3, 2, 1]


def test_a_split_can_be_repeated_from_the_lists_that_were_written(make_folder, tmp_path):
    root = make_folder({"A": 9, "B": 9})
    first = load_fruits(root, seed=5)
    first.write_lists(tmp_path / "lists")
    again = load_fruits(root, seed=6, split_lists=tmp_path / "lists")
    for split in ("train", "validation", "test"):
        assert first[split]["path"][:] == again[split]["path"][:]
    (root / "A" / "0.jpg").unlink()
    with pytest.raises(InputError, match=r"1 of \d+ photos are not in the data folder"):
        load_fruits(root, split_lists=tmp_path / "lists")


def test_a_folder_linked_into_itself_is_walked_once(make_folder):
    root = make_folder({"A": 4, "B": 4})
    (root / "A" / "loop").symlink_to(root, target_is_directory=True)
    assert len(find_image_files(root)["train"]) == 8


# ---- files that can't be used ----


def test_unreadable_files_are_left_out_with_their_reasons(make_folder, caplog):
    root = make_folder({"A": 30, "B": 30})
    (root / "A" / "empty.jpg").touch()
    (root / "A" / "text.png").write_text("no image")
    cut = paint(root / "B" / "cut.jpg", size=(300, 200))
    cut.write_bytes(cut.read_bytes()[:3000])
    Image.new("1", (2000, 2000)).save(root / "B" / "bomb.png")
    with caplog.at_level(logging.WARNING):
        data = load_fruits(root, max_unreadable_fraction=0.1, max_image_pixels=1_000_000)
    reasons = {str(skipped.path): skipped.reason for skipped in data.skipped}
    assert set(reasons) == {"A/empty.jpg", "A/text.png", "B/cut.jpg", "B/bomb.png"}
    assert "0 bytes" in reasons["A/empty.jpg"]
    assert "truncated" in reasons["B/cut.jpg"]
    assert "2000 x 2000" in reasons["B/bomb.png"]
    assert sum(len(rows) for rows in data.values()) == 60
    assert all(path in caplog.text for path in reasons)


def test_jpegs_that_lack_only_their_last_bytes_are_used_where_that_is_allowed(
    make_folder, tmp_path, caplog
):
    root = make_folder({"A": 30, "B": 30})
    for name, kept in (("A/end.jpg", 0.97), ("A/most.jpg", 0.5)):
        path = paint(root / name, size=(300, 200), seed=1)
        content = path.read_bytes()
        path.write_bytes(content[: int(kept * len(content))])
    refused = load_fruits(root)
    assert {str(left.path) for left in refused.skipped} == {"A/end.jpg", "A/most.jpg"}
    assert not refused.truncated
    with caplog.at_level(logging.WARNING):
        data = load_fruits(root, allow_truncated_images=True)
    assert data.truncated == ["A/end.jpg"]
    assert "1 photo is truncated, and used as far as possible: A/end.jpg" in caplog.text
    assert [str(left.path) for left in data.skipped] == ["A/most.jpg"]
    paths = [path for rows in data.values() for path in rows["path"][:]]
    assert len(paths) == 61 and paths.count("A/end.jpg") == 1
    rows = next(rows for rows in data.values() if "A/end.jpg" in rows["path"][:])
    row = next(row for row in rows if row["path"] == "A/end.jpg")
    assert row["image"].size == (300, 200)
    again = load_fruits(root, allow_truncated_images=True)  # what the cache says of it has changed
    assert again.truncated == ["A/end.jpg"] and again.fingerprint == data.fingerprint


def test_the_error_of_truncated_photos_names_the_flag(make_folder):
    root = make_folder({"A": 3, "B": 3})
    path = paint(root / "A/end.jpg", size=(300, 200))
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match="Set allow_truncated_images for JPEGs that lack only"):
        load_fruits(root)


def test_too_many_unreadable_files_stop_the_run(make_folder):
    root = make_folder({"A": 9, "B": 9})
    for index in range(2):
        (root / "A" / f"empty{index}.jpg").touch()
    with pytest.raises(InputError, match="2 of 20 images can't be read, over max_unreadable"):
        load_fruits(root)
    assert len(load_fruits(root, max_unreadable_fraction=0.1).skipped) == 2


def test_a_sideways_photo_is_loaded_upright(make_folder):
    root = make_folder({"A": 3, "B": 3})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20), "red").save(root / "A" / "0.jpg", exif=exif)
    data = load_fruits(root)
    sizes = {row["path"]: row["image"].size for rows in data.values() for row in rows}
    assert sizes["A/0.jpg"] == (20, 30)


def test_a_photo_in_two_classes_is_warned_of(make_folder, caplog):
    root = make_folder({"A": 8, "B": 8})
    shutil.copy(root / "A/3.jpg", root / "B/copy.jpg")
    load_fruits(root)
    assert "1 photo in several classes, the same byte for byte (A/3.jpg and B/copy.jpg)" in (
        caplog.text
    )


def test_leftovers_of_macos_and_synology_and_other_files_are_no_images(make_folder):
    root = make_folder({"A": 3, "B": 3, "__MACOSX/A": 3, ".thumbs": 2, "A/@eaDir/0.jpg": 2})
    (root / "A" / "._0.jpg").write_bytes(b"junk")
    (root / "A" / "notes.txt").write_text("ripe")
    assert len(find_image_files(root)["train"]) == 6


@pytest.mark.parametrize(
    ("test", "message"),
    [(1, "^test_fraction=1: fractions"), (0.9, "^validation_fraction=0.15, test_fraction=0.9: ")],
)
def test_a_wrong_fraction_is_named_before_photos_are_read(make_folder, monkeypatch, test, message):
    monkeypatch.setattr("hffruits.data.load.check_images", None)
    with pytest.raises(InputError, match=message):
        load_fruits(make_folder({"A": 4, "B": 4}), test_fraction=test)


# ---- folders that can't be used: value, reason, remedy in one line ----


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "no such folder"),
        ({"A": 0}, "no images found"),
        ({"A": 3}, r"only one class \(A\)"),
        ({".": 3}, "no class folders"),
        (
            {"A": 5, "B": 2, "C": 1},
            r"2 classes with fewer photos than the 3 .*C \(1\), B \(2\)",
        ),
        ({"test/A": 2, "test/B": 2}, "no train folder"),
        ({"val/A": 2, "valid/A": 2, "train/A": 2}, "both mean the validation split"),
        ({"train/A": 0, "test/B": 2}, "no images to train on"),
    ],
)
def test_an_unusable_folder_is_explained_in_one_line(make_folder, tmp_path, counts, message):
    for folder, count in counts.items():
        (tmp_path / "fruits" / folder).mkdir(parents=True, exist_ok=True)
        make_folder({folder: count})
    with pytest.raises(InputError, match=message) as caught:
        load_fruits(tmp_path / "fruits")
    assert "\n" not in str(caught.value)


def test_a_file_in_place_of_the_folder_is_explained(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        load_fruits(paint(tmp_path / "a.jpg"))


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 0.9])
def test_impossible_fractions_are_refused(make_folder, fraction):
    root = make_folder({"A": 5, "B": 5})
    with pytest.raises(InputError, match="fraction"):
        load_fruits(root, validation_fraction=fraction)


def test_images_beside_the_class_folders_are_ignored_with_a_warning(make_folder, caplog):
    root = make_folder({"A": 3, "B": 3, ".": 2})
    assert len(find_image_files(root)["train"]) == 6
    assert "2 images lie outside any class folder" in caplog.text


def test_a_class_without_any_readable_file_is_an_error_that_names_it(make_folder):
    root = make_folder({"train/A": 40, "train/B": 40, "val/A": 2})
    shutil.rmtree(root / "train" / "B")
    (root / "train" / "B").mkdir()
    (root / "train" / "B" / "0.jpg").touch()
    with pytest.raises(InputError, match=r"B: its 1 photo can't be read \(empty file"):
        load_fruits(root)


def test_a_split_that_loses_all_its_images_is_named(make_folder):
    root = make_folder({"train/A": 20, "train/B": 20})
    (root / "val" / "A").mkdir(parents=True)
    (root / "val" / "A" / "0.jpg").touch()
    with pytest.raises(InputError, match=r"validation: none of its images .*0 bytes"):
        load_fruits(root)


def test_a_name_that_is_not_utf8_is_explained(make_folder):
    root = make_folder({"A": 3, "B": 3})
    (root / "B").rename(os.fsdecode(os.fsencode(root) + b"/Ma\xe7a"))
    with pytest.raises(InputError, match="not a UTF-8 name"):
        load_fruits(root)


def test_photos_beside_class_folders_make_classes_of_both_with_a_warning(make_folder, caplog):
    root = make_folder({"Apple": 3, "Apple/Gala": 3, "Lime": 3})
    assert load_fruits(root)["train"].features["label"].names == ["Apple", "Gala", "Lime"]
    assert "holds photos and class folders" in caplog.text


def test_photos_over_the_pixel_limit_name_the_limit_as_the_remedy(make_folder):
    with pytest.raises(InputError, match=r"\. Raise max_image_pixels\.$"):
        load_fruits(make_folder({"Apple": 8, "Lime": 8}), max_image_pixels=100)


def test_the_pixel_limit_holds_for_decoding_too(make_folder):
    root = make_folder({"A": 3, "B": 3})
    Image.new("1", (9500, 9500)).save(root / "A" / "0.png")  # over the default limit
    data = load_fruits(root, max_image_pixels=100_000_000)
    rows = [row for split in data.values() for row in split]
    assert max(row["image"].size for row in rows) == (9500, 9500)
    with pytest.raises(InputError, match="max_image_pixels"):
        load_fruits(root, max_image_pixels=10**9)


def test_lists_and_counts_decode_no_photo(drawn_fruits, tmp_path, monkeypatch):
    datasets = load_fruits(drawn_fruits)

    def refuse(*args, **kwargs):
        raise AssertionError("decoded")

    monkeypatch.setattr("hffruits.data.images.open_rgb", refuse)
    with pytest.raises(AssertionError, match="decoded"):
        datasets["train"][0]
    write_lists(datasets, tmp_path)
    assert len((tmp_path / "train.txt").read_text().splitlines()) == 32
    names = datasets["train"].features["label"].names
    assert datasets.split("train").label_counts == [8] * len(names)


def test_lists_of_a_split_that_is_gone_are_removed(make_folder, tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "test.txt").write_text("of an earlier run\n")
    root = make_folder({"train/A": 3, "train/B": 3, "val/A": 2})
    load_fruits(root).write_lists(tmp_path / "lists")
    names = {path.name for path in (tmp_path / "lists").iterdir()}
    assert names == {"train.txt", "validation.txt"}
