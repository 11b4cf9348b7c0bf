"""Predictions as the figures of `metrics.json`: with intervals, by class, calibrated or not."""

from typing import Any

import numpy as np

from hffruits.evaluation.calibration import coverage_curve
from hffruits.evaluation.predictions import Predictions, temperature_of
from hffruits.evaluation.tally import by_class, figures, intervals, wilson
from hffruits.inference.classifier import FruitClassifier
from hffruits.inference.ood import auroc, false_positive_rate
from hffruits.models.heads import coarse_ids

PAIRS = 20  # of confused classes that are listed
COVERAGES = (0.5, 0.7, 0.8, 0.9, 0.95, 1.0)


def measure(predictions: Predictions, fruits: FruitClassifier) -> dict[str, Any]:
    """Figures in [0, 1] of pictures whose classes the model has, and intervals of 95 %.

    `loss` is the mean cross-entropy; `ece` the expected calibration error; `refused` the share of
    these known pictures that the model would refuse; `classes` has the figures of each class.
    """
    tally = predictions.tally(len(fruits.labels), coarse_ids(fruits.config))
    names = figures(tally)
    sure, right = coverage_curve(predictions.confidence, predictions.hits)
    at = np.maximum(1, np.ceil(np.array(COVERAGES) * len(sure))).astype(int) - 1
    return {
        "images": len(predictions),
        **{name: float(value) for name, (value,) in names.items()},
        "intervals": {name: list(limits) for name, limits in intervals(tally).items()},
        "loss": float(predictions.losses.mean()),
        "ece": predictions.reliability().ece,
        "ece_uncalibrated": predictions.reliability(calibrated=False).ece,
        "temperature": temperature_of(fruits),
        "refused": float((predictions.familiar < fruits.reject_below).mean()),
        "accuracy_at_coverage": dict(
            zip([f"{share:.0%}" for share in COVERAGES], right[at].tolist(), strict=True)
        ),
        "classes": class_figures(predictions, fruits),
        "most_confused": confused_pairs(predictions, fruits.labels),
        "skipped": list(predictions.skipped),
    }


def class_figures(predictions: Predictions, fruits: FruitClassifier) -> dict[str, dict[str, Any]]:
    """Precision, recall (with Wilson's interval), F1 and support of each class that occurs.

    Precision is None for a class that is never named, recall for one that is only named.
    """
    tally = predictions.tally(len(fruits.labels), None)
    precision, recall, f1, support = (values[0] for values in by_class(tally))
    hits = tally.confusion.diagonal()
    found = {}
    for index, name in enumerate(fruits.labels):
        if support[index] or not np.isnan(precision[index]):
            found[name] = {
                "precision": _number(precision[index]),
                "recall": _number(recall[index]),
                "recall_interval": list(wilson(hits[index], support[index])),
                "f1": float(f1[index]),
                "support": int(support[index]),
            }
    return found


def confused_pairs(predictions: Predictions, names: list[str]) -> list[dict[str, Any]]:
    """What is taken for what, most often first: how many, and which share of the class."""
    confusion = predictions.tally(len(names), None).confusion
    support = confusion.sum(1)
    cells = confusion.tocoo()
    mistaken = cells.row != cells.col
    rows, columns, counts = cells.row[mistaken], cells.col[mistaken], cells.data[mistaken]
    shares = counts / np.maximum(support, 1)[rows]
    return [
        {
            "class": names[rows[i]],
            "taken_for": names[columns[i]],
            "images": int(counts[i]),
            "share": float(shares[i]),
        }
        for i in np.lexsort((-shares, -counts))[:PAIRS]
    ]


def measure_unknown(
    known: Predictions, unknown: Predictions, fruits: FruitClassifier
) -> dict[str, float]:
    """How well pictures of what the model doesn't have are told from those of what it has."""
    return {
        "images": len(unknown),
        "auroc": auroc(known.familiar, unknown.familiar),
        "fpr95": false_positive_rate(known.familiar, unknown.familiar),
        "refused": float((unknown.familiar < fruits.reject_below).mean()),
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
