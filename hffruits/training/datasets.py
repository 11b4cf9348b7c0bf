"""Splits as tensors for the Trainer, decoded and transformed when a row is read.

Map-style and streamed splits answer it alike: `in_epochs` is how training reads them,
`evaluation_loader` how validation does, `drawn_batches` are images drawn from all of a split.
"""

import copy
import math
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Any, Protocol

import torch
from datasets import Image
from torch.utils.data import DataLoader

from hffruits.core.dataloader_workers import leave_signals
from hffruits.core.distributed import keep_undivided
from hffruits.data.images import MAX_PIXELS, translate_image_errors
from hffruits.data.samplers import EpochSampler, RowKey, SeededRows, SharedBatches, balanced_weights
from hffruits.data.split_protocol import MapSplit, Split
from hffruits.data.stream_dataset import StreamSplit
from hffruits.data.stream_rows import StreamRows, stream_loader
from hffruits.data.transforms import Transform, open_for
from hffruits.training.arguments import FruitTrainingArguments

Row = dict[str, Any]
Batch = dict[str, torch.Tensor]
UsualLoader = Callable[[Any], DataLoader]  # the Trainer's own, for rows that have indices


class Epochs(Protocol):
    """What training reads, epoch by epoch."""

    rows: Any  # the Trainer's `train_dataset`

    def __len__(self) -> int:
        """Batches of an epoch, on each process."""

    def begin(self, epoch: int, batch: int) -> None:
        """Read this epoch next; the batches before `batch` will be skipped."""

    def loader(self, rows: Any) -> DataLoader:
        """This process's batches of `rows`: its own, or cached features of the same images."""

    def drawn(self, rows: Any, count: int) -> Iterable[Batch]:
        """About `count` of `rows` as the first epochs show them; the same ones on each process."""

    def paths(self, epoch: int, batches: slice) -> list[str]:
        """The images of these batches, of all processes; none of a stream, which has no order."""


class Tensors(Protocol):
    """A split as rows `pixel_values` (3, H, W) and `labels`."""

    split: Split

    def __len__(self) -> int: ...

    def in_epochs(self, args: FruitTrainingArguments) -> Epochs:
        """For training."""

    def evaluation_loader(self, args: FruitTrainingArguments, usual: UsualLoader) -> DataLoader:
        """This process's share, each row once and in order."""

    def drawn_batches(self, count: int, args: FruitTrainingArguments) -> Iterable[Batch]:
        """About `count` images, drawn from all of the split; the same ones each time."""


def as_tensors(split: Split, transform: Transform, *, max_pixels: int = MAX_PIXELS) -> Tensors:
    """The split with rows `pixel_values` (3, H, W) and `labels`, made when a row is read."""
    # a partial and no closure, so that DataLoader workers can be spawned with it
    return _TENSORS[type(split)](
        split, partial(_convert, transform=transform, max_pixels=max_pixels)
    )


def _convert(row: Row, *, transform: Transform, max_pixels: int) -> Row:
    image = open_for(transform, _source_of(row), max_pixels=max_pixels)
    return {"pixel_values": transform(image), "labels": row["label"]}


def _source_of(row: Row) -> str | bytes:
    return row["image"]["bytes"] or row["image"]["path"]


# ---- rows that have indices ----


class IndexedRows:
    """Rows that can be read in any order: images, or cached features of them."""

    def evaluation_loader(self, args: FruitTrainingArguments, usual: UsualLoader) -> DataLoader:
        """As the Trainer divides them."""
        loader = usual(self)
        loader.base_dataloader.worker_init_fn = leave_signals
        return loader


class MapTensors(IndexedRows):
    """`Tensors` of a map-style split, by index."""

    def __init__(self, split: MapSplit, convert: Callable[[Row], Row]):
        self.split, self.convert = split, convert
        self.rows = split.rows.cast_column("image", Image(decode=False)).with_format(None)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        """Raises `InputError` for an image that can't be read any more."""
        row = self.rows[index] | {"label": self.split.labels[index]}
        with translate_image_errors(_source_of(row)):
            return self.convert(row)

    def in_epochs(self, args: FruitTrainingArguments) -> "MapEpochs":
        return MapEpochs(self, args)

    def drawn_batches(self, count: int, args: FruitTrainingArguments) -> DataLoader:
        drawn = MapTensors(self.split.shuffled(count, seed=args.seed), self.convert)
        return DataLoader(drawn, args.per_device_eval_batch_size, collate_fn=collate)


class MapEpochs:
    """`Epochs` in an order drawn from seed and epoch; by class with `balanced_sampler`."""

    def __init__(self, tensors: MapTensors, args: FruitTrainingArguments):
        self.split, self.args, self.drop_last = tensors.split, args, args.dataloader_drop_last
        labels, classes = self.split.labels, len(self.split.names)
        weights = balanced_weights(labels, classes) if args.balanced_sampler else None
        self.order = EpochSampler(len(labels), seed=args.seed, weights=weights)
        self.rows = SeededRows(tensors, seed=args.seed)

    def __len__(self) -> int:
        return len(self._batches(self.order))

    def begin(self, epoch: int, batch: int) -> None:
        # of the order itself, which a resumed loader hides under two wrappers
        self.order.set_epoch(epoch)

    def loader(self, rows: Any) -> DataLoader:
        args = self.args
        loader = DataLoader(
            rows,
            batch_sampler=self._batches(self.order),
            collate_fn=collate,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            worker_init_fn=leave_signals,
            multiprocessing_context=args.dataloader_multiprocessing_context,
        )
        non_blocking = args.accelerator_config.non_blocking
        return keep_undivided(loader, device=args.device, non_blocking=non_blocking)

    def drawn(self, rows: Any, count: int) -> DataLoader:
        order = EpochSampler(len(rows), seed=self.args.seed)
        keys: list[RowKey] = []
        while len(keys) < count:
            keys += [RowKey(order.epoch, index) for index in order]
            order.set_epoch(order.epoch + 1)
        return DataLoader(
            rows,
            self.args.per_device_eval_batch_size,
            sampler=keys[:count],
            collate_fn=collate,
            num_workers=self.args.dataloader_num_workers,
            worker_init_fn=leave_signals,
            multiprocessing_context=self.args.dataloader_multiprocessing_context,
        )

    def paths(self, epoch: int, batches: slice) -> list[str]:
        order = copy.copy(self.order)  # which has its own epoch to keep
        order.set_epoch(epoch)
        shown = list(self._batches(order).whole_batches())[batches]
        rows = self.split.rows.with_format(None).select_columns("path")
        return [rows[index]["path"] for batch in shown for index in batch]

    def _batches(self, order: EpochSampler) -> SharedBatches:
        args = self.args
        return SharedBatches(
            order,
            batch_size=args.train_batch_size,
            rank=args.process_index,
            world_size=args.world_size,
            accumulated=args.gradient_accumulation_steps,
            drop_last=self.drop_last,
        )


# ---- streams ----


class StreamTensors:
    """`Tensors` of a stream, dealt out to processes and workers by shards."""

    def __init__(self, split: StreamSplit, convert: Callable[[Row], Row]):
        self.split, self.convert = split, convert

    def __len__(self) -> int:
        return len(self.split)

    def in_epochs(self, args: FruitTrainingArguments) -> "StreamEpochs":
        return StreamEpochs(self, args)

    def evaluation_loader(self, args: FruitTrainingArguments, usual: UsualLoader) -> DataLoader:
        return _loader_of(self.rows(args, args.per_device_eval_batch_size), args)

    def drawn_batches(self, count: int, args: FruitTrainingArguments) -> Iterable[Batch]:
        epochs = self.in_epochs(args)
        return epochs.drawn(epochs.rows, count)

    def rows(
        self, args: FruitTrainingArguments, batch_size: int, *, shuffle_buffer: int = 0
    ) -> StreamRows:
        """This process's."""
        return StreamRows(
            self.split.stream,
            self.split.index,
            split=self.split.part,
            labels=self.split.names,
            convert=self.convert,
            seed=args.seed,
            batch_size=batch_size,
            shuffle_buffer=shuffle_buffer,
            rank=args.process_index,
            world_size=args.world_size,
            num_workers=args.dataloader_num_workers,
        )


class StreamEpochs:
    """`Epochs` of a stream, shuffled by shards and in a buffer."""

    def __init__(self, tensors: StreamTensors, args: FruitTrainingArguments):
        self.args, batch_size = args, args.per_device_train_batch_size
        self.rows = tensors.rows(args, batch_size, shuffle_buffer=tensors.split.shuffle_buffer)

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.rows.batch_size)

    def begin(self, epoch: int, batch: int) -> None:
        self.rows.start_at(epoch, batch)

    def loader(self, rows: StreamRows) -> DataLoader:
        return _loader_of(rows, self.args)

    def drawn(self, rows: StreamRows, count: int) -> Iterable[Batch]:
        batches = stream_loader(rows, collate_fn=collate)
        return islice(batches, max(1, count // rows.batch_size))

    def paths(self, epoch: int, batches: slice) -> list[str]:
        return []


def _loader_of(rows: StreamRows, args: FruitTrainingArguments) -> DataLoader:
    return stream_loader(
        rows,
        collate_fn=collate,
        device=args.device,
        pin_memory=args.dataloader_pin_memory,
        persistent_workers=args.dataloader_persistent_workers,
    )


_TENSORS: dict[type, Callable[..., Tensors]] = {
    MapSplit: MapTensors,
    StreamSplit: StreamTensors,
}


# ---- batches ----


def collate(rows: list[Row]) -> Batch:
    """Rows -> `pixel_values` (B, 3, H, W), or cached `activations` (B, ...), and `labels` (B,).

    `share` is there where the batch doesn't count fully in the mean over the processes.
    """
    kind = "activations" if "activations" in rows[0] else "pixel_values"
    batch = {
        kind: torch.stack([row[kind] for row in rows]),
        "labels": torch.tensor([row["labels"] for row in rows]),
    }
    share = rows[0].get("share", 1.0)
    return batch if share == 1 else batch | {"share": torch.tensor(share)}
