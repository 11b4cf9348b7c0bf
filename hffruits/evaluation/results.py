"""What `metrics.json` holds of one split: the metrics of its predictions, as JSON values."""

from typing import Any

import numpy as np

from hffruits.evaluation.intervals import (
    Interval,
    calibration_interval,
    count_intervals,
    effective_size,
    image_intervals,
    wilson_interval,
)
from hffruits.evaluation.metrics import (
    COVERAGES,
    accuracy_at_coverage,
    auroc,
    class_metrics,
    compute_metrics,
    confused_pairs,
    false_positive_rate,
    reliability,
)
from hffruits.evaluation.predictions import Predictions, reject_rate_of, temperature_of
from hffruits.inference.classifier import FruitClassifier
from hffruits.models.heads import coarse_ids

PAIRS = 20  # of confused classes that are listed


def measure(predictions: Predictions, fruits: FruitClassifier) -> dict[str, Any]:
    """Metrics in [0, 1] of images whose classes the model has, and intervals of 95 %.

    `loss` is the mean cross-entropy; `ece` the expected calibration error; `rejected` the share of
    these known images that the model would reject as unknown, `reject_rate` the share that was
    asked for; `classes` has the metrics of each
    class. The intervals of accuracy at a coverage are of images with that confidence or more.
    """
    counted = predictions.count(len(fruits.labels), coarse_ids(fruits.config))
    size = counted.effective_size
    confidence, hits = predictions.confidence, predictions.hits
    rejected = float((predictions.ood_score > fruits.ood_threshold).mean())
    covered = accuracy_at_coverage(confidence, hits)

    def calibration(rows: np.ndarray) -> dict[str, float]:
        return {
            "ece": reliability(confidence[rows], hits[rows]).ece,
            "ece_uncalibrated": reliability(predictions.uncalibrated[rows], hits[rows]).ece,
        }

    intervals = count_intervals(counted) | {"rejected": wilson_interval(rejected, size)}
    intervals |= image_intervals(calibration, predictions.groups, interval=calibration_interval)
    return {
        "images": len(predictions),
        "group_count": counted.group_count,
        **{name: float(value) for name, (value,) in compute_metrics(counted).items()},
        **calibration(np.arange(len(predictions))),
        "rejected": rejected,
        "reject_rate": reject_rate_of(fruits),
        "intervals": _as_lists(intervals),
        "loss": float(predictions.losses.mean()),
        "temperature": temperature_of(fruits),
        "accuracy_at_coverage": covered,
        "accuracy_at_coverage_intervals": {
            name: list(wilson_interval(accuracy, share * size))
            for share, (name, accuracy) in zip(COVERAGES, covered.items(), strict=True)
        },
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
    sizes = counted.effective_sizes(counted.labels, counted.classes)
    found = {}
    for index, name in enumerate(fruits.labels):
        if support[index] or not np.isnan(precision[index]):
            found[name] = {
                "precision": _number(precision[index]),
                "recall": _number(recall[index]),
                "recall_interval": list(wilson_interval(recall[index], sizes[index])),
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
    rejected = float((unknown.ood_score > fruits.ood_threshold).mean())

    def separation(rows: np.ndarray, others: np.ndarray) -> dict[str, float]:
        scores = known.ood_score[rows], unknown.ood_score[others]
        return {"auroc": auroc(*scores), "fpr95": false_positive_rate(*scores)}

    intervals = image_intervals(separation, known.groups, unknown.groups)
    intervals["rejected"] = wilson_interval(rejected, effective_size(unknown.groups))
    return {
        "images": len(unknown),
        **separation(np.arange(len(known)), np.arange(len(unknown))),
        "rejected": rejected,
        "intervals": _as_lists(intervals),
    }


def _as_lists(intervals: dict[str, Interval]) -> dict[str, list[float]]:
    return {name: list(ends) for name, ends in intervals.items()}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
