"""The parity check of an export: the same images through it and the model, predictions compared.

The rule, for labels and for known or unknown alike: an export is refused where fewer than
`FEWEST_ALIKE` of the predictions are the model's, and the images prove it: the upper end of the
share's 95 % interval (Wilson's, as in an evaluation) is below that. So one photo of four that
changes sides refuses no export, and 58 % of a dozen do. An image whose OOD score is at the
threshold to rounding counts as the same: the threshold is the score of one of the images that it
was chosen on. Where they are many, as of a model to which all images are alike, a warning says so.
Besides, accuracy may fall by `max_accuracy_drop` or one image, whichever is more, and in fp32 no
score may change by more than `EXACT`.
"""

import importlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from hffruits.core.counts import counted
from hffruits.core.errors import InputError
from hffruits.core.progress import progress_bar
from hffruits.data.images import open_rgb
from hffruits.data.split_protocol import UNKNOWN, Sample
from hffruits.evaluation.intervals import wilson_interval
from hffruits.inference.classifier import FruitClassifier
from hffruits.inference.engines.base import RUNTIMES
from hffruits.models.artifact import TORCH, WEB

logger = logging.getLogger(__name__)
BATCH = 16
FEWEST_ALIKE = 0.9  # share of images with the same label, and of those known, or not, as before
MOST_UNDECIDED = 0.1  # share of images that rounding may decide about without a warning
ROUNDING = 1e-3  # of an OOD score: by so much saving prototypes in half precision may move it
EXACT = 0.01  # by which fp32 may move a score: resizing in the graph is not the same to the bit


class Predicted(NamedTuple):
    """The predictions for the images that could be read."""

    samples: list[Sample]
    scores: np.ndarray  # (N, K)
    known: np.ndarray  # (N,)
    undecided: np.ndarray  # (N,) whether rounding decides that


Predict = Callable[[Sequence[Sample], int], Predicted]  # of up to so many pixels


def compare(
    fruits: FruitClassifier, exported: Predict, samples: Sequence[Sample], max_pixels: int
) -> dict[str, float]:
    """How far an export's predictions are the model's own, and how often each is right."""
    own, other = predict_all(fruits, samples, max_pixels), exported(samples, max_pixels)
    if not own.samples:
        raise InputError(
            f"none of {counted(len(samples), 'image')} to check on can be read. Name others."
        )
    assert [sample.path for sample in own.samples] == [sample.path for sample in other.samples]
    predicted, exported_as = own.scores.argmax(1), other.scores.argmax(1)
    labels = np.array([sample.label for sample in own.samples])
    known_class = labels != UNKNOWN
    check = {
        "images": len(labels),
        "agreement": float((predicted == exported_as).mean()),
        "known_agreement": float(((own.known == other.known) | own.undecided).mean()),
        "undecided": float(own.undecided.mean()),
        "largest_difference": float(np.abs(own.scores - other.scores).max()),
    }
    if own.undecided.sum() > max(1, MOST_UNDECIDED * len(labels)):
        logger.warning(
            "known or unknown: can't be checked on %.0f%% of the images, whose OOD scores are at "
            "the threshold. `hffruits evaluate --unknown_dir` shows what the model rejects",
            100 * check["undecided"],
        )
    if known_class.any():
        check["labelled"] = int(known_class.sum())
        check["accuracy_before"] = float((predicted == labels)[known_class].mean())
        check["accuracy"] = float((exported_as == labels)[known_class].mean())
    return check


def refuse_difference(output_dir: Path, record: dict[str, Any], max_accuracy_drop: float) -> None:
    """Raise `InputError` for a check that found too large a difference."""
    check = record["check"]
    measured = "accuracy" in check
    drop = check["accuracy_before"] - check["accuracy"] if measured else 1 - check["agreement"]
    count = check["labelled"] if measured else check["images"]
    bound = max(max_accuracy_drop, 1 / count)  # a single image says nothing
    found = None
    if drop > bound + 1e-9:
        what = "accuracy" if measured else "agreement"
        limit = f"{bound:.2%} (max_accuracy_drop={max_accuracy_drop})"
        found = f"it loses {drop:.2%} of {what}, over the limit of {limit}"
    elif _proves_fewer(check, "agreement", min(FEWEST_ALIKE, 1 - max_accuracy_drop)):
        found = f"only {check['agreement']:.0%} of its labels are the model's"
    elif _proves_fewer(check, "known_agreement", FEWEST_ALIKE):
        found = f"known and unknown change for {1 - check['known_agreement']:.0%}"
    elif record["precision"] == "fp32" and check["largest_difference"] > EXACT:
        found = f"a score changes by {check['largest_difference']:.2g}, although it is fp32"
    if found:
        raise InputError(
            f"{output_dir}: not kept, as on {check['images']} {check['data']} {found}. "
            "Choose another precision, or set force."
        )


def _proves_fewer(check: dict[str, Any], name: str, limit: float) -> bool:
    """Whether a share is below a limit by more than so many images may show by chance."""
    _, high = wilson_interval(check[name], check["images"])
    return high < limit


def open_exported(format: str, folder: Path, fruits: FruitClassifier) -> Predict:
    """What predicts by the files that were just written."""
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
    """As `engines.Engine`, only for the check."""

    def __init__(self, program: torch.export.ExportedProgram, fruits: FruitClassifier):
        self.config, self.device = fruits.config, torch.device("cpu")
        self.parameters, self.megabytes = fruits.engine.parameters, fruits.engine.megabytes
        self._module = program.module()

    @torch.inference_mode()
    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._module(pixels)


def predict_all(fruits: FruitClassifier, samples: Sequence[Sample], max_pixels: int) -> Predicted:
    """What a classifier says of the samples that can be read."""
    bar = progress_bar(samples, "Checking", unit="img", leave=False)
    options = {"source": lambda sample: sample.source, "on_unreadable": lambda _: None}
    options |= {"batch_size": BATCH, "max_pixels": max_pixels}
    outputs = list(fruits.infer(bar, **options))
    scores = [some.logits.softmax(1).numpy() for some in outputs]
    found = [sample for some in outputs for sample in some.items]
    ood = np.concatenate([fruits.ood_score(some.features) for some in outputs] or [[]])
    undecided = np.abs(ood - fruits.ood_threshold) <= ROUNDING
    return Predicted(found, np.concatenate(scores or [[]]), ood <= fruits.ood_threshold, undecided)


def _predict_by_web(session: Any, samples: Sequence[Sample], max_pixels: int) -> Predicted:
    found, rows, known = [], [], []
    for sample in progress_bar(samples, "Checking", unit="img", leave=False):
        try:
            image = np.asarray(open_rgb(sample.source, max_pixels=max_pixels))
        except OSError:
            continue
        scores, is_known = session.run(["scores", "known"], {"image": image})
        found.append(sample)
        rows.append(scores)
        known.append(bool(is_known))
    return Predicted(found, np.array(rows), np.array(known), np.zeros(len(found), bool))
