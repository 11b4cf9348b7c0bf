"""Example photos beside a model: which ones, how small, and what a stranger's folder gives."""

import io
import json
from pathlib import Path

import pytest
from datasets import Dataset
from PIL import Image
from support.runs import paint

from hffruits.data.split_protocol import UNKNOWN, MapSplit
from hffruits.inference.classifier import FruitClassifier
from hffruits.models.examples import (
    COUNT,
    MAX_PHOTOS,
    SHORT_SIDE,
    Example,
    choose_examples,
    load_examples,
    remove_examples,
    save_examples,
    small_jpeg,
)


def split_of(folder: Path, *photos: int, unknown: int = 0) -> MapSplit:
    """Of so many photos of each class, and of none, which lie at `folder/LABEL-NUMBER.jpg`."""
    counts = {**dict(enumerate(photos)), UNKNOWN: unknown}
    labels = [label for label, count in counts.items() for _ in range(count)]
    names = [f"{label}-{number}.jpg" for label, count in counts.items() for number in range(count)]
    files = [str(paint(folder / name, seed=7)) for name in names]
    images = [{"path": file, "bytes": None} for file in files]
    columns = {"image": images, "path": names}
    return MapSplit(Dataset.from_dict(columns), labels, [f"class {n}" for n in range(len(photos))])


@pytest.mark.parametrize("classes", [2, COUNT, COUNT + 1, 33])
def test_examples_are_of_different_classes_from_the_first_to_nearly_the_last(
    classes: int, tmp_path: Path
) -> None:
    labels = [one.label for one in choose_examples(split_of(tmp_path, *[2] * classes))]
    assert len(set(labels)) == len(labels) == min(COUNT, classes)
    assert labels[0] == "class 0"
    assert int(labels[-1].split()[1]) >= classes - 1 - classes // COUNT


def test_rare_classes_have_an_example_like_common_ones_and_unknown_ones_have_none(
    tmp_path: Path,
) -> None:
    rows = split_of(tmp_path, 400, 1, 1, 0, 1, unknown=50)
    assert [one.label for one in choose_examples(rows)] == [f"class {n}" for n in (0, 1, 2, 4)]


def test_where_a_photo_cannot_be_read_the_next_one_is_taken(tmp_path: Path) -> None:
    rows = split_of(tmp_path, 2, 2, 1)
    for name in ("0-0.jpg", "1-1.jpg", "2-0.jpg"):
        (tmp_path / name).write_bytes(b"no image")
    assert [one.label for one in choose_examples(rows)] == ["class 0", "class 1"]


def test_no_class_no_example(tmp_path: Path) -> None:
    assert choose_examples(split_of(tmp_path, 0, 0)) == []


def test_an_example_is_small_and_upright_and_has_no_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "at home"  # turned right by 90 degrees; a description
    image = Image.new("RGB", (1000, 800), "red")
    image.save(tmp_path / "a.jpg", exif=exif, comment=b"mine", icc_profile=b"x" * 200)
    with Image.open(io.BytesIO(small_jpeg(tmp_path / "a.jpg"))) as small:
        assert small.size == (SHORT_SIDE, SHORT_SIDE * 5 // 4)
        assert not small.getexif() and set(small.info) <= {"jfif", "jfif_version", "jfif_unit",
            "jfif_density", "dpi"}  # fmt: skip


def test_a_small_photo_is_not_enlarged(tmp_path: Path) -> None:
    with Image.open(io.BytesIO(small_jpeg(paint(tmp_path / "a.png", size=(40, 32))))) as small:
        assert small.size == (40, 32)


def test_what_is_saved_is_loaded_and_replaces_what_was_there(tmp_path: Path) -> None:
    jpeg = small_jpeg(Image.new("RGB", (9, 9)))
    save_examples([Example(name, jpeg) for name in "abc"], tmp_path)
    save_examples(load_examples(tmp_path)[1:], tmp_path)
    found = load_examples(tmp_path)
    assert [one.label for one in found] == ["b", "c"]
    assert [one.photo.read_bytes() for one in found] == [jpeg, jpeg]
    assert len(list((tmp_path / "examples").iterdir())) == 3
    save_examples([], tmp_path)
    assert not load_examples(tmp_path) and not (tmp_path / "examples").exists()


def test_only_examples_are_replaced_or_removed(tmp_path: Path) -> None:
    jpeg = small_jpeg(Image.new("RGB", (9, 9)))
    save_examples([Example(name, jpeg) for name in "abc"], tmp_path)
    (tmp_path / "examples" / "mine.py").write_text("mine")
    save_examples([Example("d", jpeg)], tmp_path)
    assert [one.label for one in load_examples(tmp_path)] == ["d"]
    remove_examples(tmp_path)
    assert [path.name for path in (tmp_path / "examples").iterdir()] == ["mine.py"]


def test_where_examples_is_a_link_what_it_leads_to_stays(tmp_path: Path) -> None:
    photo = paint(tmp_path / "photos" / "1.jpg")
    before = photo.read_bytes()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "examples").symlink_to(tmp_path / "photos")
    save_examples([Example("d", small_jpeg(Image.new("RGB", (9, 9))))], tmp_path / "model")
    assert photo.read_bytes() == before
    assert [one.label for one in load_examples(tmp_path / "model")] == ["d"]


def test_of_too_many_examples_the_newest_stay(tmp_path: Path) -> None:
    jpeg = small_jpeg(Image.new("RGB", (9, 9)))
    save_examples([Example(f"{n}", jpeg) for n in range(MAX_PHOTOS + 2)], tmp_path)
    assert [one.label for one in load_examples(tmp_path)] == [
        f"{n}" for n in range(2, MAX_PHOTOS + 2)
    ]


@pytest.mark.parametrize(
    "labels",
    [
        {"../secret.jpg": "a", "secret.jpg": "a", "/etc/passwd": "a", "0.jpg": "a", "2.JPG": "a"},
        {"1.jpg": 5},
        {"1.jpg": None},
        {"1.jpg": "a\ud800b"},  # half of a character, which no page can be sent with
        {"1.jpg": "a" * 301},
        {f"{MAX_PHOTOS + 1}.jpg": "a"},
        {"3.jpg": "a", "4.jpg": "a", "5.jpg": "a"},  # a link, a folder, missing
        ["1.jpg"],
        "1.jpg",
        None,
    ],
)
def test_only_numbered_files_in_the_folder_are_loaded_of_a_strangers_list(
    labels: object, tmp_path: Path
) -> None:
    folder = tmp_path / "model" / "examples"
    (folder / "4.jpg").mkdir(parents=True)
    for path in (folder / "1.jpg", folder / "secret.jpg", folder.parent / "secret.jpg"):
        paint(path)
    paint(folder / f"{MAX_PHOTOS + 1}.jpg")
    (folder / "3.jpg").symlink_to(paint(tmp_path / "private.jpg"))
    (folder / "labels.json").write_text(json.dumps(labels))
    assert load_examples(folder.parent) == []


@pytest.mark.parametrize("content", [b"{", b"[" * 50_000, b"\xff", b'{"1.jpg": "' + b"a" * 200_000])
def test_a_list_that_is_none_gives_no_examples(content: bytes, tmp_path: Path) -> None:
    paint(tmp_path / "examples" / "1.jpg")
    (tmp_path / "examples" / "labels.json").write_bytes(content)
    assert load_examples(tmp_path) == []
    assert load_examples(None) == load_examples(tmp_path / "missing") == []


def test_a_run_saves_held_out_photos_as_examples(trained: Path, drawn_fruits: Path) -> None:
    examples = load_examples(trained)
    labels = FruitClassifier.from_pretrained(trained).labels
    assert sorted(one.label for one in examples) == labels

    def small(split: str) -> dict[str, set[bytes]]:
        """The photos of a split by class, as small as examples."""
        found: dict[str, set[bytes]] = {label: set() for label in labels}
        for name in (trained / "splits" / f"{split}.txt").read_text().splitlines():
            found[Path(name).parent.name].add(small_jpeg(drawn_fruits / name))
        return found

    tested, learned = small("test"), small("train")
    for one in examples:
        assert one.photo.read_bytes() in tested[one.label] - learned[one.label]
