"""Prototypes, OOD scores and the OOD threshold."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from hffruits.core.errors import InputError
from hffruits.inference.ood import (
    RIDGE,
    choose_threshold,
    explain_by,
    find_prototypes,
    load_prototypes,
    ood_score,
    save_prototypes,
)
from hffruits.models.artifact import PROTOTYPES


def make_features(classes: int, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(classes, 32))
    labels = np.arange(classes * count) % classes
    return (middles[labels] + 0.3 * rng.normal(size=(len(labels), 32))).astype(np.float32), labels


def test_ood_scores_are_low_for_what_was_learned_and_high_for_the_rest():
    features, labels = make_features(5, 40)
    prototypes = find_prototypes(features[:100], labels[:100])
    assert prototypes.shape == (15, 32)
    torch.testing.assert_close(prototypes.norm(dim=1), torch.ones(15))
    explained = explain_by(prototypes)
    known = ood_score(features[100:], explained)
    strange, _ = make_features(5, 40, seed=9)
    unknown = ood_score(strange, explained)
    assert np.quantile(known, 0.99) < np.quantile(unknown, 0.01)
    assert known.min() >= 0 and unknown.max() <= 1
    scaled = ood_score(7 * features[100:], explained)
    np.testing.assert_allclose(scaled, known, atol=1e-5)  # how strong they are doesn't matter


@pytest.mark.parametrize("count", [5, 32, 200])
def test_the_ood_score_is_what_ridge_regression_on_the_prototypes_leaves(count: int):
    rng = np.random.default_rng(0)
    prototypes = normalize(torch.from_numpy(rng.normal(size=(count, 32))))
    features = rng.normal(size=(7, 32))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    spread = np.eye(32) + prototypes.T.numpy() @ prototypes.numpy() / RIDGE
    expected = (unit * np.linalg.solve(spread, unit.T).T).sum(axis=1)
    np.testing.assert_allclose(ood_score(features, explain_by(prototypes)), expected, atol=1e-9)


def test_a_prototype_more_leaves_less_unexplained():
    features, labels = make_features(5, 10)
    prototypes = find_prototypes(features, labels)
    new, _ = make_features(1, 10, seed=9)
    before = ood_score(new, explain_by(prototypes))
    taught = torch.cat([prototypes, find_prototypes(new[:1], np.zeros(1, int))])
    assert (ood_score(new, explain_by(taught)) < 0.5 * before).all()
    assert (
        ood_score(features, explain_by(taught)) <= ood_score(features, explain_by(prototypes))
    ).all()


def test_a_class_of_one_image_has_one_prototype():
    features, labels = make_features(3, 4)
    one = np.r_[np.flatnonzero(labels > 0), 0]
    assert find_prototypes(features[one], labels[one]).shape == (7, 32)


@pytest.mark.filterwarnings("error")
def test_images_of_equal_features_have_one_prototype():
    assert find_prototypes(np.ones((5, 8), np.float32), np.zeros(5, int)).shape == (1, 8)


def test_prototypes_come_back_as_they_were_saved(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    features, labels = make_features(4, 9)
    prototypes = find_prototypes(features, labels)
    save_prototypes(prototypes, tmp_path)
    again = load_prototypes(tmp_path / PROTOTYPES)
    before, after = (ood_score(features, explain_by(p)) for p in (prototypes, again))
    torch.testing.assert_close(before, after, atol=1e-3, rtol=0)
    (tmp_path / PROTOTYPES).write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"prototypes.safetensors: can't be read"):
        load_prototypes(tmp_path / PROTOTYPES)


def test_the_threshold_rejects_the_share_asked_for():
    known = np.random.default_rng(0).normal(size=1000)
    for rate in (0.01, 0.05, 0.2):
        rejected = (known > choose_threshold(known, rate)).mean()
        assert rejected <= rate and rejected == pytest.approx(rate, abs=0.002)
