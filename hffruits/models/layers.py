"""The layers of a backbone, from input to output: stem, stages, head; and whether they convolve."""

import math
from collections import defaultdict

import torch
from timm.models import group_parameters
from torch import nn
from transformers import PreTrainedModel

from hffruits.core.errors import InputError


def layer_groups(model: nn.Module, *, head: tuple[str, ...]) -> list[list[str]]:
    """Parameter names from the input on: the stem, the stages, and last the head.

    `head` holds the names of the classifying layers. Stages are timm's coarse groups (those of a
    CNN, the blocks of a ViT), or the members of a transformers encoder's list of layers.
    Raises `InputError` for a model that has neither.
    """
    groups: dict[float, list[str]] = defaultdict(list)
    for name, group in _stage_of_parameters(model).items():
        in_head = name.startswith(tuple(f"{part}." for part in head))
        groups[math.inf if in_head else group].append(name)
    return [groups[group] for group in sorted(groups)]


def has_layer_groups(model: nn.Module) -> bool:
    """True where `layer_groups` knows the stages."""
    return _timm_stages(model) is not None or _encoder_layers(model) is not None


def _stage_of_parameters(model: nn.Module) -> dict[str, int]:
    stages = _timm_stages(model)
    if stages is not None:
        return stages
    found = _encoder_layers(model)
    if found is None:
        raise InputError(f"{type(model).__name__}: its stages are not known. Use freeze=none.")
    path, count = found
    stages, stage = {}, 0
    for name, _ in model.named_parameters():
        if name.startswith(f"{path}."):
            stage = int(name.removeprefix(f"{path}.").split(".")[0]) + 1
        elif stage:
            stage = count  # norms and poolers behind the last layer go with it
        stages[name] = stage
    return stages


def _encoder_layers(model: nn.Module) -> tuple[str, int] | None:
    """Path and length of the list of layers that holds most of the weights."""
    lists = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) > 1
    }
    if not lists:
        return None
    path = max(lists, key=lambda path: sum(p.numel() for p in lists[path].parameters()))
    return path, len(lists[path])


def _timm_stages(model: nn.Module) -> dict[str, int] | None:
    """Stage by parameter name; None for the few nets whose stages timm does not give."""
    net = dict(model.named_children()).get("timm_model")
    matcher = getattr(net, "group_matcher", None)
    if matcher is None:
        return None
    try:
        stages = group_parameters(net, matcher(coarse=True), reverse=True)
    except AssertionError:  # rdnet has no coarse stages
        return None
    return {f"timm_model.{name}": stage for name, stage in stages.items()}


def is_convolutional(model: nn.Module) -> bool:
    """True where most of the work is convolution, so that `channels_last` pays.

    A ViT has one convolution (its patch embedding).
    """
    return sum(isinstance(module, nn.Conv2d) for module in model.modules()) > 4


def use_channels_last(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """The model with its kernels in `channels_last` where that pays; the outputs are the same.

    Only for CUDA and CPUs: elsewhere it wasn't measured. On CPUs not for nets with layers whose
    backward pass would crash.
    """
    crashing = _crashing_layers(model) if device.type == "cpu" else []
    for layer in crashing:
        layer.register_forward_pre_hook(_make_contiguous)  # also what comes in as `channels_last`
    if crashing or device.type not in ("cpu", "cuda") or not is_convolutional(model):
        return model
    return model.to(memory_format=torch.channels_last)


def _crashing_layers(model: nn.Module) -> list[nn.Conv2d]:
    """Strided 1 x 1 convolutions of few channels, as the stems of RepVGG and FastViT have them.

    In `channels_last`, oneDNN's backward pass reads beyond their input, and the process dies (torch
    2.14, AVX2: with fewer than 8 channels, its vector's length; AVX-512 has 16).
    """
    return [
        layer
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and max(layer.stride) > 1
        and layer.in_channels < 16
    ]


def _make_contiguous(layer: nn.Module, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (inputs[0].contiguous(),)
