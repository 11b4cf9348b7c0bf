"""Transforms from an image to a model's input: augmentation presets, and one eval transform.

Size, interpolation and normalisation come from the backbone's image processor. No files, no labels.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, cached_property
from math import ceil, sqrt
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from timm.data.transforms import str_to_interp_mode
from torch import nn
from torchvision.transforms import v2
from torchvision.transforms.functional import InterpolationMode
from transformers import TimmWrapperImageProcessor
from transformers.image_processing_utils import BaseImageProcessor

from hffruits.core.errors import InputError
from hffruits.data.images import MAX_PIXELS, open_rgb, open_small

Transform = Callable[[Image.Image], torch.Tensor]
_identity = nn.Identity()
MOST_ASPECT = 20
_GREY = (124, 116, 104)  # behind a turned image: ImageNet's mean


@dataclass(frozen=True)
class Preprocessing:
    """What a checkpoint's image processor does, spelled out: resize, cut out the middle, scale."""

    resize: tuple[int, ...]  # (high, wide), or only the shorter side's pixels
    crop: tuple[int, int] | None  # (high, wide)
    interpolation: InterpolationMode
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def resize_shorter(self) -> bool:
        """Whether the proportions stay."""
        return len(self.resize) == 1


def preprocessing_of(processor: BaseImageProcessor) -> Preprocessing:
    """The steps of a processor. Raises `InputError` for one with other steps than these."""
    if isinstance(processor, TimmWrapperImageProcessor):
        steps = {type(step).__name__: step for step in processor.val_transforms.transforms}
        if set(steps) <= {"Resize", "CenterCrop", "MaybeToTensor", "Normalize"}:
            size, scaling = steps["Resize"].size, steps["Normalize"]
            return Preprocessing(
                (size,) if isinstance(size, int) else tuple(size),
                tuple(steps["CenterCrop"].size) if "CenterCrop" in steps else None,
                _interpolation(processor),
                tuple(scaling.mean.tolist()),
                tuple(scaling.std.tolist()),
            )
    else:
        size = dict(processor.size)
        squeezed = size.get("height") and size.get("width") and not processor.do_center_crop
        plain = processor.do_resize and processor.do_rescale and processor.do_normalize
        if squeezed and plain and getattr(processor, "crop_pct", None) is None:
            return Preprocessing(
                (size["height"], size["width"]),
                None,
                _interpolation(processor),
                tuple(processor.image_mean),
                tuple(processor.image_std),
            )
    name = type(processor).__name__
    raise InputError(f"{name}: its preprocessing can't be put into a graph. Export without it.")


@dataclass(frozen=True)
class EvalTransform:
    """RGB image -> (3, H, W): the checkpoint's own preprocessing, for validation and prediction.

    These are the processor's pixels, so that `transformers.pipeline` sees the same. Where it does
    what `Preprocessing` can spell out, and a try gives equal pixels, that is done more quickly. Of
    an image over `MOST_ASPECT` times as long as wide the middle is taken: resized by its shorter
    side, a line of pixels would fill the memory.
    """

    processor: BaseImageProcessor

    def __call__(self, image: Image.Image) -> torch.Tensor:
        longest = MOST_ASPECT * min(image.size)
        if max(image.size) > longest:
            image = v2.functional.center_crop(
                image, [min(side, longest) for side in image.size[::-1]]
            )
        return self._quick(image) if self._quick else self._plainly(image)

    @property
    def steps(self) -> Preprocessing | None:
        """What the processor does, spelled out; None where a try gave other pixels."""
        return self._quick and self._quick.steps

    def _plainly(self, image: Image.Image) -> torch.Tensor:
        return self.processor(image, return_tensors="pt")["pixel_values"][0]

    @cached_property
    def _quick(self) -> Transform | None:
        try:
            quick = QuickTransform(preprocessing_of(self.processor))
        except InputError:
            return None
        noise = np.random.default_rng(0).integers(0, 256, (61, 83, 3), np.uint8)
        probe = Image.fromarray(noise)
        same = all(
            torch.equal(quick(image), self._plainly(image))
            for image in (
                probe,
                probe.resize((700, 411)),
                probe.transpose(Image.Transpose.ROTATE_90),
            )
        )
        return quick if same else None


class QuickTransform:
    """What a `Preprocessing` says, by Pillow and NumPy: the same numbers in two thirds of the time.

    PyTorch's operators would start threads of their own in each thread that reads images.
    """

    def __init__(self, steps: Preprocessing):
        self.steps = steps
        self.resample = _TO_PILLOW[steps.interpolation]
        numbers = np.array([steps.mean, steps.std], np.float32)
        self.mean, self.std = numbers[:, :, None, None]  # (3, 1, 1) each

    def __call__(self, image: Image.Image) -> torch.Tensor:
        values = np.asarray(self._resize(image)).transpose(2, 0, 1)
        pixels = np.ascontiguousarray(values).astype(np.float32)
        pixels /= 255
        pixels -= self.mean
        pixels /= self.std
        return torch.from_numpy(pixels)

    def _resize(self, image: Image.Image) -> Image.Image:
        if not self.steps.resize_shorter:
            high, wide = self.steps.resize
            return image.resize((wide, high), self.resample)
        (shorter,) = self.steps.resize
        width, height = image.size
        least = min(width, height)
        whole = (int(shorter * width / least), int(shorter * height / least))
        if self.steps.crop is None:
            return image.resize(whole, self.resample)
        high, wide = self.steps.crop
        left, top = (round((a - b) / 2) for a, b in zip(whole, (wide, high), strict=True))
        box = (
            *(left * width / whole[0], top * height / whole[1]),
            *((left + wide) * width / whole[0], (top + high) * height / whole[1]),
        )
        if all(float(np.float32(edge)) == edge for edge in box):  # as Pillow will round them
            return image.resize((wide, high), self.resample, box=box)
        return image.resize(whole, self.resample).crop((left, top, left + wide, top + high))


@dataclass(frozen=True)
class Scaling:
    """Values in [0, 255] (B, 3, H, W) -> pixels as a checkpoint wants them, on the same device.

    A GPU does this in no time, and a quarter of the bytes has to get there.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        mean, std = _columns(self.mean, self.std, values.device)
        return (values.float() - mean) / std


@cache
def _columns(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """For values up to 255, (3, 1, 1) each. Sent once: a GPU is waited for at each such copy."""
    numbers = 255 * torch.tensor([mean, std], device=device)[:, :, None, None]
    return numbers[0], numbers[1]


def scaling_of(processor: BaseImageProcessor, augment: str) -> Scaling | None:
    """What is left to be done to `train_transform(..., scaled=False)`; None where that can't be."""
    preset = AUGMENTATIONS[augment]
    if preset is None or preset.finish is not _identity:
        return None
    try:
        steps = preprocessing_of(processor)
    except InputError:
        return None
    scaling, (high, wide) = Scaling(steps.mean, steps.std), input_size(processor)
    noise = np.random.default_rng(0).integers(0, 256, (high, wide, 3), np.uint8)
    probe = Image.fromarray(noise)
    both = [TrainTransform(processor, _identity, scaled=scaled)(probe) for scaled in (True, False)]
    return scaling if torch.allclose(scaling(both[1]), both[0], atol=1e-5) else None


@dataclass(frozen=True)
class TrainTransform:
    """RGB image -> augmented (3, H, W), normalised by the checkpoint's own processor.

    Not `scaled`: the bytes as they are, for `Scaling`.
    """

    processor: BaseImageProcessor
    augment: Callable[[Image.Image], Image.Image]  # gives an image of the model's input size
    finish: Callable[[torch.Tensor], torch.Tensor] = _identity  # on normalised pixels
    options: dict = field(default_factory=lambda: {"do_resize": False, "do_center_crop": False})
    scaled: bool = True
    least_side: int | None = None  # pixels of an image's shorter side, beyond which none are seen

    def __call__(self, image: Image.Image) -> torch.Tensor:
        image = self.augment(image)
        if not self.scaled:
            return v2.functional.pil_to_tensor(image)
        if isinstance(self.processor, TimmWrapperImageProcessor):
            config = self.processor.data_config
            pixels = v2.functional.to_dtype(v2.functional.to_image(image), scale=True)
            pixels = v2.functional.normalize(pixels, config["mean"], config["std"])
        else:
            pixels = self.processor(image, **self.options, return_tensors="pt")["pixel_values"][0]
        return self.finish(pixels)


class ColourSafeRandAugment(v2.RandAugment):
    """RandAugment (arXiv:1909.13719) without the operations that make other colours.

    Solarize, posterize, equalize, auto-contrast and "color" turn a ripe fruit into an unripe one.
    """

    _AUGMENTATION_SPACE: ClassVar = {
        name: how
        for name, how in v2.RandAugment._AUGMENTATION_SPACE.items()
        if name not in ("Color", "Posterize", "Solarize", "AutoContrast", "Equalize")
    }


@dataclass(frozen=True)
class Augmentation:
    """A preset: steps on the image, given (height, width) and interpolation, then on pixels."""

    steps: Callable[[tuple[int, int], InterpolationMode], list]
    finish: Callable[[torch.Tensor], torch.Tensor] = _identity


def train_transform(
    processor: BaseImageProcessor,
    augment: str = "light",
    *,
    size: int | None = None,
    scaled: bool = True,
) -> Transform:
    """The training transform of a checkpoint. `augment` is a row of `AUGMENTATIONS`.

    `size` is the height and width in training, by default what the model sees in validation.
    Random crops show fruits larger than validation does, which a smaller size evens out
    (arXiv:1906.06423). Not `scaled` leaves it to `scaling_of` to normalise the values.
    """
    if augment not in AUGMENTATIONS:
        raise ValueError(f"augment={augment!r}: unknown. Known: {', '.join(AUGMENTATIONS)}.")
    preset = AUGMENTATIONS[augment]
    if preset is None:
        return EvalTransform(processor)
    height_and_width = (size, size) if size else input_size(processor)
    steps = preset.steps(height_and_width, _interpolation(processor))
    options = {"scaled": scaled, "least_side": _least_side(steps)}
    return TrainTransform(processor, v2.Compose(steps), preset.finish, **options)


def open_for(
    transform: Transform, source: str | bytes, *, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """The image that a transform is given. Raises `OSError` as `open_rgb` does.

    For training a large one has no more pixels than its smallest crop needs. A JPEG is decoded at
    a fraction of its size, which takes a fraction of the time; others are made smaller then.
    """
    if not isinstance(transform, TrainTransform) or transform.least_side is None:
        return open_rgb(source, max_pixels=max_pixels)
    image, _, _ = open_small(source, transform.least_side, max_pixels=max_pixels)
    times = min(image.size) // transform.least_side
    return image.reduce(1 << times.bit_length() - 1) if times > 1 else image


def _least_side(steps: list) -> int | None:
    """So that the smallest crop still has the pixels that the model sees."""
    crops = [step for step in steps if isinstance(step, v2.RandomResizedCrop)]
    if not crops:
        return None
    (crop,) = crops
    return ceil(max(crop.size) / sqrt(crop.scale[0] * crop.ratio[0]))


# Colours hardly change: an orange pepper differs from a yellow one in nothing else.
AUGMENTATIONS: dict[str, Augmentation | None] = {
    "none": None,  # what validation does
    "light": Augmentation(
        lambda size, interpolation: [
            v2.RandomResizedCrop(size, scale=(0.25, 1.0), interpolation=interpolation),
            v2.RandomHorizontalFlip(),
        ],
    ),
    "medium": Augmentation(
        lambda size, interpolation: [
            v2.RandomRotation(15, interpolation=InterpolationMode.BILINEAR, fill=_GREY),
            v2.RandomResizedCrop(size, scale=(0.25, 1.0), interpolation=interpolation),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.1, hue=0.01),
        ],
        v2.RandomErasing(p=0.1),
    ),
    "strong": Augmentation(
        lambda size, interpolation: [
            v2.RandomResizedCrop(size, scale=(0.15, 1.0), interpolation=interpolation),
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(p=0.2),
            ColourSafeRandAugment(num_ops=2, magnitude=9, fill=_GREY),
            v2.ColorJitter(saturation=0.2, hue=0.02),
        ],
        v2.RandomErasing(p=0.25, scale=(0.02, 0.2)),
    ),
}


def input_size(processor: BaseImageProcessor) -> tuple[int, int]:
    """Pixels (high, wide) that the model sees, after any crop."""
    return tuple(EvalTransform(processor)(Image.new("RGB", (64, 48))).shape[1:])


def _interpolation(processor: BaseImageProcessor) -> InterpolationMode:
    if isinstance(processor, TimmWrapperImageProcessor):
        mode = str_to_interp_mode(processor.data_config["interpolation"])
        return mode if isinstance(mode, InterpolationMode) else InterpolationMode.BICUBIC
    return _OF_PILLOW[Image.Resampling(int(processor.resample))]


_OF_PILLOW = {
    Image.Resampling.NEAREST: InterpolationMode.NEAREST,
    Image.Resampling.BILINEAR: InterpolationMode.BILINEAR,
    Image.Resampling.BICUBIC: InterpolationMode.BICUBIC,
    Image.Resampling.LANCZOS: InterpolationMode.LANCZOS,
    Image.Resampling.BOX: InterpolationMode.BOX,
    Image.Resampling.HAMMING: InterpolationMode.HAMMING,
}
_TO_PILLOW = {mode: resample for resample, mode in _OF_PILLOW.items()}
