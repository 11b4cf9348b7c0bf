"""Which part of a backbone keeps the weights it came with.

The first stages of a pretrained net know edges, colours and textures. Leaving them alone keeps a
few hundred photos from spoiling them, and saves their share of the backward pass.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable

from timm.models import group_parameters
from torch import nn

from hffruits.errors import InputError

# plan -> how many of the groups (stem, stages, head) keep their weights
PLANS: dict[str, Callable[[int], int]] = {
    "none": lambda groups: 0,
    "half": lambda groups: (groups - 1) // 2,
    "head_only": lambda groups: groups - 1,
}


def freeze_backbone(model: nn.Module, plan: str, *, head: tuple[str, ...]) -> list[str]:
    """Stop the gradient of the first groups of a timm backbone; returns the parameters' names.

    `plan` is `none`, `half` (the first half of the stages), `head_only`, or `stages:K` (the stem
    and K stages); `head` holds the names of the classifying layers. Raises `InputError` for
    another plan, and for a backbone whose stages are not known.
    """
    check_plan(plan)
    if plan == "none":
        return []
    groups = layer_groups(model, head=head)
    if plan in PLANS:
        count = PLANS[plan](len(groups))
    else:
        count = int(plan.removeprefix("stages:")) + 1
        if count >= len(groups):
            raise InputError(f"freeze={plan}: there are {len(groups) - 2} stages. Name fewer.")
    frozen = [name for group in groups[:count] for name in group]
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    return frozen


def check_plan(plan: str) -> None:
    """Raise `InputError` for a plan that no backbone could follow."""
    if plan not in PLANS and not re.fullmatch(r"stages:\d+", plan):
        raise InputError(f"freeze={plan}: unknown. Known: {', '.join(PLANS)}, stages:K.")


def layer_groups(model: nn.Module, *, head: tuple[str, ...]) -> list[list[str]]:
    """Parameter names from the input on: the stem, the stages, and last the head.

    Stages are timm's coarse groups: those of a CNN, the blocks of a ViT. Raises `InputError` for a
    model that is not wrapped timm.
    """
    if not has_layer_groups(model):
        raise InputError("freeze: the stages are known for timm backbones alone. Use freeze=none.")
    net = model.timm_model
    groups: dict[float, list[str]] = defaultdict(list)
    for name, group in group_parameters(net, net.group_matcher(coarse=True), reverse=True).items():
        name = f"timm_model.{name}"
        in_head = name.startswith(tuple(f"{part}." for part in head))
        groups[math.inf if in_head else group].append(name)
    return [groups[group] for group in sorted(groups)]


def has_layer_groups(model: nn.Module) -> bool:
    """True for timm backbones, wrapped by transformers."""
    return "timm_model" in dict(model.named_children())


def hold_frozen_norms(model: nn.Module) -> None:
    """Keep batch norm in evaluation mode wherever its weights are frozen.

    To be called after every `model.train()`: running statistics would drift otherwise.
    """
    for module in model.modules():
        is_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
        if is_norm and module.affine and not module.weight.requires_grad:
            module.eval()
