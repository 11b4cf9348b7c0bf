"""Predictions for labelled images, a few numbers each: all that metrics are made of.

Memory grows by some 200 bytes an image, of which most are its name, whatever its size and the
number of classes. Under several processes each reads its share, and each image counts once.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from hffruits.core.errors import FewWarnings, InputError
from hffruits.core.progress import progress_bar
from hffruits.data.images import MAX_PIXELS, ImageSource
from hffruits.data.split_protocol import UNGROUPED, UNKNOWN, Sample
from hffruits.evaluation.metrics import RANKED, PredictionCounts, Reliability, reliability
from hffruits.inference.classifier import FruitClassifier, Outputs

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predictions:
    """One row an image, in the order given: (N,) each, `ranked` and `scores` (N, R)."""

    paths: list[str]
    labels: np.ndarray  # UNKNOWN for a class that the model doesn't have
    ranked: np.ndarray  # classes, best first
    scores: np.ndarray  # their probabilities
    losses: np.ndarray  # -log of the right class's probability; NaN for unknown classes
    uncalibrated: np.ndarray  # the top prediction's probability before temperature scaling
    ood_score: np.ndarray  # the higher, the more out-of-distribution
    groups: np.ndarray  # equal for images that are not independent, such as near-duplicates
    skipped: tuple[str, ...] = ()  # images that could not be read, and why

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def predicted(self) -> np.ndarray:
        return self.ranked[:, 0]

    @property
    def confidence(self) -> np.ndarray:
        return self.scores[:, 0]

    @property
    def hits(self) -> np.ndarray:
        """Whether the top prediction is right, (N,) bool."""
        return self.predicted == self.labels

    def take(self, rows: np.ndarray) -> "Predictions":
        """Some of the rows; a mask or indices."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        columns = {f.name: getattr(self, f.name)[rows] for f in _ARRAYS}
        return Predictions([self.paths[row] for row in rows], **columns, skipped=self.skipped)

    def count(self, classes: int, coarse: list[int] | None = None) -> PredictionCounts:
        options = {"classes": classes, "coarse": coarse, "groups": self.groups}
        return PredictionCounts.of(self.labels, self.ranked, **options)

    def reliability(self, *, calibrated: bool = True) -> Reliability:
        return reliability(self.confidence if calibrated else self.uncalibrated, self.hits)


_ARRAYS = [f for f in fields(Predictions) if f.type is np.ndarray]


def split_unknown(predictions: Predictions) -> tuple[Predictions, Predictions]:
    """Predictions of classes that the model has, and of others."""
    own = predictions.labels != UNKNOWN
    return predictions.take(own), predictions.take(~own)


def predict_samples(
    fruits: FruitClassifier,
    samples: Iterable[Sample],
    *,
    total: int | None = None,
    description: str = "Evaluating",
    batch_size: int = 32,
    max_pixels: int = MAX_PIXELS,
) -> Predictions:
    """Have the model predict this process's samples; every process gets the predictions of all.

    `total` is of all processes. Unreadable images are left out with a warning, and listed in
    `skipped`.
    """
    state = PartialState()
    temperature = temperature_of(fruits)
    parts: list[Predictions] = []
    skipped: list[str] = []
    warnings = FewWarnings(logger)

    def on_unreadable(error: InputError) -> None:
        skipped.append(str(error))
        warnings.warn("left out: %s", error)

    total = total and -(-(total - state.process_index) // state.num_processes)
    hidden = not state.is_main_process
    bar = progress_bar(samples, description, total, unit="img", leave=False, disable=hidden)
    options = {"batch_size": batch_size, "on_unreadable": on_unreadable, "max_pixels": max_pixels}
    for outputs in fruits.infer(bar, source=_source_of, **options):
        parts.append(_predictions(fruits, outputs, temperature))
    return _number_ungrouped(_gather(_join(parts, skipped, len(fruits.labels))))


def _number_ungrouped(predictions: Predictions) -> Predictions:
    """The same, each image that is `UNGROUPED` in a group of its own."""
    ungrouped = predictions.groups == UNGROUPED
    first = 1 + predictions.groups.max(initial=0)
    predictions.groups[ungrouped] = first + np.arange(ungrouped.sum())
    return predictions


def temperature_of(fruits: FruitClassifier) -> float:
    """What the logits were divided by when the model was calibrated."""
    calibration = getattr(fruits.config, "calibration", None) or {}
    return float(calibration.get("temperature", 1.0))


def reject_rate_of(fruits: FruitClassifier) -> float:
    """The share of known images that calibration let the model reject as unknown; 0 for none."""
    calibration = getattr(fruits.config, "calibration", None) or {}
    return float(calibration.get("reject_rate") or 0.0)


def _source_of(sample: Sample) -> ImageSource:
    return sample.source


def _predictions(
    fruits: FruitClassifier, outputs: Outputs[Sample], temperature: float
) -> Predictions:
    samples, logits = outputs.items, outputs.logits
    labels = np.array([sample.label for sample in samples], np.int32)
    logs = logits.log_softmax(dim=1)  # (B, K)
    values, ranked = logs.topk(min(RANKED, logs.shape[1]), dim=1)  # (B, R)
    right = logs[torch.arange(len(labels)), torch.from_numpy(labels).long().clamp(min=0)]
    raw = (logits * temperature).softmax(dim=1).amax(dim=1)
    return Predictions(
        [sample.path for sample in samples],
        labels=labels,
        ranked=ranked.numpy().astype(np.int32),
        scores=values.exp().numpy(),
        losses=np.where(labels == UNKNOWN, np.nan, -right.numpy()),
        uncalibrated=raw.numpy(),
        ood_score=fruits.ood_score(outputs.features),
        groups=np.array([sample.group for sample in samples]),
    )


def _join(parts: list[Predictions], skipped: list[str], classes: int) -> Predictions:
    if not parts:
        width = min(RANKED, classes)
        empty = {f.name: np.zeros((0,), np.float32) for f in _ARRAYS}
        empty |= {"labels": np.zeros(0, np.int32), "ranked": np.zeros((0, width), np.int32)}
        empty |= {"scores": np.zeros((0, width), np.float32), "groups": np.zeros(0, int)}
        return Predictions([], **empty, skipped=tuple(skipped))
    columns = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in _ARRAYS}
    paths = [path for part in parts for path in part.paths]
    return Predictions(paths, **columns, skipped=tuple(skipped))


def _gather(own: Predictions) -> Predictions:
    """The predictions of all processes on each, ordered by path, which doesn't depend on them."""
    if PartialState().num_processes == 1:
        return own
    parts = gather_object([own])
    whole = _join(parts, [line for part in parts for line in part.skipped], own.ranked.shape[1])
    order = np.array(sorted(range(len(whole)), key=whole.paths.__getitem__), dtype=int)
    return whole.take(order)


def collect_outputs(
    fruits: FruitClassifier,
    samples: Iterable[Sample],
    *,
    description: str,
    keep_logits: bool = True,
    batch_size: int = 32,
    max_pixels: int = MAX_PIXELS,
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Logits (n, K), features (n, D) and labels (n,) of this process's samples, to be kept few.

    Without `keep_logits` they are (n, 0). Raises `InputError` where no image can be read.
    """
    logits: list[torch.Tensor] = []
    features: list[torch.Tensor] = []
    labels: list[int] = []
    bar = progress_bar(samples, description, unit="img", leave=False)
    options = {"batch_size": batch_size, "on_unreadable": lambda _: None, "max_pixels": max_pixels}
    for outputs in fruits.infer(bar, source=_source_of, **options):
        logits.append(outputs.logits if keep_logits else outputs.logits[:, :0])
        features.append(outputs.features)
        labels += [sample.label for sample in outputs.items]
    if not labels:
        raise InputError("none of the photos can be read any more. Check the data.")
    return torch.cat(logits), torch.cat(features), np.array(labels)
