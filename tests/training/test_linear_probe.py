"""The head starts as a logistic regression on the backbone's features."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from support.runs import quick_arguments
from torch import nn

from hffruits.models.loading import load_model
from hffruits.training.arguments import ModelArguments
from hffruits.training.linear_probe import DECAY, fit_head
from hffruits.training.losses import ClassificationLoss
from hffruits.training.run import train

pytestmark = pytest.mark.usefixtures("without_report")


@pytest.mark.parametrize("kind", [nn.Linear, lambda d, k: nn.Conv2d(d, k, 1)])
def test_the_head_is_scikit_learns_logistic_regression(kind):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % 4
    features = torch.randn(120, 8, generator=generator) + torch.eye(4, 8)[labels]
    head = kind(8, 4)
    fit_head(head, features, labels, ClassificationLoss())
    inputs = ((features - features.mean(0)) / features.std(0).mean()).numpy()
    reference = LogisticRegression(C=1 / (2 * DECAY * len(labels)), max_iter=1000, tol=1e-8)
    expected = reference.fit(inputs, labels).predict_proba(inputs)
    shaped = features if isinstance(head, nn.Linear) else features[..., None, None]
    found = head(shaped).flatten(1).softmax(1).detach().numpy()
    assert np.abs(found - expected).max() < 1e-3


def test_features_that_are_not_finite_leave_the_head_as_it_was():
    head = nn.Linear(8, 4)
    before = head.weight.clone()
    fit_head(head, torch.full((12, 8), torch.nan), torch.arange(12) % 4, ClassificationLoss())
    assert torch.equal(head.weight, before)


def heads(folder) -> torch.Tensor:
    return load_model(folder)[0].timm_model.classifier.weight


def unlearning(drawn_fruits, folder, model=(), **options):
    """A run whose weights hardly move."""
    still = {"learning_rate": 1e-9, "weight_decay": 0.0, "ema_decay": 0.0, "num_train_epochs": 1}
    options = still | {"linear_probe": True} | options
    model = ModelArguments(**dict(model))
    return train(*quick_arguments(drawn_fruits, folder, model=model, **options))


def test_a_probed_head_classifies_before_anything_is_learned(drawn_fruits, tmp_path):
    probed = unlearning(drawn_fruits, tmp_path / "probed")
    random = unlearning(drawn_fruits, tmp_path / "random", linear_probe=False)
    assert probed["test"]["accuracy"] > 0.6 > random["test"]["accuracy"]


def test_cached_features_and_photos_give_the_same_head(drawn_fruits, tmp_path):
    for views in (0, 2):
        unlearning(drawn_fruits, tmp_path / str(views), {"feature_cache_views": views})
    assert torch.allclose(heads(tmp_path / "0"), heads(tmp_path / "2"), atol=1e-2)


def test_the_head_of_a_model_of_the_same_classes_is_kept(trained, drawn_fruits, tmp_path):
    unlearning(drawn_fruits, tmp_path / "further", {"model_name_or_path": str(trained)})
    before, after = heads(trained), heads(tmp_path / "further")
    # calibration scales both
    assert torch.cosine_similarity(before.flatten(), after.flatten(), dim=0) > 1 - 1e-5
