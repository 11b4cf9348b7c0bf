"""What `metrics.json` holds of one split: the metrics of its predictions, as JSON values."""

from typing import Any

import numpy as np

from hffruits.evaluation.intervals import (
    Interval,
    bootstrap_intervals,
    image_intervals,
    wilson_interval,
)
from hffruits.evaluation.metrics import (
    accuracy_at_coverage,
    auroc,
    class_metrics,
    compute_metrics,
    confused_pairs,
    false_positive_rate,
    reliability,
)
from hffruits.evaluation.predictions import Predictions, temperature_of
from hffruits.inference.classifier import FruitClassifier
from hffruits.models.heads import coarse_ids

PAIRS = 20  # of confused classes that are listed


def measure(predictions: Predictions, fruits: FruitClassifier) -> dict[str, Any]:
    """Metrics in [0, 1] of images whose classes the model has, and intervals of 95 %.

    `loss` is the mean cross-entropy; `ece` the expected calibration error; `rejected` the share of
    these known images that the model would reject as unknown; `classes` has the metrics of each
    class.
    """
    counted = predictions.count(len(fruits.labels), coarse_ids(fruits.config))
    rejected = predictions.ood_score > fruits.ood_threshold
    confidence, hits = predictions.confidence, predictions.hits

    def calibration(rows: np.ndarray) -> dict[str, float]:
        return {
            "ece": reliability(confidence[rows], hits[rows]).ece,
            "ece_uncalibrated": reliability(predictions.uncalibrated[rows], hits[rows]).ece,
            "rejected": float(rejected[rows].mean()),
        }

    def at_coverage(rows: np.ndarray) -> dict[str, float]:
        return accuracy_at_coverage(confidence[rows], hits[rows])

    of_images = image_intervals(
        lambda rows: calibration(rows) | at_coverage(rows), predictions.groups
    )
    every = np.arange(len(predictions))
    covered = at_coverage(every)
    coverage_intervals = {name: of_images.pop(name) for name in covered}
    return {
        "images": len(predictions),
        "groups": counted.groups,
        **{name: float(value) for name, (value,) in compute_metrics(counted).items()},
        **calibration(every),
        "intervals": _as_lists(bootstrap_intervals(counted) | of_images),
        "loss": float(predictions.losses.mean()),
        "temperature": temperature_of(fruits),
        "accuracy_at_coverage": covered,
        "accuracy_at_coverage_intervals": _as_lists(coverage_intervals),
        "classes": class_figures(predictions, fruits),
        "most_confused": most_confused(predictions, fruits.labels),
        "skipped": list(predictions.skipped),
    }


def format_accuracy(measured: dict[str, Any]) -> str:
    """The accuracy of one split and its interval, for a line of text."""
    low, high = measured["intervals"]["accuracy"]
    return f"accuracy {measured['accuracy']:.1%} ({low:.1%} to {high:.1%})"


def class_figures(predictions: Predictions, fruits: FruitClassifier) -> dict[str, dict[str, Any]]:
    """Precision, recall (with Wilson's interval), F1 and support of each class that occurs.

    Precision is None for a class that is never predicted, recall for one that is only predicted.
    """
    counted = predictions.count(len(fruits.labels))
    precision, recall, f1, support = (values[0] for values in class_metrics(counted))
    own_groups = np.unique(np.stack([predictions.labels, predictions.groups]), axis=1)[0]
    groups = np.bincount(own_groups, minlength=len(fruits.labels))
    found = {}
    for index, name in enumerate(fruits.labels):
        if support[index] or not np.isnan(precision[index]):
            found[name] = {
                "precision": _number(precision[index]),
                "recall": _number(recall[index]),
                "recall_interval": list(wilson_interval(recall[index], groups[index])),
                "f1": float(f1[index]),
                "support": int(support[index]),
            }
    return found


def most_confused(predictions: Predictions, names: list[str]) -> list[dict[str, Any]]:
    """Which class is predicted as which, most often first: how many, and what share of it."""
    pairs = confused_pairs(predictions.count(len(names)).confusion)
    return [
        {
            "class": names[label],
            "predicted": names[predicted],
            "images": int(count),
            "share": float(share),
        }
        for label, predicted, count, share in list(zip(*pairs, strict=True))[:PAIRS]
    ]


def measure_unknown(
    known: Predictions, unknown: Predictions, fruits: FruitClassifier
) -> dict[str, Any]:
    """How well the OOD score separates images of what the model doesn't have from known ones."""
    rejected = unknown.ood_score > fruits.ood_threshold

    def of_images(rows: np.ndarray, others: np.ndarray) -> dict[str, float]:
        scores = known.ood_score[rows], unknown.ood_score[others]
        return {
            "auroc": auroc(*scores),
            "fpr95": false_positive_rate(*scores),
            "rejected": float(rejected[others].mean()),
        }

    return {
        "images": len(unknown),
        **of_images(np.arange(len(known)), np.arange(len(unknown))),
        "intervals": _as_lists(image_intervals(of_images, known.groups, unknown.groups)),
    }


def _as_lists(intervals: dict[str, Interval]) -> dict[str, list[float]]:
    return {name: list(ends) for name, ends in intervals.items()}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
