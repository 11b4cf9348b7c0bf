"""Classes of too few photos to be split, data without a test split, and the lists of both."""

import csv
from collections import Counter
from pathlib import Path

import pytest
from support.runs import paint

from hffruits.core.errors import InputError
from hffruits.data.arguments import DataArguments
from hffruits.data.load import load_fruits
from hffruits.data.stream_dataset import load_streams
from hffruits.exploration.split_dataset import split

RARE = {"Kiwi": 12, "Lime": 12, "Fig": 2, "Plum": 1}


def write_table(folder: Path, count: int) -> Path:
    """A table of photos of two classes, in turns."""
    rows = [(paint(folder / f"{n}.jpg", seed=n).name, "AB"[n % 2]) for n in range(count)]
    with (folder / "all.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("path", "label"), *rows])
    return folder / "all.csv"


def counts_of(data) -> dict[str, Counter]:
    names = data["train"].features["label"].names
    return {
        split: Counter(names[label] for label in rows.with_format(None)["label"][:])
        for split, rows in data.items()
    }


def test_all_rare_classes_are_named_with_the_flags_that_allow_them(make_folder):
    with pytest.raises(InputError, match=r"Plum \(1\), Fig \(2\)\. .*rare_classes=train_only") as e:
        load_fruits(make_folder(RARE))
    assert "rare_classes=drop" in str(e.value) and "test_fraction=0" in str(e.value)


def test_rare_classes_are_only_trained_on_if_asked(make_folder, caplog):
    counts = counts_of(load_fruits(make_folder(RARE), rare_classes="train_only"))
    assert counts["train"]["Fig"] == 2 and counts["train"]["Plum"] == 1
    assert set(counts["validation"]) == set(counts["test"]) == {"Kiwi", "Lime"}
    assert "trained on, not held out: Fig, Plum" in caplog.text


def test_rare_classes_are_left_out_and_listed_if_asked(make_folder, tmp_path, caplog):
    root = make_folder(RARE)
    data = load_fruits(root, rare_classes="drop")
    assert data["train"].features["label"].names == ["Kiwi", "Lime"]
    assert data.dropped == {"Fig": 2, "Plum": 1}
    reasons = {skipped.path.as_posix(): skipped.reason for skipped in data.skipped}
    assert reasons == {
        "Fig/0.jpg": "rare class: Fig", "Fig/1.jpg": "rare class: Fig",
        "Plum/0.jpg": "rare class: Plum",
    }  # fmt: skip
    assert "rare_classes=drop: left out Fig (2), Plum (1)" in caplog.text
    data.write_lists(tmp_path / "lists")
    again = load_fruits(root, rare_classes="drop", split_lists=tmp_path / "lists")
    assert (again.dropped, again.fingerprint) == (data.dropped, data.fingerprint)


def test_a_rare_class_is_dropped_from_the_datas_own_test_split_too(make_folder):
    root = make_folder({"train/A": 6, "train/B": 6, "train/C": 1, "test/A": 2, "test/C": 3})
    data = load_fruits(root, rare_classes="drop")
    assert data.dropped == {"C": 4} and set(counts_of(data)["test"]) == {"A"}
    kept = counts_of(load_fruits(root, rare_classes="train_only"))
    assert kept["train"]["C"] == 1 and kept["test"]["C"] == 3 and "C" not in kept["validation"]


def test_classes_are_not_rare_where_the_data_has_its_own_splits(make_folder):
    root = make_folder({"train/A": 3, "train/B": 1, "val/A": 2})
    for rare_classes in ("error", "train_only", "drop"):
        assert counts_of(load_fruits(root, rare_classes=rare_classes))["train"]["B"] == 1


def test_a_class_of_one_group_is_only_trained_on_if_asked(make_folder, caplog):
    root = make_folder({"Kiwi": 12, "Lime": 12, "Fig": 5})
    by_shop = {"group_by": r"(Fig|\w+/\d+)"}
    counts = counts_of(load_fruits(root, rare_classes="train_only", **by_shop))
    assert counts["train"]["Fig"] == 5 and "Fig" not in counts["validation"] + counts["test"]
    caplog.clear()
    counts = counts_of(load_fruits(root, **by_shop))
    assert counts["test"]["Fig"] == 1 and "Fig: the groups of group_by" in caplog.text


def test_an_unknown_way_with_rare_classes_lists_the_known_ones(make_folder):
    with pytest.raises(InputError, match="rare_classes=ignore: must be one of error, train_only, "):
        load_fruits(make_folder({"A": 6, "B": 6}), rare_classes="ignore")


def test_a_stream_has_no_use_for_rare_classes(tmp_path):
    with pytest.raises(InputError, match="rare_classes: needs all photos"):
        load_streams(DataArguments(str(tmp_path), streaming=True, rare_classes="drop"))


# ---- no test split ----


def test_no_test_split_is_made_if_asked(make_folder):
    data = load_fruits(make_folder({"A": 6, "B": 2}), test_fraction=0)
    assert {name: len(rows) for name, rows in data.items()} == {"train": 6, "validation": 2}


def test_a_stream_without_a_test_split_has_none(tmp_path):
    table = write_table(tmp_path, 24)
    streams = load_streams(DataArguments(str(table), streaming=True, test_fraction=0))
    assert set(streams) == {"train", "validation"} and sum(map(len, streams.values())) == 24


@pytest.mark.parametrize("streaming", [False, True])
def test_a_validation_split_is_needed_and_the_error_says_why(tmp_path, streaming):
    table = write_table(tmp_path, 8)
    load = load_streams if streaming else load_fruits
    with pytest.raises(InputError, match=r"choose the best epoch and calibrate.*test_fraction=0"):
        load(DataArguments(str(table), streaming=streaming, validation_fraction=0))


# ---- split lists and folds ----


def test_lists_leave_out_rare_classes_and_say_so(make_folder, tmp_path):
    root = make_folder(RARE)
    lists = split(str(root), output_dir=tmp_path / "lists", rare_classes="drop")
    assert sum(lists.images[0].values()) == 24 and lists.left_out == {"rare class": 3}
    kept = split(str(root), output_dir=tmp_path / "lists", rare_classes="train_only")
    assert sum(kept.images[0].values()) == 27 and not kept.left_out


def test_folds_name_all_classes_of_too_few_groups_and_can_do_without_them(make_folder, tmp_path):
    root = make_folder(RARE)
    options = {"output_dir": tmp_path / "folds", "folds": 3}
    with pytest.raises(InputError, match=r"folds=3: Plum \(1\), Fig \(2\)\. .*rare_classes=train"):
        split(str(root), **options)
    lists = split(str(root), rare_classes="train_only", **options)
    for folder in lists.lists:
        held_out = (folder / "test.txt").read_text().splitlines()
        assert {line.split("/")[0] for line in held_out} == {"Kiwi", "Lime"}
        assert "Plum/0.jpg" in (folder / "train.txt").read_text()
    assert [sum(fold.values()) for fold in lists.images] == [27] * 3
    dropped = split(str(root), rare_classes="drop", **options)
    assert dropped.left_out == {"rare class": 3}
    assert [sum(fold.values()) for fold in dropped.images] == [24] * 3
