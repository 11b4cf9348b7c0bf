"""A trained model as one object: pictures in, labels with scores out.

The same preprocessing as in validation. Knows nothing of training or serving.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from tqdm.auto import tqdm
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from hffruits.errors import InputError
from hffruits.images import ImageSource, list_images, open_rgb
from hffruits.models import load_model, use_fast_layout
from hffruits.transforms import EvalTransform


@dataclass(frozen=True)
class Prediction:
    """What one picture shows: the best label and its probability, and the runners-up."""

    label: str
    score: float  # in [0, 1]
    top: tuple[tuple[str, float], ...]  # (label, score), best first, `label` included
    path: Path | None = None  # the file, where the picture came from one


class FruitClassifier:
    """Predicts with a trained model.

    >>> fruits = FruitClassifier.from_pretrained("runs/sample")
    >>> fruits.predict("photo.jpg").label
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: BaseImageProcessor,
        *,
        device: str | torch.device | None = None,
    ):
        if device is None:
            device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
        self.device = torch.device(device)
        self.model = use_fast_layout(model.eval().to(self.device))
        self.transform = EvalTransform(processor)
        self.labels = [model.config.id2label[index] for index in range(model.config.num_labels)]

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
    ) -> "FruitClassifier":
        """Load the folder that training wrote, or a Hub id. Raises `InputError` if it can't."""
        return cls(*load_model(name_or_path, revision=revision), device=device)

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
        if batch_size < 1:
            raise InputError(f"batch_size={batch_size}: must be 1 or more.")
        images = iter(images)
        with ThreadPoolExecutor(2) as pool:  # Pillow decodes outside the interpreter lock
            waiting = pool.map(self._read, islice(images, batch_size))
            while batch := list(waiting):
                waiting = pool.map(self._read, islice(images, batch_size))
                for bad in (row for row in batch if isinstance(row, InputError)):
                    if on_bad is None:
                        raise bad
                    on_bad(bad)
                good = [row for row in batch if not isinstance(row, InputError)]
                if good:
                    yield from self._label(good, top_k)

    @torch.inference_mode()
    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, K) on the CPU, in float32."""
        return self.model(pixel_values=pixels.to(self.device)).logits.float().cpu()

    def _read(self, source: ImageSource) -> tuple[ImageSource, torch.Tensor] | InputError:
        try:
            return source, self.transform(open_rgb(source))
        except OSError as error:
            name = source if isinstance(source, str | Path) else "the picture"
            return InputError(f"{name}: {error}. Give a complete image file.")

    def _label(
        self, batch: list[tuple[ImageSource, torch.Tensor]], top_k: int
    ) -> Iterator[Prediction]:
        sources, pixels = zip(*batch, strict=True)
        scores = self.logits(torch.stack(pixels)).softmax(dim=-1)  # (B, K)
        values, indices = scores.topk(min(top_k, len(self.labels)), dim=-1)  # (B, top_k)
        for source, row, ids in zip(sources, values.tolist(), indices.tolist(), strict=True):
            top = tuple((self.labels[i], score) for i, score in zip(ids, row, strict=True))
            path = Path(source) if isinstance(source, str | Path) else None
            yield Prediction(label=top[0][0], score=top[0][1], top=top, path=path)


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
