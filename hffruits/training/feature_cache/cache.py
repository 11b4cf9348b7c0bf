"""Training on cached features: how many views, of which images, and the trainer that uses them.

`store.py` holds them, `compute.py` computes them, `disk.py` makes room for them.
"""

import hashlib
import logging
import math
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from accelerate import PartialState
from datasets import Dataset, Image

from hffruits.core.counts import counted
from hffruits.core.distributed import on_main_process
from hffruits.core.errors import InputError
from hffruits.data.images import translate_image_errors
from hffruits.data.load import FruitData
from hffruits.data.transforms import EvalTransform, input_size
from hffruits.models.frozen_trunk import find_trunk
from hffruits.training.argument_checks import features_can_be_cached
from hffruits.training.arguments import FruitTrainingArguments
from hffruits.training.callbacks.signals import ends_at_once
from hffruits.training.feature_cache.augment import MapAugmentation, augments_maps
from hffruits.training.feature_cache.compute import (
    SeededViews,
    bf16_features_are_faster,
    compute_features,
)
from hffruits.training.feature_cache.disk import room_for_features
from hffruits.training.feature_cache.store import (
    MOST_VIEWS,
    FeatureRows,
    bytes_of,
    feature_key,
    open_features,
)
from hffruits.training.run_state import TrainingRun

logger = logging.getLogger(__name__)
DEFAULT_VIEWS = 8  # at most, without being asked for
CHEAP = 100_000_000  # bytes up to which there may be more of them
FEWEST_VIEWS = 4  # for as many epochs or more: with fewer, training sees too little that is new


def choose_views(run: TrainingRun) -> int:
    """Of how many views the features are cached: as asked for, or as fits; 0 for none."""
    prepared, datasets, recorded = run.prepared, run.datasets, run.recorded
    data_args, model_args, args = run.arguments
    asked = model_args.feature_cache_views
    if asked is None and recorded:
        asked = recorded["model"].get("feature_cache_views") or 0
    epochs = math.ceil(_epochs(len(datasets["train"]), args))
    if asked is not None:
        if asked > epochs and not recorded:
            logger.warning("feature_cache_views=%d: training sees %d of them", asked, epochs)
        return asked
    as_chosen = replace(model_args, freeze=prepared.plan)
    if args.device.type != "cpu" or not features_can_be_cached(data_args, as_chosen, args):
        return 0
    try:
        trunk = find_trunk(prepared.model, torch.rand(2, 3, *prepared.train_size))
    except InputError:  # it has no frozen trunk
        return 0
    size = bytes_of(trunk.shape)
    cheap = CHEAP // (size * len(datasets["train"]))
    most = min(max(DEFAULT_VIEWS, cheap), MOST_VIEWS)
    wanted = 1 if data_args.augment == "none" else min(most, epochs)
    views = on_main_process(lambda: _as_many_as_fit(wanted, datasets, size))
    if args.full_determinism and views != wanted:
        raise InputError(
            f"full_determinism: there is room for {views} of {wanted} views' features, which may "
            f"change. Free some memory and disk, or set feature_cache_views to {views} or 0."
        )
    return views


def _as_many_as_fit(wanted: int, datasets: FruitData, size: int) -> int:
    """Of `wanted` views, whose features take `size` bytes each."""
    try:
        room = room_for_features()
    except InputError:  # nothing can be written
        return 0
    rows = len(datasets["train"])
    room -= len(datasets["validation"]) * size
    views = min(wanted, room // (rows * size))
    if views < min(wanted, FEWEST_VIEWS):
        logger.info(
            "features are not cached: %s would take %.1f GB, and there is room for %.1f GB",
            counted(wanted, "view"),
            wanted * rows * size / 1e9,
            max(0, room) / 1e9,
        )
        return 0
    if views < wanted:
        logger.warning(
            "features are cached for %s; there is no room for %d",
            *(counted(views, "view"), wanted),
        )
    return views


def choose_precision(run: TrainingRun) -> bool:
    """Whether the features are computed in bfloat16: as training, or as is faster if that is open.

    A resumed run keeps what it began with.
    """
    prepared, args = run.prepared, run.args
    if run.recorded:
        return run.recorded.get("bf16_features", run.recorded["training"]["bf16"])
    if not (prepared.views and args.try_bf16):
        return args.bf16
    trunk = find_trunk(prepared.model, torch.rand(2, 3, *prepared.train_size))
    return on_main_process(lambda: bf16_features_are_faster(prepared.model, trunk))


def _epochs(rows: int, args: FruitTrainingArguments) -> float:
    """How often training will see each image, at most."""
    if args.max_steps <= 0:
        return args.num_train_epochs
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
    return args.max_steps * batch * args.world_size / rows


def use_cached_features(run: TrainingRun) -> None:
    """Have the trainer learn from what the frozen stages make of the images, computed here once.

    Each epoch sees another of `prepared.views` views: those that the first epochs would see anyway.
    Raises `InputError` for a backbone that has no frozen trunk, `NoRoomError` for a disk that is
    too full, and `RunInterruptedError` where it is ended: what is computed stays for the next time.
    """
    trainer, prepared, datasets = run.trainer, run.prepared, run.datasets
    data_args, _, args = run.arguments
    state = PartialState()
    model = prepared.model.to(args.device)
    transforms = {
        "train": prepared.train_transform(data_args.augment),
        "validation": EvalTransform(prepared.processor),
    }
    sizes = {"train": prepared.train_size, "validation": input_size(prepared.processor)}
    trunks, cached, keys = {}, {}, []
    for name, transform in transforms.items():
        split, views = datasets.split(name), prepared.views if name == "train" else 1
        trunk = trunks[name] = find_trunk(model, torch.rand(2, 3, *sizes[name], device=args.device))
        drawn = (data_args.augment, args.seed) if name == "train" else None
        facts = (images_key(split.rows), prepared.processor.to_dict(), sizes[name], views, drawn)
        key = feature_key(model, trunk, (*facts, prepared.bf16_features))
        images = SeededViews(
            split, transform, views=views, seed=args.seed, max_pixels=data_args.max_image_pixels
        )
        fill = partial(
            compute_features,
            model,
            trunk,
            images,
            rank=state.local_process_index,
            world_size=int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
            workers=args.dataloader_num_workers,
            bf16=prepared.bf16_features,
            quiet=args.disable_tqdm or not state.is_local_main_process,
            name=name,
        )
        with ends_at_once():
            activations = open_features(key, views, len(split), trunk, fill, in_use=keys)
        keys.append(key)
        cached[name] = FeatureRows(activations, split.labels)
    augmented = augments_maps(model, trunks["train"], data_args.augment)
    augment = MapAugmentation(args.seed) if augmented else None
    trainer.use_features(trunks["train"], cached["train"], cached["validation"], augment)


def images_key(rows: Dataset) -> str:
    """A name for these images in this order: by files, sizes and times, or by their bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for image in rows.cast_column("image", Image(decode=False)).with_format(None)["image"]:
        if image["bytes"] is not None:
            digest.update(hashlib.blake2b(image["bytes"], digest_size=16).digest())
        else:
            with translate_image_errors(image["path"]):
                stat = Path(image["path"]).stat()
            digest.update(f"{image['path']}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()
