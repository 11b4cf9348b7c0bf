"""Two models on the same photos: which is better, by how much, and whether that may be chance."""

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from scipy.stats import binomtest, false_discovery_control

from hffruits import __version__
from hffruits.core.claims import claims_output_dir
from hffruits.core.counts import counted
from hffruits.core.distributed import on_main_process
from hffruits.core.errors import InputError, optional_output
from hffruits.core.files import translate_open_errors, warn_if_replaced, write_json
from hffruits.core.html import part_of, render_page, thumbnail_uri
from hffruits.core.names import match_names, name_key
from hffruits.core.results import Result
from hffruits.data.arguments import DataArguments
from hffruits.data.samples import origin_of
from hffruits.evaluation.dataset import Photos, choose_photos
from hffruits.evaluation.intervals import LEVEL, draw_counts, percentile_interval
from hffruits.evaluation.metrics import PredictionCounts, compute_metrics
from hffruits.evaluation.predictions import Predictions, predict_samples, split_unknown
from hffruits.evaluation.report import METRIC_TITLES, THUMB, RowOpener, short_name
from hffruits.evaluation.run import check_output_dir
from hffruits.evaluation.run_data import (
    count_training_images,
    data_of_run,
    refuse_training_options,
)
from hffruits.inference.classifier import FruitClassifier, open_classifier
from hffruits.models.heads import coarse_ids

TEMPLATE = Path(__file__).with_name("templates") / "compare.html.jinja"
PAGE = "compare.html"
RECORD = "compare.json"
GALLERY = 18


@dataclass(frozen=True)
class McNemar:
    """How two models' predictions for the same images differ. McNemar 1947, exact test.

    Images of one group, which are not independent, count as one: for the model that has more of
    them right. Where each is its own, that is McNemar's test.
    """

    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    groups_a: int  # in which model A has more images right
    groups_b: int

    @classmethod
    def of(cls, hits_a: np.ndarray, hits_b: np.ndarray, groups: np.ndarray) -> "McNemar":
        """Of hits (N,) each, and numbers (N,) that are equal for images of one group."""
        gains = hits_b.astype(int) - hits_a  # (N,)
        by_group = np.bincount(np.unique(groups, return_inverse=True)[1], gains)
        return cls(
            both_right=int((hits_a & hits_b).sum()),
            only_a=int((gains < 0).sum()),
            only_b=int((gains > 0).sum()),
            both_wrong=int((~hits_a & ~hits_b).sum()),
            groups_a=int((by_group < 0).sum()),
            groups_b=int((by_group > 0).sum()),
        )

    @property
    def p_value(self) -> float:
        """How often chance would give a difference as large, if the two were as good."""
        changed = self.groups_a + self.groups_b
        return float(binomtest(self.groups_b, changed).pvalue) if changed else 1.0


class Comparison(Result):
    """What `compare` has found, and the folder with `compare.json` and `compare.html`."""

    PAGE = PAGE

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Figure -> values of both models (`a`, `b`), their `difference`, and its 95 % interval."""
        return self.record["metrics"]

    @property
    def verdict(self) -> str:
        """Which model is better, if any, in a sentence or two."""
        return self.record["verdict"]

    @property
    def summary(self) -> str:
        return self.verdict


@claims_output_dir
def compare(
    model_a: str | Path,
    model_b: str | Path,
    data: DataArguments | str | Path | None = None,
    *,
    output_dir: str | Path = "comparison",
    split: str | None = None,
    batch_size: int = 32,
    command: str | None = None,
    **data_options: Any,
) -> Comparison:
    """Compare two trained models photo by photo: is the difference more than chance?

    Writes `compare.json` and `compare.html` to `output_dir`. McNemar's exact test on the photos
    that one model has right and the other wrong (Psychometrika 12, 1947); paired bootstrap
    intervals for the differences. In both, near-duplicates (or what `group_by` names) count as one.

    Args:
        model_a: a folder that training or export wrote, or a Hub id.
        model_b: another one, with the same classes.
        data: labelled photos, as for `load_fruits`; None for those that model B's run held out.
        output_dir: a folder for the results, not a model's own; made if it is new.
        split: "train", "validation" or "test"; by default as in `evaluate`.
        batch_size: photos a step.
        command: the command line that asked for this, for the record.
        **data_options: fields of `DataArguments`.

    Returns:
        A `Comparison`: `metrics`, `verdict`, `report`, `folder`. Figures are in [0, 1].

    Raises:
        InputError: for models that don't have the same classes, and for anything wrong with the
            data.

    >>> import hffruits
    >>> comparison = hffruits.compare("runs/fruits", "runs/fruits", "fruits")
    >>> comparison
    Comparison(comparison: No difference can be shown: each of 20 photos is predicted right ...)
    >>> comparison.metrics["accuracy"]["difference"]
    0.0
    """
    data_args = DataArguments.of(data, function=compare, **data_options)
    refuse_training_options(data_args)
    output_dir = Path(output_dir).expanduser()
    own = data_of_run(model_b, data_args)
    data_args = own.data_args
    check_output_dir(data_args, output_dir)
    models = [open_classifier(model) for model in (model_a, model_b)]
    labels = models[0].labels
    if set(map(name_key, labels)) != set(map(name_key, models[1].labels)):
        extra = sorted(set(labels) ^ set(models[1].labels))
        raise InputError(
            f"{model_a}, {model_b}: not the same classes ({', '.join(extra[:3])}). Compare models "
            "of one set of classes."
        )
    warn_if_replaced(output_dir / RECORD)
    predicted, seconds = [], []
    for fruits in models:
        photos = on_main_process(
            lambda names=fruits.labels: choose_photos(data_args, names, split, held_out_by=own.seed)
        )
        started = time.monotonic()
        options = {"batch_size": batch_size, "max_pixels": data_args.max_image_pixels}
        predictions = predict_samples(fruits, photos.samples(), total=photos.total, **options)
        seconds.append(time.monotonic() - started)
        predicted.append(_in_order(split_unknown(predictions)[0], fruits.labels, labels))
    a, b = predicted
    if a.paths != b.paths:
        raise InputError(f"{data_args.source_name}: changed while it was read. Compare again.")
    if not len(a):
        raise InputError(f"{data_args.source_name}: none of its photos can be read. Check them.")
    test = McNemar.of(a.hits, b.hits, a.groups)
    record = {
        "a": str(model_a),
        "b": str(model_b),
        "data": data_args.source_name,
        "split": photos.split,
        "images": len(a),
        "trained_on": {
            side: count_training_images(model, data_args, a, photos.digests)
            for side, model in {"a": model_a, "b": model_b}.items()
        },
        "metrics": compare_figures(a, b, labels, coarse_ids(models[0].config)),
        "mcnemar": {**vars(test), "p_value": test.p_value},
        "classes": compare_classes(a, b, labels),
        "command": command,
        "created": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "version": __version__,
    }
    record["verdict"] = verdict_of(record)
    if any(record["trained_on"].values()):
        record["verdict"] += " But they were trained on some of these photos."
    with translate_open_errors(output_dir):
        on_main_process(lambda: write_json(output_dir / RECORD, record))
    if PartialState().is_main_process:
        page = output_dir / PAGE
        with optional_output(page, remedy=f"{RECORD} next to it has the metrics."):
            show(record, models, predicted, seconds, photos, page)
    return Comparison(output_dir, record)


def _in_order(predictions: Predictions, own: list[str], labels: list[str]) -> Predictions:
    """The predictions with classes numbered as in `labels`."""
    names = match_names(own, labels)
    places = np.array([labels.index(names[name]) for name in own], np.int32)
    columns = vars(predictions) | {
        "labels": places[predictions.labels],
        "ranked": places[predictions.ranked],
    }
    return Predictions(**columns)


def compare_figures(
    a: Predictions, b: Predictions, labels: list[str], coarse: list[int] | None
) -> dict[str, dict[str, float]]:
    """Each metric of both, and their difference with its paired bootstrap interval.

    Both predict the same drawn images, so that hard ones don't count as a difference.
    """
    kinds = {"classes": len(labels), "coarse": coarse, "groups": a.groups}
    first, second = PredictionCounts.of_many(a.labels, [a.ranked, b.ranked], **kinds)
    drawn: dict[str, list[np.ndarray]] = {}
    for counts in draw_counts(first):
        theirs = compute_metrics(second, counts)
        for name, values in compute_metrics(first, counts).items():
            drawn.setdefault(name, []).append(theirs[name] - values)
    compared = {}
    theirs = compute_metrics(second)
    for name, (value,) in compute_metrics(first).items():
        own, other = float(value), float(theirs[name][0])
        interval = percentile_interval(np.concatenate(drawn[name]), other - own)
        low, high = (min(max(end, -1.0), 1.0) for end in interval)  # less their bias, it may pass
        row = {"a": own, "b": other, "difference": other - own, "low": low, "high": high}
        compared[name] = row
    return compared


def compare_classes(a: Predictions, b: Predictions, labels: list[str]) -> list[dict[str, Any]]:
    """Recall of each class by both, the most improved first, with McNemar's test of each.

    `p_value` is adjusted for how many classes are tested: Benjamini & Hochberg 1995, so that of the
    classes with one below 0.05 at most 5 % are expected to be chance.
    """
    rows = []
    for index, name in enumerate(labels):
        own = a.labels == index
        if own.any():
            first, second = float(a.hits[own].mean()), float(b.hits[own].mean())
            rows.append(
                {
                    "name": name,
                    "support": int(own.sum()),
                    "recall_a": first,
                    "recall_b": second,
                    "difference": second - first,
                    "p_value": McNemar.of(a.hits[own], b.hits[own], a.groups[own]).p_value,
                }
            )
    adjusted = false_discovery_control([row["p_value"] for row in rows])
    rows = [row | {"p_value": float(p)} for row, p in zip(rows, adjusted, strict=True)]
    return sorted(rows, key=lambda row: -row["difference"])


def verdict_of(record: dict[str, Any]) -> str:
    """One sentence: which is better, if any."""
    accuracy, p = record["metrics"]["accuracy"], record["mcnemar"]["p_value"]
    if not record["mcnemar"]["only_a"] + record["mcnemar"]["only_b"]:
        return (
            f"No difference can be shown: each of {record['images']:,} photos is predicted right "
            "by both or by neither."
        )
    better = "b" if accuracy["difference"] > 0 else "a"
    points = f"{100 * abs(accuracy['difference']):.1f} points"
    chance = "less than 0.1 %" if p < 0.001 else f"{100 * p:.1f} %"
    if p < 1 - LEVEL:
        return (
            f"{record[better]} is better by {points}; if they were as good, chance would give that "
            f"in {chance} of cases."
        )
    return (
        f"No difference can be shown: {points} on {counted(record['images'], 'photo')}, which "
        f"chance gives in {chance} of cases."
    )


def show(
    record: dict[str, Any],
    models: list[FruitClassifier],
    predicted: list[Predictions],
    seconds: list[float],
    photos: Photos,
    file: Path,
) -> None:
    """The page of a comparison."""
    a, b = predicted
    sides = [
        {
            "name": record[side],
            "seconds": took,
            "megabytes": fruits.engine.megabytes,
        }
        for side, took, fruits in zip("ab", seconds, models, strict=True)
    ]
    opener = photos.opener(a)

    def gallery(chosen: np.ndarray) -> list[dict[str, Any]]:
        return _gallery(a, b, chosen, b.confidence, models[0].labels, opener)

    content = {
        **{key: record[key] for key in ("created", "version", "command", "split", "images")},
        "title": f"{short_name(record['a'])} and {short_name(record['b'])} on "
        f"{Path(record['data']).name}",
        "source": record["data"],
        "origin": origin_of(record["data"]),
        "a": sides[0],
        "b": sides[1],
        "metrics": [
            {"name": METRIC_TITLES[key][0], **record["metrics"][key]}
            for key in METRIC_TITLES
            if key in record["metrics"]
        ],
        "mcnemar": record["mcnemar"],
        "verdict": record["verdict"],
        "classes": record["classes"],
        "gained": part_of(file, "gained photos", lambda: gallery(b.hits & ~a.hits), []),
        "lost": part_of(file, "lost photos", lambda: gallery(a.hits & ~b.hits), []),
    }
    render_page(TEMPLATE, content, file)


def _gallery(
    a: Predictions,
    b: Predictions,
    chosen: np.ndarray,
    order: np.ndarray,
    labels: list[str],
    opener: RowOpener | None,
) -> list[dict[str, Any]]:
    """The images chosen (N,) with the highest `order`."""
    rows = np.flatnonzero(chosen)
    shown = []
    for row in rows[np.argsort(-order[rows], kind="stable")][:GALLERY]:
        image = opener(int(row)) if opener else None
        shown.append(
            {
                "path": a.paths[row],
                "thumb": image and thumbnail_uri(image, THUMB),
                "truth": labels[a.labels[row]],
                "predicted_a": labels[a.predicted[row]],
                "score_a": float(a.confidence[row]),
                "predicted_b": labels[b.predicted[row]],
                "score_b": float(b.confidence[row]),
            }
        )
    return shown
