"""Loading and building models: bundled backbones, timm's, any transformers image classifier.

Whatever the source, the result is a plain `transformers` model and its image processor. What the
loaders raise for broken or hostile folders becomes an `InputError`.
"""

import json
import logging
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.image_processing_utils import BaseImageProcessor

from hffruits.core.errors import InputError, added_to_errors
from hffruits.core.escaping import is_unicode, shorten
from hffruits.core.hub_client import one_line
from hffruits.models.artifact import ADAPTER, CONFIG
from hffruits.models.bundled import BUNDLED, DEFAULT_BACKBONE, bundled_folder, create_timm
from hffruits.models.fetching import fetch_model
from hffruits.models.heads import head_names, logits_and_features, reset_head
from hffruits.models.names import FOLDER_REMEDY, WEIGHT_FILES, models_beside, not_a_model
from hffruits.models.own_keys import drop_malformed
from hffruits.models.saving import quiet_transformers

logger = logging.getLogger(__name__)

_OF_OTHER_CLASSES = (
    *("label_names", "calibration", "ood_threshold", "coarse_labels"),
    *("taught", "taught_from"),
)

# Logits by their name are all that is asked of a net, whatever else its checkpoint has it return.
_LOGITS_ONLY = {"output_hidden_states": False, "output_attentions": False, "return_dict": True}

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
    of_timm = timm.is_model(_timm_name(name_or_path)) and not not_a_model(name_or_path)
    if not pretrained and of_timm:
        _hub_id_of_timm(_timm_name(name_or_path))  # which raises for weights that there aren't
        model = create_timm(_timm_name(name_or_path), **head)
        return model, load_processor_of(model)
    folder = find_model(name_or_path, revision=revision, cache_dir=cache_dir)
    if pretrained:
        _check_weights(folder, name_or_path)
    source = _source(folder)
    with _translate_model_errors(name_or_path, "can't be fine-tuned"):
        processor = _load_processor(source)
        if not pretrained:
            config = AutoConfig.from_pretrained(**source, **head, **_LOGITS_ONLY)
            return AutoModelForImageClassification.from_config(config), processor
        old_labels = AutoConfig.from_pretrained(**source).id2label
        model, info = AutoModelForImageClassification.from_pretrained(
            **source,
            **head,
            **_LOGITS_ONLY,
            ignore_mismatched_sizes=True,
            **_LOADING,
        )
    # what a checkpoint says of its own classes would be saved as if it held for ours
    for own in _OF_OTHER_CLASSES:
        vars(model.config).pop(own, None)
    drop_malformed(vars(model.config), labels, name=name_or_path)
    _check_backbone(name_or_path, model, info)
    if old_labels != head["id2label"]:
        reset_head(model)
    return model, processor


def keeps_head(name_or_path: str, labels: list[str], *, revision: str | None = None) -> bool:
    """Whether `build_model` leaves the head of these weights, since its labels are the same."""
    folder = find_model(name_or_path, revision=revision)
    return AutoConfig.from_pretrained(**_source(folder)).id2label == dict(enumerate(labels))


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
            **_source(folder), **_LOGITS_ONLY, **_LOADING
        )
        processor = _load_processor(_source(folder))
        _check_labels(model.config, folder)
    drop_malformed(vars(model.config), model.config.id2label.values(), name=name)
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
        config = AutoConfig.from_pretrained(**_source(folder))
        _check_labels(config, folder)
        drop_malformed(vars(config), config.id2label.values(), name=name or folder)
        return config, _load_processor(_source(folder))


def check_classifies(model: PreTrainedModel, size: tuple[int, int], *, name: str) -> None:
    """Try a model on one black image of a size (high, wide), before it is trained.

    Raises `InputError` for one that takes something else, or that has no head for its labels.
    """
    was_training = model.training
    with _translate_model_errors(name, "can't be fine-tuned"), torch.no_grad():
        logits, features = logits_and_features(model.eval(), torch.zeros(1, 3, *size))
        found, wanted = tuple(logits.shape), (1, model.config.num_labels)
        if found != wanted or features.ndim != 2:
            raise ValueError(f"logits {found} and features {tuple(features.shape)} of an image")
    model.train(was_training)


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
        if not (path / CONFIG).is_file():
            raise InputError(f"{path}: no config.json. {_hint_for_folder(path)}.")
        return path
    if what := not_a_model(name_or_path):
        raise InputError(f"{name_or_path}: {what}.")
    if "/" not in name_or_path:
        if not timm.is_model(name_or_path):
            raise InputError(
                f"{name_or_path}: no folder, no bundled model and no timm model of this name"
                f"{_similar_models(name_or_path)}."
            )
        name_or_path = _hub_id_of_timm(name_or_path)
    beside = models_beside(name_or_path)
    with added_to_errors(beside) if beside else nullcontext():
        folder = fetch_model(name_or_path, revision=revision)
    if not (folder / CONFIG).is_file():
        raise InputError(f"{name_or_path}: has no config.json on the Hub. Choose another model.")
    return folder


def _hint_for_folder(folder: Path) -> str:
    """What to give in place of a folder without a model."""
    inner = [file.parent for file in folder.glob(f"*/{CONFIG}")]
    if inner:
        return f"Give {max(inner, key=lambda path: path.stat().st_mtime)}, which has one"
    files = sorted(file.name for file in folder.iterdir() if file.suffix in WEIGHT_FILES)
    only = f"{files[0]} is not enough. " if files else ""
    return f"{only}Name a folder that training has written"


def _similar_models(name: str) -> str:
    """Names of models that one may mean, whatever its hyphens and underscores."""
    plain = {_letters(known): known for known in reversed([*BUNDLED, *timm.list_models()])}
    wrong = _letters(name)
    if wrong in plain:
        return f" (did you mean {plain[wrong]}?)"
    near = [plain[key] for key in get_close_matches(wrong, plain, 3, 0.75)]
    near = near or timm.list_models(f"*{name}*")[:3] or sorted(BUNDLED)
    return f" (did you mean {' or '.join(near)}?)"


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def hub_id(name_or_path: str) -> str | None:
    """What the Hub calls a backbone that `find_model` knows; None for the user's own folder."""
    if name_or_path in BUNDLED:
        return f"timm/{BUNDLED[name_or_path].architecture}.in1k"
    if Path(name_or_path).expanduser().is_dir():
        return None
    if "/" in name_or_path:
        return name_or_path
    return _hub_id_of_timm(name_or_path) if timm.is_model(name_or_path) else None


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


def load_processor_of(model: PreTrainedModel) -> BaseImageProcessor:
    """The image processor that a model's config describes."""
    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        return _load_processor(_source(folder))


@contextmanager
def _translate_model_errors(name: str | Path, problem: str) -> Iterator[None]:
    """What the loaders raise for files that are missing, broken or of another kind."""
    try:
        with quiet_transformers():
            yield
    except InputError:
        raise
    except _LOADING_ERRORS as error:
        if "trust_remote_code" in str(error):
            raise InputError(
                f"{name}: {problem}: it needs code of its own, which is never run. Choose another."
            ) from error
        raise InputError(f"{name}: {problem}: {one_line(error)}") from error


# Unmapped: Windows doesn't let a mapped file be replaced, and calibrated weights replace their own.
_LOADING = {"use_safetensors": True, "output_loading_info": True, "disable_mmap": True}
# What transformers and timm raise for a config that says anything, beside what they check.
_LOADING_ERRORS = (
    *(OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError),
    *(TypeError, AttributeError, IndexError, AssertionError, MemoryError, StrictDataclassError),
)
# of a config: more would take all memory
_MOST_LABELS = 1_000_000
_MOST_PIXELS = 8192  # a side


def _check_weights(folder: Path, name: str) -> None:
    """Reject pickles, and configs that fetch other files; transformers and timm would load them."""
    if not any(folder.glob("model*.safetensors")):
        if Path(name).is_dir() and not any(
            file.suffix in WEIGHT_FILES for file in folder.iterdir()
        ):
            raise InputError(f"{name}: has no model.safetensors. {FOLDER_REMEDY}.")
        raise InputError(
            f"{name}: has no model.safetensors. Other weights (pytorch_model.bin) are pickles, "
            "which can run any code, and are never loaded. Choose another model."
        )
    if (folder / ADAPTER).is_file():
        raise InputError(f"{name}: holds an adapter of another model. Merge it into that first.")
    with _translate_model_errors(name, "not a model that can be loaded"):
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        counts = [config.get(key) or 0 for key in ("num_classes", "num_labels")]
        if max(counts) > _MOST_LABELS:
            raise ValueError(f"{max(counts):,} labels, over the limit of {_MOST_LABELS:,}")
        options = set(config.get("model_args") or ())
    if ":" in str(config.get("architecture")) or _OF_FILES & options:
        raise InputError(f"{name}: its config.json points elsewhere for weights. Choose another.")


_OF_FILES = {"checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay"}


def _check_labels(config: PretrainedConfig, folder: Path) -> None:
    """Raise `ValueError` for names that are none, or not one a class.

    transformers replaces names of another number by LABEL_0, LABEL_1, ...
    """
    said = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    given = said.get("label_names") or said.get("id2label") or {}
    if given and len(given) != config.num_labels:
        raise ValueError(f"config.json names {len(given)} of its {config.num_labels} classes")
    if sorted(config.id2label) != [*range(len(config.id2label))]:
        numbers = ", ".join(map(str, sorted(config.id2label)))
        raise ValueError(f"id2label numbers its classes {shorten(numbers)}, not from 0 on")
    labels = config.id2label.values()
    wrong = [label for label in labels if not isinstance(label, str) or not is_unicode(label)]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is not the name of a class")


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
            raise ValueError(f"images of {side} pixels, not between 1 and {_MOST_PIXELS:,}")
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
