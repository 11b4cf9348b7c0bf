"""One evaluation, top to bottom: the pictures, the model's answers, figures, a page.

At the end of training and by `hffruits evaluate` alike. Under `accelerate launch` every process
calls these functions; each picture counts once, and only the main process writes.
"""

import csv
import dataclasses
import json
import shlex
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from hffruits import __version__
from hffruits.calibrate import calibrate
from hffruits.config import (
    DataArguments,
    FruitTrainingArguments,
    cores_per_process,
    launcher_took_threads,
)
from hffruits.data import FruitDatasets
from hffruits.distributed import on_main_process
from hffruits.errors import InputError
from hffruits.labelled import (
    choose_photos,
    picture_opener,
    samples_of_split,
    some_of_each_class,
    unknown_samples,
)
from hffruits.measures import measure, measure_unknown
from hffruits.models import save_model
from hffruits.outcomes import UNKNOWN, Outcomes, answer_samples, split_unknown
from hffruits.predict import FruitClassifier
from hffruits.report import write_report
from hffruits.robustness import measure_robustness
from hffruits.stream_data import FruitStreams, StreamSplit
from hffruits.unknowns import save_prototypes


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
    data_args = data_of_run(model, data_args)
    data_args.source.check_outside(output_dir)
    if launcher_took_threads():
        torch.set_num_threads(cores_per_process())
    fruits = FruitClassifier.from_pretrained(model, tta=tta)
    photos = on_main_process(lambda: choose_photos(data_args, fruits.labels, split))
    options = {"batch_size": batch_size, "max_pixels": data_args.max_image_pixels}
    started = time.monotonic()
    outcomes = answer_samples(fruits, photos.samples(), total=photos.total, **options)
    seconds = time.monotonic() - started
    known, strange = split_unknown(outcomes)
    if not len(known):
        raise InputError(f"{data_args.source.name}: none of its photos can be read. Check them.")
    unknown = {"other classes": strange} if len(strange) else {}
    if unknown_dir is not None:
        samples = unknown_samples(unknown_dir)
        unknown[unknown_dir.name] = answer_samples(fruits, samples, **options)
        if not len(unknown[unknown_dir.name]):
            raise InputError(f"{unknown_dir}: none of its photos can be read. Check them.")
    measured = measure(known, fruits) | {
        "images_per_second": round(len(outcomes) / seconds, 2),
    }
    measured["unknown"] = {
        name: measure_unknown(known, some, fruits) for name, some in unknown.items()
    }
    if robustness:
        measured["robustness"] = measure_robustness(fruits, list(photos.samples()), **options)
    words = [str(model), *data_args.words, "--output_dir", str(output_dir)]
    words += ["--split", split] if split else []
    words += ["--tta", ",".join(tta)] if tta else []
    words += ["--unknown_dir", str(unknown_dir)] if unknown_dir else []
    words += ["--robustness"] if robustness else []
    record = {
        **_head(model, data_args, photos.split, shlex.join(["hffruits", "evaluate", *words])),
        "tta": list(tta),
        **measured,
    }
    if PartialState().is_main_process:
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
            write_json(output_dir / "metrics.json", record)
            write_predictions(outcomes, fruits, output_dir / "predictions.csv")
        except OSError as error:
            raise InputError(f"{output_dir}: can't be written ({error.strerror}).") from error
        write_report(
            output_dir / "report.html",
            fruits,
            known,
            record,
            unknown=unknown,
            picture=photos.opener(known),
            seconds=seconds,
            log=log_of(model),
        )
    return record


def data_of_run(model: str | Path, data_args: DataArguments) -> DataArguments:
    """The data arguments, with a run's own data and split where nothing else is said.

    The run's lists also hold where its data folder is named: what it was trained on must not count.
    """
    file = Path(model) / "training_args.json"
    recorded = json.loads(file.read_text(encoding="utf-8"))["data"] if file.is_file() else {}
    own = DataArguments(
        **{
            f.name: recorded[f.name]
            for f in dataclasses.fields(DataArguments)
            if f.name in recorded
        }
    )
    lists = Path(model) / "splits"
    named = data_args.data_dir or data_args.dataset_name
    if not named:
        if not recorded:
            raise InputError(f"{model}: doesn't say what it was trained on. Name a data folder.")
        data_args = own
    elif not recorded or not _same_data(data_args, own) or data_args.split_lists:
        return data_args
    if (lists / "train.txt").is_file() and not data_args.streaming:
        return dataclasses.replace(data_args, split_lists=str(lists))
    return data_args


def _same_data(one: DataArguments, other: DataArguments) -> bool:
    if one.data_dir and other.data_dir:
        first, second = (Path(data.data_dir).expanduser().resolve() for data in (one, other))
        return first == second
    return one.dataset_name is not None and one.dataset_name == other.dataset_name


# ---- at the end of training ----


def calibrate_artifact(
    folder: Path,
    datasets: FruitDatasets | FruitStreams,
    args: FruitTrainingArguments,
    *,
    max_pixels: int,
) -> None:
    """Have the saved model's scores mean what they say; one process does this."""
    fruits = FruitClassifier.from_pretrained(folder, device=args.device)
    calibrate(
        fruits,
        some_of_each_class(datasets["train"]),
        samples_of_split(datasets["validation"], alone=True),
        reject_rate=args.reject_rate,
        batch_size=args.per_device_eval_batch_size,
        max_pixels=max_pixels,
    )
    save_model(fruits.model, fruits.transform.processor, folder)
    if fruits.prototypes is not None:
        save_prototypes(fruits.prototypes, folder)


def evaluate_artifact(
    folder: Path,
    datasets: FruitDatasets | FruitStreams,
    args: FruitTrainingArguments,
    *,
    data_args: DataArguments,
    log: list[dict[str, Any]],
    best_epoch: float | None,
) -> dict[str, dict[str, Any]]:
    """Figures of the saved model on each split that was not trained on, and a page of the last one.

    In full precision: what is measured is what a user will load.
    """
    fruits = FruitClassifier.from_pretrained(folder, device=args.device)
    options = {
        "batch_size": args.per_device_eval_batch_size,
        "max_pixels": data_args.max_image_pixels,
    }
    results = {}
    for split in ("validation", "test"):
        if split not in datasets:
            continue
        rows, started = datasets[split], time.monotonic()
        outcomes = answer_samples(fruits, samples_of_split(rows), total=len(rows), **options)
        seconds = time.monotonic() - started
        results[split] = measure(outcomes, fruits) | {
            "images_per_second": round(len(outcomes) / seconds, 2)
        }
    if PartialState().is_main_process:
        record = {
            **_head(folder, data_args, split, f"hffruits evaluate {shlex.quote(str(folder))}"),
            **results[split],
        }
        picture = None if isinstance(rows, StreamSplit) else picture_opener(rows, outcomes)
        write_report(
            folder / "report.html",
            fruits,
            outcomes,
            record,
            picture=picture,
            seconds=seconds,
            log=log,
            best_epoch=best_epoch,
        )
    return results


# ---- what is written ----


def _head(model: str | Path, data_args: DataArguments, split: str, command: str) -> dict[str, Any]:
    """What was measured, and how to do it again."""
    return {
        "model": str(model),
        "data": data_args.source.name,
        "split": split,
        "command": command,
        "created": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "version": __version__,
    }


def write_predictions(outcomes: Outcomes, fruits: FruitClassifier, file: Path) -> None:
    """A line a picture: path, label, best guess, its probability, whether it looks known."""
    with file.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "predicted", "score", "known"])
        names = fruits.labels
        for row, path in enumerate(outcomes.paths):
            label = outcomes.labels[row]
            writer.writerow(
                [
                    path,
                    "" if label == UNKNOWN else names[label],
                    names[outcomes.guesses[row]],
                    f"{outcomes.confidence[row]:.4f}",
                    bool(outcomes.familiar[row] >= fruits.reject_below),
                ]
            )


def write_json(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def log_of(model: str | Path) -> list[dict[str, Any]]:
    """How training went, where the model's folder tells."""
    file = Path(model) / "log_history.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
