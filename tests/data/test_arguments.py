"""`DataArguments` from a path, from fields as keywords, and as words of a command line."""

from pathlib import Path

import pytest

from hffruits.core.errors import InputError
from hffruits.data.arguments import DataArguments
from hffruits.data.load import load_fruits
from hffruits.data.stream_dataset import FruitStreams, load_streams


def test_a_path_and_fields_make_arguments_and_change_ready_ones():
    first = DataArguments.of(Path("fruits"), validation_fraction=0.2)
    assert first == DataArguments(data_dir="fruits", validation_fraction=0.2)
    changed = DataArguments.of(first, image_cache="decoded")
    assert (changed.data_dir, changed.validation_fraction) == ("fruits", 0.2)
    assert (first.image_cache, changed.image_cache) == ("none", "decoded")
    assert DataArguments.of() == DataArguments()
    assert DataArguments.of(dataset_name="user/fruits").source_name == "user/fruits"


@pytest.mark.parametrize("load", [DataArguments.of, load_fruits])
def test_an_unknown_option_is_refused_with_those_like_it(load, tmp_path):
    with pytest.raises(
        InputError, match=r"^validation_fracton: unknown \(did you mean valida"
    ) as caught:
        load(tmp_path, validation_fracton=0.2)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"^cache: unknown \(did you mean image_cache"):
        load(tmp_path, cache="decoded")
    with pytest.raises(InputError) as caught:
        load_fruits(tmp_path, option=1)
    assert "did you mean" not in str(caught.value) and "options" not in str(caught.value)
    with pytest.raises(InputError, match=r"^zebra: unknown\. Known: data_dir, dataset_name, "):
        load(tmp_path, zebra=1)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (["a.csv"], {}, "the data is one folder, file, pattern or Hub id, not a list"),
        (5, {}, "5: the data is one folder"),
        (b"fruits", {}, "not a bytes"),
        ("fruits", {"test_fraction": "0.2"}, "test_fraction='0.2': not a number"),
        ("fruits", {"streaming": "yes"}, "streaming='yes': not True or False"),
        ("fruits", {"augment": 3}, "augment=3: not a text"),
    ],
)
def test_values_of_another_type_are_refused_before_the_data_is_read(data, options, message):
    with pytest.raises(InputError, match=message):
        load_fruits(data, **options)


def test_a_text_names_a_hub_id_where_no_folder_is_meant_and_a_path_never_does(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert DataArguments.of("user/fruits") == DataArguments(dataset_name="user/fruits")
    assert DataArguments.of(Path("user/fruits")) == DataArguments("user/fruits")
    for folder in ("photos/fruits", "photos", "./user/fruits"):  # the first may be a slip
        assert DataArguments.of(folder) == DataArguments(folder)
    with pytest.raises(InputError, match="photos and data_dir: give one of them"):
        DataArguments.of("photos", data_dir="other")


@pytest.mark.parametrize("name", ["data_dir", "dataset_name"])
def test_an_empty_name_is_refused_and_not_taken_for_the_sample_set(name):
    for blank in ("", " "):
        with pytest.raises(InputError, match=rf"^{name}: empty\. Name the data"):
            DataArguments.of(**{name: blank})
    with pytest.raises(InputError, match=r"^data_dir: empty\."):
        load_fruits("")


def test_a_home_is_expanded_in_the_names_of_lists(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert DataArguments(exclude="~/bad.txt").exclude == "/home/someone/bad.txt"
    assert DataArguments(split_lists="~odd").split_lists == "~odd"


@pytest.mark.parametrize(
    "option",
    [{"exclude": "x"}, {"split_lists": "x"}, {"group_by": "x"}, {"image_cache": "decoded"}],
    ids=str,
)
def test_a_stream_refuses_what_it_would_ignore(option, tmp_path):
    (name,) = option
    with pytest.raises(InputError, match=f"^{name}: needs all photos at hand"):
        load_fruits(tmp_path, streaming=True, **option)


def test_options_act_as_the_fields_of_ready_arguments(make_folder):
    root = make_folder({"A": 10, "B": 10})
    by_option = load_fruits(root, validation_fraction=0.2, test_fraction=0.3)
    by_field = load_fruits(DataArguments(str(root), validation_fraction=0.2, test_fraction=0.3))
    for split, count in {"train": 10, "validation": 4, "test": 6}.items():
        assert by_option[split]["path"][:] == by_field[split]["path"][:]
        assert len(by_option[split]) == count


def test_streaming_gives_streams(tmp_path, make_folder):
    root = make_folder({"A": 20, "B": 20})
    lines = [f"{path.relative_to(root)},{path.parent.name}" for path in sorted(root.rglob("*.jpg"))]
    table = root / "photos.csv"
    table.write_text("\n".join(["path,label", *lines]) + "\n")
    streams = load_fruits(table, streaming=True)
    assert isinstance(streams, FruitStreams)
    again = load_streams(DataArguments(str(table), streaming=True))
    assert {split: len(rows) for split, rows in streams.items()} == {
        split: len(rows) for split, rows in again.items()
    }
