"""The fallback model of the demo before any training: ImageNet's fruits and vegetables."""

from pathlib import Path

import timm
import torch
from timm.data import ImageNetInfo

from hffruits.core.cache import cache_root, make_once
from hffruits.models.bundled import (
    BUNDLED,
    DEFAULT_BACKBONE,
    MODELS_VERSION,
    read_bundled_weights,
)
from hffruits.models.loading import build_model
from hffruits.models.saving import quiet_transformers

# ImageNet-1k's fruits and vegetables, "head cabbage" to "pomegranate", and corn.
# 946 is left out: few people buy cardoon, and it takes any leafy green.
IMAGENET_PRODUCE = (*range(936, 946), *range(947, 958), 987)


def pretrained_produce_folder(*, cache_dir: Path | None = None) -> Path:
    """The bundled ImageNet classifier cut down to its classes of fruits and vegetables."""
    folder = cache_root(cache_dir) / MODELS_VERSION / "imagenet_produce"
    return make_once(folder, _save_pretrained_produce)


def _save_pretrained_produce(folder: Path) -> None:
    kept = list(IMAGENET_PRODUCE)
    info = ImageNetInfo()
    names = [info.index_to_description(index).split(",")[0].capitalize() for index in kept]
    model, _ = build_model(DEFAULT_BACKBONE, labels=names)
    full = timm.create_model(BUNDLED[DEFAULT_BACKBONE].architecture)
    full.load_state_dict(read_bundled_weights(DEFAULT_BACKBONE, full))
    head, full_head = model.timm_model.get_classifier(), full.get_classifier()
    with torch.no_grad():
        head.weight.copy_(full_head.weight[kept])
        head.bias.copy_(full_head.bias[kept])
    with quiet_transformers():
        model.save_pretrained(folder)
