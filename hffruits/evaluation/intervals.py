"""95 % confidence intervals: Wilson's for shares, the bootstrap's for every other metric.

Images of one group (near-duplicates, or what `group_by` names) are drawn together, for they are not
independent: Field & Welsh 2007, "Bootstrapping clustered data", the cluster bootstrap. Where no
groups are known, each image is its own, and intervals are too narrow for several photos of a scene.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array
from scipy.stats import norm

from hffruits.evaluation.metrics import PredictionCounts, compute_metrics

DRAWS = 1000  # bootstrap samples
LEVEL = 0.95  # of intervals
AT_ONCE = 4_000_000  # numbers in memory while drawing
FEWEST_DRAWS, IMAGES_DRAWN = 200, 20_000_000  # in all, where each draw computes a metric of images

Interval = tuple[float, float]
Statistic = Callable[..., Mapping[str, float]]  # of the rows drawn, (N,) indices for each sample


def wilson_interval(share: float, total: float) -> Interval:
    """Wilson's interval of a share in [0, 1] of `total`, `LEVEL`; (0, 1) of nothing.

    Wilson 1927, "Probable inference", equation 4. `total` need not be a whole number.
    """
    if not total:
        return 0.0, 1.0
    z = norm.ppf((1 + LEVEL) / 2)
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    spread = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + (z / total) ** 2 / 4)
    return max(0.0, middle - spread), min(1.0, middle + spread)


def percentile_interval(drawn: np.ndarray, value: float) -> Interval:
    """The interval of `LEVEL` of drawn values (D,), less their bias against the true one.

    Draws repeat images and miss others, so with few a class their macro averages are too low.
    """
    tails = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tails, 1 - tails]) - (drawn.mean() - value)
    return float(low), float(high)


# ---- metrics of counts ----


def draw_counts(
    counted: PredictionCounts, *, draws: int = DRAWS, seed: int = 0
) -> Iterator[np.ndarray]:
    """Bootstrap samples of the cells' counts, (D, M) at a time, `draws` in all.

    Drawing groups with replacement is drawing how often each kind of group occurs from the
    multinomial (Efron & Tibshirani 1993, chapter 13), so that of ungrouped images time and memory
    depend on the cells, not on their number.
    """
    rng = np.random.default_rng(seed)
    grouped = counted.grouped
    if grouped is None:
        grouped = csr_array((0, len(counted.counts)), dtype=int)
    single = counted.counts - grouped.sum(0)  # (M,) images that are a group of their own
    kinds = np.concatenate([single, np.ones(grouped.shape[0])])
    chunk = max(1, AT_ONCE // max(len(kinds), 4 * counted.classes))
    for start in range(0, draws, chunk):
        drawn = rng.multinomial(counted.groups, kinds / kinds.sum(), min(chunk, draws - start))
        yield drawn[:, : len(single)] + drawn[:, len(single) :] @ grouped


def bootstrap_intervals(counted: PredictionCounts) -> dict[str, Interval]:
    """The bootstrap interval of each of `compute_metrics`, in [0, 1].

    With fewer than ten images a class, those of F1 hold the truth less often than `LEVEL` says. A
    share that is 0 or 1 has Wilson's interval instead, for all its draws are the same.
    """
    drawn: dict[str, list[np.ndarray]] = {}
    for counts in draw_counts(counted):
        for name, values in compute_metrics(counted, counts).items():
            drawn.setdefault(name, []).append(values)
    values = {name: value for name, (value,) in compute_metrics(counted).items()}
    return {
        name: _share_interval(np.concatenate(drawn[name]), value, counted.groups)
        for name, value in values.items()
    }


def _share_interval(drawn: np.ndarray, value: float, total: int) -> Interval:
    if np.allclose(drawn, round(value), atol=1e-9):  # all draws are the same
        return wilson_interval(round(value), total)
    low, high = percentile_interval(drawn, value)
    return max(0.0, low), min(1.0, high)


# ---- metrics of images ----


@dataclass(frozen=True)
class Drawing:
    """One set of images whose groups (N,) are drawn with replacement."""

    groups: np.ndarray

    @cached_property
    def members(self) -> list[np.ndarray]:
        """The rows of each group."""
        order = np.argsort(self.groups, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(self.groups[order])) + 1)

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """The rows of as many groups as there are."""
        count = len(self.members)
        if count == len(self.groups):
            return rng.integers(count, size=count)
        return np.concatenate([self.members[place] for place in rng.integers(count, size=count)])


def image_intervals(
    statistic: Statistic, *groups: np.ndarray, seed: int = 0
) -> dict[str, Interval]:
    """The bootstrap interval of each value in [0, 1] that `statistic` gives of rows of the images.

    `groups` (N,) of each set of images that it takes, which are drawn apart.
    """
    rng = np.random.default_rng(seed)
    sets = [Drawing(own) for own in groups]
    draws = int(np.clip(IMAGES_DRAWN // sum(map(len, groups)), FEWEST_DRAWS, DRAWS))
    drawn = [statistic(*(some.draw(rng) for some in sets)) for _ in range(draws)]
    fewest = min(len(some.members) for some in sets)
    return {
        name: _share_interval(np.array([values[name] for values in drawn]), value, fewest)
        for name, value in statistic(*(np.arange(len(own)) for own in groups)).items()
    }
