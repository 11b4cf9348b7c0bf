"""Accuracy on corrupted images: seven corruptions of cameras, each in five severities.

After Hendrycks & Dietterich 2019, arXiv:1903.12261, with what happens to fruit photos. Opt-in: the
model sees every image 36 times. Drawn by Pillow: torchvision's transforms of PIL images call the
same methods, one line each; its Gaussian blur and JPEG are of tensors, and would change metrics.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from accelerate import PartialState
from PIL import Image, ImageEnhance, ImageFilter

from hffruits.data.images import open_rgb
from hffruits.data.split_protocol import Sample
from hffruits.evaluation.predictions import Predictions, predict_samples
from hffruits.inference.classifier import FruitClassifier

SIDE = 512  # pixels of the shorter side, to which larger images are shrunk first
MAX_IMAGES = 1000  # that are enough

Corruption = Callable[[Image.Image, int, np.random.Generator], Image.Image]


def _blur(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    radius = (0.004, 0.008, 0.015, 0.025, 0.04)[severity] * min(image.size)
    return image.filter(ImageFilter.GaussianBlur(radius))


def _noise(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    sigma = (10, 20, 35, 55, 80)[severity]
    pixels = np.asarray(image) + rng.normal(0, sigma, (*image.size[::-1], 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _dark(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance((0.7, 0.5, 0.35, 0.22, 0.12)[severity])


def _bright(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance((1.3, 1.6, 2.0, 2.5, 3.2)[severity])


def _jpeg(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=(30, 20, 12, 8, 4)[severity])
    return Image.open(file).convert("RGB")


def _rotation(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    angle = (10, 25, 45, 90, 180)[severity] * rng.choice([-1, 1])
    return image.rotate(float(angle), Image.Resampling.BILINEAR, fillcolor=(124, 116, 104))


def _crop(image: Image.Image, severity: int, rng: np.random.Generator) -> Image.Image:
    width, height = (round(side * (0.9, 0.75, 0.6, 0.45, 0.3)[severity]) for side in image.size)
    width, height = max(1, width), max(1, height)
    left = int(rng.integers(0, image.width - width + 1))
    top = int(rng.integers(0, image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


CORRUPTIONS: dict[str, Corruption] = {
    "blur": _blur,
    "noise": _noise,
    "dark": _dark,
    "bright": _bright,
    "jpeg": _jpeg,
    "rotation": _rotation,
    "crop": _crop,
}
SEVERITIES = 5


def measure_corruptions(
    fruits: FruitClassifier, samples: Sequence[Sample], *, batch_size: int, max_pixels: int
) -> dict[str, Any]:
    """Accuracy on clean images, on each corruption at each severity, and their mean, in [0, 1].

    `samples` are this process's, of classes that the model has.
    """
    options = {"batch_size": batch_size, "max_pixels": max_pixels}
    options["total"] = len(samples) * PartialState().num_processes

    def predict(corruption: Corruption | None, severity: int, name: str) -> Predictions:
        corrupted = _corrupt(samples, corruption, severity, max_pixels)
        return predict_samples(fruits, corrupted, description=name, **options)

    clean = predict(None, 0, "clean")

    rows = [
        {
            "name": name,
            "accuracies": [
                float(predict(corruption, i, f"{name} {i + 1}/{SEVERITIES}").hits.mean())
                for i in range(SEVERITIES)
            ],
        }
        for name, corruption in CORRUPTIONS.items()
    ]
    return {
        "images": len(clean),
        "clean": float(clean.hits.mean()),
        "rows": rows,
        "mean": float(np.mean([row["accuracies"] for row in rows])),
    }


def _corrupt(
    samples: Sequence[Sample], corruption: Corruption | None, severity: int, max_pixels: int
) -> Iterator[Sample]:
    for sample in samples:
        try:
            image = open_rgb(sample.source, max_pixels=max_pixels)
        except OSError:  # a warning was logged before
            continue
        scale = SIDE / min(image.size)
        if scale < 1:
            size = [max(1, round(side * scale)) for side in image.size]
            image = image.resize(size, reducing_gap=2)
        rng = np.random.default_rng([severity, *sample.path.encode(errors="surrogateescape")])
        yield sample._replace(source=corruption(image, severity, rng) if corruption else image)
