"""Every metric, defined once: accuracy, top-k, F1, metrics by class, ECE, AUROC, FPR@95.

Arrays in, numbers out: no images, no models, no plots. Metrics of classes need only counts
(`PredictionCounts`), so that they take as much time and memory for a million images as for a
thousand. Where a metric has a name in scikit-learn, it is that one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import datasets
import evaluate
import numpy as np
import torch
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.sparse import csr_array
from scipy.stats import rankdata

from hffruits.inference.ood import choose_threshold

METRIC_NAMES = ("accuracy", "top5_accuracy", "macro_f1")  # in training
RANKED = 5  # predictions kept per image
BINS = 15  # of confidence
COVERAGES = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)


# ---- in training ----


def rank_classes(logits: torch.Tensor) -> torch.Tensor:
    """(B, K) -> the best predictions first, at most `RANKED`: (B, R). Ties by their number."""
    return logits.sort(dim=1, descending=True, stable=True).indices[:, :RANKED]


def classification_metrics(
    ranked: np.ndarray, labels: np.ndarray, *, coarse: Sequence[int] | None = None
) -> dict[str, float]:
    """`METRIC_NAMES`, in [0, 1], of predictions (N, R), best first, against (N,) labels.

    With `coarse`, the coarse class of each of the K classes, also `coarse_accuracy`: how often the
    top prediction is at least of the right coarse class.
    """
    metric = FruitMetrics(keep_in_memory=True)
    return metric.compute(predictions=ranked, references=labels, coarse=coarse)


class FruitMetrics(evaluate.Metric):
    """`classification_metrics` as an `evaluate` metric, which adds up batches. Needs no network."""

    def _info(self) -> evaluate.MetricInfo:
        features = {
            "predictions": datasets.List(datasets.Value("int64")),
            "references": datasets.Value("int64"),
        }
        return evaluate.MetricInfo(
            description=type(self).__doc__,
            citation="",
            inputs_description="predictions (N, R), best first; references (N,); as indices",
            features=datasets.Features(features),
        )

    def _compute(
        self,
        predictions: list[list[int]],
        references: list[int],
        coarse: Sequence[int] | None = None,
    ) -> dict[str, float]:
        ranked, labels = np.asarray(predictions), np.asarray(references)
        classes = 1 + int(max(labels.max(), ranked[:, 0].max()))
        found = compute_metrics(PredictionCounts.of(labels, ranked, classes=classes, coarse=coarse))
        names = (*METRIC_NAMES, "coarse_accuracy")
        return {name: float(found[name][0]) for name in names if name in found}


# ---- metrics of counts ----


@dataclass(frozen=True)
class PredictionCounts:
    """How often each (class, predicted class, class among five) occurs: M cells, (M,) each.

    `coarse`: the coarse class of each class, (K,), where there is a hierarchy.
    """

    labels: np.ndarray
    predicted: np.ndarray
    among_five: np.ndarray  # bool
    counts: np.ndarray
    classes: int
    coarse: Sequence[int] | None
    grouped: csr_array  # (B, M) counts, of each group of more than one image

    @classmethod
    def of(
        cls,
        labels: np.ndarray,
        ranked: np.ndarray,
        *,
        classes: int,
        coarse: Sequence[int] | None,
        groups: np.ndarray | None = None,
    ) -> "PredictionCounts":
        """Of labels (N,) and predictions (N, R), best first; R may be less than `RANKED` or more.

        `groups` (N,) are numbers, equal for images that are not independent.
        """
        options = {"classes": classes, "coarse": coarse, "groups": groups}
        (counted,) = cls.of_many(labels, [ranked], **options)
        return counted

    @classmethod
    def of_many(
        cls,
        labels: np.ndarray,
        predictions: Sequence[np.ndarray],
        *,
        classes: int,
        coarse: Sequence[int] | None,
        groups: np.ndarray | None = None,
    ) -> list["PredictionCounts"]:
        """One of each model's predictions (N, R) for the same images, all over the same cells."""
        columns = [labels]
        for ranked in predictions:
            columns += [ranked[:, 0], (ranked[:, :RANKED] == labels[:, None]).any(axis=1)]
        cells, places, counts = np.unique(
            np.stack(columns, axis=1), axis=0, return_inverse=True, return_counts=True
        )
        own = np.arange(len(labels)) if groups is None else groups
        grouped = _count_by_group(own, places, len(cells))
        # (M, models, predicted and among five)
        pairs = cells[:, 1:].reshape(len(cells), len(predictions), 2)
        return [
            cls(cells[:, 0], predicted, among > 0, counts, classes, coarse, grouped)
            for predicted, among in pairs.transpose(1, 2, 0)
        ]

    @property
    def total(self) -> int:
        return int(self.counts.sum())

    @cached_property
    def single(self) -> np.ndarray:
        """How many images of each cell are a group of their own, (M,)."""
        return self.counts - self.grouped.sum(0)

    @property
    def group_count(self) -> int:
        """How many groups of images there are; one that is like no other is a group."""
        return int(self.single.sum()) + self.grouped.shape[0]

    @property
    def effective_size(self) -> float:
        """How many independent images these are worth: the first of `effective_sizes`."""
        return float(self.effective_sizes(np.zeros_like(self.labels), 1)[0])

    def effective_sizes(self, parts: np.ndarray, count: int) -> np.ndarray:
        """How many independent images those of each part of the cells, (M,), are worth: (count,).

        By the design effect of clusters whose images are right or wrong together (Kish 1965,
        "Survey sampling"): the number of groups if they are of one size, else fewer.
        """
        own = _one_hot(parts, None, count)
        squares = self.single @ own + (self.grouped @ own).power(2).sum(0)
        return (self.counts @ own) ** 2 / np.maximum(squares, 1)

    @property
    def shares(self) -> dict[str, np.ndarray]:
        """The metrics that are shares of the images: of which cells, (M,)."""
        shares = {"accuracy": self.labels == self.predicted, "top5_accuracy": self.among_five}
        if self.coarse is not None:
            coarse = np.asarray(self.coarse)
            shares["coarse_accuracy"] = coarse[self.labels] == coarse[self.predicted]
        return shares

    @cached_property
    def confusion(self) -> csr_array:
        """(K, K) counts, a row for each class, a column for each predicted one; mostly zeros."""
        places = (self.labels, self.predicted)
        return csr_array((self.counts, places), shape=(self.classes, self.classes))


def _count_by_group(groups: np.ndarray, cells: np.ndarray, count: int) -> csr_array:
    """(B, M): how often each cell occurs in each group of more than one image."""
    _, own, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    several = sizes[own] > 1
    rows = np.unique(own[several], return_inverse=True)[1]
    shape = (int((sizes > 1).sum()), count)
    return csr_array((np.ones(len(rows), int), (rows, cells[several])), shape=shape)


def compute_metrics(
    counted: PredictionCounts, counts: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The metrics in [0, 1] of counts, or of others (..., M) of the same cells: (...,).

    As scikit-learn computes them, F1 to the last bit; it is over the classes that occur as label or
    prediction, balanced accuracy over those that occur as label. `coarse_accuracy` only with a
    hierarchy.
    """
    counts = np.atleast_2d(counted.counts if counts is None else counts)  # (D, M)
    total = counts.sum(-1)
    occurring = np.union1d(counted.labels, counted.predicted)  # zeros between them would round else
    columns = (values[:, occurring] for values in class_metrics(counted, counts))
    precision, recall, f1, support = columns  # (D, C) each
    present = support > 0
    occurs = present | ~np.isnan(precision)
    shares = {name: counts @ cells / total for name, cells in counted.shares.items()}
    return shares | {
        "balanced_accuracy": np.where(present, recall, 0).sum(-1) / present.sum(-1),
        "macro_f1": np.where(occurs, f1, 0).sum(-1) / occurs.sum(-1),
        "weighted_f1": (f1 * support).sum(-1) / total,
    }


def class_metrics(
    counted: PredictionCounts, counts: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall, F1 and support of each class, (..., K); F1 is 0 where undefined.

    Precision is NaN for a class that was never predicted, recall for one that never occurred.
    """
    counts = np.atleast_2d(counted.counts if counts is None else counts)
    right = counted.labels == counted.predicted
    hits = counts @ _one_hot(counted.labels, right, counted.classes)
    support = counts @ _one_hot(counted.labels, None, counted.classes)
    predicted = counts @ _one_hot(counted.predicted, None, counted.classes)
    with np.errstate(invalid="ignore"):
        precision, recall = hits / predicted, hits / support
        f1 = np.nan_to_num(2 * hits / (support + predicted))
    return precision, recall, f1, support


def _one_hot(classes: np.ndarray, kept: np.ndarray | None, count: int) -> csr_array:
    """(M, K): which class each cell counts for."""
    cells = np.arange(len(classes))
    values = np.ones(len(classes)) if kept is None else kept.astype(float)
    return csr_array((values, (cells, classes)), shape=(len(classes), count))


def confused_pairs(confusion: csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Class, predicted class, count and share of the class, (P,) each, of mistakes, by count."""
    support = confusion.sum(1)
    cells = confusion.tocoo()
    mistaken = cells.row != cells.col
    rows, columns, counts = cells.row[mistaken], cells.col[mistaken], cells.data[mistaken]
    shares = counts / np.maximum(support, 1)[rows]
    order = np.lexsort((-shares, -counts))
    return rows[order], columns[order], counts[order], shares[order]


def cluster_order(confusion: np.ndarray) -> np.ndarray:
    """Classes (K,) in an order that puts those next to each other that are confused.

    Average linkage on how often two classes are confused, with optimal leaf order.
    """
    if len(confusion) < 3:
        return np.arange(len(confusion))
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    alike = (shares + shares.T) / 2
    places = np.triu_indices(len(alike), 1)
    few = len(alike) <= 500  # the best order of more takes too long
    return leaves_list(linkage(1 - alike[places], "average", optimal_ordering=few))


# ---- confidence ----


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy in bins of equal width, (BINS,) each; empty bins have NaN."""

    confidence: np.ndarray  # mean of the bin
    accuracy: np.ndarray
    counts: np.ndarray

    @property
    def ece(self) -> float:
        """Expected calibration error in [0, 1]: how far the two are apart, an image on average.

        Naeini et al. 2015; arXiv:1706.04599, equation 3.
        """
        gaps = np.abs(self.confidence - self.accuracy)
        return float(np.nansum(gaps * self.counts) / max(1, self.counts.sum()))


def reliability(confidence: np.ndarray, hits: np.ndarray, *, bins: int = BINS) -> Reliability:
    """Confidences (N,) in [0, 1] and whether each prediction was right (N,), by bins."""
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
    """Accuracy on the share of images with the highest confidence: (coverage, accuracy), (N,).

    Geifman & El-Yaniv 2017, arXiv:1705.08500, figure 1 (risk is 1 - accuracy).
    """
    order = np.argsort(-confidence, kind="stable")
    seen = np.arange(1, len(order) + 1)
    return seen / len(order), np.cumsum(hits[order]) / seen


def accuracy_at_coverage(confidence: np.ndarray, hits: np.ndarray) -> dict[str, float]:
    """Points of the coverage curve by their names: "90%" for the most confident 90 %."""
    coverage, accuracy = coverage_curve(confidence, hits)
    at = np.maximum(1, np.ceil(np.array(COVERAGES) * len(coverage))).astype(int) - 1
    names = [f"{share:.0%}" for share in COVERAGES]
    return dict(zip(names, accuracy[at].tolist(), strict=True))


# ---- out-of-distribution detection, of scores that are higher for what is unknown ----


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """How often an unknown image has a higher OOD score than a known one, in [0, 1].

    By ranks (Mann & Whitney 1947): a thousand draws take a fraction of scikit-learn's time.
    """
    ranks = rankdata(np.r_[unknown, known])[: len(unknown)]
    return float((ranks.mean() - (len(unknown) + 1) / 2) / len(known))


def false_positive_rate(known: np.ndarray, unknown: np.ndarray, *, kept: float = 0.95) -> float:
    """Share of unknown images taken for known where `kept` of the known ones are: FPR@95."""
    return float((unknown <= choose_threshold(known, 1 - kept)).mean())


def roc_points(known: np.ndarray, unknown: np.ndarray, *, points: int = 101) -> np.ndarray:
    """(points, 2): share of unknown taken for known, and share of known kept, by threshold."""
    rates = np.linspace(0, 1, points)
    thresholds = -np.quantile(-known, rates, method="lower")
    taken = (unknown[:, None] <= thresholds).mean(axis=0)
    return np.stack([taken, 1 - rates], axis=1)
