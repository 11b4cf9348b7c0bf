"""Augmentation of cached features: flips and crops of feature maps, in place of further views.

A CNN's features of a flipped or cropped photo are nearly its flipped or cropped features, so each
cached view is good for many. Not for the features of ViTs, which aren't maps.
"""

from dataclasses import dataclass

import numpy as np
import torch

MOST_CUT = 0.2  # of a side, at each of its ends


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
