"""From a picture to a model's input: augmented for training, exactly one way for everything else.

Size, mean and standard deviation come from the backbone's image processor. No files, no labels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.functional import InterpolationMode
from transformers.image_processing_utils import BaseImageProcessor

Transform = Callable[[Image.Image], torch.Tensor]


@dataclass(frozen=True)
class InputSpec:
    """What a backbone expects: pixels high and wide, and the channels' mean and deviation."""

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, processor: BaseImageProcessor) -> "InputSpec":
        """Read from a timm or a transformers image processor."""
        config = getattr(processor, "data_config", None)  # timm's own settings, where wrapped
        if config is not None:
            return cls(tuple(config["input_size"][1:]), tuple(config["mean"]), tuple(config["std"]))
        probe = eval_transform(processor)(Image.new("RGB", (64, 48)))  # (3, H, W), after any crop
        return cls(tuple(probe.shape[1:]), tuple(processor.image_mean), tuple(processor.image_std))


def eval_transform(processor: BaseImageProcessor) -> Transform:
    """RGB picture -> (3, H, W): the checkpoint's own preprocessing, for validation and prediction.

    The processor itself does it, so that `transformers.pipeline` sees the same pixels.
    """
    return lambda image: processor(image, return_tensors="pt")["pixel_values"][0]


def train_transform(spec: InputSpec, augment: str = "light") -> Transform:
    """RGB picture -> augmented (3, H, W). `augment` is a row of `AUGMENTATIONS`."""
    if augment not in AUGMENTATIONS:
        raise ValueError(f"augment={augment!r}: unknown. Known: {', '.join(AUGMENTATIONS)}.")
    to_tensor = [
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(spec.mean, spec.std),
    ]
    return v2.Compose([*AUGMENTATIONS[augment](spec.size), *to_tensor])


# Colour tells a ripe fruit from an unripe one, so hue moves by 7 degrees at most (0.02 of a turn).
AUGMENTATIONS: dict[str, Callable[[tuple[int, int]], list]] = {
    "none": lambda size: [v2.Resize(size, interpolation=InterpolationMode.BICUBIC)],
    "light": lambda size: [
        v2.RandomResizedCrop(size, scale=(0.25, 1.0), interpolation=InterpolationMode.BICUBIC),
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(brightness=0.2, contrast=0.2, saturation=0.2, hue=0.02),
    ],
}
