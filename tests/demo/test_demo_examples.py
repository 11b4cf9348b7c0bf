"""Which example photos the demo shows: the model's own, never of what it has not learned."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from support.hostile_files import image_bytes
from support.runs import paint, save_untrained

pytest.importorskip("gradio", reason="the demo needs it")

from hffruits.data.samples import example_photos
from hffruits.demo.app import build_demo
from hffruits.demo.examples import ShownExample, find_examples
from hffruits.demo.fallback_model import pretrained_produce_folder
from hffruits.demo.model_tab import class_gallery
from hffruits.inference.classifier import FruitClassifier
from hffruits.models.examples import SHORT_SIDE, Example, save_examples


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[[list[str]], FruitClassifier]:
    def make(labels: list[str]) -> FruitClassifier:
        folder = save_untrained(tmp_path / "model", labels, net="test_efficientnet")
        return FruitClassifier.from_pretrained(folder)

    return make


def labels_of(examples: list[ShownExample]) -> list[str]:
    return [one.label for one in examples]


def test_a_models_own_examples_come_first(make_model) -> None:
    fruits = make_model(["Lemon", "Lime"])
    assert labels_of(find_examples(fruits, fruits.folder, None)) == ["Lemon", "Lime"]  # samples
    save_examples([Example("Lime", image_bytes())], fruits.folder)
    again = FruitClassifier.from_pretrained(fruits.folder)
    assert labels_of(find_examples(again, again.folder, None)) == ["Lime"]


@pytest.mark.parametrize("held_out", ["test", "validation"])
def test_else_photos_of_the_data_that_it_was_not_trained_on(
    held_out: str, make_model, tmp_path: Path
) -> None:
    fruits = make_model(["Fig", "Plum"])
    (fruits.folder / "splits").mkdir()
    lists = {"train": "Plum/0.jpg", held_out: "Fig/1.jpg\nFig/2.jpg"}
    for split, names in lists.items():
        (fruits.folder / "splits" / f"{split}.txt").write_text(names)
    for name in ("Plum/0.jpg", "Fig/1.jpg", "Fig/2.jpg"):
        paint(tmp_path / "data" / name)
    assert labels_of(find_examples(fruits, fruits.folder, tmp_path / "data")) == ["Fig"]
    assert find_examples(fruits, fruits.folder, None) == []


def test_else_the_sample_set_where_it_has_all_classes_of_the_model(make_model) -> None:
    labels = sorted(example_photos())[:3]
    fruits = make_model([f"Fruit/{label}" for label in labels])
    assert labels_of(find_examples(fruits, fruits.folder, None)) == fruits.labels


def test_where_there_is_no_sample_set_as_in_a_space_none_are_shown(
    make_model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fruits = make_model(sorted(example_photos())[:3])
    monkeypatch.setattr("hffruits.data.samples.FOLDER", tmp_path / "missing")
    assert find_examples(fruits, fruits.folder, None) == []
    assert "<img" not in class_gallery(fruits, fruits.folder)
    build_demo(fruits, examples=find_examples(fruits, fruits.folder, None))


def test_a_model_of_other_things_shows_none(make_model) -> None:
    fruits = make_model(["Boat", "Car", "Lemon"])
    assert find_examples(fruits, fruits.folder, None) == []


def test_the_bundled_model_shows_those_of_its_classes_that_the_sample_set_has() -> None:
    fruits = FruitClassifier.from_pretrained(pretrained_produce_folder())
    found = labels_of(find_examples(fruits, None, None))
    assert {"Banana", "Granny smith", "Lemon"} <= set(found) <= set(fruits.labels)


def test_an_example_that_would_fill_the_memory_is_not_shown(make_model) -> None:
    fruits = make_model(["Fig", "Plum"])
    file = io.BytesIO()
    Image.new("L", (6000, 6000)).save(file, "PNG")
    save_examples([Example("Fig", file.getvalue()), Example("Plum", image_bytes())], fruits.folder)
    again = FruitClassifier.from_pretrained(fruits.folder)
    assert labels_of(find_examples(again, again.folder, None)) == ["Plum"]


def test_what_is_shown_is_a_new_small_jpeg_whatever_the_model_brings(make_model) -> None:
    fruits = make_model(["Fig", "Plum"])
    large = io.BytesIO()
    Image.effect_noise((900, 700), 20).save(large, "PNG")
    for number, content in enumerate([large.getvalue() + b"<script>", b"none"], 1):
        (fruits.folder / "examples").mkdir(exist_ok=True)
        (fruits.folder / "examples" / f"{number}.jpg").write_bytes(content)
    labels = json.dumps({"1.jpg": "Fig", "2.jpg": "Plum"})
    (fruits.folder / "examples" / "labels.json").write_text(labels)
    again = FruitClassifier.from_pretrained(fruits.folder)
    (shown,) = find_examples(again, again.folder, None)
    assert shown.label == "Fig" and b"<script>" not in shown.jpeg
    with Image.open(io.BytesIO(shown.jpeg)) as image:
        assert image.format == "JPEG" and min(image.size) == SHORT_SIDE
