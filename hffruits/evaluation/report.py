"""The evaluation report: predictions as plain values and small images for `evaluate.html.jinja`.

What is to be shown is chosen here, its appearance by the template. A part that can't be made is
left out, with a warning.
"""

import base64
import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hffruits.core.counts import counted
from hffruits.core.errors import InputError, optional_output
from hffruits.core.html import part_of, render_page, thumbnail_uri
from hffruits.core.names import list_counts, list_names, public_name
from hffruits.core.plots import MOST_NAMED, draw_evaluation, drawable
from hffruits.core.progress import progress_bar
from hffruits.data.samples import origin_of
from hffruits.evaluation.metrics import (
    Reliability,
    cluster_order,
    coverage_curve,
    roc_points,
)
from hffruits.evaluation.predictions import Predictions
from hffruits.inference.classifier import Explanation, FruitClassifier

TEMPLATE = Path(__file__).with_name("templates") / "evaluate.html.jinja"

PAIRS, MISTAKEN = 8, 4  # confused classes, and photos of each
GALLERY = 18
THUMB = 168  # pixels
READINGS = (1.0, 0.9, 0.8, 0.5)  # coverages whose accuracy is printed
MOST_CLASSES = 1000  # that a confusion matrix shows
FEW = 10  # photos of a class, below which its metrics say little
METRIC_TITLES = {
    "accuracy": ("Accuracy", "The top prediction is correct."),
    "coarse_accuracy": ("Coarse accuracy", "At least its group (the coarse class) is correct."),
    "top5_accuracy": ("Top-5", "The correct class is among the top five predictions."),
    "balanced_accuracy": ("Balanced accuracy", "Mean of the classes' recall."),
    "macro_f1": ("Macro F1", "Mean of the classes' F1: each class counts the same."),
    "weighted_f1": ("Weighted F1", "The same, weighted by the classes' photos."),
}

RowOpener = Callable[[int], Image.Image | None]  # a row of the predictions -> its image


def write_report(
    file: Path,
    fruits: FruitClassifier,
    known: Predictions,
    record: dict[str, Any],
    *,
    opener: RowOpener | None,
    seconds: float,
    unknown: dict[str, Predictions] | None = None,
    log: list[dict[str, Any]],
    best_epoch: float | None = None,
) -> None:
    """The page of one split: `record` is what `metrics.json` holds of it.

    `known` are predictions of classes that the model has, `unknown` of others, by name.
    """
    gallery = Gallery(fruits, known, opener, page=file)
    config, size = fruits.config, fruits.input_size
    calibration = getattr(config, "calibration", None) or {}
    content = {
        "title": f"{short_name(record['model'])} on {Path(record['data']).name}",
        "source": record["data"],
        "created": record["created"],
        "version": record["version"],
        "command": record["command"],
        "origin": origin_of(record["data"]),
        "split": record["split"],
        "model": {
            "name": short_name(record["model"]),
            "classes": len(fruits.labels),
            "parameters": fruits.engine.parameters,
            "megabytes": fruits.engine.megabytes,
            "input_size": f"{size[1]} x {size[0]}",
            "backbone": getattr(config, "architecture", None) or config.model_type,
        },
        "summary": {
            "images": len(known),
            "group_count": record["group_count"],
            "skipped": len(record["skipped"]),
            "seconds": seconds,
            "images_per_second": record["images_per_second"],
            "device": str(fruits.device),
            "tta": list(fruits.tta),
        },
        "notes": advice(record, record["split"], fruits.labels),
        "metrics": figures_shown(record),
        "classes": classes_shown(record, getattr(config, "coarse_labels", None)),
        "confusion": confusion_shown(known, fruits.labels),
        "pairs": part_of(
            file, "confused pairs", partial(gallery.pairs, record["most_confused"]), []
        ),
        "mistakes": part_of(file, "mistakes", gallery.mistakes, []),
        "doubtful": part_of(file, "doubtful photos", gallery.doubtful, []),
        "history": part_of(file, "curves", partial(history_shown, log, best_epoch), None),
        "calibration": {
            "temperature": record["temperature"],
            "images": calibration.get("images"),
            "ece_before": record["ece_uncalibrated"],
            "ece_after": record["ece"],
            "interval_before": record["intervals"]["ece_uncalibrated"],
            "interval_after": record["intervals"]["ece"],
            "before": reliability_shown(known.reliability(calibrated=False)),
            "after": reliability_shown(known.reliability()),
        },
        "coverage": {"points": coverage_shown(known), "readings": readings_shown(record)},
        "unknowns": unknowns_shown(
            fruits,
            known,
            {name: (some, record["unknown"][name]) for name, some in (unknown or {}).items()},
            record,
            calibration.get("reject_rate", 0.0),
        ),
        "corruptions": record.get("corruptions"),
    }
    render_page(TEMPLATE, content, file)


def short_name(model: str | Path) -> str:
    """A model as a title names it: its public name, of which the last two parts."""
    return "/".join(Path(public_name(model)).parts[-2:])


def exceeds_rate(measured: dict[str, Any]) -> bool:
    """Whether more known photos are reported as unknown than was asked for, beyond chance."""
    low, _ = measured["intervals"]["rejected"]
    return low > measured["reject_rate"] > 0


def draw_summary(file: Path, known: Predictions, names: Sequence[str], *, split: str) -> None:
    """The confusion matrix and the reliability diagram of one split, for a model card."""
    matrix, used, occur = _clustered(known, names)
    drawn = drawable(names) if len(used) <= MOST_NAMED else names
    shown_as = dict(zip(names, drawn, strict=True))
    most = f"; the {len(used):,} of {occur:,} classes confused most" if len(used) < occur else ""
    diagrams = {
        "after calibration": known.reliability(),
        "before calibration": known.reliability(calibrated=False),
    }
    shown = {}
    for name, diagram in diagrams.items():
        filled = diagram.counts > 0
        columns = (diagram.confidence, diagram.accuracy, diagram.counts)
        shown[name] = tuple(column[filled] for column in columns)
    draw_evaluation(
        _colours(matrix),
        [shown_as[name] for name in used],
        shown,
        title=f"{counted(len(known), f'{split} image')}{most}",
        file=file,
    )


def figures_shown(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """The metrics with their intervals."""
    return [
        {"name": name, "help": help, "value": measured[key]}
        | dict(zip(("low", "high"), measured["intervals"][key], strict=True))
        for key, (name, help) in METRIC_TITLES.items()
        if key in measured
    ]


def classes_shown(measured: dict[str, Any], coarse: dict[str, str] | None) -> list[dict[str, Any]]:
    """The metrics of each class."""
    rows = []
    for name, own in measured["classes"].items():
        low, high = own["recall_interval"]
        kind = (coarse or {}).get(name)
        row = {key: own[key] for key in ("support", "precision", "recall", "f1")}
        kinds = {"name": name, "coarse": kind if kind != name else None}
        rows.append(kinds | row | {"recall_low": low, "recall_high": high})
    return rows


def confusion_shown(predictions: Predictions, names: Sequence[str]) -> dict[str, Any]:
    """The confusion matrix as an image, classes that are confused side by side."""
    matrix, order, occur = _clustered(predictions, names)
    rows, columns = np.nonzero(matrix)
    cells = [[int(r), int(c), int(matrix[r, c])] for r, c in zip(rows, columns, strict=True)]
    return {
        "order": order,
        "classes": occur,
        "image": _png_uri(_colours(matrix)),
        "cells": cells,
    }


def _clustered(predictions: Predictions, names: Sequence[str]) -> tuple[np.ndarray, list[str], int]:
    """Counts by class and prediction, of classes that occur, these in their order, and how many.

    Of very many classes, those that are confused most have their counts.
    """
    matrix = predictions.count(len(names)).confusion
    seen = matrix.sum(0) + matrix.sum(1)
    mistaken = seen - 2 * matrix.diagonal()
    occur = np.flatnonzero(seen)
    used = np.sort(occur[np.argsort(-mistaken[occur], kind="stable")][:MOST_CLASSES])
    matrix = matrix[used][:, used].toarray()
    order = cluster_order(matrix)
    return matrix[np.ix_(order, order)], [names[used[place]] for place in order], len(occur)


def _colours(matrix: np.ndarray) -> np.ndarray:
    """(K, K, 4): hits in green, mistakes in orange, more opaque by their share of the class.

    The root shows the rare ones; where there is nothing, the page shows through.
    """
    shares = np.sqrt(matrix / np.maximum(matrix.sum(1, keepdims=True), 1))
    right = np.eye(len(matrix), dtype=bool)[..., None]
    colours = np.where(right, [79, 143, 60], [232, 100, 26])
    return np.dstack([colours, 255 * shares]).round().astype(np.uint8)


def _png_uri(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def reliability_shown(diagram: Reliability) -> list[dict[str, Any]]:
    edges = np.linspace(0, 1, len(diagram.counts) + 1)
    return [
        {
            "low": float(edges[i]),
            "high": float(edges[i + 1]),
            "confidence": float(diagram.confidence[i]) if count else None,
            "accuracy": float(diagram.accuracy[i]) if count else None,
            "count": int(count),
        }
        for i, count in enumerate(diagram.counts)
    ]


def coverage_shown(predictions: Predictions, points: int = 200) -> list[list[float]]:
    coverage, accuracy = coverage_curve(predictions.confidence, predictions.hits)
    rows = np.unique(np.linspace(0, len(coverage) - 1, min(points, len(coverage))).astype(int))
    return np.stack([coverage[rows], accuracy[rows]], axis=1).tolist()


def readings_shown(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """The accuracy at some coverages, with its interval."""
    readings = []
    for share in READINGS:
        accuracy = measured["accuracy_at_coverage"][f"{share:.0%}"]
        low, high = measured["accuracy_at_coverage_intervals"][f"{share:.0%}"]
        readings.append({"share": share, "accuracy": accuracy, "low": low, "high": high})
    return readings


def unknowns_shown(
    fruits: FruitClassifier,
    known: Predictions,
    unknown: dict[str, tuple[Predictions, dict[str, Any]]],
    measured: dict[str, Any],
    rate: float,
) -> dict[str, Any] | None:
    """OOD scores of known and unknown photos; None for a model that rejects nothing as unknown."""
    if fruits.prototypes is None:
        return None
    scores = [known.ood_score, *(some.ood_score for some, _ in unknown.values())]
    low, high = (float(limit) for limit in np.quantile(np.concatenate(scores), [0, 0.999]))
    edges = np.linspace(min(low, high - 1e-3), max(high, fruits.ood_threshold), 33)

    def histogram(values: np.ndarray) -> list[int]:
        return np.histogram(values.clip(edges[0], edges[-1]), edges)[0].tolist()

    return {
        "rate": rate,
        "exceeds": exceeds_rate(measured),
        "threshold": fruits.ood_threshold,
        "rejected": measured["rejected"],
        "rejected_interval": measured["intervals"]["rejected"],
        "edges": edges.tolist(),
        "known_hist": histogram(known.ood_score),
        "sets": [
            {"name": name, **figures, "hist": histogram(some.ood_score)}
            | {"roc": roc_points(known.ood_score, some.ood_score).tolist()}
            for name, (some, figures) in unknown.items()
        ],
    }


def history_shown(log: list[dict[str, Any]], best_epoch: float | None) -> dict[str, Any] | None:
    """Learning curves out of the Trainer's log; None where it has no validation."""
    validations = [row for row in log if "eval_loss" in row]
    losses = [row for row in log if "loss" in row]
    if not validations:
        return None
    start, train = 0.0, []
    for row in validations:  # the mean loss since the last one
        own = [r["loss"] for r in losses if start < r["epoch"] <= row["epoch"] + 1e-6]
        train.append(float(np.mean([float(loss) for loss in own])) if own else None)
        start = row["epoch"]
    return {
        "epochs": [row["epoch"] for row in validations],
        "train_loss": train,
        "val_loss": [float(row["eval_loss"]) for row in validations],
        "val_accuracy": [float(row["eval_accuracy"]) for row in validations],
        "rates": [[row["epoch"], float(row["learning_rate"])] for row in losses],
        "best_epoch": best_epoch,
    }


def advice(measured: dict[str, Any], split: str, labels: Sequence[str]) -> list[str]:
    """Sentences on what to keep in mind."""
    notes = []
    few = [name for name, own in measured["classes"].items() if 0 < own["support"] < FEW]
    if few:
        count = counted(len(few), "class has", "classes have")
        notes.append(f"{count} fewer than {FEW} photos here: their metrics are unreliable.")
    if measured.get("trained_on"):
        notes.append(
            f"The model was trained on {measured['trained_on']} of these photos: its metrics are "
            "too optimistic."
        )
    if other := measured.get("unknown_classes"):
        listed = ", ".join(f"{name} ({count})" for name, count in list(other.items())[:8])
        notes.append(f"The model has no such classes, so they count as unknown: {listed}.")
    absent = [name for name, own in measured["classes"].items() if not own["support"]]
    if absent:
        notes.append(
            f"Predicted, but without photos: {', '.join(absent[:8])}. They count as 0 in macro F1."
        )
    shown = {name for name, own in measured["classes"].items() if own["support"]}
    if unseen := [name for name in labels if name not in shown]:
        notes.append(
            f"No photo here shows {len(unseen)} of the model's {len(labels)} classes, so they are "
            f"not measured: {list_names(unseen, 20)}."
        )
    if dropped := measured["dropped_classes"]:
        notes.append(
            "The model doesn't have the classes that training left out, as they have too few "
            f"photos: {list_counts(dropped)}."
        )
    if exceeds_rate(measured):
        notes.append(
            f"{measured['rejected']:.1%} of these photos are reported as unknown though the model "
            f"has their classes, and {100 * measured['reject_rate']:g}% was asked for: they "
            "probably differ from those that its threshold was set on."
        )
    if split == "validation":
        notes.append(
            "Validation chose the epoch and calibrated the confidence: these metrics are slightly "
            "too optimistic. A test split would be fairer."
        )
    low, high = measured["intervals"]["accuracy"]
    if high - low > 0.1:
        notes.append(
            f"With {counted(measured['images'], 'photo')} the accuracy is only known to about "
            f"{50 * (high - low):.0f} points either way. More photos would narrow it."
        )
    return notes


class Gallery:
    """Thumbnails of the predictions, with saliency maps."""

    def __init__(
        self,
        fruits: FruitClassifier,
        predictions: Predictions,
        opener: RowOpener | None,
        *,
        page: Path,
    ):
        self.fruits, self.predictions, self.opener, self.page = fruits, predictions, opener, page
        self.explains = True  # until it fails: the next photo's heatmap would fail as well

    def mistakes(self) -> list[dict[str, Any]]:
        """The most confident ones."""
        wrong = np.flatnonzero(~self.predictions.hits)
        rows = wrong[np.argsort(-self.predictions.confidence[wrong], kind="stable")][:GALLERY]
        bar = progress_bar(rows, "Drawing mistakes", unit="img", leave=False)
        return [self._photo(row, heat=True) for row in bar]

    def doubtful(self) -> list[dict[str, Any]]:
        """The least confident hits."""
        right = np.flatnonzero(self.predictions.hits)
        rows = right[np.argsort(self.predictions.confidence[right], kind="stable")][:GALLERY]
        return [self._photo(row) for row in rows]

    def pairs(self, confused: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The classes most often confused, beside usual photos of both."""
        shown, names = [], self.fruits.labels
        labels, predicted = self.predictions.labels, self.predictions.predicted
        for pair in confused[:PAIRS]:
            truth, other = names.index(pair["class"]), names.index(pair["predicted"])
            rows = np.flatnonzero((labels == truth) & (predicted == other))
            rows = rows[np.argsort(-self.predictions.confidence[rows], kind="stable")][:MISTAKEN]
            shown.append(
                {
                    "truth": pair["class"],
                    "predicted": pair["predicted"],
                    "count": pair["images"],
                    "share": pair["share"],
                    "mistaken": [self._photo(row) for row in rows],
                    "truth_sample": self._usual(truth),
                    "predicted_sample": self._usual(other),
                }
            )
        return shown

    def _usual(self, label: int) -> dict[str, Any] | None:
        """The photo of a class with the highest confidence."""
        rows = np.flatnonzero((self.predictions.labels == label) & self.predictions.hits)
        if not len(rows):
            return None
        return self._photo(rows[np.argmax(self.predictions.confidence[rows])])

    def _photo(self, row: int, *, heat: bool = False) -> dict[str, Any]:
        names, predictions = self.fruits.labels, self.predictions
        image = self.opener(int(row)) if self.opener else None
        heat = heat and self.explains and image is not None
        seen = self._explain(image, int(predictions.predicted[row])) if heat else None
        shown = seen.image if seen else image
        return {
            "path": predictions.paths[row],
            "thumb": shown and thumbnail_uri(shown, THUMB),
            "heat": seen and thumbnail_uri(seen.overlay(), THUMB),
            "truth": names[predictions.labels[row]],
            "predicted": names[predictions.predicted[row]],
            "score": float(predictions.confidence[row]),
            "known": bool(predictions.ood_score[row] <= self.fruits.ood_threshold),
        }

    def _explain(self, image: Image.Image, label: int) -> Explanation | None:
        self.explains = False
        with optional_output(f"{self.page}, heatmaps", remedy="The photos are shown."):
            try:
                seen = self.fruits.explain(image, self.fruits.labels[label])
            except InputError:  # a net without maps
                return None
            self.explains = True
            return seen
        return None
