"""Store of the feature cache: the frozen part's output for augmented images, in a mapped file.

Some views of each image are cached: those that the first epochs of training would see anyway, and
later epochs see again. The file is mapped into memory, so that it may be larger than that, and
processes share it. `compute.py` computes them, `disk.py` makes room.
"""

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import nn

from hffruits.core.distributed import any_process, on_each_machine, on_main_process
from hffruits.core.environment import versions
from hffruits.core.files import flush
from hffruits.data.images import decoder_versions
from hffruits.data.samplers import RowKey
from hffruits.models.frozen_trunk import FrozenTrunk
from hffruits.training.datasets import IndexedRows
from hffruits.training.feature_cache.disk import (
    FILE,
    RECORD,
    folder_of_features,
    make_file,
    own_folder,
    remove,
)

logger = logging.getLogger(__name__)

VERSION = 2  # of what is cached: raise it when the same key would mean something else
DTYPE = torch.float16
SUMS = "sums.bin"  # beside the activations, until all of them are there
COMPUTING = ("torch", "torchvision", "transformers", "timm", "numpy")  # they augment and compute
MOST_VIEWS = 1000


@dataclass(frozen=True)
class FeatureRows(IndexedRows):
    """Rows of activations for training and validation, in place of images."""

    activations: torch.Tensor  # (V, N, *shape), mapped
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: int | RowKey) -> dict[str, Any]:
        """A row by index, or of an epoch: each epoch sees the next view."""
        epoch, index, share = key if isinstance(key, tuple) else RowKey(0, key)
        view = self.activations[epoch % len(self.activations), index]
        return {"activations": view, "labels": self.labels[index], "share": share}


def feature_key(model: nn.Module, trunk: FrozenTrunk, facts: Iterable[object]) -> str:
    """A name for the activations of a model's frozen part; `facts` say of which images."""
    digest = hashlib.blake2b(digest_size=16)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, tensor in sorted(model.state_dict().items()):
        if name not in learning:
            digest.update(name.encode())
            flat = tensor.detach().cpu().contiguous().flatten()
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    made_by = decoder_versions(), versions(COMPUTING)
    for fact in (VERSION, DTYPE, trunk.passed, trunk.shape, *made_by, *facts):
        digest.update(f"\0{fact}".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Unfinished:
    """Activations that are being computed. Each row has a checksum, so that nothing is lost.

    What a run that was ended has written counts where its checksum holds: the system may not have
    put all of it on the disk.
    """

    activations: torch.Tensor  # (V, N, *shape), mapped
    sums: torch.Tensor  # (N,), mapped: 0 where a row is missing

    @classmethod
    def in_folder(cls, folder: Path, shape: Sequence[int]) -> "Unfinished":
        """Those of which `activations.bin` is in this folder."""
        sums = torch.from_file(str(folder / SUMS), shared=True, size=shape[1], dtype=torch.int64)
        return cls(_map(folder, shape), sums)

    def missing(self, rank: int = 0, world_size: int = 1) -> list[int]:
        """Of every `world_size`-th row those that aren't there."""
        own = (self.sums[rank::world_size] == 0).nonzero().flatten()
        return (rank + world_size * own).tolist()

    def put(self, rows: Sequence[int], found: torch.Tensor) -> None:
        """Write the activations (B, V, *shape) of these rows."""
        self.activations[:, rows] = found.transpose(0, 1)
        self.sums[rows] = torch.tensor([_checksum(views) for views in found])

    def forget_damaged(self) -> None:
        """Rows whose checksum doesn't hold are missing."""
        for row in self.sums.nonzero().flatten().tolist():
            if _checksum(self.activations[:, row]) != self.sums[row]:
                self.sums[row] = 0


def open_features(
    key: str,
    views: int,
    rows: int,
    trunk: FrozenTrunk,
    fill: Callable[[Unfinished], None],
    *,
    in_use: Collection[str] = (),
    cache_dir: Path | None = None,
) -> torch.Tensor:
    """The cached activations (views, rows, *shape); `fill` computes what of them is missing.

    All processes of a machine fill one file, each machine its own. What is cached under the names
    `in_use` stays. Raises `NoRoomError` where the disk hasn't the room.
    """
    root = folder_of_features(cache_dir)
    folder, shape = root / on_main_process(lambda: key), (views, rows, *trunk.shape)
    if any_process(not _is_complete(folder, shape)):
        # another run may be filling the same: the first to be done wins
        with own_folder(root, folder.name) as aside:
            on_each_machine(lambda: _begin(aside, shape, {key, *in_use}))
            fill(Unfinished.in_folder(aside, shape))
            PartialState().wait_for_everyone()
            on_each_machine(lambda: _keep(aside, folder, shape))
    os.utime(folder / RECORD)  # the oldest go first
    return _map(folder, shape)


def bytes_of(shape: Sequence[int]) -> int:
    """What activations of this shape take."""
    return prod(shape) * DTYPE.itemsize


def _is_complete(folder: Path, shape: tuple[int, ...]) -> bool:
    """Whether all of it is there: a file that was cut short would be mapped as if it weren't."""
    return (folder / RECORD).is_file() and _has_size(folder, shape)


def _has_size(folder: Path, shape: tuple[int, ...]) -> bool:
    return (folder / FILE).is_file() and (folder / FILE).stat().st_size == bytes_of(shape)


def _map(folder: Path, shape: Sequence[int]) -> torch.Tensor:
    file = str(folder / FILE)
    return torch.from_file(file, shared=True, size=prod(shape), dtype=DTYPE).view(*shape)


def _checksum(views: torch.Tensor) -> int:
    return 1 + zlib.crc32(views.contiguous().numpy())


def _begin(aside: Path, shape: tuple[int, ...], in_use: Collection[str]) -> None:
    """An empty file, or the one that a run has left that was ended."""
    if (aside / SUMS).is_file() and _has_size(aside, shape):
        left = Unfinished.in_folder(aside, shape)
        left.forget_damaged()
        there = shape[1] - len(left.missing())
        logger.info("features of %d of %d images are cached from before", there, shape[1])
        return
    shutil.rmtree(aside, ignore_errors=True)
    make_file(aside, bytes_of(shape), in_use=in_use)
    (aside / SUMS).write_bytes(bytes(shape[1] * torch.int64.itemsize))


def _keep(aside: Path, folder: Path, shape: tuple[int, ...]) -> None:
    """What is filled gets its name, unless another run was faster."""
    assert not Unfinished.in_folder(aside, shape).missing(), "rows were left out"
    (aside / RECORD).write_text(json.dumps({"shape": shape}), encoding="utf-8")
    for path in (aside / FILE, aside / RECORD, aside):  # no checksums will show what was lost
        flush(path)
    if not _is_complete(folder, shape):
        remove(folder)
        with suppress(OSError):  # another run was faster just now
            aside.rename(folder)
            (folder / SUMS).unlink()
    shutil.rmtree(aside, ignore_errors=True)
