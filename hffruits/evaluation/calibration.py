"""Probabilities that mean what they say: temperature scaling, and how far off they were before.

Arrays in, numbers out. Which pictures may be used for it is up to the caller.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BINS = 15
PRIOR = 0.5  # standard deviation of log T before any picture is seen
AT_ONCE = 4_000_000  # numbers in double precision


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T for which the best guess of softmax(logits / T) has the chance of being right.

    Logits (N, K), labels (N,) integers; needs pictures that were not trained on. Temperature
    scaling (Guo et al. 2017, arXiv:1706.04599, section 4.2), by the likelihood that the best guess
    is right or wrong, for that is what is shown (top-label calibration, arXiv:2107.08353). A
    normal prior on log T keeps T near 1 where few or perfect answers can't tell; it is nothing
    beside a hundred pictures.
    """
    hits = logits.argmax(axis=1) == labels
    parts = np.array_split(logits, 1 + logits.size // AT_ONCE)

    def loss(log_temperature: float) -> float:
        temperature = np.exp(log_temperature)
        chances = np.concatenate([_best_chances(part, temperature) for part in parts])
        wrong = np.log(np.maximum(-np.expm1(chances), 1e-12))  # log(1 - p)
        return 0.5 * (log_temperature / PRIOR) ** 2 - np.where(hits, chances, wrong).sum()

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def _best_chances(logits: np.ndarray, temperature: float) -> np.ndarray:
    """log softmax(logits / T) of the best guess, (N,)."""
    return log_softmax(logits.astype(np.float64) / temperature, axis=1).max(axis=1)


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in bins of equal width, (BINS,) each; empty bins have NaN."""

    confidence: np.ndarray  # mean of the bin
    accuracy: np.ndarray
    counts: np.ndarray

    @property
    def ece(self) -> float:
        """Expected calibration error in [0, 1]: how far the two are apart, a picture on average.

        Naeini et al. 2015; arXiv:1706.04599, equation 3.
        """
        gaps = np.abs(self.confidence - self.accuracy)
        return float(np.nansum(gaps * self.counts) / max(1, self.counts.sum()))


def reliability(confidence: np.ndarray, hits: np.ndarray, *, bins: int = BINS) -> Reliability:
    """Confidences (N,) in [0, 1] and whether each answer was right (N,), by bins."""
    # a value on an edge belongs to the bin below, as in the paper
    places = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    with np.errstate(invalid="ignore"):
        return Reliability(
            np.bincount(places, confidence, minlength=bins) / counts,
            np.bincount(places, hits, minlength=bins) / counts,
            counts,
        )


def coverage_curve(confidence: np.ndarray, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy on the share of pictures with the highest confidence: (coverage, accuracy), (N,).

    Geifman & El-Yaniv 2017, arXiv:1705.08500, figure 1 (risk is 1 - accuracy).
    """
    order = np.argsort(-confidence, kind="stable")
    seen = np.arange(1, len(order) + 1)
    return seen / len(order), np.cumsum(hits[order]) / seen
