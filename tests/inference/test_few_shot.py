"""Few-shot learning: a taught class is recognised, and nothing else changes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from support.drawing import FRUITS, draw_fruit
from transformers import ResNetConfig, ResNetForImageClassification, pipeline

from hffruits.core.errors import InputError
from hffruits.inference import few_shot as teaching
from hffruits.inference.classifier import FruitClassifier
from hffruits.inference.few_shot import LONGEST_NAME, fit_row, save_taught, teach
from hffruits.models.examples import load_examples
from hffruits.models.heads import last_layers
from hffruits.models.loading import build_model

OLD = list(FRUITS)[:4]  # what the `trained` fixture has learned


def draw(name: str, count: int, *, seed: int = 900) -> list[Image.Image]:
    return [draw_fruit(name, seed=seed + number, size=64) for number in range(count)]


def share_named(fruits: FruitClassifier, name: str, images: list[Image.Image]) -> float:
    return float(np.mean([found.label == name for found in fruits.predict(images)]))


def logits_of(fruits: FruitClassifier, images: list[Image.Image]) -> torch.Tensor:
    return torch.cat([outputs.logits for outputs in fruits.infer(images)])


def random_classifier(model: str = "test_efficientnet", **config) -> FruitClassifier:
    """Untrained, of two classes, with made-up prototypes."""
    net, processor = build_model(model, labels=["Fig", "Date"], pretrained=False)
    for key, value in config.items():
        setattr(net.config, key, value)
    width = last_layers(net)[0].in_features
    prototypes = torch.rand(6, width, generator=torch.Generator().manual_seed(0))
    return FruitClassifier(
        net, processor, prototypes=torch.nn.functional.normalize(prototypes, dim=1)
    )


@pytest.fixture(scope="module")
def fruits(trained: Path) -> FruitClassifier:
    return FruitClassifier.from_pretrained(trained, device="cpu")


@pytest.fixture(scope="module")
def taught(fruits: FruitClassifier) -> FruitClassifier:
    return teach(fruits, "Kiwi", draw("Kiwi", 4))


# ---- what it knows ----


def test_a_taught_fruit_is_recognised(fruits, taught):
    others = draw("Kiwi", 8, seed=2000)
    assert "Kiwi" not in fruits.labels
    assert share_named(taught, "Kiwi", others) >= 0.75


def test_the_old_classes_keep_their_accuracy(fruits, taught):
    images = {name: draw(name, 5, seed=3000) for name in OLD}
    before, after = (
        np.mean([share_named(one, name, own) for name, own in images.items()])
        for one in (fruits, taught)
    )
    assert before > 0.6 and after >= before - 0.1


def test_the_logits_of_the_old_classes_are_the_same(fruits, taught):
    images = draw("Kiwi", 2) + draw("Apple", 2)
    before, after = logits_of(fruits, images), logits_of(taught, images)
    assert after.shape == (4, 5)
    torch.testing.assert_close(after[:, :4], before, rtol=1e-4, atol=1e-4)


def test_a_second_class_can_be_taught_on_top(taught):
    both = teach(taught, "Strawberry", draw("Strawberry", 4))
    assert both.labels == [*OLD, "Kiwi", "Strawberry"]
    assert both.model.config.taught == {"Kiwi": 4, "Strawberry": 4}
    assert share_named(both, "Strawberry", draw("Strawberry", 8, seed=2000)) >= 0.75
    assert share_named(both, "Kiwi", draw("Kiwi", 8, seed=2000)) >= 0.75


def test_what_was_taught_has_a_lower_ood_score_than_before(fruits, taught):
    (outputs,) = taught.infer(draw("Kiwi", 8, seed=2000))
    before, after = (one.ood_score(outputs.features) for one in (fruits, taught))
    assert (after <= before).all() and after.mean() < before.mean() - 0.02
    assert taught.ood_threshold == fruits.ood_threshold


# ---- what stays ----


def test_the_classifier_given_is_left_as_it_was(fruits):
    weights = {name: tensor.clone() for name, tensor in fruits.model.state_dict().items()}
    config, prototypes = fruits.model.config.to_dict(), fruits.prototypes.clone()
    teach(fruits, "Lime", draw("Orange", 3))
    after = fruits.model.state_dict()
    assert list(after) == list(weights)
    assert all(torch.equal(after[name], tensor) for name, tensor in weights.items())
    assert fruits.model.config.to_dict() == config
    assert torch.equal(fruits.prototypes, prototypes) and fruits.labels == OLD


def test_the_same_images_teach_the_same(fruits, taught):
    again = teach(fruits, "Kiwi", draw("Kiwi", 4))
    images = draw("Kiwi", 2)
    assert torch.equal(logits_of(again, images), logits_of(taught, images))


def test_images_that_cannot_be_read_are_left_out(fruits, taught, caplog):
    again = teach(fruits, "Kiwi", [b"junk", *draw("Kiwi", 4), "missing.png"])
    assert again.model.config.taught == {"Kiwi": 4}
    assert "missing.png" in caplog.text
    images = draw("Kiwi", 2)
    assert torch.equal(logits_of(again, images), logits_of(taught, images))


def test_large_and_truncated_images_teach_where_that_is_allowed(fruits, tmp_path, caplog):
    cut = tmp_path / "cut.jpg"
    draw("Kiwi", 1)[0].resize((300, 300)).save(cut)
    cut.write_bytes(cut.read_bytes()[:-20])
    draw("Kiwi", 1)[0].save(tmp_path / "whole.png")
    with pytest.raises(InputError, match="Kiwi: 1 of 2 photos can be read"):
        teach(fruits, "Kiwi", tmp_path)
    assert "cut.jpg: image file is truncated" in caplog.text
    assert "Set allow_truncated_images" in caplog.text
    new = teach(fruits, "Kiwi", tmp_path, allow_truncated_images=True)
    assert new.model.config.taught == {"Kiwi": 2}
    with pytest.raises(InputError, match="Kiwi: 1 of 2 photos can be read"):
        teach(fruits, "Kiwi", tmp_path, allow_truncated_images=True, max_image_pixels=64 * 64)
    assert "(max_image_pixels). Raise it, or shrink the photo." in caplog.text
    with pytest.raises(InputError, match="max_image_pixels=0"):
        teach(fruits, "Kiwi", tmp_path, max_image_pixels=0)


# ---- the fit ----


def make_problem() -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(12, 5, generator=draw) + torch.tensor([2.0, 0, 0, 0, 0])
    others = torch.randn(20, 5, generator=draw)
    return features, others, torch.randn(3, 5, generator=draw), torch.randn(3, generator=draw)


def test_the_row_has_the_least_cross_entropy(monkeypatch):
    monkeypatch.setattr(teaching, "WEIGHT_DECAY", 0)
    features, others, weight, bias = make_problem()
    row, level = fit_row(features, others, weight, bias)
    every = torch.cat([features, others])
    old = every @ weight.T + bias
    shares = np.r_[np.full(12, 1 / 12 / 3), np.full(20, 1 / 20)]

    def loss(x: np.ndarray) -> float:
        new = every.numpy() @ x[:5] + x[5]
        logs = torch.cat([old, torch.from_numpy(new).float()[:, None]], dim=1).double()
        logs = logs.log_softmax(dim=1).numpy()
        chosen = np.r_[logs[:12, 3], np.log1p(-np.exp(logs[12:, 3]))]
        return float(-(shares * chosen).sum())

    found = np.r_[row.numpy(), level.item()].astype(float)
    best = minimize(loss, found, method="Nelder-Mead", options={"maxiter": 300})
    assert loss(found) == pytest.approx(best.fun, abs=1e-4)


def test_without_old_evidence_it_is_logistic_regression():
    features, others, *_ = make_problem()
    row, level = fit_row(features, others, torch.zeros(1, 5), torch.zeros(1))
    every, labels = torch.cat([features, others]).numpy(), np.r_[np.ones(12), np.zeros(20)]
    reference = LogisticRegression(C=1e9, tol=1e-8, class_weight="balanced").fit(every, labels)
    np.testing.assert_allclose(row, reference.coef_[0], rtol=0.05, atol=0.05)
    np.testing.assert_allclose(level, reference.intercept_[0], rtol=0.05, atol=0.05)


# ---- other nets and configs ----


def test_vision_transformers_can_be_taught(tmp_path):
    new = teach(random_classifier("test_vit"), "Kiwi", draw("Kiwi", 2))
    save_taught(new, tmp_path / "saved")
    assert FruitClassifier.from_pretrained(tmp_path / "saved").labels == ["Fig", "Date", "Kiwi"]


def test_models_of_transformers_itself_can_be_taught(tmp_path):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=2)
    _, processor = build_model("test_efficientnet", labels=["Fig", "Date"], pretrained=False)
    prototypes = torch.nn.functional.normalize(torch.rand(4, 16), dim=1)
    net = ResNetForImageClassification(config)
    new = teach(FruitClassifier(net, processor, prototypes=prototypes), "Kiwi", draw("Kiwi", 2))
    assert new.labels == ["LABEL_0", "LABEL_1", "Kiwi"]
    assert logits_of(new, draw("Kiwi", 1)).shape == (1, 3)


def test_coarse_labels_have_the_new_class_too():
    new = teach(random_classifier(coarse_labels={"Fig": "A", "Date": "B"}), "Kiwi", draw("Kiwi", 2))
    assert new.model.config.coarse_labels == {"Fig": "A", "Date": "B", "Kiwi": "Kiwi"}


# ---- saved ----


def test_a_saved_classifier_predicts_the_same_everywhere(taught, trained, tmp_path):
    folder = tmp_path / "deep" / "saved"
    save_taught(taught, folder)
    images = draw("Kiwi", 3, seed=2000) + draw("Banana", 2)
    loaded = FruitClassifier.from_pretrained(folder, device="cpu")
    plain = pipeline("image-classification", str(folder), device="cpu")
    for one, other, rows in zip(
        taught.predict(images), loaded.predict(images), plain(images), strict=True
    ):
        assert (one.label, one.known) == (other.label, other.known)
        assert rows[0]["label"] == one.label
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert one.score == pytest.approx(rows[0]["score"], abs=1e-3)
    config = json.loads((folder / "config.json").read_text())
    assert config["taught"] == {"Kiwi": 4} and config["taught_from"] == trained.name
    card = (folder / "README.md").read_text()
    assert "| Kiwi | 4 |" in card and f"`{trained.name}`" in card and str(trained) not in card
    assert [path.name for path in folder.parent.iterdir()] == ["saved"]
    again = teach(loaded, "Strawberry", draw("Strawberry", 2))
    assert again.model.config.taught == {"Kiwi": 4, "Strawberry": 2}
    assert again.model.config.taught_from == trained.name


def test_a_saved_classifier_keeps_the_examples_and_adds_one_of_the_new_class(
    taught, fruits, tmp_path
):
    save_taught(teach(taught, "Fig", draw("Dragon-Fruit", 2)), tmp_path / "taught")
    saved = load_examples(tmp_path / "taught")
    assert [one.label for one in saved] == [*OLD, "Kiwi", "Fig"]
    for before, after in zip(fruits.examples, saved, strict=False):
        assert before.photo.read_bytes() == after.photo.read_bytes()
    with Image.open(saved[-1].photo) as photo:
        assert photo.size == (64, 64) and photo.format == "JPEG"


def test_a_half_written_folder_never_appears(taught, tmp_path, monkeypatch):
    def fail(*_) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(teaching, "save_prototypes", fail)
    with pytest.raises(InputError, match=r"saved: can't be written \(No space left on device\)"):
        save_taught(taught, tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_over(taught, fruits, tmp_path):
    with pytest.raises(InputError, match="already exists"):
        save_taught(taught, tmp_path)
    with pytest.raises(InputError, match="nothing was taught"):
        save_taught(fruits, tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


# ---- what can't be taught ----


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("apple", "apple: the model has Apple already"),
        (" Banana ", "Banana: the model has Banana already"),
        ("Ba\u200bnana", "can't be shown"),
        ("BANANA", "BANANA: the model has Banana already"),
        ("", "no name"),
        ("  ", "no name"),
        ("x" * (LONGEST_NAME + 1), "61 characters"),
        ("Ki\nwi", r"Ki\\nwi.*can't be shown"),
        ("Ki\u202ewi", "can't be shown"),
    ],
)
def test_names_that_cannot_be_are_explained(fruits, name, message):
    with pytest.raises(InputError, match=message):
        teach(fruits, name, draw("Kiwi", 2))


@pytest.mark.parametrize(("images", "count"), [([], "0 of 0"), ([b"junk", None], "1 of 2")])
def test_too_few_images_are_explained(fruits, images, count):
    images = [draw("Kiwi", 1)[0] if one is None else one for one in images]
    with pytest.raises(InputError, match=f"Kiwi: {count} photos can be read; teaching needs 2"):
        teach(fruits, "Kiwi", images)


def test_a_file_that_is_given_twice_is_one_photo(fruits, tmp_path):
    photo = tmp_path / "1.png"
    draw("Kiwi", 1)[0].save(photo)
    with pytest.raises(InputError, match="Kiwi: 1 of 1 photo"):
        teach(fruits, "Kiwi", [photo, str(photo)])


def test_one_image_alone_and_a_name_that_is_no_text_are_explained(fruits):
    with pytest.raises(InputError, match="1 of 1 photo can be read"):
        teach(fruits, "Kiwi", draw("Kiwi", 1)[0])
    with pytest.raises(InputError, match="0 of 1 photo can be read"):
        teach(fruits, "Kiwi", b"junk")
    with pytest.raises(InputError, match="name=7: not a text"):
        teach(fruits, 7, draw("Kiwi", 2))


def test_models_that_cannot_be_taught_are_explained():
    fruits = random_classifier()
    fruits.prototypes = None
    with pytest.raises(InputError, match="without prototypes"):
        teach(fruits, "Kiwi", draw("Kiwi", 2))
    fruits = random_classifier()
    fruits.model.timm_model.classifier.bias = None
    with pytest.raises(InputError, match="not a single linear layer with a bias"):
        teach(fruits, "Kiwi", draw("Kiwi", 2))


def test_logits_that_the_head_does_not_give_are_explained(monkeypatch):
    fruits = random_classifier()
    forward = FruitClassifier.forward
    monkeypatch.setattr(
        FruitClassifier,
        "forward",
        lambda own, pixels: (2 * forward(own, pixels)[0] + 1, *forward(own, pixels)[1:]),
    )
    with pytest.raises(InputError, match="not only those of its head"):
        teach(fruits, "Kiwi", draw("Kiwi", 2))
