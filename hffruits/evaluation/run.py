"""One evaluation, top to bottom: the pictures, the model's answers, figures, a page.

At the end of training and by `hffruits evaluate` alike. Under `accelerate launch` every process
calls these functions; each picture counts once, and only the main process writes.
"""

import csv
import json
import logging
import shlex
import time
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from hffruits import __version__
from hffruits.core.distributed import on_main_process
from hffruits.core.errors import InputError, optional_output
from hffruits.core.escaping import name_in_line
from hffruits.core.files import check_writable, write_json
from hffruits.data.arguments import DataArguments
from hffruits.data.load import FruitDatasets
from hffruits.data.split_protocol import UNKNOWN, Split
from hffruits.data.stream_dataset import FruitStreams
from hffruits.evaluation.calibrate import HELD_OUT, calibrate
from hffruits.evaluation.corruptions import PICTURES, measure_robustness
from hffruits.evaluation.dataset import (
    choose_photos,
    picture_opener,
    samples_of_split,
    unknown_samples,
)
from hffruits.evaluation.predictions import Predictions, answer_samples, split_unknown
from hffruits.evaluation.report import write_picture, write_report
from hffruits.evaluation.results import measure, measure_unknown
from hffruits.inference.classifier import FruitClassifier, open_classifier
from hffruits.inference.ood import PER_CLASS, save_prototypes
from hffruits.inference.ood import PICTURES as PICTURES_A_CLASS
from hffruits.models.artifact import METRICS, PICTURE, REPORT
from hffruits.models.loading import find_model, save_model

logger = logging.getLogger(__name__)


def evaluate(
    model: str | Path,
    data_args: DataArguments,
    *,
    output_dir: Path,
    split: str | None = None,
    tta: tuple[str, ...] = (),
    unknown_dir: Path | None = None,
    robustness: bool = False,
    batch_size: int = 32,
) -> dict[str, Any]:
    """Measure a saved model on labelled photos; returns what `metrics.json` holds.

    Writes `metrics.json`, `report.html` and `predictions.csv` to `output_dir`. Without data, the
    photos that the model's run held out are taken. `split`: which part of the data, by default its
    test split, else its validation split, else everything. Photos of classes that the model doesn't
    have, and those in `unknown_dir`, count as unknown objects. Raises `InputError` for anything
    wrong with model, data or names.
    """
    own = data_of_run(model, data_args)
    data_args = own.data_args
    check_output_dir(data_args, output_dir)
    if robustness and data_args.streaming:
        raise InputError("robustness: needs photos at hand. Leave it out, or don't stream.")
    strange = unknown_samples(unknown_dir) if unknown_dir else []
    fruits = open_classifier(model, tta=tta)
    options = {"batch_size": batch_size, "max_pixels": data_args.max_image_pixels}
    photos = on_main_process(
        lambda: choose_photos(data_args, fruits.labels, split, held_out_by=own.seed)
    )
    started = time.monotonic()
    predictions = answer_samples(fruits, photos.samples(), total=photos.total, **options)
    seconds = time.monotonic() - started
    known, others = split_unknown(predictions)
    if not len(known):
        raise InputError(
            f"{data_args.source_name}: no photo of a class that the model has can be read. Check "
            "the photos and the names of their classes."
        )
    unknown = {"other classes": others} if len(others) else {}
    if unknown_dir is not None:
        name = unknown_dir.absolute().name
        unknown[name] = answer_samples(fruits, strange, **options)
        if not len(unknown[name]):
            raise InputError(f"{unknown_dir}: none of its photos can be read. Check them.")
    if unknown and fruits.prototypes is None:
        logger.warning("unknown objects are not measured: this model refuses nothing")
        unknown = {}
    measured = measure(known, fruits)
    measured["images_per_second"] = round(len(predictions) / seconds, 2)
    measured["other_classes"] = photos.strange
    measured["trained_on"] = count_training_photos(model, data_args, known)
    measured["unknown"] = {
        name: measure_unknown(known, some, fruits) for name, some in unknown.items()
    }
    words = [str(model), *data_args.words, "--output_dir", str(output_dir)]
    words += ["--streaming"] if data_args.streaming else []
    words += ["--split", split] if split else []
    words += ["--tta", ",".join(tta)] if tta else []
    words += ["--unknown_dir", str(unknown_dir)] if unknown_dir else []
    words += ["--robustness"] if robustness else []
    record = {
        **_head(model, data_args, photos.split, shlex.join(["hffruits", "evaluate", *words])),
        "tta": list(tta),
        **measured,
    }

    def write_records() -> None:
        write_json(output_dir / METRICS, record)
        write_predictions(predictions, fruits, output_dir / "predictions.csv")

    on_main_process(write_records)
    if robustness:  # takes many times as long
        some = list(photos.draw(PICTURES).samples())
        record["robustness"] = measure_robustness(fruits, some, **options)
        on_main_process(lambda: write_json(output_dir / METRICS, record))
    if PartialState().is_main_process:
        with optional_output(output_dir / REPORT, remedy=f"{METRICS} beside it has the figures."):
            write_report(
                output_dir / REPORT,
                fruits,
                known,
                record,
                unknown=unknown,
                picture=photos.opener(known),
                seconds=seconds,
                log=log_of(model),
            )
    return record


def check_output_dir(data_args: DataArguments, output_dir: Path) -> None:
    """Make it. Raises `InputError` where that can't be, and for one in the data or of a model."""
    data_args.check_outside(output_dir)
    if (output_dir / "config.json").exists():
        raise InputError(
            f"{output_dir}: holds a model, whose files these are. Name another folder."
        )
    check_writable(output_dir)


# ---- the run's own data ----


@dataclass(frozen=True)
class RunData:
    """What is to be measured on; `seed` is the one by which a run held out rows of a stream."""

    data_args: DataArguments
    seed: int | None = None


def data_of_run(model: str | Path, data_args: DataArguments) -> RunData:
    """The data named, or else the run's own; of that always what the run held out.

    What it was trained on must not count, also where its data folder is named. Raises `InputError`
    for a model without data of its own where none is named.
    """
    folder = Path(model).expanduser()
    find_model(str(model))
    recorded = read_record(folder / "training_args.json")
    named = bool(data_args.data_dir or data_args.dataset_name)
    if not recorded:
        if not named:
            raise InputError(f"{model}: doesn't say what it was trained on. Name a data folder.")
        return RunData(data_args)
    own, path, seed = recorded
    if named and not is_same_data(data_args, own, path):
        return RunData(data_args)
    given = {
        f.name: getattr(data_args, f.name)
        for f in fields(DataArguments)
        if getattr(data_args, f.name) != f.default
    }
    merged = replace(own, **({"data_dir": path} if path else {}) | given)
    if not named and path and not Path(path).exists():
        raise InputError(f"{model}: its photos were in {path}, and aren't any more. Name a folder.")
    if merged.streaming != own.streaming:
        flag = "--streaming" if own.streaming else "no --streaming"
        raise InputError(f"{model}: was trained with {flag}. Measure it so, too.")
    if merged.streaming:
        return RunData(merged, seed)
    lists = folder / "splits"
    if not data_args.split_lists and (lists / "train.txt").is_file():
        merged = replace(merged, split_lists=str(lists), exclude=data_args.exclude)
    return RunData(merged)


def read_record(file: Path) -> tuple[DataArguments, str | None, int] | None:
    """Data, its absolute folder and seed of a run, out of its `training_args.json`; None without.

    Raises `InputError` for a file that training has not written.
    """
    try:
        recorded = json.loads(file.read_text(encoding="utf-8"))
        names = {f.name for f in fields(DataArguments)} & set(recorded["data"])
        own = DataArguments(**{name: recorded["data"][name] for name in names})
        return own, recorded.get("data_path"), int(recorded["training"]["seed"])
    except OSError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: not as training wrote it. Name the data, or mend it.") from error


def is_same_data(named: DataArguments, own: DataArguments, path: str | None) -> bool:
    """Whether the data named is a run's own, whose folder was at `path`."""
    if named.data_dir and own.data_dir:
        return Path(named.data_dir).expanduser().resolve() == Path(path or own.data_dir).resolve()
    return named.dataset_name is not None and named.dataset_name == own.dataset_name


def count_training_photos(
    model: str | Path, data_args: DataArguments, predictions: Predictions
) -> int:
    """How many of the photos a run learned, by their paths in its own data; warns of them."""
    trained = Path(model).expanduser() / "splits" / "train.txt"
    recorded = trained.is_file() and read_record(trained.parents[1] / "training_args.json")
    if not recorded or not is_same_data(data_args, recorded[0], recorded[1]):
        return 0
    lines = trained.read_text(encoding="utf-8").split("\n")
    seen = set(map(name_in_line, lines)) & set(predictions.paths)
    if seen:
        logger.warning(
            "%s was trained on %d of these %d photos: its figures are too good",
            *(model, len(seen), len(predictions)),
        )
    return len(seen)


# ---- at the end of training ----


def calibrate_artifact(
    folder: Path,
    datasets: FruitDatasets | FruitStreams,
    *,
    device: torch.device,
    reject_rate: float,
    batch_size: int,
    max_pixels: int,
) -> None:
    """Have the saved model's scores mean what they say; one process does this."""
    fruits = FruitClassifier.from_pretrained(folder, device=device)
    per_class = max(PER_CLASS, min(PICTURES_A_CLASS, HELD_OUT // len(fruits.labels)))
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
    """The figures of a run's model by split, and what the last of these is shown by."""

    figures: dict[str, dict[str, Any]]
    folder: Path
    fruits: FruitClassifier
    split: str
    rows: Split
    predictions: Predictions
    seconds: float


def evaluate_artifact(
    folder: Path,
    datasets: FruitDatasets | FruitStreams,
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
        predictions = answer_samples(fruits, samples_of_split(rows), total=len(rows), **options)
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
    """The page and the picture of the last split measured, beside the model; each is optional."""
    folder, split, predictions = evaluated.folder, evaluated.split, evaluated.predictions
    again = shlex.join(["hffruits", "evaluate", str(folder)])
    with optional_output(folder / REPORT, remedy=f"`{again}` makes one."):
        write_report(
            folder / REPORT,
            evaluated.fruits,
            predictions,
            _head(folder, data_args, split, again) | evaluated.figures[split],
            picture=picture_opener(evaluated.rows, predictions),
            seconds=evaluated.seconds,
            log=log,
            best_epoch=best_epoch,
        )
    with optional_output(folder / PICTURE, remedy=f"`{again}` shows the same on its page."):
        write_picture(folder / PICTURE, predictions, evaluated.fruits.labels, split=split)


# ---- what is written ----


def _head(model: str | Path, data_args: DataArguments, split: str, command: str) -> dict[str, Any]:
    """What was measured, and how to do it again."""
    return {
        "model": str(model),
        "data": data_args.source_name,
        "split": split,
        "command": command,
        "created": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "version": __version__,
    }


def write_predictions(predictions: Predictions, fruits: FruitClassifier, file: Path) -> None:
    """A line a picture: path, label, best guess, its probability, whether it looks known."""
    with file.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "predicted", "score", "known"])
        names = fruits.labels
        for row, path in enumerate(predictions.paths):
            label = predictions.labels[row]
            writer.writerow(
                [
                    path,
                    "" if label == UNKNOWN else names[label],
                    names[predictions.guesses[row]],
                    f"{predictions.confidence[row]:.4f}",
                    bool(predictions.familiar[row] >= fruits.reject_below),
                ]
            )


def log_of(model: str | Path) -> list[dict[str, Any]]:
    """How training went, where the model's folder tells."""
    try:
        return json.loads((Path(model).expanduser() / "log_history.json").read_text("utf-8"))
    except (OSError, ValueError):
        return []
