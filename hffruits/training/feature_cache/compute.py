"""Computing the features to cache: views of images through the frozen part of a backbone.

On a CPU each worker process decodes, augments and computes by itself, on one core: nothing waits
for anything, and a few images at a time stay in the processor's cache. A GPU gets whole batches.
"""

import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import PIL.Image
import torch
from datasets import Image
from torch import nn
from torch.utils.data import DataLoader

from hffruits.core.dataloader_workers import leave_signals, translate_worker_errors
from hffruits.core.distributed import cores_per_process
from hffruits.core.progress import progress_bar
from hffruits.data.images import MAX_PIXELS, translate_image_errors
from hffruits.data.samplers import own_random_numbers
from hffruits.data.split_protocol import MapSplit
from hffruits.data.transforms import Transform, open_for
from hffruits.models.bn_folding import fold_batch_norm
from hffruits.models.cpu_bfloat16 import speed_up_bfloat16
from hffruits.models.frozen_trunk import FrozenTrunk
from hffruits.training.feature_cache.store import DTYPE, Unfinished
from hffruits.training.precision import is_faster

CPU_BATCH, GPU_BATCH = 8, 256  # views computed together
ALONGSIDE = 1.3  # a core is slower while the others compute as well
RESUMABLE = (
    "The features that are computed stay, and the same command resumes; with "
    "feature_cache_views=0 there are none to compute."
)
LARGEST = torch.finfo(DTYPE).max


class SeededViews:
    """Of each image the views that `SeededRows` gives in the first epochs; it is decoded once."""

    def __init__(
        self,
        split: MapSplit,
        transform: Transform,
        *,
        views: int,
        seed: int,
        max_pixels: int = MAX_PIXELS,
    ):
        self.split = split
        self.rows = split.rows.cast_column("image", Image(decode=False)).with_format(None)
        self.transform, self.views, self.seed, self.max_pixels = transform, views, seed, max_pixels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        """(V, 3, H, W)."""
        image = self.image(index)
        views = []
        for epoch in range(self.views):
            with own_random_numbers(self.seed, epoch, index):
                views.append(self.transform(image))
        return torch.stack(views)

    def image(self, index: int) -> PIL.Image.Image:
        """As it was taken."""
        source = self.rows[index]["image"]
        content = source["bytes"] or source["path"]
        with translate_image_errors(content):
            return open_for(self.transform, content, max_pixels=self.max_pixels)


@dataclass(frozen=True)
class FrozenPart:
    """Pixels (B, 3, H, W) -> what a folded net's frozen part makes of them (B, *shape), rounded."""

    folded: nn.Module
    trunk: FrozenTrunk
    bf16: bool

    @classmethod
    def of(cls, model: nn.Module, trunk: FrozenTrunk, *, bf16: bool) -> "FrozenPart":
        """The part of a net that is in evaluation mode."""
        device = next(model.parameters()).device
        probe = torch.rand(1, 3, *trunk.image_size, device=device)
        folded = fold_batch_norm(model, probe)
        if bf16 and device.type == "cpu" and folded is not model:  # a copy, that never learns
            speed_up_bfloat16(folded)
        return cls(folded, trunk, bf16)

    @torch.no_grad()
    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        kind = pixels.device.type
        with torch.autocast(kind, torch.bfloat16) if self.bf16 else nullcontext():
            found = self.trunk.activations(self.folded, pixels)
        return found.float().clamp_(-LARGEST, LARGEST).to(DTYPE)


@dataclass(frozen=True)
class _Features:
    """Images as their features (B, V, *shape), for workers that compute them."""

    images: SeededViews
    frozen_part: FrozenPart

    def __len__(self) -> int:
        return len(self.images)

    def __getitems__(self, indices: Sequence[int]) -> torch.Tensor:
        return _through(self.frozen_part, torch.stack([self.images[i] for i in indices]))


def compute_features(
    model: nn.Module,
    trunk: FrozenTrunk,
    images: SeededViews,
    target: Unfinished,
    *,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
    bf16: bool = False,
    quiet: bool = False,
    name: str = "train",
) -> None:
    """Give `target` the activations that it misses: of every `world_size`-th image.

    `workers` are for a GPU, where they prepare images; on a CPU there is one for each core.
    Raises `WorkersLostError` for one that was killed.
    """
    device = next(model.parameters()).device
    on_cpu = device.type == "cpu"
    was_training = model.training
    frozen_part = FrozenPart.of(model.eval(), trunk, bf16=bf16)
    order = target.missing(rank, world_size)
    options: dict[str, Any] = {"num_workers": workers}
    if on_cpu:
        # forked, for a trained net with hooks and classes of its own can't always be pickled
        options = {"num_workers": _cpu_workers()}
        options |= {"multiprocessing_context": "fork"} if _cpu_workers() else {}
    loader = DataLoader(
        _Features(images, frozen_part) if on_cpu else images,
        max(1, (CPU_BATCH if on_cpu else GPU_BATCH) // images.views),
        sampler=order,
        collate_fn=_as_it_is if on_cpu else torch.stack,
        worker_init_fn=leave_signals,
        generator=torch.Generator(),  # not the one that training uses
        **options,
    )
    views, done = images.views, 0
    bar = progress_bar(
        total=len(order) * views,
        desc=f"Features of {name}",
        unit="img",
        leave=False,
        disable=quiet,
    )
    with bar, translate_worker_errors(RESUMABLE):
        for found in loader:
            if not on_cpu:
                found = _through(frozen_part, found.to(device)).cpu()
            target.put(order[done : done + len(found)], found)
            done += len(found)
            bar.update(len(found) * views)
    model.train(was_training)


def bf16_features_are_faster(model: nn.Module, trunk: FrozenTrunk) -> bool:
    """Whether the frozen part gives features faster in bfloat16, tried on this CPU.

    That may hold where training isn't faster: it has no backward pass.
    """
    was_training, threads = model.training, torch.get_num_threads()
    pixels = torch.rand(CPU_BATCH, 3, *trunk.image_size)
    seconds = dict.fromkeys((False, True), float("inf"))
    if _cpu_workers():
        torch.set_num_threads(1)
    try:
        parts = {bf16: FrozenPart.of(model.eval(), trunk, bf16=bf16) for bf16 in seconds}
        for bf16 in 3 * [*seconds]:  # in turns; the fastest counts, the first one warms up
            started = time.perf_counter()
            parts[bf16](pixels)
            seconds[bf16] = min(seconds[bf16], time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
        model.train(was_training)
    return is_faster(seconds)


def filling_seconds(
    model: nn.Module,
    trunk: FrozenTrunk,
    images: SeededViews,
    *,
    workers: int = 0,
    bf16: bool = False,
) -> tuple[float, float]:
    """Seconds to decode an image, and of each of its views, as `compute_features` will take.

    Tried on these images, and divided by the processes that work side by side.
    """
    device, was_training = next(model.parameters()).device, model.training
    on_cpu = device.type == "cpu"
    side_by_side = max(1, _cpu_workers() if on_cpu else workers)
    alongside = ALONGSIDE if side_by_side > 1 else 1.0
    frozen_part = FrozenPart.of(model.eval(), trunk, bf16=bf16)
    threads = torch.get_num_threads()
    if on_cpu and side_by_side > 1:
        torch.set_num_threads(1)
    try:
        decoding = preparing = computing = float("inf")
        for _ in range(2):  # the first one warms up
            times = [time.perf_counter()]
            for row in range(len(images)):
                images.image(row)
            times.append(time.perf_counter())
            pixels = torch.cat([images[row] for row in range(len(images))])
            times.append(time.perf_counter())
            _through(frozen_part, pixels[None].to(device)).cpu()
            times.append(time.perf_counter())
            spent = [end - start for start, end in pairwise(times)]
            decoding, preparing, computing = map(min, (decoding, preparing, computing), spent)
    finally:
        torch.set_num_threads(threads)
        model.train(was_training)
    share, views = alongside / side_by_side, len(images) * images.views
    augmenting = share * max(0.0, preparing - decoding) / views  # preparing decodes as well
    computing /= views
    if on_cpu:
        return share * decoding / len(images), augmenting + share * computing
    return share * decoding / len(images), max(augmenting, computing)  # at the same time


def _cpu_workers() -> int:
    """Processes that compute by themselves; 0 where this one does."""
    cores = cores_per_process()
    return cores if sys.platform == "linux" and cores > 1 else 0


def _through(frozen_part: FrozenPart, views: torch.Tensor) -> torch.Tensor:
    """(B, V, 3, H, W) -> (B, V, *shape)."""
    most = CPU_BATCH if views.device.type == "cpu" else GPU_BATCH
    found = [frozen_part(part) for part in views.flatten(0, 1).split(most)]
    return torch.cat(found).unflatten(0, views.shape[:2])


def _as_it_is(batch: torch.Tensor) -> torch.Tensor:
    return batch
