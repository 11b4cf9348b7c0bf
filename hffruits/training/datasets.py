"""Datasets and streams as tensors for the Trainer, decoded and transformed when a row is read."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from datasets import Dataset, Features, Image

from hffruits.data.images import MAX_PIXELS, translate_image_errors
from hffruits.data.stream_dataset import StreamSplit
from hffruits.data.stream_rows import StreamRows
from hffruits.data.transforms import Transform, open_for
from hffruits.training.arguments import FruitTrainingArguments


@dataclass(frozen=True)
class StreamTensors:
    """A split of a stream and what makes tensors of its rows, until the batch size is known."""

    split: StreamSplit
    convert: Callable[[dict[str, Any]], dict[str, Any]]
    shuffle_buffer: int

    def __len__(self) -> int:
        return len(self.split)

    @property
    def features(self) -> Features:
        """As a `Dataset` has them."""
        return self.split.features

    def rows(self, args: FruitTrainingArguments, *, shuffle: bool = False) -> StreamRows:
        """This process's rows, for training or evaluation."""
        train, evaluation = args.per_device_train_batch_size, args.per_device_eval_batch_size
        return StreamRows(
            self.split.stream,
            self.split.index,
            split=self.split.part,
            labels=self.split.names,
            convert=self.convert,
            seed=args.seed,
            batch_size=train if shuffle else evaluation,
            shuffle_buffer=self.shuffle_buffer if shuffle else 0,
            rank=args.process_index,
            world_size=args.world_size,
            num_workers=args.dataloader_num_workers,
        )


def as_tensors(
    dataset: Dataset | StreamSplit,
    transform: Transform,
    *,
    max_pixels: int = MAX_PIXELS,
    shuffle_buffer: int = 1000,
) -> Dataset | StreamTensors:
    """The dataset with rows `pixel_values` (3, H, W) and `labels`, made when a row is read.

    `shuffle_buffer` is for streams: rows among which the next one is drawn.
    """
    if isinstance(dataset, StreamSplit):
        convert = partial(_convert_row, transform=transform, max_pixels=max_pixels)
        return StreamTensors(dataset, convert, shuffle_buffer)
    dataset = dataset.cast_column("image", Image(decode=False))
    # a partial and no closure, so that data-loader workers can be spawned with it
    return dataset.with_transform(partial(_convert, transform=transform, max_pixels=max_pixels))


def _convert(batch: dict[str, list], *, transform: Transform, max_pixels: int) -> dict[str, list]:
    pixels = []
    for row in batch["image"]:
        source = row["bytes"] or row["path"]
        with translate_image_errors(source):
            image = open_for(transform, source, max_pixels=max_pixels)
        pixels.append(transform(image))
    return {"pixel_values": pixels, "labels": batch["label"]}


def _convert_row(row: dict[str, Any], *, transform: Transform, max_pixels: int) -> dict[str, Any]:
    source = row["image"]["bytes"] or row["image"]["path"]
    image = open_for(transform, source, max_pixels=max_pixels)
    return {"pixel_values": transform(image), "labels": row["label"]}


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
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
