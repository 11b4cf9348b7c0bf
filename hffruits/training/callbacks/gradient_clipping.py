"""Gradient clipping by norm, by value, or adaptively, and how often it had to act."""

from collections.abc import Callable, Iterable

import torch
from timm.utils.agc import adaptive_clip_grad
from torch import nn
from torch.nn.utils import clip_grad_value_, get_total_norm
from transformers import TrainerCallback

# name -> (parameters, limit) -> None; the Trainer itself clips by norm
CLIP_MODES: dict[str, Callable[[Iterable[nn.Parameter], float], None] | None] = {
    "norm": None,  # the whole gradient, arXiv:1211.5063
    "value": clip_grad_value_,  # each entry
    "agc": adaptive_clip_grad,  # each unit's, against its weights' norm, arXiv:2102.06171
}


class GradientClippingCallback(TrainerCallback):
    """Clips by value or adaptively, and counts the steps at which clipping made the norm smaller.

    `limit` is the largest norm or entry, or the factor of AGC, which leaves the head out (section
    4.1 of the paper).
    """

    def __init__(self, mode: str, limit: float, *, head: tuple[str, ...]):
        self.mode, self.limit = mode, limit
        self.head = tuple(f"{name}." for name in head)
        self.norm: torch.Tensor | float = 0.0  # before clipping; the Trainer sets it at each step
        self.steps, self.clipped = 0, torch.zeros(())

    def on_pre_optimizer_step(self, args, state, control, model: nn.Module = None, **kwargs):
        before = torch.as_tensor(self.norm)
        if self.mode == "norm":
            acted = before > self.limit
        else:
            learning = {name: p for name, p in model.named_parameters() if p.grad is not None}
            left_out = self.head if self.mode == "agc" else ()
            chosen = [p for name, p in learning.items() if not name.startswith(left_out)]
            CLIP_MODES[self.mode](chosen, self.limit)
            after = get_total_norm([p.grad for p in learning.values()])
            acted = after < before * (1 - 1e-5)
        self.steps += 1
        self.clipped = self.clipped.to(acted.device) + acted  # stays on the device: no waiting

    def share_since_last(self) -> float:
        """Share of the steps since the last call at which clipping acted, in [0, 1]."""
        share = float(self.clipped) / max(1, self.steps)
        self.steps, self.clipped = 0, torch.zeros(())
        return share
