"""The loss equals PyTorch's where it has one, for hard and for mixed labels."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from hffruits.training.losses import ClassificationLoss, class_weights

LABELS = torch.tensor([0, 2, 1, 2, 2])


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_pytorchs(logits, smoothing):
    ours = ClassificationLoss(smoothing)(logits, LABELS)
    assert ours == pytest.approx(
        functional.cross_entropy(logits, LABELS, label_smoothing=smoothing).item()
    )


def test_mixed_labels_equal_pytorchs(logits):
    mixed = torch.rand(5, 3).softmax(1)
    ours = ClassificationLoss(0.1)(logits, mixed)
    theirs = functional.cross_entropy(logits, mixed, label_smoothing=0.1)
    assert ours == pytest.approx(theirs.item())


def test_class_weights_equal_pytorchs_up_to_the_mean(logits):
    weights = torch.tensor([0.5, 3.0, 1.0])
    ours = ClassificationLoss(class_weights=weights)(logits, LABELS)
    theirs = functional.cross_entropy(logits, LABELS, weight=weights, reduction="none").mean()
    assert ours == pytest.approx(theirs.item())


def test_focal_loss_equals_its_formula_and_gamma_0_is_cross_entropy(logits):
    p = logits.softmax(1)[range(5), LABELS]
    expected = (-((1 - p) ** 2) * p.log()).mean()
    assert ClassificationLoss(focal_gamma=2.0)(logits, LABELS) == pytest.approx(expected.item())
    plain = functional.cross_entropy(logits, LABELS)
    assert ClassificationLoss(focal_gamma=0.0)(logits, LABELS) == pytest.approx(plain.item())


def test_a_small_gamma_has_gradients_where_the_model_is_certain():
    logits = torch.tensor([[40.0, 0.0, 0.0]], requires_grad=True)
    ClassificationLoss(focal_gamma=0.5)(logits, torch.tensor([0])).backward()
    assert torch.isfinite(logits.grad).all()


def test_balanced_weights_equal_scikit_learns():
    labels = [0] * 50 + [1] * 5 + [2] * 20
    ours = class_weights(np.bincount(labels, minlength=3), "balanced")
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert ours.tolist() == pytest.approx(list(theirs), rel=1e-6)


def test_effective_weights_lie_between_none_and_balanced():
    labels = [0] * 2000 + [1] * 20
    counts = np.bincount(labels)
    effective, balanced = (class_weights(counts, kind) for kind in ("effective", "balanced"))
    assert 1 < effective[1] / effective[0] < balanced[1] / balanced[0]
    assert class_weights(counts, "none") is None
    weights = torch.tensor([effective[label] for label in labels])
    assert weights.mean() == pytest.approx(1.0, rel=1e-5)
