"""Augmentation of cached features: flips and crops of feature maps, in place of further views.

A CNN's features of a flipped or cropped photo are nearly its flipped or cropped features, so each
cached view is good for many. Not for the features of ViTs, which aren't maps.
"""

from dataclasses import dataclass

import torch

from hffruits.data.samplers import own_random_numbers

MOST_CUT = 0.2  # of a side, at each of its ends


@dataclass(frozen=True)
class MapAugmentation:
    """Random flips of each map of a batch, and one random crop of all of them."""

    seed: int

    def __call__(self, maps: torch.Tensor, step: int) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, h, w); the same for the same step of a run."""
        high, wide = maps.shape[-2:]
        with own_random_numbers(self.seed, step):
            flipped = torch.rand(len(maps)) < 0.5
            cut = torch.rand(()) * MOST_CUT
            h, w = (side - 2 * int(cut * side + 0.5) for side in (high, wide))
            top, left = (int(torch.randint(0, a - b + 1, ())) for a, b in ((high, h), (wide, w)))
        maps = maps[..., top : top + h, left : left + w]
        flipped = flipped.to(maps.device)[:, None, None, None]
        return torch.where(flipped, maps.flip(-1), maps)
