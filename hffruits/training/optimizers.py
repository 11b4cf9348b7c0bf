"""Optimizers, also timm's: weight decay, layer-wise rates, default learning rates."""

from typing import Any

import yaml
from timm.optim import get_optimizer_class, get_optimizer_info, list_optimizers
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer
from transformers import TrainingArguments
from transformers.training_args import OptimizerNames

from hffruits.core.errors import InputError
from hffruits.models.layers import layer_groups

TIMM = "timm:"  # prefix of timm's optimizers


def decayed_parameters(model: nn.Module) -> list[str]:
    """Names of the parameters that weight decay applies to: matrices and kernels.

    Norms, biases and position embeddings are left out, as in timm: shrinking them does not
    regularise, and batch norm undoes the shrinking of what comes before it.
    """
    kept_out = {
        f"{path}.{name}".lstrip(".")
        for path, module in model.named_modules()
        for name in getattr(module, "no_weight_decay", set)()  # timm's own list, where it has one
    }
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1 and name not in kept_out and not name.endswith(_EMBEDDINGS)
    ]


# what transformers calls them
_EMBEDDINGS = ("position_embeddings", "cls_token", "mask_token", "distillation_token")


def default_learning_rate(model: nn.Module, *, random_head: bool) -> float:
    """Peak learning rate for AdamW at batch size 32.

    Nets with batch norm bear ten times what those with layer norm do, but more than 3e-4 ruins a
    head that is fitted already.
    """
    has_batch_norm = any(isinstance(module, _BatchNorm) for module in model.modules())
    return (1e-3 if random_head else 3e-4) if has_batch_norm else 1e-4


def layer_scales(model: nn.Module, decay: float, *, head: tuple[str, ...]) -> dict[str, float]:
    """Factor of the learning rate by parameter name: 1 for the head, `decay` times less a layer.

    Layer-wise learning-rate decay as in BEiT, arXiv:2106.08254, for CNNs (by stage) and ViTs (by
    block). Raises `InputError` for a model whose layers are not known.
    """
    groups = layer_groups(model, head=head)
    return {
        name: decay ** (len(groups) - 1 - depth)
        for depth, group in enumerate(groups)
        for name in group
    }


def split_groups(optimizer: Optimizer, model: nn.Module, scales: dict[str, float]) -> None:
    """Divide a fresh optimizer's parameter groups by learning rate, highest first.

    timm's groups carry an `lr_scale` instead, which only timm's own schedulers apply.
    """
    names = {parameter: name for name, parameter in model.named_parameters()}
    split = []
    for group in optimizer.param_groups:
        by_scale: dict[float, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            by_scale.setdefault(scales[names[parameter]], []).append(parameter)
        for scale, parameters in by_scale.items():
            split.append(group | {"params": parameters, "lr": group["lr"] * scale})
    optimizer.param_groups[:] = sorted(split, key=lambda group: -group["lr"])


def format_groups(optimizer: Optimizer) -> str:
    """The parameter groups as a table, for the log."""
    lines = ["   peak lr  weight decay  tensors  parameters"]
    for group in optimizer.param_groups:
        count = sum(parameter.numel() for parameter in group["params"])
        lines.append(
            f"{group.get('initial_lr', group['lr']):10.2e}  {group['weight_decay']:12g}  "
            f"{len(group['params']):7}  {count:10,}"
        )
    return "\n".join(lines)


# ---- timm's optimizers ----


def check_optimizer(name: str) -> None:
    """Raise `InputError`, with the known names, for an unknown optimizer."""
    if name.startswith(TIMM):
        first_order = [n for n in list_optimizers() if not get_optimizer_info(n).second_order]
        if name.removeprefix(TIMM) not in first_order:
            known = ", ".join(first_order)
            raise InputError(f"optim={name}: unknown to timm. Known: {known}.")
    elif name not in {optimizer.value for optimizer in OptimizerNames}:
        known = ", ".join(optimizer.value for optimizer in OptimizerNames)
        raise InputError(f"optim={name}: unknown. Known: {known}; timm:NAME for timm's.")


def parse_options(text: str | None) -> dict[str, Any]:
    """The Trainer's `optim_args`, as in `momentum=0.9,nesterov=true`."""
    try:
        pairs = [pair.split("=", 1) for pair in (text or "").split(",") if pair.strip()]
        return {name.strip(): yaml.safe_load(value) for name, value in pairs}
    except ValueError as error:
        raise InputError(f"optim_args={text}: write name=value,name=value.") from error


def timm_optimizer(
    name: str, *, lr: float, betas: tuple[float, float], eps: float, options: dict[str, Any]
) -> tuple[type[Optimizer], dict[str, Any]]:
    """Class and keywords of `timm:NAME`; `options` override timm's defaults for it."""
    info = get_optimizer_info(name.removeprefix(TIMM))
    keywords: dict[str, Any] = {"lr": lr} | dict(info.defaults or {})
    usual = TrainingArguments  # its defaults are AdamW's, not the user's choice
    if info.has_betas and info.num_betas == 2 and betas != (usual.adam_beta1, usual.adam_beta2):
        keywords["betas"] = betas
    if info.has_eps and eps != usual.adam_epsilon:
        keywords["eps"] = eps
    if info.has_momentum:
        keywords.setdefault("momentum", 0.9)
    return get_optimizer_class(info.name, bind_defaults=False), keywords | options
