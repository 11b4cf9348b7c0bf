"""Data folders as people have them: split folders anywhere, wrappers, competitions."""

import csv
import logging
import shutil
from collections import Counter
from pathlib import Path
from time import process_time

import datasets
import pytest
from support.runs import paint

from hffruits.core.errors import InputError
from hffruits.data.arguments import DataArguments
from hffruits.data.load import load_fruits
from hffruits.data.readers.folders import (
    class_of_folder,
    find_image_files,
    name_folders,
    split_in,
    split_named,
)
from hffruits.data.sources import open_source
from hffruits.evaluation.dataset import choose_photos


def read(root: Path) -> dict[str, dict[str, int]]:
    """Photos by split and class, of a folder or an archive."""
    rows = open_source(DataArguments(str(root))).splits
    return {name: dict(Counter(part["label"][:])) for name, part in rows.items()}


def zip_of(root: Path) -> Path:
    return Path(shutil.make_archive(str(root), "zip", root))


def write_csv(file: Path, header: tuple[str, ...], rows: list[tuple]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return file


# ---- names of splits ----


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ["train", "Training", "Train_Set", "train_images", "TRAIN-DATA", "trainset"]),
        ("train", ["train set", "data_train", "train2017", "images-train", "training_split"]),
        ("validation", ["val", "valid", "dev", "Validation_Set", "val_imgs", "val2017"]),
        (
            "test",
            ["test", "test-data", "Testing", "test_images", "holdout", "hold_out_set", "eval"],
        ),
        ("test", ["hold-out", "hold out", "Hold_Out"]),
        (None, ["dev-sugar-apple", "test-multiple_fruits", "Devon", "images", "data", "Trainer"]),
    ],
)
def test_names_of_splits_are_known_with_what_people_add_to_them(split, names):
    assert {split_named(name) for name in names} == {split}


@pytest.mark.parametrize(
    ("split", "paths"),
    [
        ("train", ["fruits-train-000.tar", "data/trainset-1.csv", "train/apple.csv"]),
        ("train", ["train_test_split/train.csv", "test/train/0.tar", "a.train.tar.gz"]),
        ("validation", ["train_test_split/val.csv", "train/fruits_val_000.tar"]),
        ("test", ["train_test_split/test.csv", "hold_out.csv", "hold-out-000.tar", "hold out.csv"]),
        ("test", ["train/a/test images/0.tar", "fruits_hold_out_set_2.csv"]),
        (None, ["apple-000.tar", "latest/detrain.csv", "attraining.csv", "trains-0.tar"]),
    ],
)
def test_a_word_in_the_name_of_a_file_or_its_nearest_folder_may_be_its_split(split, paths):
    assert {split_in(Path(path)) for path in paths} == {split}


def test_a_file_of_two_splits_is_refused(tmp_path):
    for name in ("a", "b"):
        write_csv(tmp_path / "train_test_split" / f"{name}.csv", ("path", "label"), [("1.jpg", 1)])
    with pytest.raises(InputError, match=r"names two splits \(test and train\)\. Rename it"):
        read(tmp_path)


def test_tables_in_a_folder_of_two_splits_are_split_by_their_own_names(tmp_path):
    for number, name in enumerate(["train", "val", "hold_out"]):
        folder = tmp_path / "train_test_split"
        photos = [paint(folder / "img" / f"{number}{n}.jpg", seed=10 * number + n) for n in (0, 1)]
        rows = [(f"img/{photo.name}", "AB"[n]) for n, photo in enumerate(photos)]
        write_csv(folder / f"{name}.csv", ("path", "label"), rows)
    each = {"A": 1, "B": 1}
    assert read(tmp_path) == {"train": each, "validation": each, "test": each}


# ---- odd folders that are read ----

EACH = {"Kiwi": 2, "Lime": 2}
BOTH = {f"{split}/{name}": 2 for split in ("train", "test") for name in EACH}
TRAIN = {"train/Kiwi": 2, "train/Lime": 2}
OUTSIDE = "3 images lie outside any class folder, so not used, such as "

# photos by folder -> photos by split and class, and what is said of it
READ = {
    "split folders inside images, with annotations beside it": (
        {"images/train/Kiwi": 3, "images/train/Lime": 3, "images/val/Kiwi": 1,
         "annotations": 0, "docs/figures": 0},
        {"train": {"Kiwi": 3, "Lime": 3}, "validation": {"Kiwi": 1}},
    ),
    "deep split folders with long names": (
        {"data/fruits/Training_Set/Kiwi": 2, "data/fruits/Training_Set/Lime": 2,
         "data/fruits/test-images/Lime": 1, "data/fruits/holdout extra": 0},
        {"train": {"Kiwi": 2, "Lime": 2}, "test": {"Lime": 1}},
    ),
    "split folders below class folders": (
        {"Kiwi/train": 3, "Kiwi/test": 1, "Lime/Train": 2, "Lime/Test": 1, "Fig/train": 2},
        {"train": {"Kiwi": 3, "Lime": 2, "Fig": 2}, "test": {"Kiwi": 1, "Lime": 1}},
    ),
    "split folders between coarse and fine class folders": (
        {"Apple/train/Gala": 2, "Apple/val/Gala": 1, "Pear/train/Nashi": 2, "Pear/val/Nashi": 1},
        {"train": {"Gala": 2, "Nashi": 2}, "validation": {"Gala": 1, "Nashi": 1}},
    ),
    "a folder twice, as some archives unpack": (
        {"train/train/Kiwi": 2, "train/train/Lime": 2, "test/test/Kiwi": 1},
        {"train": {"Kiwi": 2, "Lime": 2}, "test": {"Kiwi": 1}},
    ),
    "a container that is named like a split": (
        {"test_data/train/Kiwi": 2, "test_data/train/Lime": 2, "test_data/val/Kiwi": 1},
        {"train": {"Kiwi": 2, "Lime": 2}, "validation": {"Kiwi": 1}},
    ),
    "only the train folder of an archive": (
        {"archive/train/Kiwi": 2, "archive/train/Lime": 2},
        {"train": {"Kiwi": 2, "Lime": 2}},
    ),
    "photos in a folder of their class": (
        {"Kiwi/images": 3, "Lime/Images": 2, "Fruit/Fig/photos/jpg": 2, "Plum": 2},
        {"train": {"Kiwi": 3, "Lime": 2, "Fig": 2, "Plum": 2}},
    ),
    "photos in folders of their class and split": (
        {"Kiwi/train/images": 3, "Kiwi/images/val": 1, "Lime/train/images": 2, "Lime/val": 1},
        {"train": {"Kiwi": 3, "Lime": 2}, "validation": {"Kiwi": 1, "Lime": 1}},
        "split folders below or between class folders are read as splits: ",
        ": photos of the class ",
    ),
    "some photos beside the folder of the others": (
        {"Kiwi": 1, "Kiwi/images": 2, "Lime/images": 2},
        {"train": {"Kiwi": 3, "Lime": 2}},
    ),
    "splits at two levels": (
        {"test/Kiwi": 1, "test/Lime": 1, "data/train/Kiwi": 2, "data/train/Lime": 2},
        {"train": {"Kiwi": 2, "Lime": 2}, "test": {"Kiwi": 1, "Lime": 1}},
    ),
    "class folders that sound like splits": (
        {"dev-sugar-apple": 2, "test-multiple_fruits": 2},
        {"train": {"dev-sugar-apple": 2, "test-multiple_fruits": 2}},
    ),
    "folders next to split folders": (
        {"images/train/A": 2, "images/train/B": 2, "images/more/A": 3, "annotations": 0},
        {"train": {"A": 2, "B": 2}},
        "ignored next to the split folders: annotations, images/more (3 photos)",
    ),
    "photos of no class next to split folders": (
        TRAIN | {"images": 3}, {"train": EACH},
        "ignored next to the split folders: images (3 photos)",
    ),
    "photos of no class in a split folder": (TRAIN | {"train/.": 3}, {"train": EACH}, OUTSIDE),
    "a split folder without class folders": (
        TRAIN | {"test/.": 3}, {"train": EACH},
        OUTSIDE, "test: holds no class folders, so there is no test split",
    ),
    "a split folder with a wrapper of no class": (
        TRAIN | {"test/images": 3}, {"train": EACH},
        OUTSIDE, "test: holds no class folders, so there is no test split",
    ),
    "all of it once more in a folder": (
        BOTH | {f"dataset/{folder}": 2 for folder in BOTH}, {"train": EACH, "test": EACH},
        "ignored next to the split folders: dataset (8 photos)",
    ),
    "all of it once more, deeper": (
        BOTH | {f"more/fruits/{folder}": 2 for folder in BOTH}, {"train": EACH, "test": EACH},
        "ignored next to the split folders: more (8 photos)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize("case", READ)
def test_an_odd_folder_is_read_as_it_was_meant(make_folder, case, form, caplog):
    counts, expected, *said = READ[case]
    root = make_folder(counts)
    for folder in counts:
        (root / folder).mkdir(parents=True, exist_ok=True)
        if not counts[folder]:
            (root / folder / "notes.txt").write_text("ripe")
    with caplog.at_level(logging.INFO):
        assert read(zip_of(root) if form == "zip" else root) == expected
    assert all(text in caplog.text for text in said)


@pytest.mark.parametrize("place", ["images/train/{}", "{}/train"])
def test_coarse_labels_are_the_same_wherever_the_split_folders_stand(make_folder, place):
    names = ("Apple/Gala", "Apple/Fuji", "Lime", "Plum")
    root = make_folder({place.format(name): 2 for name in names})
    coarse = open_source(DataArguments(str(root))).coarse
    assert coarse == {"Gala": "Apple", "Fuji": "Apple", "Lime": "Lime", "Plum": "Plum"}


def test_thousands_of_class_folders_are_named_in_seconds():
    folders = {f"{number % 50}/{number}": 1 for number in range(4000)}
    start = process_time()
    named = name_folders({"train": folders, "validation": folders}, None)
    assert process_time() - start < 5
    assert len(set(named.values())) == 4000


def test_a_folder_is_walked_once(make_folder, monkeypatch, caplog):
    root = make_folder({"Kiwi": 2, "Lime": 2})
    (root / "Z").symlink_to(root / "Lime")
    monkeypatch.setattr(Path, "iterdir", lambda path: pytest.fail(f"{path}: listed again"))
    open_source(DataArguments(str(root)))
    assert caplog.text.count("Z: a link to a folder that is read already") == 1


# ---- odd folders that can't be read: one line that says why, and what to do ----

REFUSED = {
    "split folders in some class folders only": (
        {"Kiwi/train": 2, "Kiwi/test": 1, "Lime": 2, "Fig": 2},
        r"photos in split folders \(Kiwi/test, Kiwi/train\) and in others \(Fig, Lime\)\. Move",
    ),
    "split folders beside photos of the same class": (
        {"Kiwi/train": 2, "Kiwi/test": 1, "Kiwi": 2, "Lime/train": 2},
        r"\(Kiwi/test, Kiwi/train, Lime/train\) and in others \(Kiwi\)",
    ),
    "class folders beside a folder that is split": (
        {"Kiwi": 2, "Lime": 2, "archive/train/Fig": 2, "archive/test/Fig": 1},
        r"and in others \(Kiwi, Lime\).*give the folder that holds only split folders",
    ),
    "split folders of photos without a class": (
        {"images/train": 3, "images/val": 2}, "images, but no class folders. Put each class in",
    ),
    "a competition's photos without a table": (
        {"train_images": 3, "test_images": 2}, "if a table names the classes, give that",
    ),
    "photos for object detection": (
        {"train/images": 3, "valid/images": 2, "train/labels": 0}, "no class folders",
    ),
    "two folders of one split": (
        {"train/Kiwi": 2, "train_images/Lime": 2}, "train and train_images both mean the train",
    ),
    "two splits in one path": (
        {"train/Kiwi/test": 2, "train/Lime": 2, "val/Lime": 1},
        r"train/Kiwi/test: below the folders of two splits \(test and train\)",
    ),
    "no train split": ({"images/val_set/Kiwi": 2, "images/test/Lime": 2}, "no train folder"),
    "splits in the names of class folders": (
        {"Kiwi_train": 2, "Kiwi_test": 1, "Lime_train": 2, "Lime_test": 1},
        "Kiwi_test, Kiwi_train: the same name in two splits",
    ),
    "splits first in the names of class folders": (
        {"fruits/train-kiwi": 2, "fruits/val-Kiwi": 1, "fruits/train-lime": 2},
        "train-kiwi, val-Kiwi: the same name in two splits",
    ),
    "splits and what they hold in the names of class folders": (
        {"Kiwi_train_images": 2, "Kiwi_test_images": 1, "Lime_train_images": 2},
        "Kiwi_test_images, Kiwi_train_images: the same name in two splits",
    ),
    "numbered splits in the names of class folders": (
        {"Kiwi_train2017": 2, "kiwi-val2017": 1, "Lime_train2017": 2},
        "Kiwi_train2017, kiwi-val2017: the same name in two splits",
    ),
    "splits and class names without a space": (
        {"TrainGreenKiwi": 2, "TestGreenKiwi": 1, "LimeTrain": 2},
        "TestGreenKiwi, TrainGreenKiwi: the same name in two splits",
    ),
    "splits in the names above class folders": (
        {f"fruits_{split}/{name}": 2 for split in ("train", "test") for name in ("Kiwi", "Lime")},
        "fruits_test, fruits_train: the same name in two splits",
    ),
    "splits in the names above class folders, twice": (
        {f"seg_{split}/seg_{split}/{name}": 2 for split in ("train", "test")
         for name in ("Kiwi", "Lime")},
        "seg_test, seg_train: .* folder that is named after it only, as train/Kiwi",
    ),
    "two versions of the same split data": (
        {"v1/train/Kiwi": 2, "v1/test/Lime": 1, "v2/train/Kiwi": 2, "v1/train/Lime": 2,
         "v2/train/Lime": 1},
        "v1/Kiwi, v2/Kiwi: most folders' names come below several others. Set label_from=leaf",
    ),
    "other photos of the same splits in a folder below": (
        {"train/Kiwi": 2, "test/Kiwi": 1, "more/train/Lime": 2, "more/test/Lime": 1},
        r"split folders in several places: \S+, \S+/more\. Give one as data_dir",
    ),
    "a class named like a split, beside others": (
        {"Kiwi": 2, "Lime": 3, "Test": 2},
        r"Test: named like a split, but without .* lie Kiwi \(2 photos\), Lime \(3 photos\)\.",
    ),
    "a class named train, beside others": (
        {"bus": 2, "car": 2, "train": 2},
        r"train: named like a split, .* bus \(2 photos\), car \(2 photos\)\. Rename a class that",
    ),
    "a class of subclasses that is named like a split": (
        {"Kiwi/green": 2, "Lime/green": 2, "Test/green": 2},
        r"train folder \(next to it: Kiwi \(2 photos\), Lime \(2 photos\)\)\. .* like a split",
    ),
    "a class named like a split, beside others at one of two places": (
        {"Fruit/Kiwi": 2, "Fruit/Test": 2, "Greens/Leek": 2}, "rename a class that is named like",
    ),
    "a class named like its split": (
        {"train/bus": 2, "train/car": 2, "train/train": 2, "test/bus": 1},
        "train/train: holds photos, next to those in bus, car, but train names no class",
    ),
    "a class named like its split, which is the only one": (
        {"train/bus": 2, "train/car": 2, "train/train": 2},
        r"train/train: named like a split, .* lie train/bus \(2 photos\), train/car",
    ),
    "a class named like what it holds": (
        {"Kiwi": 2, "Lime": 2, "Photos": 3},
        "Photos: holds photos, next to those in Kiwi, Lime, but Photos names no class",
    ),
    "a class of split data named like what it holds": (
        {"train/Kiwi": 2, "train/Pictures/jpg": 3, "test/Kiwi": 1},
        "train/Pictures/jpg: holds photos, next to those in Kiwi, but Pictures names no class",
    ),
    "a class with splits below, named like what it holds": (
        {"Kiwi/train": 2, "Kiwi/test": 1, "Photos/train": 3, "Lime/train": 1},
        "Photos/train: holds photos, next to those in Kiwi, Lime, but Photos names no class",
    ),
    "two parts of a test split": (
        {"train/Kiwi": 2, "train/Lime": 2, "test_public/Kiwi": 1, "test_private/Lime": 1},
        r"test_private: named like a part of the test split, .* Put its class folders into \S+test",
    ),
    "two kinds of folders in a class": (
        {"Kiwi/images": 2, "Kiwi/green": 2, "Lime/images": 2},
        "Kiwi/images: holds photos, next to those in green, but images names no class",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize("case", REFUSED)
def test_an_odd_folder_is_refused_in_one_line_that_says_what_to_do(make_folder, case, form):
    counts, message = REFUSED[case]
    root = make_folder(counts)
    with pytest.raises(InputError, match=message) as caught:
        read(zip_of(root) if form == "zip" else root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("below", ["", "train"])
def test_an_empty_class_folder_is_named_wherever_split_folders_stand(make_folder, below):
    root = make_folder({f"Kiwi/{below}": 3, f"Lime/{below}": 3, "Lime/test": 1 if below else 0})
    (root / "Fig" / below).mkdir(parents=True)
    assert find_image_files(root).empty == {Path("Fig"): "no file"}


def test_a_class_folder_that_is_a_link_to_nothing_is_named_as_an_empty_one(make_folder):
    root = make_folder({"Kiwi": 3, "Lime": 3})
    (root / "Fig").symlink_to(root / "gone/Fig")
    (root / "Pear").mkdir()
    assert find_image_files(root).empty == {
        Path("Fig"): "a link to nothing",
        Path("Pear"): "no file",
    }
    with pytest.raises(InputError, match=r"2 classes .*Fig: a link to nothing; Pear: no file"):
        load_fruits(root)


# ---- tables beside photos ----


def competition(root: Path, *, ids: str = "train_images/{}.jpg") -> Path:
    """Photos in flat folders, a table of those to train on, and a sample of what to hand in."""
    for number in range(12):
        paint(root / "train_images" / f"{number}.jpg", seed=number)
        paint(root / "test_images" / f"{number}.jpg", seed=100 + number)
    rows = [(ids.format(number), "AB"[number % 2]) for number in range(12)]
    write_csv(root / "train.csv", ("image", "label"), rows)
    write_csv(root / "test.csv", ("image",), [(f"test_images/{n}.jpg",) for n in range(12)])
    made_up = [(f"test_images/{number}.jpg", "A") for number in range(12)]
    write_csv(root / "sample_submission.csv", ("image", "label"), made_up)
    return root


def test_a_competition_is_read_by_its_table_for_training(tmp_path, caplog):
    root = competition(tmp_path / "plants")
    with caplog.at_level(logging.INFO):
        assert read(root) == {"train": {"A": 6, "B": 6}}
    assert "sample_submission.csv, test.csv: ignored as those of a competition" in caplog.text
    assert "train.csv: read as the table of the photos next to it" in caplog.text


def test_an_archive_of_a_competition_is_refused_with_its_tables(tmp_path):
    with pytest.raises(
        InputError, match=r"plants\.zip: holds no class folders, but train\.csv\. U"
    ):
        read(zip_of(competition(tmp_path / "plants")))


def test_one_of_several_tables_that_cant_be_read_names_the_one_to_give(tmp_path):
    root = competition(tmp_path / "plants")
    (root / "sample_submission.csv").unlink()
    with pytest.raises(InputError, match=r"To read only one of the tables, .* as \S+/train\.csv"):
        read(root)


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_all_tables_that_are_ignored_are_named(make_folder, form, caplog):
    root = make_folder({"Kiwi": 2, "Lime": 2})
    for name in ("a.csv", "docs/b.tsv", "z/c.jsonl", *(f"z/{n}.csv" for n in range(4))):
        write_csv(root / name, ("label", "price"), [("Kiwi", 2)])
    assert read(zip_of(root) if form == "zip" else root) == {"train": {"Kiwi": 2, "Lime": 2}}
    named = "a.csv, docs/b.tsv, z/0.csv, z/1.csv, z/2.csv and 2 more: ignored next to class folders"
    unpack = "Unpack fruits.zip, and give one" if form == "zip" else "Give one"
    assert f"{named}. {unpack} as data_dir to use it" in caplog.text


# ---- tables, shards and the Hub ----


def test_splits_of_the_hub_may_have_long_names(monkeypatch, caplog):
    def find(names: list[str]) -> dict[str, int]:
        rows = datasets.Dataset.from_dict({"image": [b"any"] * 2, "label": ["A", "B"]})
        found = datasets.DatasetDict(dict.fromkeys(names, rows))
        monkeypatch.setattr("hffruits.data.readers.tables.load_dataset", lambda *_: found)
        splits = open_source(DataArguments(dataset_name="user/fruits")).splits
        return {name: len(part) for name, part in splits.items()}

    assert find(["train_set", "dev", "test", "test2", "extra"]) == {
        "train": 2, "validation": 2, "test": 2,
    }  # fmt: skip
    assert "user/fruits: ignored the splits test2, extra" in caplog.text
    with pytest.raises(InputError, match="val and dev both mean the validation split"):
        find(["train", "val", "dev"])


def test_folders_in_keys_are_classes_without_splits_and_wrappers():
    named = name_folders({"train": {"Kiwi/images": 3, "Fruit/Lime/jpg": 2}}, None)
    assert named == {"Kiwi/images": "Kiwi", "Fruit/Lime/jpg": "Lime"}
    assert class_of_folder("Fruit/kiwi/images", ["Kiwi", "Lime"]) == "Kiwi"
    assert class_of_folder("Fig/images", ["Kiwi"]) == "Fig"


# ---- evaluation ----


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_a_model_is_measured_on_a_test_split_wherever_it_stands(make_folder, form):
    root = make_folder({"images/test_set/Kiwi": 2, "images/test_set/Lime": 1, "images/val/Lime": 1})
    data = DataArguments(str(zip_of(root) if form == "zip" else root))
    photos = choose_photos(data, ["Kiwi", "Lime"], None)
    assert (photos.split, photos.total) == ("test", 3)
    assert choose_photos(data, ["Kiwi", "Lime"], "validation").total == 1
