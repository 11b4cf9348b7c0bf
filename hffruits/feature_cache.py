"""What the frozen part of a backbone makes of augmented pictures, computed once and kept on disk.

Some views of each picture are kept: those that the first epochs of training would see anyway, and
later epochs see again. The file is mapped into memory, so that it may be larger than that, and
processes share it. `feature_filling.py` computes them.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import PartialState
from torch import nn

from hffruits.cache import cache_root
from hffruits.cutting import Cut
from hffruits.distributed import any_process, on_each_machine, on_main_process
from hffruits.errors import DISK_FULL, InputError
from hffruits.sampling import RowKey

VERSION = 1  # of what is kept: raise it when the same key would mean something else
DTYPE = torch.float16
FILE, RECORD = "activations.bin", "activations.json"
MOST_VIEWS = 1000
DAY = 86_400  # seconds


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

    def __getitem__(self, key: int | RowKey) -> dict[str, Any]:
        """A row by index, or of an epoch: each epoch sees the next view."""
        epoch, index, share = key if isinstance(key, tuple) else RowKey(0, key)
        view = self.activations[epoch % len(self.activations), index]
        return {"activations": view, "labels": self.labels[index], "share": share}


def feature_key(model: nn.Module, cut: Cut, facts: Iterable[object]) -> str:
    """A name for the activations of a model's frozen part; `facts` say of which pictures."""
    digest = hashlib.blake2b(digest_size=16)
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, tensor in sorted(model.state_dict().items()):
        if name not in learning:
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
    in_use: Collection[str] = (),
    cache_dir: Path | None = None,
) -> torch.Tensor:
    """The kept activations (views, rows, *shape), filled by `fill` where there are none yet.

    All processes of a machine fill one file, each machine its own. Whatever is kept under the names
    `in_use` stays. Raises `InputError` where the disk hasn't the room.
    """
    root = _folder_of_features(cache_dir)
    key, run = on_main_process(lambda: (key, secrets.token_hex(4)))
    # another run may be filling the same: the first to be done is the one that is kept
    folder, aside = root / key, root / f".{key}-{run}-{os.environ.get('GROUP_RANK', 0)}"
    shape = (views, rows, *cut.shape)
    if any_process(not _is_kept(folder, shape)):
        on_each_machine(lambda: _make(aside, bytes_of(shape), {key, *in_use}))
        try:
            fill(_map(aside, shape))
            PartialState().wait_for_everyone()
            on_each_machine(lambda: _keep(aside, folder, shape))
        finally:
            shutil.rmtree(aside, ignore_errors=True)  # of a fill that was interrupted
    os.utime(folder / RECORD)  # the oldest go first
    return _map(folder, shape)


def room_for_features() -> int:
    """Bytes that features may take: half of what is free without them, and of the memory."""
    root = _folder_of_features()
    return min(_allowed(root), psutil.virtual_memory().available // 2)


def bytes_of(shape: Sequence[int]) -> int:
    """What activations of this shape take."""
    return prod(shape) * DTYPE.itemsize


# ---- the disk ----


def _is_kept(folder: Path, shape: tuple[int, ...]) -> bool:
    """Whether all of it is there: a file that was cut short would be mapped as if it weren't."""
    whole = (folder / RECORD).is_file() and (folder / FILE).is_file()
    return whole and (folder / FILE).stat().st_size == bytes_of(shape)


def _map(folder: Path, shape: tuple[int, ...]) -> torch.Tensor:
    file = str(folder / FILE)
    return torch.from_file(file, shared=True, size=prod(shape), dtype=DTYPE).view(shape)


def _folder_of_features(cache_dir: Path | None = None) -> Path:
    root = cache_root(cache_dir) / "features"
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(root, error) from error
    return root


def _allowed(root: Path) -> int:
    """Bytes of all features together."""
    kept = sum(file.stat().st_size for file in root.glob(f"*/{FILE}"))
    return (shutil.disk_usage(root).free + kept) // 2


def _make(aside: Path, size: int, in_use: Collection[str]) -> None:
    """An empty file of this size in a folder of its own."""
    _make_room(aside.parent, size, in_use)
    try:
        aside.mkdir(parents=True)
        with (aside / FILE).open("wb") as file:
            if hasattr(os, "posix_fallocate"):  # so that a full disk is told now
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        if error.errno in DISK_FULL:
            raise _no_room(aside.parent, size) from error
        raise _not_writable(aside.parent, error) from error


def _keep(aside: Path, folder: Path, shape: tuple[int, ...]) -> None:
    """What is filled gets its name, unless another run was quicker."""
    (aside / RECORD).write_text(json.dumps({"shape": shape}), encoding="utf-8")
    if not _is_kept(folder, shape):
        _remove(folder)
        with suppress(OSError):  # another run was quicker just now
            aside.rename(folder)


def _make_room(root: Path, needed: int, in_use: Collection[str]) -> None:
    """Remove features used longest ago, and leftovers, until the new ones fit in; or nothing.

    What other runs are filling just now counts, and stays.
    """
    for aside in root.glob(f".*/{FILE}"):
        if time.time() - aside.stat().st_mtime > DAY:  # nobody is filling it any more
            shutil.rmtree(aside.parent, ignore_errors=True)
    sizes = {file.parent: file.stat().st_size for file in root.glob(f"*/{FILE}")}
    others = [f for f in sizes if f.name not in in_use and not f.name.startswith(".")]
    others.sort(key=_last_used)
    stays, allowed = sum(sizes.values()) + needed, _allowed(root)
    victims = []
    while stays > allowed:
        if not others:
            raise _no_room(root, needed)
        victims.append(others.pop(0))
        stays -= sizes[victims[-1]]
    for folder in victims:
        _remove(folder)


def _remove(folder: Path) -> None:
    """At once, for others: half of it must not be taken for the whole."""
    aside = folder.with_name(f".removed-{secrets.token_hex(4)}")
    with suppress(FileNotFoundError):
        folder.rename(aside)
        shutil.rmtree(aside)


def _last_used(folder: Path) -> float:
    file = folder / RECORD if (folder / RECORD).is_file() else folder / FILE
    return file.stat().st_mtime


def _not_writable(root: Path, error: OSError) -> InputError:
    return InputError(
        f"cache_features: {root} can't be written ({error.strerror}). Set HFFRUITS_CACHE, or "
        "cache_features to none."
    )


def _no_room(root: Path, needed: int) -> InputError:
    return InputError(
        f"cache_features: needs {needed / 1e9:.1f} GB in {root}; all features together may take "
        f"{_allowed(root) / 1e9:.1f} GB, half of what is free. Keep fewer views, freeze more "
        "stages, or set HFFRUITS_CACHE."
    )
