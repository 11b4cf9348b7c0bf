"""Freezing: which stages of a backbone keep their pretrained weights, and for how long.

The first stages of a pretrained net know edges, colours and textures. Freezing them keeps a
few hundred photos from ruining them, and saves their share of the backward pass.
"""

import math
import re
from collections.abc import Callable

from torch import nn
from transformers import TrainerCallback

from hffruits.core.errors import InputError
from hffruits.models.layers import is_convolutional, layer_groups

# plan -> how many of n groups (stem, stages, head) keep their weights, at a share of training
PLANS: dict[str, Callable[[int, float], int]] = {
    "none": lambda n, done: 0,
    "half": lambda n, done: (n - 1) // 2,
    "three_quarters": lambda n, done: (n - 1) * 3 // 4,
    "head_only": lambda n, done: n - 1,
    # one group after the other, from the head down, over the first half: arXiv:1801.06146
    "gradual": lambda n, done: max(0, math.ceil((n - 1) * (1 - 2 * done))),
    # the head first, so that its random start does not distort the features: arXiv:2202.10054
    "lp_ft": lambda n, done: n - 1 if done < 0.2 else 0,
}
CHANGING = ("gradual", "lp_ft")  # plans that unfreeze as training goes on


def freeze_backbone(model: nn.Module, plan: str, *, head: tuple[str, ...]) -> list[str]:
    """Stop the gradient of the first groups of a backbone for all of training.

    `plan` is a row of `PLANS`, or `stages:K` (the stem and K stages); `head` holds the names of
    the classifying layers. Returns the names of the frozen parameters: none for `CHANGING` plans,
    whose parameters the optimizer must know. Raises `InputError` for another plan, and for a
    backbone whose stages are not known.
    """
    check_plan(plan)
    if plan == "none" or plan in CHANGING:
        return []
    groups = layer_groups(model, head=head)
    frozen = [name for group in groups[: _frozen_groups(plan, len(groups))] for name in group]
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    return frozen


def check_plan(plan: str) -> None:
    """Raise `InputError` for a plan that no backbone could follow."""
    if plan not in PLANS and not re.fullmatch(r"stages:\d+", plan):
        raise InputError(f"freeze={plan}: unknown. Known: {', '.join(PLANS)}, stages:K.")


def _frozen_groups(plan: str, groups: int, done: float = 0.0) -> int:
    """How many groups are frozen at a share of training, in [0, 1]."""
    if plan in PLANS:
        return PLANS[plan](groups, done)
    count = int(plan.removeprefix("stages:")) + 1
    if count >= groups:
        raise InputError(f"freeze={plan}: there are {groups - 2} stages. Name fewer.")
    return count


class UnfreezingCallback(TrainerCallback):
    """Follows one of the `CHANGING` plans. Only the step decides, so resuming needs no state."""

    def __init__(self, plan: str, groups: list[list[str]], *, keep: set[str]):
        self.plan, self.groups = plan, groups
        self.keep = keep  # parameters that stay frozen for another reason

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        count = _frozen_groups(self.plan, len(self.groups), state.global_step / state.max_steps)
        for number, group in enumerate(self.groups):
            for name in group:
                if name not in self.keep:
                    model.get_parameter(name).requires_grad_(number >= count)


# ---- in words ----


def describe_freezing(model: nn.Module, plan: str, *, head: tuple[str, ...]) -> str:
    """What a plan freezes, in the model's own words: `stem and 3 of 7 stages frozen`."""
    if plan == "none":
        return "no stage frozen"
    groups = layer_groups(model, head=head)
    count = _frozen_groups(plan, len(groups))
    if count == len(groups) - 1:
        return "all but the head frozen" + (" at first" if plan in CHANGING else "")
    stem = "embeddings" if any("embed" in name for name in groups[0]) else "stem"
    stages = [_is_stage(model, group) for group in groups[1:-1]]
    frozen = sum(stages[: count - 1])
    of_stages = f" and {frozen} of {sum(stages)} {_name_of_stages(model, groups[1])}"
    return f"{stem}{of_stages if frozen else ''} frozen" if count else "no stage frozen"


def _is_stage(model: nn.Module, group: list[str]) -> bool:
    """Whether a group has a weight matrix: norms behind the last stage are a group of some nets."""
    return any(model.get_parameter(name).ndim > 1 for name in group)


def _name_of_stages(model: nn.Module, stage: list[str]) -> str:
    """What the net calls its stages: timm calls those of some convolutional nets blocks."""
    found = re.search(r"\.(\w+)\.\d+\.", stage[0])
    name = found[1] if found else ""
    if name == "blocks" and not is_convolutional(model):
        return "blocks"
    return "layers" if name in ("layer", "layers") else "stages"
