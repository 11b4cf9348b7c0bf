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

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from hffruits.errors import InputError
from hffruits.explain import heatmaps, overlay, seen_by
from hffruits.images import MAX_PIXELS, ImageSource, list_images, open_rgb
from hffruits.models import find_file, load_model, logits_and_features, use_fast_layout
from hffruits.transforms import EvalTransform, input_size
from hffruits.unknowns import FILE, familiarity, load_prototypes
from hffruits.views import choose_views

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


@dataclass(frozen=True)
class Answers:
    """What the model said of some pictures, as float32 on the CPU."""

    places: list[int]  # in what was given
    logits: torch.Tensor  # (B, K), of several views the mean
    features: torch.Tensor  # (B, D), what the head sees of the picture itself


class FruitClassifier:
    """Predicts with a trained model.

    >>> fruits = FruitClassifier.from_pretrained("runs/sample")
    >>> fruits.predict("photo.jpg").label

    `tta` names `views.VIEWS` to look at beside the picture itself: slower by their number, and a
    little more often right.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: BaseImageProcessor,
        *,
        device: str | torch.device | None = None,
        tta: Sequence[str] = (),
        prototypes: torch.Tensor | None = None,
    ):
        if device is None:
            device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
        self.device = torch.device(device)
        self.model = use_fast_layout(model.eval().to(self.device))
        self.transform = EvalTransform(processor)
        self.labels = [model.config.id2label[index] for index in range(model.config.num_labels)]
        self.tta = tuple(tta.split(",") if isinstance(tta, str) else tta)
        self._views = choose_views(self.tta)
        self.prototypes = prototypes  # (P, D); without them, everything is taken for known
        below = getattr(model.config, "reject_below", None)
        self.reject_below = -math.inf if below is None else float(below)
        self.input_size = input_size(processor)  # (height, width) in pixels
        self._lock = threading.Lock()  # hooks on the model see every thread's pictures

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        tta: Sequence[str] = (),
    ) -> "FruitClassifier":
        """Load the folder that training wrote, or a Hub id. Raises `InputError` if it can't."""
        model, processor = load_model(name_or_path, revision=revision)
        prototypes = None
        if getattr(model.config, "reject_below", None) is not None:
            if file := find_file(name_or_path, FILE, revision=revision):
                prototypes = load_prototypes(file)
            else:
                logger.warning("%s: has no %s, so nothing is refused", name_or_path, FILE)
        return cls(model, processor, device=device, tta=tta, prototypes=prototypes)

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
        window: dict[int, ImageSource] = {}  # of the batches under way

        def remembered() -> Iterator[ImageSource]:
            for place, image in enumerate(images):
                window[place] = image
                yield image

        for answers in self.answer(remembered(), batch_size=batch_size, on_bad=on_bad):
            last = answers.places[-1]
            sources = [window[place] for place in answers.places]
            for place in [place for place in window if place <= last]:
                del window[place]
            yield from self._name(sources, answers, top_k)

    def answer(
        self,
        images: Iterable[ImageSource],
        *,
        batch_size: int = 32,
        on_bad: Callable[[InputError], None] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Iterator[Answers]:
        """The logits of pictures, a batch at a time; holds two batches.

        Those that can't be read are missing, after `on_bad` was told. Without that, it raises.
        """
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size}: must be 1 or more.")
        numbered = enumerate(images)

        def read(item: tuple[int, ImageSource]) -> tuple[int, torch.Tensor | InputError]:
            place, source = item
            return place, self._read(source, max_pixels)

        with ThreadPoolExecutor(2) as pool:  # Pillow decodes outside the interpreter lock
            waiting = pool.map(read, islice(numbered, batch_size))
            while batch := list(waiting):
                waiting = pool.map(read, islice(numbered, batch_size))
                for _, bad in batch:
                    if isinstance(bad, InputError):
                        if on_bad is None:
                            raise bad
                        on_bad(bad)
                good = [(place, row) for place, row in batch if not isinstance(row, InputError)]
                if good:
                    places, pixels = zip(*good, strict=True)
                    stacked = torch.stack(pixels)  # (B, V, 3, H, W)
                    logits, features = self.forward(stacked.flatten(0, 1))
                    logits, features = (
                        rows.view(*stacked.shape[:2], -1) for rows in (logits, features)
                    )
                    yield Answers(list(places), logits.mean(1), features[:, 0])

    @torch.inference_mode()
    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, H, W) -> logits (B, K) and features (B, D), on the CPU, in float32."""
        with self._lock:
            pixels = pixels.to(self.device, self.model.dtype)
            logits, features = logits_and_features(self.model, pixels)
        return logits.float().cpu(), features.float().cpu()

    def familiarity(self, features: torch.Tensor) -> np.ndarray:
        """How much like something learned the pictures with these features (B, D) look, (B,)."""
        if self.prototypes is None:
            return np.ones(len(features), np.float32)
        return familiarity(features, self.prototypes).numpy()

    def explain(self, image: ImageSource, label: str | None = None) -> Explanation:
        """Where the model looked to find `label` in a picture, by default what it named it.

        Raises `InputError` for a picture that can't be read, and for a label it doesn't know.
        """
        if label is not None and label not in self.labels:
            raise InputError(f"{label}: not among the {len(self.labels)} labels of this model.")
        read = self._read(image, MAX_PIXELS)
        if isinstance(read, InputError):
            raise read
        pixels = read[:1]  # (1, 3, H, W), the picture itself
        index = self.labels.index(label) if label else int(self.forward(pixels)[0].argmax())
        with self._lock:
            (heat,) = heatmaps(self.model, pixels.to(self.device), torch.tensor([index]))
        return Explanation(self.labels[index], seen_by(pixels[0], self.transform.processor), heat)

    def _read(self, source: ImageSource, max_pixels: int) -> torch.Tensor | InputError:
        """The views of a picture, (V, 3, H, W)."""
        try:
            picture = open_rgb(source, max_pixels=max_pixels)
        except OSError as error:
            name = source if isinstance(source, str | Path) else "the picture"
            return InputError(f"{name}: {error}. Give a complete image file.")
        views = [picture, *(view for make in self._views for view in make(picture))]
        return torch.stack([self.transform(view) for view in views])

    def _name(
        self, sources: list[ImageSource], answers: Answers, top_k: int
    ) -> Iterator[Prediction]:
        scores = answers.logits.softmax(dim=-1)  # (B, K)
        values, indices = scores.topk(min(top_k, len(self.labels)), dim=-1)  # (B, top_k)
        known = (self.familiarity(answers.features) >= self.reject_below).tolist()
        rows = zip(sources, values.tolist(), indices.tolist(), known, strict=True)
        for source, row, ids, is_known in rows:
            top = tuple((self.labels[i], score) for i, score in zip(ids, row, strict=True))
            path = Path(source) if isinstance(source, str | Path) else None
            yield Prediction(label=top[0][0], score=top[0][1], top=top, path=path, known=is_known)


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
