"""Which picture comes when, and how it is augmented: both functions of seed, epoch and index alone.

So a resumed run, another number of workers or of processes sees the same pictures.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import Sampler


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index): a permutation an epoch, or draws by `weights` with replacement."""

    def __init__(self, size: int, *, seed: int, weights: Sequence[float] | None = None):
        self.size, self.seed, self.epoch = size, seed, 0
        self.weights = None if weights is None else torch.tensor(weights, dtype=torch.float64)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch))
        if self.weights is None:
            order = torch.randperm(self.size, generator=generator)
        else:
            order = torch.multinomial(
                self.weights, self.size, replacement=True, generator=generator
            )
        return ((self.epoch, index) for index in order.tolist())


class SeededRows:
    """A dataset for `EpochSampler`: each row is made with random numbers of its own."""

    def __init__(self, dataset: Dataset, *, seed: int):
        self.dataset, self.seed = dataset, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        with own_random_numbers(self.seed, epoch, index):
            return self.dataset[index]


@contextmanager
def own_random_numbers(*numbers: int) -> Iterator[None]:
    """Within this block PyTorch draws what follows from these numbers; after it, as before it."""
    with torch.random.fork_rng(devices=[]):
        # not torch.manual_seed, which would seed the accelerators too
        torch.default_generator.manual_seed(_mix(*numbers))
        yield


def balanced_weights(labels: Sequence[int], classes: int) -> list[float]:
    """A weight for each image, so that every class is drawn equally often."""
    counts = torch.bincount(torch.as_tensor(labels), minlength=classes)
    return (1.0 / counts[torch.as_tensor(labels)]).tolist()


def _mix(*numbers: int) -> int:
    """One seed from several: neighbours must not give related streams."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
