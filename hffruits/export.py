"""One export, top to bottom: the files of another format, checked on pictures, then kept.

The folder holds all that `FruitClassifier` needs: labels, preprocessing, calibrated weights,
prototypes and the rejection threshold. An export that answers too differently is not kept.
"""

import importlib
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

from hffruits import __version__
from hffruits.cache import make_once
from hffruits.config import DataArguments
from hffruits.drawing import FRUITS, draw_fruit
from hffruits.engines import RECORD, RUNTIMES
from hffruits.errors import InputError
from hffruits.evaluation import data_of_run, write_json
from hffruits.export_formats import TORCH, WEB, choose_format
from hffruits.images import open_rgb
from hffruits.labelled import choose_photos
from hffruits.models import save_config
from hffruits.outcomes import UNKNOWN, Sample, answer_samples
from hffruits.predict import FruitClassifier
from hffruits.unknowns import save_prototypes

logger = logging.getLogger(__name__)
CALIBRATION_PHOTOS = 300  # more give the same
BATCH = 16
DRAWN = 64  # pictures to check on where no photos are at hand


class Answers(NamedTuple):
    """Of pictures that could be read: the best guess, its probability, whether it is known."""

    paths: list[str]
    guesses: np.ndarray
    scores: np.ndarray
    known: np.ndarray


Ask = Callable[[Sequence[Sample]], Answers]


def export(
    model: str | Path,
    data_args: DataArguments,
    *,
    format: str,
    precision: str = "fp32",
    output_dir: Path | None = None,
    max_loss: float = 0.005,
    force: bool = False,
) -> dict[str, Any]:
    """Write a trained model for another runtime; returns what `export.json` holds, and the folder.

    `data_args` name photos to check on, by default those of the model's own run: of these the
    validation split; "int8" is calibrated by some of its training photos. `max_loss` is the
    accuracy in [0, 1] that the export may lose; where there are no photos at hand, the share of
    drawn pictures that it may answer otherwise. Raises `InputError` for names it doesn't know, a
    folder that is there already, packages that are missing, and a loss beyond that unless `force`.
    """
    chosen = choose_format(format, precision)
    output_dir = output_dir or default_dir(model, format, precision)
    if output_dir.exists():
        raise InputError(f"{output_dir}: exists already. Name another --output_dir, or remove it.")
    fruits = FruitClassifier.from_pretrained(model, device="cpu")
    name, samples = pictures_to_check(model, data_args, fruits)
    training = calibration_samples(model, data_args, fruits) if precision == "int8" else []
    record = {
        "format": format,
        "precision": precision,
        "parameters": fruits.engine.parameters,
        "made_from": str(model),
        "created": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "version": __version__,
    }

    def fill(folder: Path) -> None:
        files = chosen.write(fruits, folder, precision, _pixels(fruits, training))
        record["files"] = files
        record["megabytes"] = round(sum((folder / f).stat().st_size for f in files) / 1e6, 2)
        write_json(folder / RECORD, record)
        _copy_beside(Path(model).expanduser(), fruits, folder)
        ask = _how_to_ask(format, folder, fruits)
        record["check"] = {"pictures": name, **compare_answers(fruits, ask, samples)}
        if not force:
            _refuse_loss(output_dir, record["check"], max_loss)
        write_json(folder / RECORD, record)

    make_once(output_dir, fill, remedy="Name another --output_dir.")
    return record | {"output_dir": str(output_dir)}


def default_dir(model: str | Path, format: str, precision: str) -> Path:
    """Beside the model's folder; for one from the Hub, here."""
    path = Path(model).expanduser()
    folder = path.absolute() if path.is_dir() else Path(path.name)
    return folder.with_name("-".join([folder.name, format, precision]))


# ---- pictures ----


def pictures_to_check(
    model: str | Path, data_args: DataArguments, fruits: FruitClassifier
) -> tuple[str, list[Sample]]:
    """The photos named, or the validation photos of the model's run, or drawn ones; and which."""
    named = bool(data_args.data_dir or data_args.dataset_name)
    try:
        own = data_of_run(model, data_args)
        split = None if named else "validation"
        photos = choose_photos(own.data_args, fruits.labels, split, held_out_by=own.seed)
        return f"{photos.split} photos", list(photos.samples())
    except InputError as error:
        if named:
            raise
        logger.warning("Checked on drawn pictures only: %s", error)
    names = list(FRUITS)
    drawn = [draw_fruit(names[i % len(names)], seed=60_000 + i, size=320) for i in range(DRAWN)]
    return "drawn pictures", [Sample(str(i), image, UNKNOWN) for i, image in enumerate(drawn)]


def calibration_samples(
    model: str | Path, data_args: DataArguments, fruits: FruitClassifier
) -> list[Sample]:
    """Some training photos. Raises `InputError` where there are none at hand."""
    own = data_of_run(model, data_args)
    if own.data_args.streaming:
        raise InputError("precision=int8: needs photos at hand. Name a folder of some: --data_dir.")
    photos = choose_photos(own.data_args, fruits.labels, "train", held_out_by=own.seed)
    return list(photos.draw(CALIBRATION_PHOTOS).samples())


def _pixels(fruits: FruitClassifier, samples: Sequence[Sample]) -> Iterator[np.ndarray]:
    """Batches (B, 3, H, W); what can't be read is left out."""
    rows = []
    for sample in tqdm(samples, "Calibrating", unit="img", leave=False):
        try:
            rows.append(fruits.transform(open_rgb(sample.source)).numpy())
        except OSError:
            continue
        if len(rows) == BATCH:
            yield np.stack(rows)
            rows = []
    if rows:
        yield np.stack(rows)


# ---- checking ----


def compare_answers(
    fruits: FruitClassifier, ask: Ask, samples: Sequence[Sample]
) -> dict[str, float]:
    """How far an export's answers are the model's own, and how often each is right."""
    own, exported = _ask_classifier(fruits, samples), ask(samples)
    if not own.paths:
        raise InputError(f"none of {len(samples)} pictures to check on can be read. Name others.")
    assert own.paths == exported.paths
    same = own.guesses == exported.guesses
    labels = {sample.path: sample.label for sample in samples}
    truth = np.array([labels[path] for path in own.paths])
    has = truth != UNKNOWN
    check = {
        "images": len(same),
        "agreement": float(same.mean()),
        "known_agreement": float((own.known == exported.known).mean()),
        "largest_difference": float(np.abs(own.scores - exported.scores)[same].max(initial=0)),
    }
    if has.any():
        check["accuracy_before"] = float((own.guesses == truth)[has].mean())
        check["accuracy"] = float((exported.guesses == truth)[has].mean())
    return check


def _how_to_ask(format: str, folder: Path, fruits: FruitClassifier) -> Ask:
    """A way to have the files answer that were just written."""
    if format in RUNTIMES:
        exported = FruitClassifier.from_pretrained(folder)
        return lambda samples: _ask_classifier(exported, samples)
    if format == "torch":
        # our own file of a moment ago; otherwise this would be loading a pickle
        engine = _ProgramEngine(torch.export.load(folder / TORCH), fruits)
        exported = FruitClassifier(engine, fruits.transform.processor, prototypes=fruits.prototypes)
        return lambda samples: _ask_classifier(exported, samples)
    onnxruntime = importlib.import_module("onnxruntime")
    session = onnxruntime.InferenceSession(folder / WEB, providers=["CPUExecutionProvider"])
    return lambda samples: _ask_web(session, samples)


class _ProgramEngine:
    """As `engines.Engine`, for the check alone."""

    def __init__(self, program: torch.export.ExportedProgram, fruits: FruitClassifier):
        self.config, self.device = fruits.config, torch.device("cpu")
        self.parameters, self.megabytes = fruits.engine.parameters, fruits.engine.megabytes
        self._module = program.module()

    @torch.inference_mode()
    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._module(pixels)


def _ask_classifier(fruits: FruitClassifier, samples: Sequence[Sample]) -> Answers:
    given = {"total": len(samples), "description": "Checking", "batch_size": BATCH}
    outcomes = answer_samples(fruits, samples, **given)
    known = outcomes.familiar >= fruits.reject_below
    return Answers(outcomes.paths, outcomes.guesses, outcomes.confidence, known)


def _ask_web(session: Any, samples: Sequence[Sample]) -> Answers:
    rows = []
    for sample in tqdm(samples, "Checking", unit="img", leave=False):
        try:
            picture = np.asarray(open_rgb(sample.source))
        except OSError:
            continue
        scores, known = session.run(["scores", "known"], {"picture": picture})
        rows.append((sample.path, scores.argmax(), scores.max(), bool(known)))
    paths, *columns = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Answers(list(paths), *map(np.array, columns))


def _refuse_loss(output_dir: Path, check: dict[str, Any], max_loss: float) -> None:
    measured = "accuracy" in check
    loss = check["accuracy_before"] - check["accuracy"] if measured else 1 - check["agreement"]
    one = 1 / check["images"]  # a single picture tells nothing
    if loss > max(max_loss, one) + 1e-9:
        raise InputError(
            f"{output_dir}: not kept, for it would lose {100 * loss:.1f} points of "
            f"{'accuracy' if measured else 'agreement'} on {check['images']} {check['pictures']}, "
            f"over max_loss={100 * max_loss:.1f}. Choose another precision, or --force it."
        )


def _copy_beside(model: Path, fruits: FruitClassifier, folder: Path) -> None:
    """Labels and preprocessing, what tells unknown things, and what the run was trained on."""
    save_config(fruits.config, fruits.transform.processor, folder)
    if fruits.prototypes is not None:
        save_prototypes(fruits.prototypes, folder)
    if (model / "training_args.json").is_file():
        shutil.copy(model / "training_args.json", folder)
    if (model / "splits").is_dir():
        shutil.copytree(model / "splits", folder / "splits")
