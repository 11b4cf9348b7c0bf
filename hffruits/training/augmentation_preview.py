"""Augmentation preview: a photo of each class, as validation sees it and several times augmented.

Seeded, so that two presets can be compared image by image.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hffruits.core.counts import counted
from hffruits.core.plots import draw_grid, drawable
from hffruits.data.arguments import DataArguments
from hffruits.data.samplers import RowKey, SeededRows
from hffruits.data.transforms import EvalTransform
from hffruits.training.argument_checks import check_arguments, check_preview
from hffruits.training.arguments import FruitTrainingArguments, ModelArguments
from hffruits.training.datasets import as_tensors, collate
from hffruits.training.setup import load_datasets, prepare_model
from hffruits.training.trainer import make_mix

logger = logging.getLogger(__name__)


def preview(
    data_args: DataArguments,
    model_args: ModelArguments,
    args: FruitTrainingArguments,
    *,
    file: Path,
    photos: int = 6,
    views: int = 7,
) -> None:
    """Draw `photos` rows of `views` augmented images into `file`; mixed ones where asked for.

    Each class has a row before any has a second one; where `photos` are fewer, that is logged.

    Raises `InputError` for data or names that can't be used.
    """
    check_preview(data_args, photos=photos, views=views)
    check_arguments(data_args, model_args, args)
    train = load_datasets(data_args, None, args.seed).split("train")
    prepared = prepare_model(model_args, args, list(train.names), augment=data_args.augment)
    processor = prepared.processor
    rows = train.select(choose_rows(train.labels, photos, seed=args.seed))
    shown = len(set(rows.labels))
    if shown < len(train.names):
        every = counted(len(train.names), "class", "classes")
        logger.info("%d of %s: photos=%d has a row for each", shown, every, len(train.names))
    max_pixels = data_args.max_image_pixels
    plain = as_tensors(rows, EvalTransform(processor), max_pixels=max_pixels)
    transform = prepared.train_transform(data_args.augment)
    augmented = SeededRows(as_tensors(rows, transform, max_pixels=max_pixels), seed=args.seed)
    mix = make_mix(args.mixup_alpha, args.cutmix_alpha, len(rows.names))
    torch.manual_seed(args.seed)
    columns = [_pixels(collate([plain[i] for i in range(len(rows))]))]
    for view in range(views):
        batch = collate([augmented[RowKey(view, i)] for i in range(len(rows))])
        if mix and torch.rand(()) < args.mix_probability:
            batch["pixel_values"], _ = mix(batch["pixel_values"], batch["labels"])
        columns.append(_pixels(batch))
    # what black and white become, a channel: undoes the normalisation
    low, high = (
        EvalTransform(processor)(Image.new("RGB", (64, 64), colour))[:, 0, 0].numpy()
        for colour in ("black", "white")
    )
    drawn = drawable(rows.names)
    names = [drawn[label] for label in rows.labels]
    grid = [
        (name, [np.clip((column[row] - low) / (high - low), 0, 1) for column in columns])
        for row, name in enumerate(names)
    ]
    title = data_args.augment + (" + mixed" if mix else "")
    draw_grid(grid, ["validation", *[title] * views], file)


def choose_rows(labels: Sequence[int], count: int, *, seed: int) -> list[int]:
    """A drawn row of each class, then a second one of each, up to `count`; ordered by class.

    Where there are more classes than that, they are spread over all of them, by name.
    """
    drawn: dict[int, list[int]] = {label: [] for label in sorted(set(labels))}
    for row in np.random.default_rng(seed).permutation(len(labels)).tolist():
        drawn[labels[row]].append(row)
    if count < len(drawn):
        places = np.linspace(0, len(drawn) - 1, count).round().astype(int)
        return [list(drawn.values())[place][0] for place in places]
    turns = sorted(
        (turn, label, row) for label, rows in drawn.items() for turn, row in enumerate(rows)
    )
    return [row for _, _, row in sorted(turns[:count], key=lambda one: one[1:2] + one[:1])]


def _pixels(batch: dict[str, torch.Tensor]) -> np.ndarray:
    return batch["pixel_values"].permute(0, 2, 3, 1).numpy()  # (B, 3, H, W) -> (B, H, W, 3)
