"""Test-time augmentation (TTA): the views of an image whose logits are averaged.

A row gives one or more views; their logits are averaged with those of the image itself, before the
softmax.
"""

from collections.abc import Callable, Sequence

from PIL import Image, ImageOps

from hffruits.core.errors import InputError

Views = Callable[[Image.Image], list[Image.Image]]


def _inner(image: Image.Image, share: float, x: float = 0.5, y: float = 0.5) -> Image.Image:
    """A crop with `share` of each side; x and y in [0, 1] say where it lies."""
    width, height = (max(1, round(share * side)) for side in image.size)
    left, top = round(x * (image.width - width)), round(y * (image.height - height))
    return image.crop((left, top, left + width, top + height))


def _square(image: Image.Image) -> Image.Image:
    """The whole image, squeezed: it includes what the model's own centre crop leaves out."""
    side = min(image.size)
    return image.resize((side, side), Image.Resampling.BICUBIC)


VIEWS: dict[str, Views] = {
    "flip": lambda image: [ImageOps.mirror(image)],
    "zoom": lambda image: [_inner(image, 0.8)],
    "whole": lambda image: [_square(image)],
    "corners": lambda image: [_inner(image, 0.8, x, y) for y in (0, 1) for x in (0, 1)],
}


def view_names(tta: str | Sequence[str]) -> tuple[str, ...]:
    """The names in a list, or in one text with commas between them."""
    names = tta.split(",") if isinstance(tta, str) else tta
    return tuple(filter(None, (name.strip() for name in names)))


def choose_views(names: Sequence[str]) -> list[Views]:
    """The rows of `VIEWS` by name. Raises `InputError` for one that isn't there."""
    assert not isinstance(names, str), "names are a list"
    for name in names:
        if name not in VIEWS:
            raise InputError(f"tta={name}: unknown. Known: {', '.join(VIEWS)}.")
    return [VIEWS[name] for name in dict.fromkeys(names)]
