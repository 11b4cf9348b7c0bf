"""Augmentation of cached features: flips and crops of feature maps, in place of further views.

A CNN's features of a flipped or cropped photo are nearly its flipped or cropped features, so each
cached view is good for many. Not for the features of ViTs, which aren't maps.
"""

from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from hffruits.models.frozen_trunk import FrozenTrunk
from hffruits.models.resizing import takes_any_size

MOST_CUT = 0.2  # of a side, at each of its ends


def augments_maps(model: PreTrainedModel, trunk: FrozenTrunk, augment: str) -> bool:
    """Whether training flips and crops a trunk's output: maps (C, H, W), if the rest takes those.

    Tried on two sizes: some CNNs add maps of fixed sides, or have their channels last.
    """
    if augment == "none" or len(trunk.shape) != 3 or not takes_any_size(model):
        return False
    channels, high, wide = trunk.shape
    if (high == wide) != (trunk.image_size[0] == trunk.image_size[1]):
        return False
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        for cut in (MOST_CUT, 1 / max(high, wide)):
            h, w = (side - 2 * round(cut * side) for side in (high, wide))
            for less in (0, 1):  # also odd sides
                maps = torch.zeros(2, channels, max(1, h - less), max(1, w - less), device=device)
                with trunk.skipped(model, maps), torch.no_grad():
                    pixels = maps.new_zeros((1, 3, *trunk.image_size))
                    if len(model(pixel_values=pixels).logits) != len(maps):
                        return False
    except (RuntimeError, AssertionError, ValueError, IndexError):
        return False
    finally:
        model.train(was_training)
    return True


def mean_size(trunk: FrozenTrunk) -> tuple[int, ...]:
    """Of the maps that are left, (C, h, w)."""
    channels, *sides = trunk.shape
    return channels, *(side - 2 * round(MOST_CUT / 2 * side) for side in sides)


@dataclass(frozen=True)
class MapAugmentation:
    """Flips of half of a batch's maps, whose order is random, and a random crop of all of them."""

    seed: int

    def __call__(self, maps: torch.Tensor, step: int) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, h, w); the same for the same step of a run."""
        rng = np.random.default_rng((self.seed, step))  # by NumPy, so that no GPU is waited for
        cut, (high, wide) = rng.uniform(0, MOST_CUT), maps.shape[-2:]
        h, w = (side - 2 * round(cut * side) for side in (high, wide))
        top, left = int(rng.integers(high - h + 1)), int(rng.integers(wide - w + 1))
        maps = maps[..., top : top + h, left : left + w]
        flipped = int(len(maps) / 2 + rng.random())
        return torch.cat([maps[:flipped].flip(-1), maps[flipped:]])
