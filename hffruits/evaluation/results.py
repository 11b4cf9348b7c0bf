"""What `metrics.json` holds of one split: the metrics of its predictions, as JSON values."""

from typing import Any

import numpy as np

from hffruits.evaluation.metrics import (
    accuracy_at_coverage,
    auroc,
    bootstrap_intervals,
    class_metrics,
    compute_metrics,
    confused_pairs,
    false_positive_rate,
    wilson_interval,
)
from hffruits.evaluation.predictions import Predictions, temperature_of
from hffruits.inference.classifier import FruitClassifier
from hffruits.models.heads import coarse_ids

PAIRS = 20  # of confused classes that are listed


def measure(predictions: Predictions, fruits: FruitClassifier) -> dict[str, Any]:
    """Figures in [0, 1] of images whose classes the model has, and intervals of 95 %.

    `loss` is the mean cross-entropy; `ece` the expected calibration error; `rejected` the share of
    these known images that the model would reject as unknown; `classes` has the metrics of each
    class.
    """
    answers = predictions.answer_counts(len(fruits.labels), coarse_ids(fruits.config))
    return {
        "images": len(predictions),
        **{name: float(value) for name, (value,) in compute_metrics(answers).items()},
        "intervals": {name: list(ends) for name, ends in bootstrap_intervals(answers).items()},
        "loss": float(predictions.losses.mean()),
        "ece": predictions.reliability().ece,
        "ece_uncalibrated": predictions.reliability(calibrated=False).ece,
        "temperature": temperature_of(fruits),
        "rejected": _rejected(predictions, fruits),
        "accuracy_at_coverage": accuracy_at_coverage(predictions.confidence, predictions.hits),
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
    answers = predictions.answer_counts(len(fruits.labels), None)
    precision, recall, f1, support = (values[0] for values in class_metrics(answers))
    hits = answers.confusion.diagonal()
    found = {}
    for index, name in enumerate(fruits.labels):
        if support[index] or not np.isnan(precision[index]):
            found[name] = {
                "precision": _number(precision[index]),
                "recall": _number(recall[index]),
                "recall_interval": list(wilson_interval(hits[index], support[index])),
                "f1": float(f1[index]),
                "support": int(support[index]),
            }
    return found


def most_confused(predictions: Predictions, names: list[str]) -> list[dict[str, Any]]:
    """Which class is predicted as which, most often first: how many, and what share of it."""
    pairs = confused_pairs(predictions.answer_counts(len(names), None).confusion)
    return [
        {
            "class": names[label],
            "predicted": names[guess],
            "images": int(count),
            "share": float(share),
        }
        for label, guess, count, share in list(zip(*pairs, strict=True))[:PAIRS]
    ]


def measure_unknown(
    known: Predictions, unknown: Predictions, fruits: FruitClassifier
) -> dict[str, float]:
    """How well the OOD score separates images of what the model doesn't have from known ones."""
    return {
        "images": len(unknown),
        "auroc": auroc(known.ood_score, unknown.ood_score),
        "fpr95": false_positive_rate(known.ood_score, unknown.ood_score),
        "rejected": _rejected(unknown, fruits),
    }


def _rejected(predictions: Predictions, fruits: FruitClassifier) -> float:
    return float((predictions.ood_score > fruits.ood_threshold).mean())


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
