"""Saving models as `transformers` loads them: weights, config, labels and preprocessing."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor
from transformers.pytorch_utils import id_tensor_storage
from transformers.utils import logging as transformers_logging

from hffruits.models.artifact import CONFIG


def save_model(
    model: PreTrainedModel,
    processor: BaseImageProcessor,
    folder: Path,
    *,
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write what plain `transformers` reads: weights, config, labels and preprocessing.

    `weights` are the model's own, where processes divide them and it holds only a part.

    A timm-wrapped model keeps its preprocessing in `config.json`, so its processor writes nothing.
    """
    weights = model.state_dict() if weights is None else weights
    with quiet_transformers():
        model.save_pretrained(folder, state_dict=without_sharing(weights))
    save_config(model.config, processor, folder)
    readable = (folder / CONFIG).stat().st_mode
    for file in folder.glob("*.safetensors"):
        file.chmod(readable)  # safetensors writes files that only their owner can read


def without_sharing(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors, each in memory of its own: safetensors takes no other.

    timm's CoaT uses some layers in many places, and so names their tensors many times. transformers
    leaves out only names that a model class lists, and then needs the same list to load the rest.
    """
    seen: set[tuple] = set()
    own = {}
    for name, tensor in weights.items():
        place = id_tensor_storage(tensor)
        own[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return own


def save_config(config: PretrainedConfig, processor: BaseImageProcessor, folder: Path) -> None:
    """Write the labels and preprocessing of a model's folder, everything but its weights."""
    with quiet_transformers():
        config.save_pretrained(folder)
        processor.save_pretrained(folder)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No warning of a new head, which is what we want, and no bar for a second's loading."""
    verbosity, bars = (
        transformers_logging.get_verbosity(),
        transformers_logging.is_progress_bar_enabled(),
    )
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
