"""Embeddings: the pooled features of a pretrained backbone, one vector an image."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from transformers import TimmWrapperForImageClassification

from hffruits.core.errors import InputError
from hffruits.core.hardware import has_bf16
from hffruits.core.progress import progress_bar
from hffruits.data.images import MAX_PIXELS, open_rgb
from hffruits.data.transforms import EvalTransform
from hffruits.models.bundled import DEFAULT_BACKBONE
from hffruits.models.layers import use_channels_last
from hffruits.models.loading import load_model


def embed_images(
    sources: Iterable[Path | bytes],
    *,
    total: int | None = None,
    backbone: str = DEFAULT_BACKBONE,
    batch_size: int = 32,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """The pooled features (N, D) of images, each of unit length, float32.

    `backbone`: a bundled name, timm name, Hub id or folder of a timm-wrapped model. Raises
    `InputError` for another model, and for an image that can't be read.
    """
    model, processor = load_model(backbone)
    if not isinstance(model, TimmWrapperForImageClassification):
        raise InputError(f"{backbone}: not a timm model, so its features aren't known. Use one.")
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    net = use_channels_last(model, device).to(device).timm_model
    net.reset_classifier(0)
    transform = EvalTransform(processor)
    half = has_bf16(device)  # 1.5 to 2 times as fast
    rows = [np.zeros((0, net.num_features), np.float32)]
    bar = progress_bar(total=total, desc="Computing features", unit="img", leave=False)
    with (
        ThreadPoolExecutor(4) as pool,  # decodes the next batch meanwhile
        torch.inference_mode(),
        torch.autocast(device.type, torch.bfloat16, enabled=half),
    ):
        for batch in _batches(sources, transform, pool, batch_size, max_pixels):
            features = net(batch.to(device)).float()
            rows.append(torch.nn.functional.normalize(features).cpu().numpy())
            bar.update(len(batch))
    bar.close()
    return np.concatenate(rows)


def _batches(
    sources: Iterable[Path | bytes],
    transform: EvalTransform,
    pool: ThreadPoolExecutor,
    size: int,
    max_pixels: int,
) -> Iterator[torch.Tensor]:
    """Batches (B, 3, H, W), the next one being made while one is used."""
    sources = iter(sources)

    def prepare(source: Path | bytes) -> torch.Tensor:
        try:
            return transform(open_rgb(source, max_pixels=max_pixels))
        except OSError as error:
            name = source if isinstance(source, Path) else f"an image of {len(source)} bytes"
            raise InputError(f"{name}: can't be read ({error}). Leave it out.") from error

    def start() -> Iterator[torch.Tensor]:
        return pool.map(prepare, list(islice(sources, size)))

    waiting = start()
    while batch := list(waiting):
        waiting = start()
        yield torch.stack(batch)
