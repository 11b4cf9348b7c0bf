"""One export, top to bottom: convert, verify on images, keep.

The folder holds all that `FruitClassifier` needs: labels, preprocessing, calibrated weights,
prototypes and the rejection threshold. An export whose predictions differ too much is not kept.
"""

import logging
import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hffruits import __version__
from hffruits.core.claims import make_new
from hffruits.core.errors import InputError, optional_output
from hffruits.core.files import file_below, write_json
from hffruits.core.progress import progress_bar
from hffruits.core.results import Result
from hffruits.data.arguments import DataArguments
from hffruits.data.images import open_rgb
from hffruits.data.samples import sample_files
from hffruits.data.split_protocol import UNKNOWN, Sample
from hffruits.evaluation.dataset import MissingSplitError, Photos, choose_photos
from hffruits.evaluation.run_data import RunData, data_of_run, refuse_training_options
from hffruits.exporters.formats import choose_format
from hffruits.exporters.parity import BATCH, compare, open_exported, refuse_difference
from hffruits.exporters.torch_export import TRACING_ERRORS, first_cause
from hffruits.inference.classifier import FruitClassifier
from hffruits.inference.ood import save_prototypes
from hffruits.models.artifact import EXAMPLES, EXPORT, SPLITS, TRAINING_ARGS
from hffruits.models.examples import save_examples
from hffruits.models.saving import save_config

logger = logging.getLogger(__name__)
CALIBRATION_PHOTOS = 300  # more give the same
CHECKED = 2000  # photos at most
PER_CLASS = 4  # of each class of the sample set, to check on where no photos are at hand


class Export(Result):
    """A model for another runtime, and how its predictions differ from the model's own."""

    @property
    def check(self) -> dict[str, Any]:
        """`agreement` with the model in [0, 1], `largest_difference` of scores, accuracies."""
        return self.record["check"]

    @cached_property
    def classifier(self) -> FruitClassifier:
        """The export, loaded. Raises `InputError` for "web" and "torch", which run elsewhere."""
        return FruitClassifier.from_pretrained(self.folder)

    @property
    def summary(self) -> str:
        kind, size = f"{self.record['format']} {self.record['precision']}", self.record["megabytes"]
        return f"{kind}, {size:.1f} MB, {self.check['agreement']:.1%} the same predictions"


def export(
    model: str | Path,
    data: DataArguments | str | Path | None = None,
    *,
    format: str = "openvino",
    precision: str = "fp32",
    output_dir: str | Path | None = None,
    max_accuracy_drop: float = 0.005,
    force: bool = False,
    **data_options: Any,
) -> Export:
    """Write a trained model for another runtime, and check that it predicts the same.

    Args:
        model: a folder that training wrote, or a Hub id.
        data: labelled photos to check on, as for `load_fruits`; None for those of the model's own
            run: its validation split, else some of those to train on. "int8" is calibrated by
            others of the latter.
        format: "onnx", "openvino", "web" or "torch".
        precision: "fp32", "fp16", "bf16" or "int8", as far as the format has it.
        output_dir: a new folder; by default beside the model, `MODEL-format-precision`.
        max_accuracy_drop: the accuracy in [0, 1] that may be lost; where there are no photos, the
            share of the sample photos that may be predicted otherwise.
        force: keep the export, whatever it loses.
        **data_options: fields of `DataArguments`.

    Returns:
        An `Export`: `check`, `classifier`, `folder`.

    Raises:
        InputError: for unknown names, a folder that is there already, packages that are missing, a
            model that can't be exported, and, unless `force`, for an export whose
            predictions differ too much.

    >>> import hffruits
    >>> exported = hffruits.export("runs/fruits", "fruits", format="onnx")
    >>> exported
    Export(runs/fruits-onnx-fp32: onnx fp32, ... MB, 100.0% the same predictions)
    >>> exported.classifier.labels
    ['Apple', ...]
    """
    data_args = DataArguments.of(data, function=export, **data_options)
    refuse_training_options(data_args)
    if not 0 <= max_accuracy_drop <= 1:
        raise InputError(
            f"max_accuracy_drop={max_accuracy_drop}: must be between 0 and 1 (0.005: half a point)."
        )
    chosen = choose_format(format, precision)
    output_dir = Path(output_dir or default_dir(model, format, precision)).expanduser()
    if output_dir.exists():
        raise InputError(f"{output_dir}: already exists. Choose another output_dir, or remove it.")
    fruits = FruitClassifier.from_pretrained(model, device="cpu")
    parameters = fruits.model.num_parameters()  # raises for an export, which has no such model
    images = choose_images(model, data_args, fruits, calibrate=precision == "int8")
    source = Path(model).expanduser()
    record = {
        "format": format,
        "precision": precision,
        "parameters": parameters,
        "made_from": source.absolute().name if source.is_dir() else str(model),
        "created": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "version": __version__,
    }

    def fill(folder: Path) -> None:
        pixels = _pixels(fruits, images.calibration, images.max_pixels)
        files = chosen.write(fruits, folder, precision, pixels)
        record["files"] = files
        record["megabytes"] = round(sum((folder / f).stat().st_size for f in files) / 1e6, 2)
        write_json(folder / EXPORT, record)
        _copy_beside(source, fruits, folder)
        exported = open_exported(format, folder, fruits)
        check = compare(fruits, exported, images.check, images.max_pixels)
        record["check"] = {"data": images.name, **check}
        if not force:
            refuse_difference(output_dir, record, max_accuracy_drop)
        write_json(folder / EXPORT, record)

    try:
        make_new(output_dir, fill, remedy="Choose another output_dir.")
    except InputError:
        raise
    except (*TRACING_ERRORS, OSError) as error:  # of torch, ONNX, the disk
        raise InputError(
            f"{model}: can't be exported to {format}: {first_cause(error)}. Choose another format."
        ) from error
    return Export(output_dir, record)


def default_dir(model: str | Path, format: str, precision: str) -> Path:
    """Beside the model's folder; for one from the Hub, here."""
    path = Path(model).expanduser()
    name = "-".join([path.absolute().name, format, precision])
    if not path.is_dir():
        return Path(name)
    return path.with_name(name) if path.name else path.absolute().with_name(name)


# ---- images ----


class Images(NamedTuple):
    """Photos to calibrate with, and to check on; none are both."""

    name: str  # of those to check on
    check: list[Sample]
    calibration: list[Sample]
    max_pixels: int


def choose_images(
    model: str | Path, data_args: DataArguments, fruits: FruitClassifier, *, calibrate: bool
) -> Images:
    """The photos named, or those of the model's run, or the sample photos.

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
        logger.warning("Checked on sample photos only: %s", error)
        photos = [photo for files in sample_files().values() for photo in files[:PER_CLASS]]
        samples = [Sample(photo.name, photo, UNKNOWN) for photo in photos]
        return Images("sample photos", samples, [], data_args.max_image_pixels)
    check, after, calibration = held_out or training, 0, []
    if calibrate:
        if training is None:
            raise InputError("precision=int8: needs photos for calibration. Give data_dir.")
        few = CALIBRATION_PHOTOS if training.total is None else training.total // 2
        after = min(CALIBRATION_PHOTOS, few)
        calibration = training.draw(after)
    drawn = check.draw(CHECKED, after=0 if held_out else after) if check else []
    if not drawn:
        raise InputError(f"{data_args.source_name}: has neither validation nor training photos.")
    return Images(f"{check.split} photos", drawn, calibration, own.data_args.max_image_pixels)


def _choose_photos(own: RunData, fruits: FruitClassifier, split: str) -> Photos | None:
    try:
        return choose_photos(own.data_args, fruits.labels, split, held_out_by=own.seed)
    except MissingSplitError:
        return None


def _pixels(
    fruits: FruitClassifier, samples: Sequence[Sample], max_pixels: int
) -> Iterator[np.ndarray]:
    """Batches (B, 3, H, W); what can't be read is left out."""
    rows = []
    for sample in progress_bar(samples, "Calibrating", unit="img", leave=False):
        try:
            rows.append(fruits.transform(open_rgb(sample.source, max_pixels=max_pixels)).numpy())
        except OSError:
            continue
        if len(rows) == BATCH:
            yield np.stack(rows)
            rows = []
    if rows:
        yield np.stack(rows)


def _copy_beside(model: Path, fruits: FruitClassifier, folder: Path) -> None:
    """Labels, preprocessing, prototypes and examples, and which photos the run was trained on."""
    save_config(fruits.config, fruits.transform.processor, folder)
    if fruits.prototypes is not None:
        save_prototypes(fruits.prototypes, folder)
    with optional_output(folder / EXAMPLES, remedy="The demo of this export shows none."):
        save_examples(fruits.examples, folder)
    if record := file_below(model, TRAINING_ARGS):
        shutil.copy(record, folder / TRAINING_ARGS)
    for named in (model / SPLITS).glob("*"):
        if split := file_below(model, f"{SPLITS}/{named.name}"):
            (folder / SPLITS).mkdir(exist_ok=True)
            shutil.copy(split, folder / SPLITS / named.name)
