"""`FruitClassifier`: images in, labels with scores out, and heatmaps of what they rest on.

The same preprocessing as in validation. Leaves out training and serving.
"""

import logging
import math
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from accelerate import PartialState
from PIL import Image
from transformers import PretrainedConfig, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from hffruits.core.distributed import cores_per_process, use_own_cores
from hffruits.core.errors import FewWarnings, InputError, short_reason
from hffruits.core.escaping import shorten
from hffruits.core.names import list_names, match_names
from hffruits.core.progress import progress_bar
from hffruits.data.images import (
    TRUNCATED_REMEDY,
    ImageSource,
    complete_jpeg,
    has_remedy,
    is_over_limit,
    is_truncated,
    open_rgb,
)
from hffruits.data.pixel_limit import MAX_PIXELS, check_max_pixels
from hffruits.data.transforms import EvalTransform, input_size
from hffruits.inference.engines.base import Engine, open_engine
from hffruits.inference.engines.torch import TorchEngine
from hffruits.inference.ood import explain_by, load_prototypes, ood_score
from hffruits.inference.saliency import heatmaps, overlay, undo_preprocessing
from hffruits.inference.sources import find_images
from hffruits.inference.tta import choose_views, view_names
from hffruits.models.artifact import PROTOTYPES
from hffruits.models.examples import Example
from hffruits.models.fetching import examples_of
from hffruits.models.loading import find_model

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What one image shows: the best label, its probability, and the runners-up.

    Attributes:
        label: the best of the model's classes.
        score: its calibrated probability in [0, 1] (temperature scaling, arXiv:1706.04599): of
            predictions with a score of 0.8, about eight in ten are right.
        top: (label, score) of the `top_k` best, `label` first; over all classes they add up to 1.
        path: the file, where the image came from one.
        known: False where the image is out-of-distribution, its OOD score above the threshold;
            then `label` is only the nearest class, and a user should see "unknown".

    >>> from hffruits import Prediction
    >>> prediction = Prediction("Apple", 0.9, top=(("Apple", 0.9), ("Pear", 0.1)))
    >>> prediction.label if prediction.known else "unknown"
    'Apple'
    """

    label: str
    score: float
    top: tuple[tuple[str, float], ...]
    path: Path | None = None
    known: bool = True


@dataclass(frozen=True)
class Explanation:
    """Which parts of an image spoke for `label`."""

    label: str
    image: Image.Image  # as the model sees it: cropped and resized
    heat: np.ndarray  # (H, W) in [0, 1], as large

    def overlay(self, size: int | None = None) -> Image.Image:
        """The image with the heat over it; `size` is its shorter side in pixels."""
        scale = size / min(self.image.size) if size else 1
        width, height = (round(side * scale) for side in self.image.size)
        return overlay(self.image.resize((width, height)), self.heat)


Item = TypeVar("Item")


@dataclass(frozen=True)
class Outputs(Generic[Item]):
    """The model's outputs for those images that could be read, as float32 on the CPU."""

    items: list[Item]  # the images, or what they came with
    logits: torch.Tensor  # (B, K), of several views the mean
    features: torch.Tensor  # (B, D), what the head sees of the image itself


class UnreadableImageError(InputError):
    """A file that is no complete, sanely sized image, and why."""

    def __init__(self, source: ImageSource, reason: str):
        name = shorten(source) if isinstance(source, str | Path) else "the image"
        super().__init__(f"{name}: {reason}. {_remedy(reason)}".rstrip())
        self.source, self.reason = source, reason


def _remedy(reason: str) -> str:
    if has_remedy(reason):
        return ""
    if is_over_limit(reason):
        return "Raise it, or shrink the photo."
    return TRUNCATED_REMEDY if is_truncated(reason) else "Give a complete image file."


class FruitClassifier:
    """Predicts with a trained model, preprocessing as validation did.

    Threads may share one classifier.

    Attributes:
        labels: the K classes in the order of the logits.
        input_size: (height, width) in pixels of what the model sees.
        device: where it runs.
        config: the model's own, with its calibration and, after `teach`, what was taught.
        model: the PyTorch model; an export has none.
        tta: names of `VIEWS` whose logits are averaged with those of the image itself: slower by
            their number, and a little more often right.
        prototypes, ood_threshold: (P, D) and a number that decide what is reported as unknown
            (`inference/ood.py`, after arXiv:2203.10807); without them nothing is.
        folder: where it was loaded from; a Hub model's is in the cache.
        examples: some photos with their true class, which the demo shows: held-out ones, and one of
            each class that was taught. A Hub model's are fetched when first asked for.

    >>> from hffruits import FruitClassifier
    >>> fruits = FruitClassifier.from_pretrained("runs/fruits")
    >>> fruits
    FruitClassifier(runs/fruits: 4 classes, 256 x 256 pixels, on cpu)
    >>> prediction = fruits.predict("photo.jpg", top_k=2)
    >>> prediction.label, len(prediction.top), prediction.known
    ('Apple', 2, True)
    >>> [prediction.path.name for prediction in fruits.predict("folder")]
    ['1.jpg', '2.jpg']
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
        self.tta = view_names(tta)
        self._views = choose_views(self.tta)
        self.prototypes = prototypes
        above = getattr(self.config, "ood_threshold", None)
        if not isinstance(above, int | float | None) or above != above:  # NaN
            raise InputError(
                f"config.json: ood_threshold={above!r} must be a number. Train the model again."
            )
        self.ood_threshold = math.inf if above is None else float(above)
        try:
            self.input_size = input_size(processor)  # (height, width) in pixels
        except (ValueError, ZeroDivisionError, TypeError, KeyError, MemoryError) as error:
            raise InputError(
                f"the model's preprocessing can't be done: {short_reason(error)}. Train or export "
                "it again."
            ) from error
        self.folder: Path | None = None  # that it was loaded from; a Hub model's in the cache
        self.taught_digests: list[str] = []  # of all photos that it learned from, once taught
        self._lock = threading.Lock()  # an engine serves one thread at a time

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
        """Load a trained, taught or exported model.

        Args:
            name_or_path: the folder that training, `teach` or `export` wrote, or a Hub id.
            revision: which commit, branch or tag of a Hub model.
            device: as PyTorch names it; by default the accelerator if there is one.
            tta: names of `VIEWS` to average over, in a list or with commas between them.
            precision: "fp32"; "bf16" is up to twice as fast where the machine has units for it,
                and moves scores by some hundredths. Exports are faster still.

        Raises:
            InputError: for a model that can't be loaded, and for unknown names of views or
                precisions.

        >>> from hffruits import FruitClassifier
        >>> FruitClassifier.from_pretrained("runs/fruits", tta="flip,zoom").tta
        ('flip', 'zoom')
        """
        folder = find_model(str(name_or_path), revision=revision)
        engine, processor = open_engine(
            folder, name=str(name_or_path), device=device, precision=precision
        )
        prototypes = None
        if getattr(engine.config, "ood_threshold", None) is not None:
            if (folder / PROTOTYPES).is_file():
                prototypes = load_prototypes(folder / PROTOTYPES)
            else:
                missing = name_or_path, PROTOTYPES
                logger.warning("%s: has no %s, so nothing is rejected as unknown", *missing)
        fruits = cls(engine, processor, tta=tta, prototypes=prototypes)
        fruits.folder = folder
        if equal := [label for label, count in Counter(fruits.labels).items() if count > 1]:
            logger.warning(
                "%s: several classes of the model are called %s. Rename them in its config.json",
                *(name_or_path, list_names(equal)),
            )
        return fruits

    def __repr__(self) -> str:
        name, (height, width) = self.folder or self.config.model_type, self.input_size
        size = f"{len(self.labels)} classes, {width} x {height} pixels, on {self.device}"
        return f"{type(self).__name__}({name}: {size})"

    @property
    def config(self) -> PretrainedConfig:
        """The model's own: labels, calibration, OOD threshold, and, after `teach`, what from."""
        return self.engine.config

    @cached_property
    def examples(self) -> list[Example]:
        """Photos with their true class, for the demo."""
        return examples_of(self.folder) if self.folder else []

    @property
    def device(self) -> torch.device:
        """Where it runs."""
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
        max_image_pixels: int = MAX_PIXELS,
        allow_truncated_images: bool = False,
    ) -> Prediction | list[Prediction]:
        """Label one image, a list of them, or every image in a folder.

        Args:
            images: a path, bytes or a PIL image; a list of these; or a folder.
            top_k: how many labels each has, at most K.
            batch_size: images a step.
            max_image_pixels: larger images are refused; a JPEG counts as it is decoded, a very
                large one at a half, a quarter or an eighth of its size.
            allow_truncated_images: read JPEGs that lack only their last bytes, with a warning.

        Returns:
            A `Prediction` for one image; for a list or a folder, a list of them in the same order,
            a folder's files sorted by path.

        Raises:
            InputError: for a file that is missing or no complete image.

        >>> from hffruits import FruitClassifier
        >>> fruits = FruitClassifier.from_pretrained("runs/fruits")
        >>> fruits.predict("photo.jpg").label
        'Apple'
        """
        reading = {"max_image_pixels": max_image_pixels}
        reading |= {"allow_truncated_images": allow_truncated_images}
        if is_one_image(images):
            return next(self.stream(images, top_k=top_k, **reading))
        if isinstance(images, str | Path):
            images = find_images([images])
        if not isinstance(images, Sequence):
            kind = type(images).__name__
            raise InputError(f"{kind}: not an image. Give a path, bytes, a PIL image or a list.")
        stream = self.stream(images, top_k=top_k, batch_size=batch_size, **reading)
        few = len(images) < 100
        return list(progress_bar(stream, "Predicting", len(images), unit="img", disable=few))

    def stream(
        self,
        images: ImageSource | Iterable[ImageSource],
        *,
        top_k: int = 5,
        batch_size: int = 32,
        max_image_pixels: int = MAX_PIXELS,
        allow_truncated_images: bool = False,
        on_unreadable: Callable[[InputError], None] | None = None,
    ) -> Iterator[Prediction]:
        """Like `predict`, one result at a time: holds two batches, whatever the number.

        Args:
            images: paths, bytes or PIL images, of any number; or, as for `predict`, one of them,
                or a folder.
            top_k: how many labels each has, at most K.
            batch_size: images a step.
            max_image_pixels, allow_truncated_images: as for `predict`.
            on_unreadable: called with the error of each image that can't be read, which is then
                skipped; without it, the error is raised.

        Raises:
            InputError: for a `top_k`, `batch_size` or `max_image_pixels` out of range.

        >>> from hffruits import FruitClassifier
        >>> fruits = FruitClassifier.from_pretrained("runs/fruits")
        >>> files = ["photo.jpg", "no such file.jpg"]
        >>> [prediction.label for prediction in fruits.stream(files, on_unreadable=print)]
        no such file.jpg: ...
        ['Apple']
        """
        if top_k < 1:
            raise InputError(f"top_k={top_k}: must be 1 or more.")
        check_max_pixels(max_image_pixels)
        options = {"batch_size": batch_size, "on_unreadable": on_unreadable}
        options |= {"max_pixels": max_image_pixels, "allow_truncated": allow_truncated_images}
        if is_one_image(images):
            images = [images]
        elif isinstance(images, str | Path):
            images = find_images([images])
        for outputs in self.infer(images, **options):
            yield from self._name(outputs, top_k)

    def infer(
        self,
        items: Iterable[Item],
        *,
        source: Callable[[Item], ImageSource] = lambda item: item,
        batch_size: int = 32,
        on_unreadable: Callable[[InputError], None] | None = None,
        max_pixels: int = MAX_PIXELS,
        allow_truncated: bool = False,
    ) -> Iterator[Outputs[Item]]:
        """The logits (B, K) and features (B, D) of images, a batch at a time; holds two at most.

        `items` are the images, or have them as their `source`. Those that can't be read are
        missing, after a call of `on_unreadable` with the error; without that, it is raised.
        """
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size}: must be 1 or more.")
        truncated = FewWarnings(logger) if allow_truncated else None
        reading = {"max_pixels": max_pixels, "truncated": truncated}

        def read(item: Item) -> tuple[Item, torch.Tensor | InputError]:
            return item, self._read(source(item), **reading)

        for batch in self._read_batches(items, read, batch_size):
            good = []
            for item, views in batch:
                if not isinstance(views, InputError):
                    good.append((item, views))
                elif on_unreadable is None:
                    raise views
                else:
                    on_unreadable(views)
            if good:
                found, pixels = zip(*good, strict=True)
                stacked = _stack(pixels)  # (B, V, 3, H, W)
                logits, features = self.forward(stacked.flatten(0, 1))
                logits, features = (
                    rows.view(*stacked.shape[:2], -1) for rows in (logits, features)
                )
                yield Outputs(list(found), logits.mean(1), features[:, 0])

    def _read_batches(
        self,
        items: Iterable[Item],
        read: Callable[[Item], tuple[Item, torch.Tensor | InputError]],
        batch_size: int,
    ) -> Iterator[list[tuple[Item, torch.Tensor | InputError]]]:
        """Items and their views, on several threads: Pillow decodes outside the interpreter lock.

        A GPU finds the next batch read; on a CPU, reading and the model would want the same cores.
        """
        items = iter(items)
        ahead = self.device.type != "cpu"

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

    def ood_score(self, features: torch.Tensor) -> np.ndarray:
        """OOD scores (B,) of features (B, D): in [0, 1], higher for what is unlike all classes."""
        if self.prototypes is None:
            return np.zeros(len(features), np.float32)
        if (width := self.prototypes.shape[1]) != features.shape[1]:
            raise InputError(
                f"{PROTOTYPES}: of {width} features, and the model has {features.shape[1]}. Save "
                "the model again."
            )
        return ood_score(features.numpy(), self._explained)

    @property
    def prototypes(self) -> torch.Tensor | None:
        """(P, D), of unit length; without them, everything is taken for known."""
        return self._prototypes

    @prototypes.setter
    def prototypes(self, prototypes: torch.Tensor | None) -> None:
        self._prototypes = prototypes
        self._explained = None if prototypes is None else explain_by(prototypes)

    def is_known(self, features: torch.Tensor) -> np.ndarray:
        """Whether images with these features (B, D) are taken for one of the classes, (B,) bool."""
        return self.ood_score(features) <= self.ood_threshold

    def explain(
        self,
        image: ImageSource,
        label: str | None = None,
        *,
        max_image_pixels: int = MAX_PIXELS,
        allow_truncated_images: bool = False,
    ) -> Explanation:
        """A heatmap of what spoke for `label` in an image.

        HiResCAM (arXiv:2011.08891) for convolutional nets, gradient-weighted attention rollout
        (arXiv:2103.15679) for ViTs.

        Args:
            image: a path, bytes or a PIL image.
            label: one of `labels`; by default the best one.
            max_image_pixels, allow_truncated_images: as for `predict`.

        Returns:
            An `Explanation`: `label`, `image` as the model sees it, `heat` (H, W) in [0, 1], and
            `overlay()`, the image with the heat over it.

        Raises:
            InputError: for an image that can't be read, for a label that the model doesn't have,
                for nets without feature maps or tokens, and for exports.

        >>> from hffruits import FruitClassifier
        >>> explanation = FruitClassifier.from_pretrained("runs/fruits").explain("photo.jpg")
        >>> explanation.label, explanation.heat.shape
        ('Apple', (256, 256))
        """
        model = self.model
        label = label and match_names([label], self.labels).get(label, label)
        if label is not None and label not in self.labels:
            raise InputError(f"{label}: not among the {len(self.labels)} labels of this model.")
        check_max_pixels(max_image_pixels)
        truncated = FewWarnings(logger) if allow_truncated_images else None
        read = self._read(image, max_image_pixels, truncated)
        if isinstance(read, InputError):
            raise read
        pixels = read[:1]  # (1, 3, H, W), the image itself
        index = self.labels.index(label) if label else int(self.forward(pixels)[0].argmax())
        with self._lock:
            (heat,) = heatmaps(model, pixels.to(self.device), torch.tensor([index]))
        seen = undo_preprocessing(pixels[0], self.transform.processor)
        return Explanation(self.labels[index], seen, heat)

    def _read(
        self, source: ImageSource, max_pixels: int, truncated: FewWarnings | None
    ) -> torch.Tensor | InputError:
        """The views of an image, (V, 3, H, W)."""
        try:
            image = open_image(source, max_pixels, truncated)
        except OSError as error:
            return UnreadableImageError(source, str(error))
        views = [image, *(view for make in self._views for view in make(image))]
        return _stack([self.transform(view) for view in views])

    def _name(self, outputs: Outputs[ImageSource], top_k: int) -> Iterator[Prediction]:
        scores = outputs.logits.softmax(dim=-1)  # (B, K)
        values, indices = scores.topk(min(top_k, len(self.labels)), dim=-1)  # (B, top_k)
        known = self.is_known(outputs.features).tolist()
        rows = zip(outputs.items, values.tolist(), indices.tolist(), known, strict=True)
        for source, row, ids, is_known in rows:
            top = tuple((self.labels[i], score) for i, score in zip(ids, row, strict=True))
            path = Path(source) if isinstance(source, str | Path) else None
            yield Prediction(label=top[0][0], score=top[0][1], top=top, path=path, known=is_known)


def open_image(source: ImageSource, max_pixels: int, truncated: FewWarnings | None) -> Image.Image:
    """As `open_rgb`; where `truncated` warns of JPEGs that are, what is there of these."""
    try:
        return open_rgb(source, max_pixels=max_pixels)
    except OSError as error:
        if not truncated or isinstance(source, Image.Image) or not is_truncated(str(error)):
            raise
    image = open_rgb(complete_jpeg(source, max_pixels=max_pixels), max_pixels=max_pixels)
    name = shorten(source) if isinstance(source, str | Path) else "the image"
    truncated.warn("%s: truncated; read as far as it goes", name)
    return image


def _stack(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """By NumPy, for PyTorch's threads would go on spinning on the cores that read images."""
    if len(tensors) == 1:
        return tensors[0][None]
    return torch.from_numpy(np.stack([tensor.numpy() for tensor in tensors]))


def is_one_image(images: object) -> bool:
    """True for bytes, a PIL image and the path of a file, none of which may be iterated over."""
    if isinstance(images, str | Path):
        return os.path.isfile(images)  # noqa: PTH113, False for a name that is too long
    return isinstance(images, bytes | Image.Image)


def open_classifier(
    model: str | Path, *, tta: tuple[str, ...] = (), precision: str = "fp32"
) -> FruitClassifier:
    """The model on this process's device, with all of its threads."""
    device = PartialState().device
    use_own_cores(device)
    options = {"device": device, "tta": tta, "precision": precision}
    return FruitClassifier.from_pretrained(model, **options)
