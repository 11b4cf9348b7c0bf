"""Measuring a model, from images to metrics, records and a page.

At the end of training and by `hffruits evaluate` alike. Under `accelerate launch` every process
calls these functions; each image counts once, and only the main process writes.
"""

import csv
import json
import logging
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from hffruits import __version__
from hffruits.core.claims import claims_output_dir
from hffruits.core.counts import counted
from hffruits.core.distributed import on_main_process
from hffruits.core.errors import InputError, optional_output
from hffruits.core.files import (
    CSV_ENCODING,
    check_writable,
    translate_open_errors,
    warn_if_replaced,
    write_aside,
    write_json,
)
from hffruits.core.results import Result
from hffruits.data.arguments import DataArguments
from hffruits.data.load import FruitData
from hffruits.data.split_protocol import UNKNOWN, Sample, Split
from hffruits.evaluation.calibration import HELD_OUT, calibrate
from hffruits.evaluation.corruptions import MAX_IMAGES, measure_corruptions
from hffruits.evaluation.dataset import (
    choose_photos,
    image_opener,
    samples_of_split,
    unknown_samples,
)
from hffruits.evaluation.predictions import Predictions, predict_samples, split_unknown
from hffruits.evaluation.report import draw_summary, write_report
from hffruits.evaluation.results import format_accuracy, measure, measure_unknown
from hffruits.evaluation.run_data import (
    count_training_images,
    data_of_run,
    dropped_classes,
    refuse_training_options,
)
from hffruits.inference.classifier import FruitClassifier, open_classifier
from hffruits.inference.ood import IMAGES_PER_CLASS, PROTOTYPES_PER_CLASS, save_prototypes
from hffruits.inference.tta import view_names
from hffruits.models.artifact import CONFIG, LOG, METRICS, PLOT, REPORT
from hffruits.models.saving import save_model

logger = logging.getLogger(__name__)


class Evaluation(Result):
    """What `evaluate` has measured, and the folder with `report.html` and `predictions.csv`."""

    PAGE = REPORT

    @property
    def metrics(self) -> dict[str, Any]:
        """What `metrics.json` holds: shares in [0, 1], with 95 % intervals; metrics by class."""
        return self.record

    @property
    def summary(self) -> str:
        images = self.record["images"]
        return f"{self.record['split']} {format_accuracy(self.record)}, {counted(images, 'image')}"


@claims_output_dir
def evaluate(
    model: str | Path,
    data: DataArguments | str | Path | None = None,
    *,
    output_dir: str | Path = "evaluation",
    split: str | None = None,
    tta: str | Sequence[str] = (),
    unknown_dir: str | Path | None = None,
    corruptions: bool = False,
    batch_size: int = 32,
    command: str | None = None,
    **data_options: Any,
) -> Evaluation:
    """Measure a trained model on labelled photos: metrics with intervals, and an HTML report.

    Writes `metrics.json`, `report.html` and `predictions.csv` to `output_dir`. Photos of classes
    that the model doesn't have, and those in `unknown_dir`, count as unknown.

    Args:
        model: a folder that training or export wrote, or a Hub id.
        data: labelled photos, as for `load_fruits`; None for those that the model's run held out.
        output_dir: a folder for the results, not the model's own; made if it is new.
        split: "train", "validation" or "test"; by default the data's test split, else its
            validation split, else everything.
        tta: test-time augmentation: names of `VIEWS` (flip, zoom, whole, corners) whose logits are
            averaged with those of the photo itself.
        unknown_dir: a folder of photos of what the model should report as unknown.
        corruptions: measure blurred, dark, noisy, ... photos too (arXiv:1903.12261), which takes
            many times as long.
        batch_size: photos a step.
        command: the command line that asked for this, for the record.
        **data_options: fields of `DataArguments`: `exclude`, `max_image_pixels`, ...

    Returns:
        An `Evaluation`: `metrics`, `report`, `folder`. Accuracies and F1 are in [0, 1], with
        95 % intervals; `ece` is the expected calibration error (arXiv:1706.04599).

    Raises:
        InputError: for anything wrong with the model, the data or the names.

    >>> import hffruits
    >>> evaluation = hffruits.evaluate("runs/fruits", "fruits", split="test")
    >>> evaluation
    Evaluation(evaluation: test accuracy ...% (...% to ...%), 20 images)
    >>> 0 <= evaluation.metrics["macro_f1"] <= 1
    True
    """
    data_args = DataArguments.of(data, function=evaluate, **data_options)
    refuse_training_options(data_args)
    output_dir, tta = Path(output_dir).expanduser(), view_names(tta)
    unknown_dir = Path(unknown_dir).expanduser() if unknown_dir else None
    own = data_of_run(model, data_args)
    data_args = own.data_args
    check_output_dir(data_args, output_dir)
    if corruptions and data_args.streaming:
        raise InputError("corruptions: needs photos that stay. Leave it out, or don't stream.")
    unknown_photos = unknown_samples(unknown_dir) if unknown_dir else []
    fruits = open_classifier(model, tta=tta)
    options = {"batch_size": batch_size, "max_pixels": data_args.max_image_pixels}
    photos = on_main_process(
        lambda: choose_photos(data_args, fruits.labels, split, held_out_by=own.seed)
    )
    warn_if_replaced(output_dir / METRICS)
    started = time.monotonic()
    predictions = predict_samples(fruits, photos.samples(), total=photos.total, **options)
    seconds = time.monotonic() - started
    known, others = split_unknown(predictions)
    if not len(known):
        raise InputError(
            f"{data_args.source_name}: no photo of a class that the model has can be read. Check "
            "the photos and the names of their classes."
        )
    unknown = predict_unknown(fruits, others, unknown_photos, unknown_dir, **options)
    record = {
        **_head(model, data_args, photos.split, command),
        "tta": list(tta),
        **measure(known, fruits),
        "images_per_second": round(len(predictions) / seconds, 2),
        "unknown_classes": photos.foreign,
        "trained_on": count_training_images(model, data_args, known, photos.digests),
        "unknown": {name: measure_unknown(known, some, fruits) for name, some in unknown.items()},
    }

    def write_records() -> None:
        with translate_open_errors(output_dir):
            write_json(output_dir / METRICS, record)
            write_predictions(predictions, fruits, output_dir / "predictions.csv")

    on_main_process(write_records)
    if corruptions:  # takes many times as long
        some = photos.draw(MAX_IMAGES)
        record["corruptions"] = measure_corruptions(fruits, some, **options)
        with translate_open_errors(output_dir):
            on_main_process(lambda: write_json(output_dir / METRICS, record))
    if PartialState().is_main_process:
        with optional_output(output_dir / REPORT, remedy=f"{METRICS} beside it has the metrics."):
            write_report(
                output_dir / REPORT,
                fruits,
                known,
                record,
                unknown=unknown,
                opener=photos.opener(known),
                seconds=seconds,
                log=log_of(model),
            )
    return Evaluation(output_dir, record)


def predict_unknown(
    fruits: FruitClassifier,
    others: Predictions,
    samples: list[Sample],
    folder: Path | None,
    *,
    batch_size: int,
    max_pixels: int,
) -> dict[str, Predictions]:
    """Predictions of what the model doesn't have, by the name of the set: classes and a folder.

    Nothing where the model has no OOD score. Raises `InputError` for a folder without a photo that
    can be read.
    """
    unknown = {"other classes": others} if len(others) else {}
    if folder is not None:
        name, options = folder.absolute().name, {"batch_size": batch_size, "max_pixels": max_pixels}
        unknown[name] = predict_samples(fruits, samples, **options)
        if not len(unknown[name]):
            raise InputError(f"{folder}: none of its photos can be read. Check them.")
    if unknown and fruits.prototypes is None:
        logger.warning("unknown photos are not measured: this model rejects nothing as unknown")
        return {}
    return unknown


def check_output_dir(data_args: DataArguments, output_dir: Path) -> None:
    """Make it. Raises `InputError` where that can't be, and for one in the data or of a model."""
    data_args.check_outside(output_dir)
    if (output_dir / CONFIG).exists():
        raise InputError(
            f"{output_dir}: holds a model, whose files these are. Name another folder."
        )
    check_writable(output_dir)


# ---- at the end of training ----


def calibrate_artifact(
    folder: Path,
    datasets: FruitData,
    *,
    device: torch.device,
    reject_rate: float,
    batch_size: int,
    max_pixels: int,
) -> None:
    """Calibrate the saved model, in its folder; one process does this."""
    fruits = FruitClassifier.from_pretrained(folder, device=device)
    per_class = max(PROTOTYPES_PER_CLASS, min(IMAGES_PER_CLASS, HELD_OUT // len(fruits.labels)))
    calibrate(
        fruits,
        datasets.split("train").some_of_each_class(per_class),
        datasets.split("validation").draw(HELD_OUT),
        reject_rate=reject_rate,
        batch_size=batch_size,
        max_pixels=max_pixels,
    )
    save_model(fruits.model, fruits.transform.processor, folder)
    if fruits.prototypes is not None:
        save_prototypes(fruits.prototypes, folder)


@dataclass(frozen=True)
class EvaluatedArtifact:
    """The metrics of a run's model by split, and what the last of these is shown by."""

    figures: dict[str, dict[str, Any]]
    folder: Path
    fruits: FruitClassifier
    split: str
    rows: Split
    predictions: Predictions
    seconds: float


def evaluate_artifact(
    folder: Path,
    datasets: FruitData,
    *,
    device: torch.device,
    batch_size: int,
    max_pixels: int,
) -> EvaluatedArtifact:
    """Measure the saved model on each split that was not trained on; nothing is written.

    In full precision: what is measured is what a user will load. Raises `InputError` where no photo
    of a split can be read any more.
    """
    fruits = FruitClassifier.from_pretrained(folder, device=device)
    options = {"batch_size": batch_size, "max_pixels": max_pixels}
    results = {}
    for split in (name for name in ("validation", "test") if name in datasets):
        rows, started = datasets.split(split), time.monotonic()
        predictions = predict_samples(fruits, samples_of_split(rows), total=len(rows), **options)
        seconds = time.monotonic() - started
        if not len(predictions):
            raise InputError(f"{split}: none of its photos can be read any more. Put them back.")
        results[split] = measure(predictions, fruits) | {
            "images_per_second": round(len(predictions) / seconds, 2)
        }
    return EvaluatedArtifact(results, folder, fruits, split, rows, predictions, seconds)


def show_artifact(
    evaluated: EvaluatedArtifact,
    data_args: DataArguments,
    *,
    log: list[dict[str, Any]],
    best_epoch: float | None,
) -> None:
    """The page and the figure of the last split measured, beside the model; each is optional."""
    folder, split, predictions = evaluated.folder, evaluated.split, evaluated.predictions
    again = shlex.join(["hffruits", "evaluate", str(folder)])
    with optional_output(folder / REPORT, remedy=f"`{again}` makes one."):
        write_report(
            folder / REPORT,
            evaluated.fruits,
            predictions,
            _head(folder, data_args, split, again) | evaluated.figures[split],
            opener=image_opener(evaluated.rows, predictions),
            seconds=evaluated.seconds,
            log=log,
            best_epoch=best_epoch,
        )
    with optional_output(folder / PLOT, remedy=f"`{again}` shows the same on its page."):
        draw_summary(folder / PLOT, predictions, evaluated.fruits.labels, split=split)


# ---- what is written ----


def _head(
    model: str | Path, data_args: DataArguments, split: str, command: str | None
) -> dict[str, Any]:
    """What was measured, and how to do it again."""
    return {
        "model": str(model),
        "data": data_args.source_name,
        "split": split,
        "dropped_classes": dropped_classes(model),
        "command": command,
        "created": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "version": __version__,
    }


def write_predictions(predictions: Predictions, fruits: FruitClassifier, file: Path) -> None:
    """A line an image: path, label, predicted class, its probability, whether it is known."""
    options = {"newline": "", "encoding": CSV_ENCODING, "errors": "backslashreplace"}
    with write_aside(file) as aside, aside.open("w", **options) as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "predicted", "score", "known"])
        names = fruits.labels
        for row, path in enumerate(predictions.paths):
            label = predictions.labels[row]
            writer.writerow(
                [
                    path,
                    "" if label == UNKNOWN else names[label],
                    names[predictions.predicted[row]],
                    f"{predictions.confidence[row]:.4f}",
                    bool(predictions.ood_score[row] <= fruits.ood_threshold),
                ]
            )


def log_of(model: str | Path) -> list[dict[str, Any]]:
    """The log of training, where the model's folder has it."""
    try:
        return json.loads((Path(model).expanduser() / LOG).read_text("utf-8"))
    except (OSError, ValueError):
        return []
