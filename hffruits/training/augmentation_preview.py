"""Augmentation preview: a grid of photos, as validation sees them and several times augmented.

Seeded, so that two presets can be compared image by image.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hffruits.core.plots import draw_grid, drawable
from hffruits.data.arguments import DataArguments
from hffruits.data.samplers import RowKey, SeededRows
from hffruits.data.transforms import EvalTransform, train_transform
from hffruits.training.argument_checks import check_arguments, check_preview
from hffruits.training.arguments import FruitTrainingArguments, ModelArguments
from hffruits.training.datasets import as_tensors, collate
from hffruits.training.setup import load_datasets, prepare_model
from hffruits.training.trainer import make_mix


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

    Raises `InputError` for data or names that can't be used.
    """
    check_preview(data_args, photos=photos, views=views)
    check_arguments(data_args, model_args, args)
    train = load_datasets(data_args, None, args.seed).split("train")
    processor = prepare_model(model_args, args, list(train.names)).processor
    rows = train.shuffled(photos, seed=args.seed)
    size, max_pixels = model_args.train_image_size, data_args.max_image_pixels
    plain = as_tensors(rows, EvalTransform(processor), max_pixels=max_pixels)
    transform = train_transform(processor, data_args.augment, size=size)
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


def _pixels(batch: dict[str, torch.Tensor]) -> np.ndarray:
    return batch["pixel_values"].permute(0, 2, 3, 1).numpy()  # (B, 3, H, W) -> (B, H, W, 3)
