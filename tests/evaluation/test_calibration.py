"""Temperature scaling and calibration errors against their definitions and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import log_loss

from hffruits.evaluation.calibration import coverage_curve, fit_temperature, reliability


def draw_logits(count: int, *, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, 8) that would be calibrated at temperature `sharpness`, and labels."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(count, 8))
    chances = softmax(logits, axis=1)
    labels = (chances.cumsum(1) > rng.random((count, 1))).argmax(1)
    return sharpness * logits, labels


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_that_spoiled_logits_is_found(sharpness: float):
    logits, labels = draw_logits(4000, sharpness=sharpness)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(sharpness, rel=0.06)
    hits = logits.argmax(1) == labels
    losses = [
        log_loss(hits, softmax(logits / t, axis=1).max(1))
        for t in (found, 0.9 * found, found / 0.9)
    ]
    assert losses[0] == min(losses)


def test_few_or_perfect_answers_leave_the_temperature_near_one():
    logits, labels = draw_logits(4, sharpness=1.0)
    assert 0.5 < fit_temperature(logits, labels) < 2
    perfect = 5 * np.eye(8)[np.arange(40) % 8]
    found = fit_temperature(perfect, np.arange(40) % 8)
    assert 0.4 < found < 1


def test_scaling_calibrates():
    logits, labels = draw_logits(6000, sharpness=3.0)
    fitted, held_out = slice(0, 3000), slice(3000, None)
    temperature = fit_temperature(logits[fitted], labels[fitted])
    errors = []
    for t in (1.0, temperature):
        chances = softmax(logits[held_out] / t, axis=1)
        hits = chances.argmax(1) == labels[held_out]
        errors.append(reliability(chances.max(1), hits).ece)
    assert errors[0] > 0.15 and errors[1] < 0.03


@given(st.integers(1, 300), st.integers(1, 20), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_error_is_that_of_the_paper(count: int, bins: int, seed: int):
    rng = np.random.default_rng(seed)
    confidence = rng.random(count)
    hits = rng.random(count) < confidence
    wanted = 0.0  # arXiv:1706.04599, equations 2 to 5, bin by bin
    for m in range(1, bins + 1):
        inside = (confidence > (m - 1) / bins) & (confidence <= m / bins)
        if m == 1:
            inside |= confidence == 0
        if inside.any():
            gap = abs(hits[inside].mean() - confidence[inside].mean())
            wanted += inside.sum() / count * gap
    diagram = reliability(confidence, hits, bins=bins)
    assert diagram.counts.sum() == count
    assert diagram.ece == pytest.approx(wanted)


def test_an_edge_belongs_to_the_bin_below():
    diagram = reliability(np.array([0.0, 0.25, 0.5, 0.51, 1.0]), np.ones(5, bool), bins=4)
    assert diagram.counts.tolist() == [2, 1, 1, 1]


def test_the_accuracy_of_the_surest_is_shown_by_coverage():
    confidence = np.array([0.9, 0.2, 0.6, 0.8])
    hits = np.array([True, False, True, False])
    coverage, accuracy = coverage_curve(confidence, hits)
    np.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(accuracy, [1, 1 / 2, 2 / 3, 1 / 2])
