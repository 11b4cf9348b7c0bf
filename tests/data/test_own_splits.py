"""Splits that rows name themselves, by one rule in every form of data."""

import csv
import io
import json
import logging
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from support.runs import paint

from hffruits.core.errors import InputError
from hffruits.data.arguments import DataArguments
from hffruits.data.readers import tables
from hffruits.data.readers.folders import splits_of_folders
from hffruits.data.sources import open_source
from hffruits.data.stream_dataset import load_streams

Row = dict[str, str]
NAMED = ["train"] * 4 + ["val"] * 2 + ["holdout"] * 2
EACH = {"A": 1, "B": 1}
SPLIT = {"train": {"A": 2, "B": 2}, "validation": EACH, "test": EACH}
SPLIT_KEYS = {"train": {"Kiwi": 1, "Lime": 1}, "validation": {"Kiwi": 1}, "test": {"Lime": 1}}


def rows_of(*, column: list[str] | None = None, folders: list[str] | None = None) -> list[Row]:
    """Rows of two classes in turns, whose splits are in a column or in folders of their paths."""
    folders = folders or ["photos"] * len(column)
    rows = [
        {"path": f"{folder}/{number}.jpg", "label": "AB"[number % 2]}
        for number, folder in enumerate(folders)
    ]
    if column is None:
        return rows
    return [row | {"split": value} for row, value in zip(rows, column, strict=True)]


# ---- the forms: each writes rows by their split's name, and gives what the user would name ----

Write = Callable[[Path, dict[str, list[Row]]], Path | DataArguments]


def photo(at: Path, row: Row) -> Path:
    seed = int(Path(row["path"]).stem) if Path(row["path"]).stem.isdigit() else 0
    return paint(at / row["path"], seed=seed)


def write_csv(at: Path, splits: dict[str, list[Row]]) -> Path:
    for split, rows in splits.items():
        for row in rows:
            photo(at, row)
        with (at / f"{split}.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return at if len(splits) > 1 else at / f"{split}.csv"


def as_dataset(at: Path, rows: list[Row]) -> Dataset:
    features = Features({"image": datasets.Image()} | dict.fromkeys(rows[0], Value("string")))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    images = [{"bytes": photo(at, row).read_bytes(), "path": None} for row in rows]
    return Dataset.from_dict({"image": images, **columns}, features)


def write_saved(at: Path, splits: dict[str, list[Row]]) -> Path:
    (rows,) = splits.values()
    as_dataset(at, rows).save_to_disk(at / "saved")
    return at / "saved"


def write_saved_dict(at: Path, splits: dict[str, list[Row]]) -> Path:
    found = {split: as_dataset(at, rows) for split, rows in splits.items()}
    DatasetDict(found).save_to_disk(at / "saved")
    return at / "saved"


def write_shards(at: Path, splits: dict[str, list[Row]]) -> Path:
    """Two of each split."""
    (at / "shards").mkdir()
    for split, rows in splits.items():
        for number in range(2):
            with tarfile.open(at / "shards" / f"{split}-{number}.tar", "w") as tar:
                for row in rows[number::2]:
                    add_sample(tar, row["path"].removesuffix(".jpg"), row, photo(at, row))
    return at / "shards" / "*.tar"


def add_sample(tar: tarfile.TarFile, key: str, row: Row, image: Path) -> None:
    fields = {name: value for name, value in row.items() if name not in ("path", "label")}
    members = {"jpg": image.read_bytes(), "cls": row.get("label", "").encode()}
    members["json"] = json.dumps(fields).encode() if fields else b""
    for suffix, content in members.items():
        if content:
            member = tarfile.TarInfo(f"{key}.{suffix}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


@pytest.fixture
def write_hub(monkeypatch) -> Write:
    """As a dataset of the Hub gives them."""

    def write(at: Path, splits: dict[str, list[Row]]) -> DataArguments:
        found = DatasetDict({split: as_dataset(at, rows) for split, rows in splits.items()})

        def load(name: str, config: str | None, *, streaming: bool, columns: object = None):
            return {
                s: rows.to_iterable_dataset() if streaming else rows for s, rows in found.items()
            }

        monkeypatch.setattr(tables, "_load_hub", load)
        return DataArguments(dataset_name="user/fruits")

    return write


WRITE: dict[str, Write] = {
    "table": write_csv,
    "saved dataset": write_saved,
    "saved splits": write_saved_dict,
    "shards": write_shards,
}
FORMS = [*WRITE, "Hub"]
OF_SEVERAL = ["table", "saved splits", "shards", "Hub"]
STREAMED = ["table", "shards", "Hub"]


@pytest.fixture
def write(tmp_path, write_hub) -> Callable[..., DataArguments]:
    """`write("table", train=rows)`: the data as the user would name it."""

    def write(form: str, **splits: list[Row]) -> DataArguments:
        return DataArguments.of((WRITE | {"Hub": write_hub})[form](tmp_path, splits))

    return write


def counts(data: DataArguments) -> dict[str, dict[str, int]]:
    splits = open_source(data).splits
    return {name: dict(Counter(part["label"][:])) for name, part in splits.items()}


# ---- data with no splits but train ----


@pytest.mark.parametrize("form", FORMS)
def test_a_split_column_splits_what_has_no_split_but_train(write, form):
    assert counts(write(form, train=rows_of(column=NAMED))) == SPLIT


@pytest.mark.parametrize("form", FORMS)
def test_split_folders_in_paths_and_keys_split_what_has_no_split_but_train(write, form, caplog):
    folders = [f"all/{split}/{'AB'[n % 2]}" for n, split in enumerate(NAMED)]
    with caplog.at_level(logging.INFO):
        assert counts(write(form, train=rows_of(folders=folders))) == SPLIT
    assert "split as the folders in its paths say" in caplog.text


def test_a_split_column_may_have_long_names(write):
    names = [
        "Train_Set",
        "train set",
        "train2017",
        "train data",
        "val set",
        "dev",
        "holdout",
        "test",
    ]
    assert counts(write("table", train=rows_of(column=names))) == SPLIT


@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_cell_of_a_split_column_is_called_empty(write, value):
    with pytest.raises(InputError, match=r"split empty in row 8\. Use train"):
        counts(write("table", train=rows_of(column=[*NAMED[:7], value])))


def test_a_split_column_of_numbered_classes_is_read_by_their_names(tmp_path):
    rows = as_dataset(tmp_path, rows_of(column=NAMED))
    numbered = rows.cast_column("split", ClassLabel(names=["val", "train", "holdout"]))
    numbered.save_to_disk(tmp_path / "saved")
    assert counts(DataArguments(str(tmp_path / "saved"))) == SPLIT


@pytest.mark.parametrize("name", ["Split", "set", "Data Set", "subset", "partition", "phase"])
@pytest.mark.parametrize("form", ["table", "Hub"])
def test_a_column_with_nothing_but_names_of_splits_may_have_another_name(write, form, name):
    rows = [row | {name: row["split"]} for row in rows_of(column=NAMED)]
    rows = [{key: row[key] for key in ("path", "label", name)} for row in rows]
    assert counts(write(form, train=rows)) == SPLIT


@pytest.mark.parametrize("form", ["table", "Hub"])
def test_a_column_that_names_splits_among_others_is_warned_of(write, form, caplog):
    values = ["train", "test", *["unused"] * 6]
    rows = [row | {"subset": v} for row, v in zip(rows_of(folders=["p"] * 8), values, strict=True)]
    assert list(counts(write(form, train=rows))) == ["train"]
    assert "its column subset names splits, but also 'unused', so it is not used" in caplog.text


@pytest.mark.parametrize("name", ["is_train", "Fold"])
@pytest.mark.parametrize("form", ["table", "saved dataset", "Hub"])
def test_a_column_that_may_mean_splits_by_numbers_is_warned_of(write, form, name, caplog):
    rows = [row | {name: str(n % 2)} for n, row in enumerate(rows_of(folders=["p"] * 8))]
    assert list(counts(write(form, train=rows))) == ["train"]
    assert f"its column {name} may name splits, but is not used" in caplog.text


def test_keys_that_name_splits_are_read_as_folders_are(write):
    keys = ["train/Kiwi/1", "val/Kiwi/2", "train/Lime/images/3", "Lime/test/4"]
    raw = open_source(write("shards", train=[{"path": f"{key}.jpg"} for key in keys]))
    by_folder = {split: Counter(rows["label"][:]) for split, rows in raw.splits.items()}
    named = raw.name_classes(by_folder)
    found = {
        split: dict(Counter(named[folder] for folder in own.elements()))
        for split, own in by_folder.items()
    }
    assert found == SPLIT_KEYS


def test_keys_with_no_folder_but_those_of_splits_name_no_class(write):
    rows = [{"path": f"{key}.jpg"} for key in ("train/1", "train/2", "test/3")]
    with pytest.raises(InputError, match="label_column_name: unclear which column it is"):
        counts(write("shards", train=rows))


@pytest.mark.parametrize("form", FORMS)
def test_split_folders_in_paths_split_what_a_column_has_only_train_of(write, form):
    folders = [f"all/{split}/{'AB'[n % 2]}" for n, split in enumerate(NAMED)]
    assert counts(write(form, train=rows_of(folders=folders, column=["train"] * 8))) == SPLIT


@pytest.mark.parametrize("form", FORMS)
def test_photos_of_test_folders_that_a_column_has_as_train_are_refused(write, form):
    folders = [f"{split}/{'AB'[n % 2]}" for n, split in enumerate(["train"] * 6 + ["test"] * 2)]
    column = [*["train"] * 4, *["val"] * 2, *["train"] * 2]
    with pytest.raises(InputError, match="train by the split column, but test by its folder"):
        counts(write(form, train=rows_of(folders=folders, column=column)))


# folders -> the split of each, or the error's words
FOLDERS = {
    "none": (["a/b", "a/c", ""], {}),
    "train only": (["train/a", "b"], {}),
    "one and the same": (["test/a", "test/b"], {}),
    "a container like a split": (["test_data/train", "test_data/val/b"], ["train", "validation"]),
    "at several levels": (["train/a", "b/holdout"], ["train", "test"]),
    "some": (["train/a", "val/a", "b"], r"\(train, validation\), but b names none\. Put all"),
    "some, of one": (["test/a", "b"], r"\(test\), but b names none"),
    "some without a folder": (["train", "val", ""], "but a path without folders names none"),
    "two in one": (["train/val", "train/a", "val/b"], "but train/val names several"),
    "no train": (["val/a", "test/a"], r"\(test, validation\), but none is train"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folders_name_splits_or_are_refused(case):
    folders, expected = FOLDERS[case]
    if isinstance(expected, str):
        with pytest.raises(InputError, match=f"a.csv: its paths name splits .*{expected}"):
            splits_of_folders(folders, "a.csv")
    else:
        assert splits_of_folders(folders, "a.csv") == dict(zip(folders, expected, strict=False))


@pytest.mark.parametrize("form", FORMS)
def test_paths_and_keys_of_which_only_some_name_a_split_are_refused(write, form):
    folders = ["train/A", "train/B", "val/A", "val/B", "more/A"]
    with pytest.raises(InputError, match=r"\(train, validation\), but .*more/A names none"):
        counts(write(form, train=rows_of(folders=folders)))


# ---- data with other splits ----


@pytest.mark.parametrize("form", ["saved splits", "Hub"])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_lone_split_to_measure_on_is_not_trained_on(write, form, split):
    data = write(form, **{split: rows_of(folders=["p"] * 4)})
    with pytest.raises(InputError, match=rf"none of its splits \({split}\) is called train"):
        open_source(data)
    assert len(open_source(data, to_train=False).splits["train"]) == 4


@pytest.mark.parametrize("form", OF_SEVERAL)
def test_rows_of_train_whose_column_names_another_split_are_refused(write, form):
    rows, test = rows_of(column=["train", "train", "val", "val"]), rows_of(column=["test"] * 2)
    with pytest.raises(InputError, match="train by its name, but validation by its split column"):
        counts(write(form, train=rows, test=test))


@pytest.mark.parametrize("form", OF_SEVERAL)
def test_a_column_that_says_the_same_as_the_names_of_splits_changes_nothing(write, form):
    rows, test = rows_of(column=["train"] * 4), rows_of(column=["test"] * 2)
    found = open_source(write(form, train=rows, test=test)).splits
    assert {name: len(part) for name, part in found.items()} == {"train": 4, "test": 2}
    assert set(found["train"].column_names) == {"image", "label", "path"}


# ---- streams ----


def read_stream(data: DataArguments) -> list[Row]:
    data.streaming = True
    return list(open_source(data).splits["train"])


@pytest.mark.parametrize("form", STREAMED)
def test_a_split_column_that_a_stream_would_ignore_is_refused(write, form):
    data = write(form, train=rows_of(column=NAMED))
    with pytest.raises(InputError, match=r"a split column can't be streamed, .* 'val'\. Give a"):
        read_stream(data)


@pytest.mark.parametrize("form", STREAMED)
def test_a_split_column_with_nothing_but_train_is_streamed(write, form):
    rows = read_stream(write(form, train=rows_of(column=["train"] * 4)))
    assert len(rows) == 4 and set(rows[0]) == {"image", "label", "path"}


@pytest.mark.parametrize("form", STREAMED)
def test_split_folders_in_the_paths_of_a_stream_are_refused_when_it_is_counted(write, form):
    folders = [f"{split}/{'AB'[n % 2]}" for n, split in enumerate(NAMED)]
    data = write(form, train=rows_of(folders=folders))
    data.streaming = True
    with pytest.raises(InputError, match=r"\(test, train, validation\), and a stream isn't split"):
        load_streams(data)
