"""Temperature scaling against its definition and scikit-learn."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from hffruits.evaluation.calibration import fit_temperature
from hffruits.evaluation.metrics import reliability


def draw_logits(count: int, *, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, 8) that would be calibrated at temperature `sharpness`, and labels."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(count, 8))
    chances = softmax(logits, axis=1)
    labels = (chances.cumsum(1) > rng.random((count, 1))).argmax(1)
    return sharpness * logits, labels


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_that_scaled_logits_is_found(sharpness: float):
    logits, labels = draw_logits(4000, sharpness=sharpness)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(sharpness, rel=0.06)
    hits = logits.argmax(1) == labels
    losses = [
        log_loss(hits, softmax(logits / t, axis=1).max(1))
        for t in (found, 0.9 * found, found / 0.9)
    ]
    assert losses[0] == min(losses)


def test_few_or_perfect_predictions_leave_the_temperature_near_one():
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
