"""Coarse labels from folders and from files."""

import json
from pathlib import PurePath

import pytest

from hffruits.core.errors import InputError
from hffruits.data.class_hierarchy import coarse_from_folders, read_coarse_labels
from hffruits.data.load import load_fruits


def coarse(*leaves: str) -> dict[str, str]:
    return coarse_from_folders({PurePath(leaf).name: PurePath(leaf) for leaf in leaves})


# ---- by folders ----


def test_a_folder_of_class_folders_names_them_all():
    assert coarse("Apple/Gala", "Apple/Fuji", "Pear/Anjou", "Pear/Kaiser") == {
        "Gala": "Apple", "Fuji": "Apple", "Anjou": "Pear", "Kaiser": "Pear",
    }  # fmt: skip


def test_a_class_beside_such_folders_stands_for_itself():
    assert coarse("Fruit/Apple/Gala", "Fruit/Apple/Fuji", "Fruit/Banana", "Herb/Leek/Small") == {
        "Gala": "Apple", "Fuji": "Apple", "Banana": "Banana", "Small": "Leek",
    }  # fmt: skip


def test_the_nearest_folder_counts():
    assert coarse("Fruit/Pome/Apple/Gala", "Fruit/Pome/Apple/Fuji", "Fruit/Stone/Plum") == {
        "Gala": "Apple", "Fuji": "Apple", "Plum": "Stone",
    }  # fmt: skip


def test_a_class_folder_that_holds_others_is_no_coarse_label():
    assert coarse("Apple", "Apple/Gala", "Apple/Fuji") == {}


@pytest.mark.parametrize(
    "leaves",
    [
        ("Apple", "Banana"),  # no levels
        ("Fruit/Apple", "Fruit/Banana"),  # one coarse label for all
        ("Apple/Gala", "Pear/Anjou"),  # as many as classes
        ("Only",),
        (),
    ],
)
def test_folders_that_add_nothing_give_nothing(leaves):
    assert coarse(*leaves) == {}


def test_the_data_know_their_hierarchy(make_folder):
    root = make_folder({"Apple/Gala": 4, "Apple/Fuji": 4, "Plum": 4})
    assert load_fruits(root).coarse == {"Gala": "Apple", "Fuji": "Apple", "Plum": "Plum"}


# ---- by a file ----

CLASSES = ["Anjou", "Fuji", "Gala"]
MEANT = {"Anjou": "Anjou", "Fuji": "Apple", "Gala": "Apple"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps({"Gala": "Apple", "Fuji": "Apple", "Unknown": "Other"})),
        ("a.csv", "Gala,Apple\nFuji,Apple\n"),
        ("a.csv", "class,coarse\r\nGala , Apple\r\n\r\nFuji,Apple,more\r\n"),
        ("a.txt", '\ufeff"Gala","Apple"\n"Fuji","Apple"'),
    ],
)
def test_a_file_says_what_belongs_where(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_coarse_labels(tmp_path / name, CLASSES) == MEANT


def test_names_with_commas_and_line_breaks_are_read_as_csv_has_them(tmp_path):
    (tmp_path / "a.csv").write_text('"Gala, red",Apple\n"Two\nlines",Apple\nFu\u2028ji,Pear\n')
    read = read_coarse_labels(tmp_path / "a.csv", ["Gala, red", "Two\nlines", "Fu\u2028ji"])
    assert read == {"Gala, red": "Apple", "Two\nlines": "Apple", "Fu\u2028ji": "Pear"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, "can't be read .*No such file"),
        ("folder", ..., "can't be read .*directory"),
        ("a.csv", b"\xff\xfe\x00\x01", "can't be read .*utf-8"),
        ("a.csv", b"Gala;Apple\n", "not a mapping of classes. Give JSON"),
        ("a.csv", b"Gala\n", "not a mapping"),
        ("a.csv", b"", "names none of the classes"),
        ("a.csv", b"Gala,\n", "must map each class to one name"),
        ("a.csv", b'"' + b"x" * 200_000, "not a mapping"),
        ("a.json", b"", "not a mapping"),
        ("a.json", b"{", "not a mapping"),
        ("a.json", b"[" * 100_000, "not a mapping"),
        ("a.json", b'["Gala", "Apple"]', "must map"),
        ("a.json", b'{"Gala": ["Apple"]}', "must map"),
        ("a.json", b'{"Gala": null}', "must map"),
        ("a.json", b'{"Gala": " "}', "must map"),
        ("a.json", b"9" * 5000, "not a mapping"),
        ("a.json", b'{"Gala": "Gala"}', "makes 3 coarse classes of 3 classes, which adds nothing"),
        ("a.csv", b"Gala,A\nFuji,A\nAnjou,A\n", "makes 1 coarse classes of 3"),
        ("a.json", b'{"Durian": "Other"}', r"names none of the classes \(Anjou, Fuji, Gala, ...\)"),
    ],
)
def test_a_file_that_cannot_be_used_is_explained_in_one_line(tmp_path, name, content, message):
    file = tmp_path / name
    if content is ...:
        file.mkdir()
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_coarse_labels(file, CLASSES)
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_name_that_may_be_misspelt_is_warned_of(tmp_path, caplog):
    (tmp_path / "a.csv").write_text("Gala,Apple\nFugi,Apple\nAnjou,Apple\nDurian,Other\n")
    read = read_coarse_labels(tmp_path / "a.csv", CLASSES)
    assert read == {"Anjou": "Apple", "Fuji": "Fuji", "Gala": "Apple"}
    assert "Fugi is not a class of the data. Is it Fuji?" in caplog.text
    assert "Durian" not in caplog.text
