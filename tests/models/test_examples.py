"""Example photos beside a model: which ones, how small, and what a stranger's folder gives."""

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from support.runs import paint

from hffruits.data.split_protocol import Sample
from hffruits.inference.classifier import FruitClassifier
from hffruits.models.examples import (
    COUNT,
    MOST,
    SHORT_SIDE,
    Example,
    choose_examples,
    load_examples,
    save_examples,
    small_jpeg,
)


@dataclass
class Rows:
    """A split of these samples."""

    kept: Sequence[Sample]
    names: tuple[str, ...]

    def draw_known(self, count: int, *, after: int = 0) -> Iterator[Sample]:
        return iter(self.kept[after : after + count])


def split_of(folder: Path, *, classes: int, photos: int = 2) -> Rows:
    kept = [
        Sample(f"{label}/{number}", paint(folder / f"{label}-{number}.jpg", seed=label), label)
        for label in range(classes)
        for number in range(photos)
    ]
    return Rows(kept, tuple(f"class {label}" for label in range(classes)))


@pytest.mark.parametrize("classes", [2, COUNT, COUNT + 1, 33])
def test_examples_are_of_different_classes_from_the_first_to_nearly_the_last(
    classes: int, tmp_path: Path
) -> None:
    labels = [one.label for one in choose_examples(split_of(tmp_path, classes=classes))]
    assert len(set(labels)) == len(labels) == min(COUNT, classes)
    assert labels[0] == "class 0"
    assert int(labels[-1].split()[1]) >= classes - 1 - classes // COUNT


def test_what_cannot_be_read_is_no_example(tmp_path: Path) -> None:
    rows = split_of(tmp_path, classes=3, photos=1)
    rows.kept[1].source.write_bytes(b"no image")
    assert [one.label for one in choose_examples(rows)] == ["class 0", "class 2"]


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


@pytest.mark.parametrize(
    "labels",
    [
        {"../secret.jpg": "a", "secret.jpg": "a", "/etc/passwd": "a", "0.jpg": "a", "2.JPG": "a"},
        {"1.jpg": 5},
        {"1.jpg": None},
        {f"{MOST + 1}.jpg": "a"},
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
    paint(folder / f"{MOST + 1}.jpg")
    (folder / "3.jpg").symlink_to(paint(tmp_path / "private.jpg"))
    (folder / "labels.json").write_text(json.dumps(labels))
    assert load_examples(folder.parent) == []


@pytest.mark.parametrize("content", [b"{", b"[" * 50_000, b"\xff", b'{"1.jpg": "' + b"a" * 200_000])
def test_a_list_that_is_none_gives_no_examples(content: bytes, tmp_path: Path) -> None:
    paint(tmp_path / "examples" / "1.jpg")
    (tmp_path / "examples" / "labels.json").write_bytes(content)
    assert load_examples(tmp_path) == []
    assert load_examples(None) == load_examples(tmp_path / "missing") == []


def test_a_run_saves_held_out_photos_as_examples(trained: Path) -> None:
    examples = load_examples(trained)
    labels = FruitClassifier.from_pretrained(trained).labels
    assert sorted(one.label for one in examples) == labels
    assert all(one.photo.parent == trained / "examples" for one in examples)
