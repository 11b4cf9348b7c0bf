"""The classifying head: its layers by name, its logits and input features, its reset and scale."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel, TimmWrapperForImageClassification

from hffruits.core.errors import InputError


def head_names(model: PreTrainedModel) -> tuple[str, ...]:
    """The classifying layers: timm lists them, transformers' image models use a few names."""
    if isinstance(model, TimmWrapperForImageClassification):
        names = model.timm_model.pretrained_cfg["classifier"]
        names = [names] if isinstance(names, str) else names
        return tuple(f"timm_model.{name}" for name in names)
    return _HEADS


_HEADS = (
    *("classifier", "cls_classifier", "head", "fc"),
    *("distillation_classifier", "classifier_distill", "dist_head"),  # second heads of DeiT, ...
)


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


def logits_and_features(
    model: PreTrainedModel, pixels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels (B, 3, H, W) -> logits (B, K), and the features that the head takes (B, D).

    Of a distilled ViT's two heads the first one counts. Not to be called by two threads at once.
    """
    with head_inputs(model) as seen:
        logits = model(pixel_values=pixels).logits
    return logits, seen[0][0]


@contextmanager
def head_inputs(model: PreTrainedModel) -> Iterator[list[list[torch.Tensor]]]:
    """Within this block each call adds what the `last_layers` are given: a list a layer, (B, D)."""
    seen: list[list[torch.Tensor]] = []
    hooks = []
    for layer in last_layers(model):
        seen.append([])
        # a convolution classifies before or after pooling
        hooks.append(
            layer.register_forward_pre_hook(
                lambda _, inputs, own=seen[-1]: own.append(
                    inputs[0].mean((2, 3)) if inputs[0].ndim == 4 else inputs[0]
                )
            )
        )
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def scale_logits(model: PreTrainedModel, factor: float) -> None:
    """Multiply every logit by a factor, in the weights of the classifying layers.

    Whoever loads the model then has them: transformers, timm, exports.
    """
    for layer in last_layers(model):
        for parameter in layer.parameters():
            parameter.mul_(factor)


def reset_head(model: PreTrainedModel) -> None:
    """Other labels need a new head, also where there happen to be as many of them."""
    heads = head_names(model)
    for name, module in model.named_modules():
        inside = any(name == head or name.startswith(f"{head}.") for head in heads)
        if inside and isinstance(module, nn.Linear | nn.Conv2d):
            module.reset_parameters()


def coarse_ids(config: PretrainedConfig) -> list[int] | None:
    """The coarse class of each class, numbered by name; None where the model has no hierarchy.

    `config.coarse_labels` maps class names to coarse names.
    """
    coarse = getattr(config, "coarse_labels", None)
    if not coarse:
        return None
    names = sorted(set(coarse.values()))
    return [names.index(coarse[config.id2label[i]]) for i in range(config.num_labels)]
