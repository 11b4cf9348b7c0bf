"""A trained model as one object: pictures in, labels with scores out, and where it looked.

The same preprocessing as in validation. Knows nothing of training or serving.
"""

import logging
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from accelerate import PartialState
from PIL import Image
from tqdm.auto import tqdm
from transformers import PretrainedConfig, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from hffruits.core.distributed import cores_per_process, use_own_cores
from hffruits.core.errors import InputError
from hffruits.core.hub_client import one_line
from hffruits.core.names import match_names
from hffruits.data.images import MAX_PIXELS, ImageSource, list_images, open_rgb
from hffruits.data.transforms import EvalTransform, input_size
from hffruits.inference.engines.base import Engine, TorchEngine, open_engine
from hffruits.inference.ood import familiarity, load_prototypes
from hffruits.inference.saliency import heatmaps, overlay, seen_by
from hffruits.inference.tta import choose_views
from hffruits.models.artifact import PROTOTYPES
from hffruits.models.loading import find_model

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What one picture shows: the best label and its probability, and the runners-up.

    `known` is False for what the model has not learned, as far as it can tell; then `label` is only
    the nearest of its classes.
    """

    label: str
    score: float  # in [0, 1]
    top: tuple[tuple[str, float], ...]  # (label, score), best first, `label` included
    path: Path | None = None  # the file, where the picture came from one
    known: bool = True


@dataclass(frozen=True)
class Explanation:
    """Where the model looked to find `label` in a picture."""

    label: str
    picture: Image.Image  # what it saw: cropped and resized
    heat: np.ndarray  # (H, W) in [0, 1], as large

    def overlay(self, size: int | None = None) -> Image.Image:
        """The picture with the heat over it; `size` is its shorter side in pixels."""
        scale = size / min(self.picture.size) if size else 1
        width, height = (round(side * scale) for side in self.picture.size)
        return overlay(self.picture.resize((width, height)), self.heat)


Item = TypeVar("Item")


@dataclass(frozen=True)
class Answers(Generic[Item]):
    """What the model said of those pictures that could be read, as float32 on the CPU."""

    items: list[Item]  # the pictures, or what they came with
    logits: torch.Tensor  # (B, K), of several views the mean
    features: torch.Tensor  # (B, D), what the head sees of the picture itself


class UnreadableImageError(InputError):
    """A picture that is no complete, sanely sized image, and why."""

    def __init__(self, source: ImageSource, reason: str):
        name = source if isinstance(source, str | Path) else "the picture"
        super().__init__(f"{name}: {reason}. Give a complete image file.")
        self.source, self.reason = source, reason


class FruitClassifier:
    """Predicts with a trained model.

    >>> fruits = FruitClassifier.from_pretrained("runs/sample")
    >>> fruits.predict("photo.jpg").label

    `tta` names `views.VIEWS` to look at beside the picture itself: slower by their number, and a
    little more often right. `precision` "bf16" is up to twice as quick where the machine has units
    for it, and moves scores by some hundredths; exports (`hffruits export`) are quicker still.
    """

    def __init__(
        self,
        model: PreTrainedModel | Engine,
        processor: BaseImageProcessor,
        *,
        device: str | torch.device | None = None,
        tta: Sequence[str] = (),
        prototypes: torch.Tensor | None = None,
    ):
        torch_model = isinstance(model, PreTrainedModel)
        self.engine: Engine = TorchEngine(model, device=device) if torch_model else model
        self.transform = EvalTransform(processor)
        names = self.config.id2label
        self.labels = [names[index] for index in range(len(names))]
        self.tta = tuple(tta.split(",") if isinstance(tta, str) else tta)
        self._views = choose_views(self.tta)
        self.prototypes = prototypes  # (P, D); without them, everything is taken for known
        below = getattr(self.config, "reject_below", None)
        if not isinstance(below, int | float | None):
            raise InputError(f"config.json: reject_below={below!r} is not a number. Evaluate anew.")
        self.reject_below = -math.inf if below is None else float(below)
        try:
            self.input_size = input_size(processor)  # (height, width) in pixels
        except (ValueError, ZeroDivisionError, TypeError, KeyError, MemoryError) as error:
            raise InputError(
                f"the model's preprocessing can't be done: {one_line(error)}. Train or export it "
                "anew."
            ) from error
        self.folder: Path | None = None  # that it was loaded from; a Hub model's in the cache
        self._lock = threading.Lock()  # an engine answers one thread at a time

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        tta: Sequence[str] = (),
        precision: str = "fp32",
    ) -> "FruitClassifier":
        """Load the folder that training or `hffruits export` wrote, or a Hub id.

        Raises `InputError` if it can't.
        """
        folder = find_model(str(name_or_path), revision=revision)
        engine, processor = open_engine(
            folder, name=str(name_or_path), device=device, precision=precision
        )
        prototypes = None
        if getattr(engine.config, "reject_below", None) is not None:
            if (folder / PROTOTYPES).is_file():
                prototypes = load_prototypes(folder / PROTOTYPES)
            else:
                logger.warning("%s: has no %s, so nothing is refused", name_or_path, PROTOTYPES)
        fruits = cls(engine, processor, tta=tta, prototypes=prototypes)
        fruits.folder = folder
        return fruits

    @property
    def config(self) -> PretrainedConfig:
        return self.engine.config

    @property
    def device(self) -> torch.device:
        return self.engine.device

    @property
    def model(self) -> PreTrainedModel:
        """The PyTorch model as it was saved. Raises `InputError` for an export, which has none."""
        if not isinstance(self.engine, TorchEngine):
            raise InputError("an export only predicts. Load the model that it was made from.")
        return self.engine.model

    def predict(
        self,
        images: ImageSource | Sequence[ImageSource],
        *,
        top_k: int = 5,
        batch_size: int = 32,
    ) -> Prediction | list[Prediction]:
        """Label one picture (path, bytes or PIL), a list of them, or every image in a folder.

        One picture gives a `Prediction`; a list or a folder gives a list in the same order, a
        folder's files sorted by path. Raises `InputError` for a picture that can't be read.
        """
        if isinstance(images, str | Path) and Path(images).is_dir():
            images = find_images([images])
        if isinstance(images, str | Path | bytes | Image.Image):
            return next(self.stream([images], top_k=top_k))
        if not isinstance(images, Sequence):
            kind = type(images).__name__
            raise InputError(f"{kind}: not a picture. Give a path, bytes, a PIL image or a list.")
        stream = self.stream(images, top_k=top_k, batch_size=batch_size)
        few = len(images) < 100
        return list(tqdm(stream, "Predicting", len(images), unit="img", disable=few))

    def stream(
        self,
        images: Iterable[ImageSource],
        *,
        top_k: int = 5,
        batch_size: int = 32,
        on_bad: Callable[[InputError], None] | None = None,
    ) -> Iterator[Prediction]:
        """Like `predict`, one result at a time: holds two batches, whatever the number.

        `on_bad` is told of each picture that can't be read, which is then passed over.
        """
        if top_k < 1:
            raise InputError(f"top_k={top_k}: must be 1 or more.")
        for answers in self.answer(images, batch_size=batch_size, on_bad=on_bad):
            yield from self._name(answers, top_k)

    def answer(
        self,
        items: Iterable[Item],
        *,
        source: Callable[[Item], ImageSource] = lambda item: item,
        batch_size: int = 32,
        on_bad: Callable[[InputError], None] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Iterator[Answers[Item]]:
        """The logits of pictures, a batch at a time; holds two batches at most.

        `items` are the pictures, or have them as their `source`. Those that can't be read are
        missing, after `on_bad` was told. Without that, it raises.
        """
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size}: must be 1 or more.")
        for batch in self._read_batches(items, source, batch_size, max_pixels):
            good = []
            for item, views in batch:
                if not isinstance(views, InputError):
                    good.append((item, views))
                elif on_bad is None:
                    raise views
                else:
                    on_bad(views)
            if good:
                found, pixels = zip(*good, strict=True)
                stacked = _stack(pixels)  # (B, V, 3, H, W)
                logits, features = self.forward(stacked.flatten(0, 1))
                logits, features = (
                    rows.view(*stacked.shape[:2], -1) for rows in (logits, features)
                )
                yield Answers(list(found), logits.mean(1), features[:, 0])

    def _read_batches(
        self,
        items: Iterable[Item],
        source: Callable[[Item], ImageSource],
        batch_size: int,
        max_pixels: int,
    ) -> Iterator[list[tuple[Item, torch.Tensor | InputError]]]:
        """Items and their views, on several threads: Pillow decodes outside the interpreter lock.

        A GPU finds the next batch read; on a CPU, reading and the model would want the same cores.
        """
        items = iter(items)
        ahead = self.device.type != "cpu"

        def read(item: Item) -> tuple[Item, torch.Tensor | InputError]:
            return item, self._read(source(item), max_pixels)

        def start() -> Iterator[tuple[Item, torch.Tensor | InputError]]:
            some = list(islice(items, batch_size))
            return pool.map(read, some) if len(some) > 1 else map(read, some)

        with ThreadPoolExecutor(cores_per_process()) as pool:
            waiting = start()
            while batch := list(waiting):
                if ahead:
                    waiting = start()
                yield batch
                if not ahead:
                    waiting = start()

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, H, W) -> logits (B, K) and features (B, D), on the CPU, in float32."""
        with self._lock:
            return self.engine.forward(pixels)

    def familiarity(self, features: torch.Tensor) -> np.ndarray:
        """How much like something learned the pictures with these features (B, D) look, (B,)."""
        if self.prototypes is None:
            return np.ones(len(features), np.float32)
        return familiarity(features.numpy(), self.prototypes.numpy())

    def knows(self, features: torch.Tensor) -> np.ndarray:
        """Whether the pictures with these features (B, D) look like anything learned, (B,) bool."""
        return self.familiarity(features) >= self.reject_below

    def explain(self, image: ImageSource, label: str | None = None) -> Explanation:
        """Where the model looked to find `label` in a picture, by default what it named it.

        Raises `InputError` for a picture that can't be read, for a label it doesn't know, and where
        the model is an export.
        """
        model = self.model
        label = label and match_names([label], self.labels).get(label, label)
        if label is not None and label not in self.labels:
            raise InputError(f"{label}: not among the {len(self.labels)} labels of this model.")
        read = self._read(image, MAX_PIXELS)
        if isinstance(read, InputError):
            raise read
        pixels = read[:1]  # (1, 3, H, W), the picture itself
        index = self.labels.index(label) if label else int(self.forward(pixels)[0].argmax())
        with self._lock:
            (heat,) = heatmaps(model, pixels.to(self.device), torch.tensor([index]))
        return Explanation(self.labels[index], seen_by(pixels[0], self.transform.processor), heat)

    def _read(self, source: ImageSource, max_pixels: int) -> torch.Tensor | InputError:
        """The views of a picture, (V, 3, H, W)."""
        try:
            picture = open_rgb(source, max_pixels=max_pixels)
        except OSError as error:
            return UnreadableImageError(source, str(error))
        views = [picture, *(view for make in self._views for view in make(picture))]
        return _stack([self.transform(view) for view in views])

    def _name(self, answers: Answers[ImageSource], top_k: int) -> Iterator[Prediction]:
        scores = answers.logits.softmax(dim=-1)  # (B, K)
        values, indices = scores.topk(min(top_k, len(self.labels)), dim=-1)  # (B, top_k)
        known = self.knows(answers.features).tolist()
        rows = zip(answers.items, values.tolist(), indices.tolist(), known, strict=True)
        for source, row, ids, is_known in rows:
            top = tuple((self.labels[i], score) for i, score in zip(ids, row, strict=True))
            path = Path(source) if isinstance(source, str | Path) else None
            yield Prediction(label=top[0][0], score=top[0][1], top=top, path=path, known=is_known)


def _stack(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """By NumPy, for PyTorch's threads would go on spinning on the cores that read pictures."""
    if len(tensors) == 1:
        return tensors[0][None]
    return torch.from_numpy(np.stack([tensor.numpy() for tensor in tensors]))


def find_images(sources: Iterable[str | Path]) -> list[Path]:
    """The files among `sources`, and every image in the folders among them.

    Raises `InputError` for a path that is not there, and for a folder without images.
    """
    paths = []
    for path in map(Path, sources):
        if not path.exists():
            raise InputError(f"{path}: no such file or folder. Check the path.")
        found = list_images(path) if path.is_dir() else [path]
        if not found:
            raise InputError(f"{path}: no image files. Give a folder with .jpg, .png, ... files.")
        paths += found
    return paths


def open_classifier(
    model: str | Path, *, tta: tuple[str, ...] = (), precision: str = "fp32"
) -> FruitClassifier:
    """The model on this process's device, with all of its threads."""
    device = PartialState().device
    use_own_cores(device)
    options = {"device": device, "tta": tta, "precision": precision}
    return FruitClassifier.from_pretrained(model, **options)
