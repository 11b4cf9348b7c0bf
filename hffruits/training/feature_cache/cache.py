"""Training on kept features: how many views, which pictures, and the trainer that learns from them.

The store is `feature_cache.py`, the computing `feature_filling.py`, the cut `cutting.py`.
"""

import hashlib
import logging
import math
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset, Image

from hffruits.core.distributed import on_main_process
from hffruits.core.errors import InputError
from hffruits.data.arguments import DataArguments
from hffruits.data.images import translate_image_errors
from hffruits.data.load import FruitDatasets
from hffruits.data.transforms import EvalTransform, input_size
from hffruits.models.frozen_trunk import find_trunk
from hffruits.training.argument_checks import features_can_be_kept
from hffruits.training.arguments import FruitTrainingArguments, ModelArguments
from hffruits.training.callbacks.signals import ends_at_once
from hffruits.training.feature_cache.compute import SeededViews, compute_features
from hffruits.training.feature_cache.disk import room_for_features
from hffruits.training.feature_cache.store import (
    MOST_VIEWS,
    FeatureRows,
    bytes_of,
    count_views,
    feature_key,
    open_features,
)
from hffruits.training.setup import FruitData, PreparedModel
from hffruits.training.trainer import FruitTrainer

logger = logging.getLogger(__name__)
DEFAULT_VIEWS = 8  # at most, without being asked for
CHEAP = 100_000_000  # bytes up to which there may be more of them
FEWEST_VIEWS = 4  # for as many epochs or more: with fewer, training sees too little that is new


def choose_views(
    prepared: PreparedModel,
    datasets: FruitData,
    data_args: DataArguments,
    model_args: ModelArguments,
    args: FruitTrainingArguments,
    *,
    recorded: dict[str, Any] | None = None,
) -> int:
    """Of how many views the features are kept: as asked for, or as fits; 0 for none.

    `recorded` are the arguments that a resumed run began with.
    """
    asked = model_args.cache_features
    if asked is None and recorded:
        asked = recorded["model"].get("cache_features") or "none"
    epochs = math.ceil(_epochs(len(datasets["train"]), args))
    if asked is not None:
        views = count_views(asked)
        if views > epochs and not recorded:
            logger.warning("cache_features=%s: training sees %d of these views", asked, epochs)
        return views
    as_chosen = replace(model_args, freeze=prepared.plan)
    if args.device.type != "cpu" or not features_can_be_kept(data_args, as_chosen, args):
        return 0
    try:
        cut = find_trunk(prepared.model, torch.rand(2, 3, *prepared.train_size))
    except InputError:  # the net can't be cut
        return 0
    size = bytes_of(cut.shape)
    cheap = CHEAP // (size * len(datasets["train"]))
    most = min(max(DEFAULT_VIEWS, cheap), MOST_VIEWS)
    wanted = 1 if data_args.augment == "none" else min(most, epochs)
    views = on_main_process(lambda: _as_many_as_fit(wanted, datasets, size))
    if args.full_determinism and views != wanted:
        raise InputError(
            f"full_determinism: there is room for {views} of {wanted} views' features, which may "
            f"change. Free some memory and disk, or set cache_features to views:{views} or none."
        )
    return views


def _as_many_as_fit(wanted: int, datasets: FruitDatasets, size: int) -> int:
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
            "features are not kept: %d views would take %.1f GB, and there is room for %.1f GB",
            wanted,
            wanted * rows * size / 1e9,
            max(0, room) / 1e9,
        )
        return 0
    if views < wanted:
        logger.warning("features are kept of %d views, there is no room for %d", views, wanted)
    return views


def _epochs(rows: int, args: FruitTrainingArguments) -> float:
    """How often training will see each picture, at most."""
    if args.max_steps <= 0:
        return args.num_train_epochs
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
    return args.max_steps * batch * args.world_size / rows


def keep_features(
    trainer: FruitTrainer,
    prepared: PreparedModel,
    datasets: FruitDatasets,
    data_args: DataArguments,
    args: FruitTrainingArguments,
) -> None:
    """Have a trainer learn from what the frozen stages make of the pictures, computed here once.

    Each epoch sees another of `prepared.views` views: those that the first epochs would see anyway.
    Raises `InputError` for a backbone that can't be cut, `NoRoomError` for a disk that is too full,
    and `RunInterruptedError` where it is ended: what is computed stays for the next time.
    """
    state = PartialState()
    model = prepared.model.to(args.device)
    transforms = {
        "train": prepared.train_transform(data_args.augment),
        "validation": EvalTransform(prepared.processor),
    }
    sizes = {"train": prepared.train_size, "validation": input_size(prepared.processor)}
    cuts, kept, keys = {}, {}, []
    for split, transform in transforms.items():
        rows, views = datasets[split], prepared.views if split == "train" else 1
        cut = cuts[split] = find_trunk(model, torch.rand(2, 3, *sizes[split], device=args.device))
        drawn = (data_args.augment, args.seed) if split == "train" else None
        facts = (pictures_key(rows), prepared.processor.to_dict(), sizes[split], views, drawn)
        key = feature_key(model, cut, (*facts, args.bf16))
        pictures = SeededViews(
            rows, transform, views=views, seed=args.seed, max_pixels=data_args.max_image_pixels
        )
        fill = partial(
            compute_features,
            model,
            cut,
            pictures,
            rank=state.local_process_index,
            world_size=int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
            workers=args.dataloader_num_workers,
            bf16=args.bf16,
            quiet=args.disable_tqdm or not state.is_local_main_process,
            name=split,
        )
        with ends_at_once():
            activations = open_features(key, views, len(rows), cut, fill, in_use=keys)
        keys.append(key)
        kept[split] = FeatureRows(activations, rows.with_format(None)["label"][:])
    trainer.use_features(cuts["train"], kept["train"], kept["validation"])


def pictures_key(rows: Dataset) -> str:
    """A name for these pictures in this order: by files, sizes and times, or by their bytes."""
    digest = hashlib.blake2b(digest_size=16)
    for image in rows.cast_column("image", Image(decode=False)).with_format(None)["image"]:
        if image["bytes"] is not None:
            digest.update(hashlib.blake2b(image["bytes"], digest_size=16).digest())
        else:
            with translate_image_errors(image["path"]):
                stat = Path(image["path"]).stat()
            digest.update(f"{image['path']}\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()
