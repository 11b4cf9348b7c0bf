"""One export, top to bottom: the files of another format, checked on pictures, then kept.

The folder holds all that `FruitClassifier` needs: labels, preprocessing, calibrated weights,
prototypes and the rejection threshold. An export that answers too differently is not kept.
"""

import importlib
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

from hffruits import __version__
from hffruits.core.cache import make_once
from hffruits.core.errors import InputError
from hffruits.core.files import write_json
from hffruits.data.arguments import DataArguments
from hffruits.data.images import open_rgb
from hffruits.data.split_protocol import UNKNOWN, Sample
from hffruits.data.synthetic.drawing import FRUITS, draw_fruit
from hffruits.evaluation.dataset import MissingSplitError, Photos, choose_photos
from hffruits.evaluation.run import RunData, data_of_run
from hffruits.exporters.formats import TORCH, WEB, choose_format
from hffruits.hub.redaction import file_below
from hffruits.inference.classifier import FruitClassifier
from hffruits.inference.engines.base import RECORD, RUNTIMES
from hffruits.inference.ood import save_prototypes
from hffruits.models.loading import save_config

logger = logging.getLogger(__name__)
CALIBRATION_PHOTOS = 300  # more give the same
CHECKED = 2000  # photos at most
BATCH = 16
DRAWN = 64  # pictures to check on where no photos are at hand
FEWEST_KNOWN = 0.9  # pictures that must be refused, or not, as before
EXACT = 0.01  # by which fp32 may move a score: resizing in the graph is not the same to the bit


class Predicted(NamedTuple):
    """What is said of those pictures that could be read."""

    samples: list[Sample]
    scores: np.ndarray  # (N, K)
    known: np.ndarray  # (N,)


Predict = Callable[[Sequence[Sample]], Predicted]


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

    `data_args` name photos to check on, by default those of the model's own run: their validation
    split, else some of those to train on. "int8" is calibrated by others of the latter. `max_loss`
    is the accuracy in [0, 1] that the export may lose; where there are no photos at hand, the share
    of drawn pictures that it may answer otherwise. Raises `InputError` for names it doesn't know, a
    folder that is there already, packages that are missing, a model that can't be exported, and,
    unless `force`, for an export that answers too differently.
    """
    if not 0 <= max_loss <= 1:
        raise InputError(f"max_loss={max_loss}: is a share. Give 0 to 1; 0.005 is half a point.")
    chosen = choose_format(format, precision)
    output_dir = output_dir or default_dir(model, format, precision)
    if output_dir.exists():
        raise InputError(f"{output_dir}: exists already. Name another --output_dir, or remove it.")
    fruits = FruitClassifier.from_pretrained(model, device="cpu")
    parameters = fruits.model.num_parameters()  # raises for an export, which has no such model
    pictures = choose_pictures(model, data_args, fruits, calibrate=precision == "int8")
    record = {
        "format": format,
        "precision": precision,
        "parameters": parameters,
        "made_from": path.absolute().name if (path := Path(model)).is_dir() else str(model),
        "created": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "version": __version__,
    }

    def fill(folder: Path) -> None:
        files = chosen.write(fruits, folder, precision, _pixels(fruits, pictures.calibration))
        record["files"] = files
        record["megabytes"] = round(sum((folder / f).stat().st_size for f in files) / 1e6, 2)
        write_json(folder / RECORD, record)
        _copy_beside(Path(model).expanduser(), fruits, folder)
        exported = open_exported(format, folder, fruits)
        record["check"] = {"pictures": pictures.name, **compare(fruits, exported, pictures.check)}
        if not force:
            refuse_difference(output_dir, record, max_loss)
        write_json(folder / RECORD, record)

    try:
        make_once(output_dir, fill, remedy="Name another --output_dir.")
    except InputError:
        raise
    except (RuntimeError, TypeError, ValueError, OSError) as error:  # of torch, ONNX, the disk
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)
        raise InputError(f"{model}: can't be exported to {format}: {reason}") from error
    return record | {"output_dir": str(output_dir)}


def default_dir(model: str | Path, format: str, precision: str) -> Path:
    """Beside the model's folder; for one from the Hub, here."""
    path = Path(model).expanduser()
    name = "-".join([path.absolute().name, format, precision])
    if not path.is_dir():
        return Path(name)
    return path.with_name(name) if path.name else path.absolute().with_name(name)


# ---- pictures ----


class Pictures(NamedTuple):
    """To calibrate by and to check on; none are both."""

    name: str  # of those to check on
    check: list[Sample]
    calibration: list[Sample]


def choose_pictures(
    model: str | Path, data_args: DataArguments, fruits: FruitClassifier, *, calibrate: bool
) -> Pictures:
    """The photos named, or those of the model's run, or drawn ones.

    Raises `InputError` for data that is named and can't be used, and where there is nothing to
    `calibrate` by.
    """
    try:
        own = data_of_run(model, data_args)
        held_out = _choose_photos(own, fruits, "validation")
        training = _choose_photos(own, fruits, "train") if calibrate or not held_out else None
    except InputError as error:
        if data_args.data_dir or data_args.dataset_name or calibrate:
            raise
        logger.warning("Checked on drawn pictures only: %s", error)
        names = list(FRUITS)
        drawn = (draw_fruit(names[i % len(names)], seed=60_000 + i, size=320) for i in range(DRAWN))
        samples = [Sample(str(i), picture, UNKNOWN) for i, picture in enumerate(drawn)]
        return Pictures("drawn pictures", samples, [])
    calibration, check = [], held_out or training
    after = 0
    if calibrate:
        if training is None or training.labels is None:
            raise InputError("precision=int8: needs photos to calibrate by. Name some: --data_dir.")
        after = min(CALIBRATION_PHOTOS, training.total // 2)
        calibration = list(training.draw(after).samples())
    if check is None:
        raise InputError(f"{data_args.source_name}: has neither validation nor training photos.")
    if check.labels is None:  # a stream
        return Pictures(f"{check.split} photos", list(islice(check.samples(), CHECKED)), [])
    drawn = check.draw(CHECKED, after=0 if held_out else after)
    return Pictures(f"{check.split} photos", list(drawn.samples()), calibration)


def _choose_photos(own: RunData, fruits: FruitClassifier, split: str) -> Photos | None:
    try:
        return choose_photos(own.data_args, fruits.labels, split, held_out_by=own.seed)
    except MissingSplitError:
        return None


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


def compare(
    fruits: FruitClassifier, exported: Predict, samples: Sequence[Sample]
) -> dict[str, float]:
    """How far an export's answers are the model's own, and how often each is right."""
    own, other = predict_all(fruits, samples), exported(samples)
    if not own.samples:
        raise InputError(f"none of {len(samples)} pictures to check on can be read. Name others.")
    assert [sample.path for sample in own.samples] == [sample.path for sample in other.samples]
    guesses, other_guesses = own.scores.argmax(1), other.scores.argmax(1)
    labels = np.array([sample.label for sample in own.samples])
    known_class = labels != UNKNOWN
    check = {
        "images": len(labels),
        "agreement": float((guesses == other_guesses).mean()),
        "known_agreement": float((own.known == other.known).mean()),
        "largest_difference": float(np.abs(own.scores - other.scores).max()),
    }
    if known_class.any():
        check["labelled"] = int(known_class.sum())
        check["accuracy_before"] = float((guesses == labels)[known_class].mean())
        check["accuracy"] = float((other_guesses == labels)[known_class].mean())
    return check


def refuse_difference(output_dir: Path, record: dict[str, Any], max_loss: float) -> None:
    """Raises `InputError` for a check that tells too large a difference."""
    check = record["check"]
    measured = "accuracy" in check
    loss = check["accuracy_before"] - check["accuracy"] if measured else 1 - check["agreement"]
    count = check["labelled"] if measured else check["images"]
    bound = max(max_loss, 1 / count)  # a single picture tells nothing
    found = None
    if loss > bound + 1e-9:
        what = "accuracy" if measured else "agreement"
        found = f"would lose {loss:.2%} of {what}, over {bound:.2%} (max_loss={max_loss})"
    elif check["known_agreement"] < FEWEST_KNOWN:
        found = f"would differ in whether it knows {1 - check['known_agreement']:.0%}"
    elif record["precision"] == "fp32" and check["largest_difference"] > EXACT:
        found = f"would move a score by {check['largest_difference']:.2g}, in spite of fp32"
    if found:
        raise InputError(
            f"{output_dir}: not kept, for it {found} of {check['images']} {check['pictures']}. "
            "Choose another precision, or --force it."
        )


def open_exported(format: str, folder: Path, fruits: FruitClassifier) -> Predict:
    """A way to have the files answer that were just written."""
    if format == "web":
        onnxruntime = importlib.import_module("onnxruntime")
        session = onnxruntime.InferenceSession(folder / WEB, providers=["CPUExecutionProvider"])
        return partial(_predict_by_web, session)
    if format in RUNTIMES:
        exported = FruitClassifier.from_pretrained(folder, device="cpu")
    else:
        # our own file of a moment ago; otherwise this would be loading a pickle
        engine = _ProgramEngine(torch.export.load(folder / TORCH), fruits)
        exported = FruitClassifier(engine, fruits.transform.processor, prototypes=fruits.prototypes)
    return partial(predict_all, exported)


class _ProgramEngine:
    """As `engines.Engine`, for the check alone."""

    def __init__(self, program: torch.export.ExportedProgram, fruits: FruitClassifier):
        self.config, self.device = fruits.config, torch.device("cpu")
        self.parameters, self.megabytes = fruits.engine.parameters, fruits.engine.megabytes
        self._module = program.module()

    @torch.inference_mode()
    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._module(pixels)


def predict_all(fruits: FruitClassifier, samples: Sequence[Sample]) -> Predicted:
    """What a classifier says of the samples that can be read."""
    bar = tqdm(samples, "Checking", unit="img", leave=False)
    options = {"source": lambda sample: sample.source, "on_bad": lambda _: None}
    answers = list(fruits.answer(bar, batch_size=BATCH, **options))
    scores = [some.logits.softmax(1).numpy() for some in answers]
    known = [fruits.knows(some.features) for some in answers]
    found = [sample for some in answers for sample in some.items]
    return Predicted(found, np.concatenate(scores or [[]]), np.concatenate(known or [[]]))


def _predict_by_web(session: Any, samples: Sequence[Sample]) -> Predicted:
    found, rows, known = [], [], []
    for sample in tqdm(samples, "Checking", unit="img", leave=False):
        try:
            picture = np.asarray(open_rgb(sample.source))
        except OSError:
            continue
        scores, is_known = session.run(["scores", "known"], {"picture": picture})
        found.append(sample)
        rows.append(scores)
        known.append(bool(is_known))
    return Predicted(found, np.array(rows), np.array(known))


# ---- the folder ----


def _copy_beside(model: Path, fruits: FruitClassifier, folder: Path) -> None:
    """Labels and preprocessing, what tells unknown things, and what the run was trained on."""
    save_config(fruits.config, fruits.transform.processor, folder)
    if fruits.prototypes is not None:
        save_prototypes(fruits.prototypes, folder)
    if record := file_below(model, "training_args.json"):
        shutil.copy(record, folder / "training_args.json")
    if (model / "splits").is_dir():
        shutil.copytree(model / "splits", folder / "splits")
