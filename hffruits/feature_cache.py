"""What the frozen part of a backbone makes of augmented pictures, computed once and kept on disk.

Some views of each picture are kept: those that the first epochs of training would see anyway, and
later epochs see again. The file is mapped into memory, so that it may be larger than that, and
processes share it. `feature_filling.py` computes them.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import nn

from hffruits.cache import cache_root
from hffruits.cutting import Cut
from hffruits.errors import InputError

VERSION = 1  # of what is kept: raise it when the same key would mean something else
DTYPE = torch.float16
FILE, RECORD = "activations.bin", "activations.json"
MOST_VIEWS = 1000


def count_views(text: str) -> int:
    """The V of `views:V`, 0 for none. Raises `InputError` for other words."""
    if text == "none":
        return 0
    found = re.fullmatch(r"views:(\d+)", text)
    if not found or not 1 <= int(found[1]) <= MOST_VIEWS:
        raise InputError(f"cache_features={text}: must be none, or views:V of 1 to {MOST_VIEWS}.")
    return int(found[1])


@dataclass(frozen=True)
class FeatureRows:
    """Rows of activations for training and validation, in place of pictures."""

    activations: torch.Tensor  # (V, N, *shape), mapped
    labels: Sequence[int]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, Any]:
        """A row by index, or by (epoch, index): each epoch sees the next view."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        view = self.activations[epoch % len(self.activations), index]
        return {"activations": view, "labels": self.labels[index]}


def feature_key(model: nn.Module, cut: Cut, facts: Iterable[object]) -> str:
    """A name for the activations of a model's frozen part; `facts` say of which pictures."""
    digest = hashlib.blake2b(digest_size=16)
    passed = tuple(f"{name}." for name in cut.passed)
    for name, tensor in sorted(model.state_dict().items()):
        if name.startswith(passed) or name.count(".") < 2:  # and loose ones, as position embeddings
            digest.update(name.encode())
            flat = tensor.detach().cpu().contiguous().flatten()
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    for fact in (VERSION, DTYPE, cut.passed, cut.shape, *facts):
        digest.update(f"\0{fact}".encode())
    return digest.hexdigest()


def open_features(
    key: str,
    views: int,
    rows: int,
    cut: Cut,
    fill: Callable[[torch.Tensor], None],
    *,
    is_main: bool = True,
    wait: Callable[[], None] = lambda: None,
    cache_dir: Path | None = None,
) -> torch.Tensor:
    """The kept activations (views, rows, *shape), filled by `fill` where there are none yet.

    Of several processes on a machine one is main; all fill, and `wait` waits for the others. Raises
    `InputError` where the disk hasn't the room.
    """
    root = _folder_of_features(cache_dir)
    folder, aside = root / key, root / f".{key}"
    shape = (views, rows, *cut.shape)
    if not (folder / RECORD).is_file():
        if is_main:
            _make_room(root, prod(shape) * DTYPE.itemsize)
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            with (aside / FILE).open("wb") as file:
                file.truncate(prod(shape) * DTYPE.itemsize)
        wait()
        fill(_map(aside / FILE, shape))
        wait()
        if is_main:
            (aside / RECORD).write_text(json.dumps({"shape": shape}), encoding="utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            aside.rename(folder)
        wait()
    (folder / RECORD).touch()  # the oldest go first
    return _map(folder / FILE, shape)


def _map(file: Path, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_file(str(file), shared=True, size=prod(shape), dtype=DTYPE).view(shape)


def room_for_features() -> int:
    """Bytes that features may take: half of the free disk, and of the memory that maps them."""
    root = _folder_of_features()
    kept = sum(file.stat().st_size for file in root.glob(f"*/{FILE}"))  # these would make room
    disk = shutil.disk_usage(root).free + kept
    return min(disk, psutil.virtual_memory().available) // 2


def _folder_of_features(cache_dir: Path | None = None) -> Path:
    root = cache_root(cache_dir) / "features"
    root.mkdir(parents=True, exist_ok=True)
    return root


def _make_room(root: Path, needed: int) -> None:
    """Remove the features used longest ago until the new ones fit into half of the free disk."""
    kept = sorted(root.glob(f"*/{RECORD}"), key=lambda file: file.stat().st_mtime)
    while needed > shutil.disk_usage(root).free / 2:
        if not kept:
            free = shutil.disk_usage(root).free
            raise InputError(
                f"cache_features: needs {needed / 1e9:.1f} GB in {root}; half of the "
                f"{free / 1e9:.1f} GB that are free may be used. Keep fewer views, freeze more "
                "stages, or set HFFRUITS_CACHE."
            )
        shutil.rmtree(kept.pop(0).parent)
