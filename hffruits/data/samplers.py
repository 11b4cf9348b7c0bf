"""Samplers: order and augmentation of images are functions of only seed, epoch and index.

So a resumed run, another number of workers or of processes sees the same images, in the same
batches.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset
from torch.utils.data import Sampler


class RowKey(NamedTuple):
    """A row as `SharedBatches` ask for it."""

    epoch: int
    index: int
    share: float = 1.0  # what its batch counts in the mean over a step's batches


class EpochSampler(Sampler[int]):
    """Yields indices: a permutation an epoch, or draws by `weights` with replacement."""

    def __init__(self, size: int, *, seed: int, weights: Sequence[float] | None = None):
        self.size, self.seed, self.epoch = size, seed, 0
        self.weights = None if weights is None else torch.tensor(weights, dtype=torch.float64)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(_mix(self.seed, self.epoch))
        if self.weights is None:
            order = torch.randperm(self.size, generator=generator)
        else:
            order = torch.multinomial(
                self.weights, self.size, replacement=True, generator=generator
            )
        return iter(order.tolist())


class SharedBatches(Sampler[list[RowKey]]):
    """A process's part of each batch, `batch_size` rows; for any number of them the same batches.

    Each row counts once an epoch. What is left for the last batch is divided evenly, and the mean
    over the processes' losses stays the mean over the batch, for each has its `share`: so many
    rows, of so many of all. (accelerate's own division repeats rows until the parts are full.)
    The same holds for the batches that are `accumulated` into one step.
    A lone row comes twice: its mean is the same, and batch norm can't work with one.
    """

    def __init__(
        self,
        order: EpochSampler,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        accumulated: int = 1,
        drop_last: bool = False,
    ):
        self.order, self.batch_size, self.drop_last = order, batch_size, drop_last
        self.rank, self.world_size, self.accumulated = rank, world_size, accumulated

    @property
    def whole_size(self) -> int:
        """Rows of a batch, of all processes."""
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        whole, left = divmod(len(self.order), self.whole_size)
        return whole + (left > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[list[RowKey]]:
        edges = (self.rank, self.rank + 1)
        batches = list(self.whole_batches())
        for number, batch in enumerate(batches):
            first, last = (len(batch) * edge // self.world_size for edge in edges)
            begin = number - number % self.accumulated
            step = batches[begin : begin + self.accumulated]
            share = self.world_size * len(step) * (last - first) / sum(map(len, step))
            part = batch[first:last] or batch[:1]  # with no row left: one that counts nothing
            part = part if len(part) > 1 else 2 * part
            yield [RowKey(self.order.epoch, index, share) for index in part]

    def whole_batches(self) -> Iterator[list[int]]:
        """The rows of each batch, of all processes, in this epoch."""
        rows = list(self.order)
        for number in range(len(self)):
            yield rows[number * self.whole_size : (number + 1) * self.whole_size]


class SeededRows:
    """A dataset for `SharedBatches`: each row is made with random numbers of its own."""

    def __init__(self, dataset: Dataset, *, seed: int):
        self.dataset, self.seed = dataset, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: RowKey) -> dict[str, Any]:
        with own_random_numbers(self.seed, key.epoch, key.index):
            return self.dataset[key.index] | {"share": key.share}


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
