"""Streamed rows for a `DataLoader`: data larger than the disk, each row once an epoch.

Over any number of shards, processes and DataLoader workers: every row of a split comes exactly
once an epoch, all processes make the same steps with batches of the same size (fewer than
`world_size` rows come again for that, at the end), and how a row is augmented depends on nothing
but seed, epoch and row. Needs a `StreamIndex` first. No caching, no balanced drawing.

`split_dataset_by_node` of `datasets` deals out whole shards, or every n-th row: processes would
make unequal numbers of steps where shards differ in size, so it isn't used.
"""

import heapq
import logging
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice, repeat
from typing import Any, NamedTuple

import datasets
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from hffruits.core.dataloader_workers import leave_signals
from hffruits.core.distributed import keep_undivided
from hffruits.core.errors import FewWarnings, InputError
from hffruits.core.escaping import shorten
from hffruits.core.names import name_key
from hffruits.data.stream_index import Row, StreamIndex, read_shard, split_of, stable_hash

logger = logging.getLogger(__name__)

OPEN_SHARDS = 8  # read in turns before the shuffle buffer, for shards are often sorted by class


# ---- who reads what ----


class Piece(NamedTuple):
    """Rows `start` to `stop` of the split's rows in one shard."""

    shard: int
    start: int
    stop: int


def deal_shards(
    sizes: Sequence[int], quotas: Sequence[int], order: Iterable[int]
) -> list[list[Piece]]:
    """Deal shards out in `order`, so that everyone gets exactly its quota of rows.

    Each goes to whom lacks the most, whole if it fits. Of a shard that is cut, the shorter pieces
    come first: who reads a piece has to read what lies before it, too.
    """
    assert sum(sizes) == sum(quotas)
    lacking = [(-quota, unit) for unit, quota in enumerate(quotas)]
    heapq.heapify(lacking)
    pieces: list[list[Piece]] = [[] for _ in quotas]
    for shard in order:
        left, shares = sizes[shard], []
        while left:
            need, unit = lacking[0]
            share = min(left, -need)
            heapq.heapreplace(lacking, (need + share, unit))
            shares.append((share, unit))
            left -= share
        start = 0
        for share, unit in sorted(shares):
            pieces[unit].append(Piece(shard, start, start + share))
            start += share
    return pieces


def _quotas(total: int, batch_size: int, world_size: int, workers: int) -> list[list[int]]:
    """How many rows each worker of each process reads; all rows once, none twice.

    Only the last step may lack rows, and there the last processes. A data loader takes batches
    from its workers in turns: batch b is worker (b % workers)'s.
    """
    length = math.ceil(total / world_size)
    batches = math.ceil(length / batch_size)
    before_last = (batches - 1) * batch_size
    last = length - before_last  # rows of the last batch, on each process
    left = total - before_last * world_size  # rows of the last step, on all
    quotas = []
    for rank in range(world_size):
        own = [batch_size * len(range(worker, batches, workers)) for worker in range(workers)]
        own[(batches - 1) % workers] -= batch_size - min(max(left - rank * last, 0), last)
        quotas.append(own)
    return quotas


# ---- rows ----


class StreamRows(IterableDataset):
    """One process's rows of a split, for a `DataLoader` with this batch size and these workers.

    `convert` makes a row {"image": {"path", "bytes"}, "label": number in `labels`, "path"} into
    {"pixel_values", "labels"}. Where it raises `OSError`, the worker's next good row (at the end,
    its first) comes in the bad one's place too, a warning says so, and `skipped` counts it.
    `shuffle_buffer` is in rows, a worker; 0 gives them in order. The length is in rows, too.
    """

    def __init__(
        self,
        stream: datasets.IterableDataset,
        index: StreamIndex,
        *,
        split: str,
        labels: Sequence[str],
        convert: Callable[[Row], Row],
        seed: int,
        batch_size: int,
        shuffle_buffer: int = 0,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
    ):
        if split not in index.shards or not index.rows(split):
            filled = ", ".join(name for name in index.shards if index.rows(name))
            raise InputError(f"{split}: no rows in the stream. Splits with rows: {filled}.")
        if stream.num_shards != len(index.shards[split]):
            raise InputError(
                f"{stream.num_shards} shards, but {len(index.shards[split])} were counted. Count "
                "the stream again."
            )
        self.ids = {name_key(label): number for number, label in enumerate(labels)}
        unknown = sorted(name for name in index.counts[split] if name_key(name) not in self.ids)
        if unknown:
            raise InputError(
                f"{split} has classes that training lacks: {', '.join(unknown)}. Filter them out, "
                "or hold out a smaller share."
            )
        self.stream, self.index, self.split = stream, index, split
        self.convert, self.seed, self.shuffle_buffer = convert, seed, shuffle_buffer
        self.batch_size, self.num_workers = batch_size, num_workers
        self.rank, self.world_size = rank, world_size
        self.total_dataset_length = index.rows(split)  # of all processes; accelerate's name

        self.length = math.ceil(self.total_dataset_length / world_size)
        self.workers = max(1, num_workers)
        quotas = _quotas(self.total_dataset_length, batch_size, world_size, self.workers)
        self.quotas = list(chain.from_iterable(quotas))
        self.repeats = self.length - sum(quotas[rank])
        self.last_worker = (math.ceil(self.length / batch_size) - 1) % self.workers

        # In shared memory, for persistent workers keep the copy of this object they started with.
        self._epoch = torch.tensor(0).share_memory_()
        self._start = torch.tensor([0, 0]).share_memory_()  # epoch, batch
        self._skipped = torch.zeros(self.workers, dtype=torch.int64).share_memory_()
        self._warnings = FewWarnings(logger)

    def __len__(self) -> int:
        return self.length

    @property
    def skipped(self) -> int:
        """How often an image of this process could not be read, over all epochs."""
        return int(self._skipped.sum())

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def start_at(self, epoch: int, batch: int) -> None:
        """Say that the batches before this one will be thrown away, as `skip_first_batches` does.

        They still come in that epoch, but filled with a later image, so that few are decoded.
        """
        self._start.copy_(torch.tensor([epoch, batch]))

    def __iter__(self) -> Iterator[Row]:
        info = get_worker_info()
        worker = info.id if info else 0
        assert (info.num_workers if info else 1) == self.workers, "num_workers is not the loader's"
        epoch = int(self._epoch)
        start_epoch, start = self._start.tolist()
        batches = len(range(worker, start, self.workers)) if start_epoch == epoch else 0
        unused = batches * self.batch_size  # rows that will be thrown away
        first, waiting = None, 0  # rows whose place the next good row takes
        for number, row in enumerate(self._raw_rows(worker, epoch)):
            waiting += 1
            if first is not None and number < unused:
                continue
            try:
                made = self._make(row, epoch)
            except OSError as error:
                self._skipped[worker] += 1
                said = shorten(row["path"]), error
                self._warnings.warn("%s: %s. Another photo takes its place.", *said)
                continue
            yield from repeat(made, waiting)
            first, waiting = first or made, 0
        if waiting and first is None:
            raise InputError(
                f"{shorten(row['path'])}: can't be read, like all {waiting} photos of its worker. "
                "Fix them, filter them out, or use fewer workers."
            )
        yield from repeat(first, waiting)

    def _make(self, row: Row, epoch: int) -> Row:
        if row["image"] is None:
            raise OSError("no image")
        with torch.random.fork_rng(devices=[]):
            # not torch.manual_seed, which would seed the accelerators too
            torch.default_generator.manual_seed(stable_hash(self.seed, epoch, row["path"]))
            return self.convert(row | {"label": self.ids[name_key(row["label"])]})

    def _raw_rows(self, worker: int, epoch: int) -> Iterator[Row]:
        """A worker's undecoded rows of an epoch, the repeated ones last."""
        sizes, order = self.index.shards[self.split], list(range(self.stream.num_shards))
        unit = self.rank * self.workers + worker
        if self.shuffle_buffer:  # the same order for all units, else rows would come twice
            random.Random(stable_hash(self.seed, epoch)).shuffle(order)
        pieces = deal_shards(sizes, self.quotas, order)[unit]
        if self.shuffle_buffer:
            rng = random.Random(stable_hash(self.seed, epoch, unit))
            rows = _shuffled(self._in_turns(pieces), self.shuffle_buffer, rng)
        else:
            rows = chain.from_iterable(map(self._read, pieces))
        repeats = self.repeats if worker == self.last_worker else 0
        pieces = deal_shards(sizes, [repeats, self.total_dataset_length - repeats], order)[0]
        again = chain.from_iterable(map(self._read, pieces))
        return chain(rows, again)

    def _read(self, piece: Piece) -> Iterator[Row]:
        rows = read_shard(self.stream, piece.shard)
        place = self.index.holdout, self.index.seed
        rows = (r for r in rows if r["label"] and split_of(r["path"], *place) == self.split)
        count = piece.start
        for row in islice(rows, piece.start, piece.stop):
            count += 1
            yield row
        if count < piece.stop:  # then this process would make fewer steps and the others would wait
            raise InputError(
                f"shard {piece.shard}: fewer {self.split} rows than the "
                f"{self.index.shards[self.split][piece.shard]} counted. Count the stream again."
            )

    def _in_turns(self, pieces: list[Piece]) -> Iterator[Row]:
        """A row of each piece in turns, over a few pieces at once."""
        closed = map(self._read, pieces)
        readers = deque(islice(closed, OPEN_SHARDS))
        while readers:
            try:
                yield next(readers[0])
                readers.rotate(-1)
            except StopIteration:
                readers.popleft()
                readers.extend(islice(closed, 1))


def _shuffled(rows: Iterator[Row], size: int, rng: random.Random) -> Iterator[Row]:
    buffer = list(islice(rows, size))
    for row in rows:
        place = rng.randrange(size)
        yield buffer[place]
        buffer[place] = row
    rng.shuffle(buffer)
    yield from buffer


def stream_loader(
    rows: StreamRows,
    *,
    collate_fn: Callable[[list[Row]], Any],
    device: torch.device | None = None,
    pin_memory: bool = False,
    persistent_workers: bool = False,
) -> DataLoader:
    """A loader for `rows`, for training and evaluation, that accelerate does not split again.

    In evaluation, `gather_for_metrics` leaves out the rows that come again (`shuffle_buffer=0`).
    """
    loader = DataLoader(
        rows,
        batch_size=rows.batch_size,
        num_workers=rows.num_workers,
        worker_init_fn=leave_signals,
        collate_fn=collate_fn,
        pin_memory=pin_memory,
        persistent_workers=persistent_workers and rows.num_workers > 0,
    )
    loader = keep_undivided(loader, device=device)
    # `gather_for_metrics` cuts the last step to total_dataset_length % total_batch_size rows
    loader.batch_sampler.num_processes = rows.world_size
    return loader
