"""95 % confidence intervals: Wilson's for shares of images, the bootstrap's for all other metrics.

Images of one group (near-duplicates, or what `group_by` names) are not independent. Wilson's
interval counts them as if they were right or wrong together, so it is too wide where they are not;
the bootstrap draws them together: Field & Welsh 2007, "Bootstrapping clustered data". Where no
groups are known, each image is its own, and intervals are too narrow for several photos of a scene.
"""

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from scipy.stats import norm

from hffruits.evaluation.metrics import PredictionCounts, compute_metrics

LEVEL = 0.95  # of intervals
DRAWS = 1000  # bootstrap samples
MAX_ARRAY_SIZE = 4_000_000  # numbers in an array of drawn counts: 32 MB
# Metrics of images take longer to draw the more images there are:
MAX_IMAGES_DRAWN = 20_000_000  # by all samples together, which are fewer then
MIN_DRAWS = 200  # but no fewer than these

Interval = tuple[float, float]
Statistic = Callable[..., Mapping[str, float]]  # of the rows drawn, (N,) indices for each set


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
    """The interval of `LEVEL` of drawn values (D,), less their bias against the sample's `value`.

    Draws repeat images and miss others, so with few a class their macro averages are too low.
    """
    tails = (1 - LEVEL) / 2
    low, high = np.quantile(drawn, [tails, 1 - tails]) - (drawn.mean() - value)
    return float(low), float(high)


def calibration_interval(drawn: np.ndarray, value: float) -> Interval:
    """The same of a calibration error, which chance makes larger in a sample, too: its low end.

    If the model were calibrated perfectly, the sample's error would be all noise, and draws of it
    have sqrt(2) times as much. In simulations it holds the true error nine times of ten or more
    with 200 images; with fewer, or where that is 0, eight times.
    """
    low, high = percentile_interval(drawn, value)
    noise = (drawn.mean() - value) / (math.sqrt(2) - 1)
    return low - max(0.0, float(noise)), high


def _slack(size: float) -> float:
    """What `size` images without a mistake leave open; everything where all draws are the same."""
    return wilson_interval(0, size)[1] if size >= 2 else 1.0


def _widen(interval: Interval, slack: float) -> Interval:
    """The interval within [0, 1], no nearer to 0 or 1 than `slack`, however few mistakes."""
    low, high = interval
    return max(0.0, min(low, 1 - slack)), min(1.0, max(high, slack))


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
    cells, groups = len(counted.counts), counted.grouped.shape[0]
    kinds = np.concatenate([counted.single, np.ones(groups)])
    chunk = max(1, MAX_ARRAY_SIZE // max(len(kinds), 4 * counted.classes))
    for start in range(0, draws, chunk):
        times = rng.multinomial(counted.group_count, kinds / kinds.sum(), min(chunk, draws - start))
        yield times[:, :cells] + times[:, cells:] @ counted.grouped


def count_intervals(counted: PredictionCounts) -> dict[str, Interval]:
    """The interval of each of `compute_metrics`, in [0, 1].

    With fewer than ten images a class, those of macro averages hold the truth less often than
    `LEVEL` says, and so do all that are drawn from few groups.
    """
    drawn: dict[str, list[np.ndarray]] = {}
    for counts in draw_counts(counted):
        for name, values in compute_metrics(counted, counts).items():
            drawn.setdefault(name, []).append(values)
    slack = _slack(counted.effective_size)
    sizes = counted.effective_sizes(counted.labels, counted.classes)
    sizes = sizes[sizes > 0]
    rare_slack = max(slack, _slack(sizes.min()) / len(sizes))  # all mistakes may be of one class
    intervals = {}
    for name, (value,) in compute_metrics(counted).items():
        if name in counted.shares:
            intervals[name] = wilson_interval(value, counted.effective_size)
        else:
            own = slack if name == "weighted_f1" else rare_slack
            interval = percentile_interval(np.concatenate(drawn[name]), value)
            intervals[name] = _widen(interval, own)
    return intervals


# ---- metrics of images ----


def effective_size(groups: np.ndarray) -> float:
    """`PredictionCounts.effective_size` of images by their groups (N,)."""
    sizes = np.unique(groups, return_counts=True)[1]
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def image_intervals(
    statistic: Statistic,
    *groups: np.ndarray,
    interval: Callable[[np.ndarray, float], Interval] = percentile_interval,
    seed: int = 0,
) -> dict[str, Interval]:
    """The bootstrap interval of each value in [0, 1] that `statistic` gives of rows of the images.

    `groups` (N,) are those of each set of images, which are drawn apart. So of known and unknown
    images: `image_intervals(lambda rows, others: {"auroc": auroc(known[rows], unknown[others])},
    groups_of_known, groups_of_unknown)`.
    """
    rng = np.random.default_rng(seed)
    sets = [np.unique(own, return_inverse=True)[1] for own in groups]
    draws = int(np.clip(MAX_IMAGES_DRAWN // sum(map(len, sets)), MIN_DRAWS, DRAWS))
    drawn = [statistic(*(draw_rows(own, rng) for own in sets)) for _ in range(draws)]
    slack = _slack(min(map(effective_size, sets)))
    return {
        name: _widen(interval(np.array([values[name] for values in drawn]), value), slack)
        for name, value in statistic(*(np.arange(len(own)) for own in sets)).items()
    }


def draw_rows(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The rows of as many groups as there are, drawn with replacement; (N,) numbers from 0."""
    count = groups.max() + 1
    times = np.bincount(rng.integers(count, size=count), minlength=count)
    return np.repeat(np.arange(len(groups)), times[groups])
