"""Prototypes, thresholds and rejection figures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from hffruits.core.errors import InputError
from hffruits.inference.ood import (
    auroc,
    choose_threshold,
    false_positive_rate,
    familiarity,
    find_prototypes,
    load_prototypes,
    roc_points,
    save_prototypes,
)
from hffruits.models.artifact import PROTOTYPES


def make_features(classes: int, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    middles = rng.normal(size=(classes, 32))
    labels = np.arange(classes * count) % classes
    return (middles[labels] + 0.3 * rng.normal(size=(len(labels), 32))).astype(np.float32), labels


def test_what_was_learned_is_familiar_and_the_rest_is_not():
    features, labels = make_features(5, 40)
    prototypes = find_prototypes(features[:100], labels[:100])
    assert prototypes.shape == (15, 32)
    torch.testing.assert_close(prototypes.norm(dim=1), torch.ones(15))
    known = familiarity(features[100:], prototypes.numpy())
    strange, _ = make_features(5, 40, seed=9)
    unknown = familiarity(strange, prototypes.numpy())
    assert auroc(known, unknown) > 0.99
    scaled = familiarity(7 * features[100:], prototypes.numpy())
    np.testing.assert_allclose(scaled, known, atol=1e-5)  # how strong they are doesn't matter


def test_a_class_of_one_picture_has_one_prototype():
    features, labels = make_features(3, 4)
    one = np.r_[np.flatnonzero(labels > 0), 0]
    assert find_prototypes(features[one], labels[one]).shape == (7, 32)


def test_prototypes_come_back_as_they_were_saved(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    features, labels = make_features(4, 9)
    prototypes = find_prototypes(features, labels)
    save_prototypes(prototypes, tmp_path)
    again = load_prototypes(tmp_path / PROTOTYPES)
    before, after = (familiarity(features, p.numpy()) for p in (prototypes, again))
    torch.testing.assert_close(before, after, atol=1e-3, rtol=0)
    (tmp_path / PROTOTYPES).write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"prototypes.safetensors: can't be read"):
        load_prototypes(tmp_path / PROTOTYPES)


@given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_rejection_figures_are_scikit_learns(known_count: int, unknown_count: int, seed: int):
    rng = np.random.default_rng(seed)
    known, unknown = (
        rng.normal(1, 1, known_count).round(1),
        rng.normal(0, 1, unknown_count).round(1),
    )
    truth = np.r_[np.ones(known_count), np.zeros(unknown_count)]
    values = np.r_[known, unknown]
    assert auroc(known, unknown) == pytest.approx(roc_auc_score(truth, values))
    fpr, tpr, _ = roc_curve(truth, values, drop_intermediate=False)
    assert false_positive_rate(known, unknown) == pytest.approx(fpr[np.argmax(tpr >= 0.95)])
    points = roc_points(known, unknown)
    assert points.shape == (101, 2)
    assert (np.diff(points[:, 0]) <= 1e-9).all()  # fewer are taken as the threshold rises


def test_the_threshold_refuses_the_share_asked_for():
    known = np.random.default_rng(0).normal(size=1000)
    for rate in (0.01, 0.05, 0.2):
        refused = (known < choose_threshold(known, rate)).mean()
        assert refused <= rate and refused == pytest.approx(rate, abs=0.002)
