"""Answers counted by class, the usual figures of them, and how sure those are.

A `Tally` holds one number for each kind of answer, however many pictures there were: figures and
their bootstrap intervals need no more. No probabilities (`calibration`), no pictures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.sparse import csr_array
from scipy.stats import binomtest

DRAWS = 1000  # bootstrap samples
LEVEL = 0.95
AT_ONCE = 4_000_000  # numbers in memory while drawing

Interval = tuple[float, float]


@dataclass(frozen=True)
class Tally:
    """How often each (class, best guess, class among the first five) came, (M,) each.

    `coarse`: the coarse class of each class, (K,), where there is a hierarchy.
    """

    labels: np.ndarray
    guesses: np.ndarray
    among_five: np.ndarray  # bool
    counts: np.ndarray
    classes: int
    coarse: Sequence[int] | None = None

    @classmethod
    def of(
        cls, labels: np.ndarray, ranked: np.ndarray, *, classes: int, coarse: Sequence[int] | None
    ) -> "Tally":
        """Of labels (N,) and guesses (N, R), best first; R may be less than 5 or more."""
        (tally,) = cls.of_many(labels, [ranked], classes=classes, coarse=coarse)
        return tally

    @classmethod
    def of_many(
        cls,
        labels: np.ndarray,
        answers: Sequence[np.ndarray],
        *,
        classes: int,
        coarse: Sequence[int] | None,
    ) -> list["Tally"]:
        """One of each model's guesses (N, R) for the same pictures, all over the same cells."""
        columns = [labels]
        for ranked in answers:
            columns += [ranked[:, 0], (ranked[:, :5] == labels[:, None]).any(axis=1)]
        kinds, counts = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)
        pairs = kinds[:, 1:].reshape(len(kinds), len(answers), 2)  # (M, models, guess and five)
        return [
            cls(kinds[:, 0], *(pairs[:, i, 0], pairs[:, i, 1] > 0), counts, classes, coarse)
            for i in range(len(answers))
        ]

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @cached_property
    def confusion(self) -> csr_array:
        """(K, K) counts, a row for each class, a column for each best guess; mostly zeros."""
        places = (self.labels, self.guesses)
        return csr_array((self.counts, places), shape=(self.classes, self.classes))


def figures(tally: Tally, counts: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The figures in [0, 1] of a tally, or of other `counts` (..., M) of the same cells: (...,).

    As scikit-learn computes them; F1 over the classes that occur as label or guess, and balanced
    accuracy over those that occur as label. `coarse_accuracy` only with a hierarchy.
    """
    counts = np.atleast_2d(tally.counts if counts is None else counts)  # (D, M)
    total = counts.sum(-1)
    right = tally.labels == tally.guesses
    precision, recall, f1, support = by_class(tally, counts)  # (D, K) each
    present = support > 0
    occurs = present | ~np.isnan(precision)
    results = {
        "accuracy": counts @ right / total,
        "top5_accuracy": counts @ tally.among_five / total,
        "balanced_accuracy": np.where(present, recall, 0).sum(-1) / present.sum(-1),
        "macro_f1": np.where(occurs, f1, 0).sum(-1) / occurs.sum(-1),
        "weighted_f1": (f1 * support).sum(-1) / total,
    }
    if tally.coarse is not None:
        kinds = np.asarray(tally.coarse)
        results["coarse_accuracy"] = counts @ (kinds[tally.labels] == kinds[tally.guesses]) / total
    return results


def by_class(
    tally: Tally, counts: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall, F1 and support of each class, (..., K); F1 is 0 where undefined.

    Precision is NaN for a class that was never guessed, recall for one that never occurred.
    """
    counts = np.atleast_2d(tally.counts if counts is None else counts)
    right = tally.labels == tally.guesses
    hits = counts @ _one_hot(tally.labels, right, tally.classes)
    support = counts @ _one_hot(tally.labels, None, tally.classes)
    guessed = counts @ _one_hot(tally.guesses, None, tally.classes)
    with np.errstate(invalid="ignore"):
        precision, recall = hits / guessed, hits / support
        f1 = np.nan_to_num(2 * hits / (support + guessed))
    return precision, recall, f1, support


def _one_hot(classes: np.ndarray, kept: np.ndarray | None, count: int) -> csr_array:
    """(M, K): which class each cell counts for."""
    cells = np.arange(len(classes))
    values = np.ones(len(classes)) if kept is None else kept.astype(float)
    return csr_array((values, (cells, classes)), shape=(len(classes), count))


def draw_counts(tally: Tally, *, draws: int = DRAWS, seed: int = 0) -> Iterator[np.ndarray]:
    """Bootstrap samples of the cells' counts, (D, M) at a time, `draws` in all.

    Drawing N pictures with replacement is drawing a tally from the multinomial of this one
    (Efron & Tibshirani 1993, chapter 13), so that time and memory depend on its cells, not on N.
    Pictures of one scene are taken for independent ones; then intervals are too narrow.
    """
    rng = np.random.default_rng(seed)
    shares, total = tally.counts / tally.total, tally.total
    chunk = max(1, AT_ONCE // max(len(shares), 4 * tally.classes))
    for start in range(0, draws, chunk):
        yield rng.multinomial(total, shares, size=min(chunk, draws - start))


def percentiles(values: list[np.ndarray], value: float) -> Interval:
    """The interval of `LEVEL` of drawn values, in chunks, less their bias against the true one.

    Draws repeat pictures and miss others, so with few a class their macro averages are too low.
    """
    drawn, tails = np.concatenate(values), (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tails, 1 - tails]) - (drawn.mean() - value)
    return float(low), float(high)


def intervals(tally: Tally) -> dict[str, Interval]:
    """The bootstrap interval of each of `figures`, in [0, 1].

    With fewer than ten pictures a class, those of F1 hold the truth less often than `LEVEL` says.
    A share that is 0 or 1 has Wilson's interval instead, for its bootstrap knows no doubt.
    """
    drawn: dict[str, list[np.ndarray]] = {}
    for counts in draw_counts(tally):
        for name, values in figures(tally, counts).items():
            drawn.setdefault(name, []).append(values)
    found = {}
    for name, (value,) in figures(tally).items():
        low, high = percentiles(drawn[name], value)
        certain = low == high and value in (0, 1)
        if certain:
            low, high = wilson(round(value * tally.total), tally.total)
        found[name] = max(0.0, low), min(1.0, high)
    return found


def wilson(hits: int, total: int) -> Interval:
    """Wilson's interval of a share, `LEVEL`; (0, 1) of nothing."""
    if not total:
        return 0.0, 1.0
    interval = binomtest(int(hits), int(total)).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def cluster_order(confusion: np.ndarray) -> np.ndarray:
    """Classes (K,) in an order that puts those next to each other that are taken for one another.

    Average linkage on how often two classes are confused, with optimal leaf order.
    """
    if len(confusion) < 3:
        return np.arange(len(confusion))
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    alike = (shares + shares.T) / 2
    places = np.triu_indices(len(alike), 1)
    few = len(alike) <= 500  # the best order of more takes too long
    return leaves_list(linkage(1 - alike[places], "average", optimal_ordering=few))
