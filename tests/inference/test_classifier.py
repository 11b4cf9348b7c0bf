"""`FruitClassifier` on an image, a list or a folder, from any source."""

import pytest
import torch
from PIL import Image
from support.drawing import draw_fruit

from hffruits.core.errors import InputError
from hffruits.inference.classifier import FruitClassifier, Prediction
from hffruits.inference.sources import find_images
from hffruits.models.loading import build_model

LABELS = ["Apple", "Banana", "Lime"]


@pytest.fixture(scope="module")
def fruits() -> FruitClassifier:
    return FruitClassifier(*build_model(labels=LABELS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for index, name in enumerate(["Kiwi", "Lemon", "Peach", "Pear", "Grapes"]):
        path = folder / f"{index % 2}" / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        draw_fruit(name, seed=index, size=80 + 20 * index).save(path)
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_a_prediction_has_label_score_and_runners_up(fruits, folder):
    prediction = fruits.predict(folder / "0" / "0.png", top_k=2)
    assert isinstance(prediction, Prediction)
    assert prediction.path == folder / "0" / "0.png"
    assert (prediction.label, prediction.score) == prediction.top[0]
    assert len(prediction.top) == 2 and prediction.top[0][1] >= prediction.top[1][1]
    assert sum(score for _, score in fruits.predict(folder / "0" / "0.png").top) == pytest.approx(1)


def test_path_string_bytes_and_image_give_the_same(fruits, folder):
    path = folder / "1" / "1.png"
    sources = [path, str(path), path.read_bytes(), Image.open(path)]
    tops = [fruits.predict(source).top for source in sources]
    assert tops[1:] == tops[:-1]


def test_batches_give_what_single_images_give_in_the_same_order(fruits, folder):
    paths = sorted(folder.rglob("*.png"))
    single = [fruits.predict(path) for path in paths]
    for batch_size in (1, 2, 32):
        batched = fruits.predict(paths, batch_size=batch_size)
        assert [p.path for p in batched] == paths
        for one, other in zip(single, batched, strict=True):
            assert one.label == other.label
            assert one.score == pytest.approx(other.score, abs=1e-5)
    assert [p.path for p in fruits.predict(folder)] == paths
    assert [p.path for p in fruits.predict(str(folder))] == paths


@pytest.mark.parametrize("threshold", ["high", float("nan")])
def test_a_threshold_that_is_not_a_number_is_refused(threshold):
    model, processor = build_model(labels=LABELS)
    model.config.ood_threshold = threshold
    with pytest.raises(InputError, match="must be a number"):
        FruitClassifier(model, processor)


def test_a_stream_takes_what_predict_takes(fruits, folder):
    one = folder / "1" / "1.png"
    for images in (folder, str(folder), one, str(one), one.read_bytes(), Image.open(one)):
        expected = fruits.predict(images)
        listed = expected if isinstance(expected, list) else [expected]
        assert [p.label for p in fruits.stream(images)] == [p.label for p in listed]


def test_prototypes_of_another_model_are_refused(folder):
    other = FruitClassifier(*build_model(labels=LABELS), prototypes=torch.eye(3, 8))
    with pytest.raises(InputError, match=r"prototypes.safetensors: of 8 features, and the model"):
        other.predict(folder / "0" / "0.png")


def test_an_empty_list_gives_an_empty_list(fruits):
    assert fruits.predict([]) == []


def test_top_k_is_cut_to_the_number_of_classes(fruits, folder):
    assert len(fruits.predict(folder / "0" / "0.png", top_k=99).top) == 3


def test_vision_transformers_predict_too(folder):
    model = build_model("test_vit", labels=LABELS, pretrained=False)
    assert len(FruitClassifier(*model).predict(folder)) == 5


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("missing.jpg", {}, "missing.jpg: no such file"),
        ("Zm9v" * 100, {}, r"^(?:Zm9v){15}\.\.\.\S+: File name too long\. Check the path\.$"),
        (["Zm9v" * 100], {}, r"^(?:Zm9v){15}\.\.\.\S+: File name too long\."),
        ("https://x.org/a.jpg", {}, "https://x.org/a.jpg: a URL. Download the photo first"),
        ("no/*.jpg", {}, r"no/\*.jpg: no such file or folder"),
        (b"junk", {}, "the image: not an image"),
        (3, {}, "int: not an image"),
        (Image.new("RGB", (8, 8)), {"top_k": 0}, "top_k=0"),
        ([Image.new("RGB", (8, 8))], {"batch_size": 0}, "batch_size=0"),
    ],
)
def test_what_cannot_be_predicted_is_explained(fruits, source, options, message):
    with pytest.raises(InputError, match=message):
        fruits.predict(source, **options)


def test_a_pattern_that_no_shell_has_expanded_is_read(fruits, folder):
    assert [one.path for one in fruits.predict(f"{folder}/0/*.png")] == sorted(
        (folder / "0").glob("*.png")
    )


def test_of_what_a_pattern_fits_photos_and_folders_are_meant(fruits, folder):
    files = sorted(folder.rglob("*.png"))
    assert [one.path for one in fruits.predict(f"{folder}/**")] == files
    assert find_images([folder / "*"]) == files
    with pytest.raises(InputError, match=r"notes\.txt: a text or a table, not a photo"):
        fruits.predict(f"{folder}/*.txt")


def test_what_is_no_photo_is_named_as_what_it_is(fruits, folder, tmp_path):
    photo = folder / "0" / "0.png"
    reasons = {
        "a.zip": "an archive",
        "b.tar.gz": "an archive",
        "list.txt": "a text or a table, not",
    }
    for name, what in reasons.items():
        (tmp_path / name).write_text("no photo")
        with pytest.raises(InputError, match=what):
            fruits.predict([photo, tmp_path / name])
    for others in ([], [photo]):
        with pytest.raises(InputError, match=r"a\.zip: an archive\. Unpack it, and give the fold"):
            find_images([*others, tmp_path / "a.zip"])


@pytest.mark.parametrize("name", ["a.zip", "b.cr2", "c.psd", "d.svg", "e.ico"])
def test_of_two_remedies_only_the_one_that_helps_is_given(fruits, tmp_path, name):
    (tmp_path / name).write_text("no photo")
    with pytest.raises(InputError) as caught:
        fruits.predict(tmp_path / name)
    assert ": unpack it" in str(caught.value) or ": export it as" in str(caught.value)
    assert "complete image" not in str(caught.value)


def test_a_photo_that_is_named_again_is_found_once(folder):
    inside = folder / "0" / ".." / "0"
    found = find_images([folder / "*" / "*.png", folder, inside, inside / "0.png"])
    assert found == sorted(folder.rglob("*.png"))


def test_a_folder_without_images_is_explained(fruits, tmp_path):
    with pytest.raises(InputError, match="no image files"):
        fruits.predict(tmp_path)


def test_unreadable_images_can_be_skipped(fruits, folder):
    bad = []
    paths = [folder / "0" / "0.png", folder / "notes.txt", folder / "1" / "1.png"]
    results = list(fruits.stream(paths, batch_size=2, on_unreadable=bad.append))
    assert [result.path for result in results] == [paths[0], paths[2]]
    assert len(bad) == 1 and "notes.txt: a text or a table, not a photo" in str(bad[0])


def test_tuples_are_lists_of_images_too(fruits, folder):
    assert len(fruits.predict((folder / "0" / "0.png", folder / "1" / "1.png"))) == 2


def test_a_photo_that_is_too_large_or_truncated_is_refused_by_the_name_of_a_flag(
    fruits, tmp_path, caplog
):
    large, cut = tmp_path / "large.png", tmp_path / "cut.jpg"
    Image.new("L", (300, 200)).save(large)
    with pytest.raises(InputError, match=r"limit of 50,000 \(max_image_pixels\)\. Raise it"):
        fruits.predict(large, max_image_pixels=50_000)
    draw_fruit("Kiwi", seed=1, size=300).save(cut)
    cut.write_bytes(cut.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"truncated.*Set allow_truncated_images"):
        fruits.predict(cut)
    with pytest.raises(InputError, match="Set allow_truncated_images"):
        fruits.explain(cut)
    allowed = fruits.predict(cut, allow_truncated_images=True)
    assert "cut.jpg: truncated; read as far as it goes" in caplog.text
    caplog.clear()
    fruits.predict([cut] * 12, allow_truncated_images=True)
    assert len(caplog.messages) == 11 and "more of these, which are not" in caplog.messages[-1]
    assert fruits.predict([cut], allow_truncated_images=True)[0].label == allowed.label
    assert fruits.explain(cut, allow_truncated_images=True).image.size == (224, 224)
    for limit in (0, 10**9):
        with pytest.raises(InputError, match="max_image_pixels"):
            fruits.predict(large, max_image_pixels=limit)


def test_a_net_that_keeps_what_it_computed_is_explained_after_a_prediction():
    """ConViT keeps its positions, which no gradient could go through after inference mode."""
    fruits = FruitClassifier(*build_model("convit_tiny", labels=LABELS, pretrained=False))
    photo = draw_fruit("Kiwi", seed=0, size=64)
    fruits.predict(photo)
    assert fruits.explain(photo).heat.max() > 0
