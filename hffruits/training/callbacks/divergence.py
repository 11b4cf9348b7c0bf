"""Divergence: training is stopped at NaN, infinite or far too large losses, before they are saved.

Losses and gradient norms stay on the device until the Trainer reports anyway, so no step waits.
"""

import logging
import math
from collections import deque
from dataclasses import dataclass
from itertools import takewhile

import torch
from torch import nn
from torch.optim import Optimizer
from transformers import TrainerCallback

from hffruits.core.distributed import gather

logger = logging.getLogger(__name__)
TIMES = 10  # so much worse than chance no model that learns is
IN_A_ROW = 10  # steps; single ones may be
BEFORE_SAVING = 3  # steps in a row, where weights are to be saved or training has ended


@dataclass(frozen=True, order=True)
class BadStep:
    """A step that shows that training has diverged."""

    number: int  # from 1
    learning_rate: float
    loss: float
    gradient_norm: float

    @property
    def is_finite(self) -> bool:
        """Whether only its size is wrong."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)

    def __str__(self) -> str:
        return (
            f"the loss is {self.loss:.4g} at step {self.number} (learning rate "
            f"{self.learning_rate:.3g}, gradient norm {self.gradient_norm:.3g})"
        )


@dataclass(frozen=True)
class _Step:
    number: int
    learning_rate: float
    loss: torch.Tensor
    norm: torch.Tensor | float

    def read(self) -> BadStep:
        """With its values as numbers, which waits for the device."""
        return BadStep(self.number, self.learning_rate, float(self.loss), float(self.norm))


class DivergenceCallback(TrainerCallback):
    """Finds losses and gradients that are NaN or infinite, and losses that stay far too large.

    `max_skipped` steps with such a gradient may be skipped; checking for them waits for the device.
    fp16 (`scaled`) skips steps by itself, so its gradients aren't checked.
    """

    def __init__(self, *, classes: int, max_skipped: int = 0, scaled: bool = False):
        self.limit = TIMES * math.log(classes)
        self.skips_left, self.scaled = max_skipped, scaled
        self.norm: torch.Tensor | float = 0.0  # the Trainer sets it at each step
        self._losses: list[torch.Tensor] = []  # of this step's batches
        self._steps: list[_Step] = []  # since the last check
        self._recent: deque[BadStep] = deque(maxlen=IN_A_ROW)

    def add_loss(self, loss: torch.Tensor) -> None:
        """The mean loss of a batch, a scalar."""
        self._losses.append(loss.detach())

    def on_train_begin(self, args, state, control, **kwargs):
        for seen in (self._losses, self._steps, self._recent):
            seen.clear()

    def on_pre_optimizer_step(
        self, args, state, control, model: nn.Module = None, optimizer: Optimizer = None, **kwargs
    ):
        rate = max(group["lr"] for group in optimizer.param_groups)
        loss = torch.stack(self._losses).mean()
        self._losses.clear()
        step = _Step(state.global_step + 1, rate, loss, self.norm)
        if self.skips_left and not math.isfinite(step.norm):
            self.skips_left -= 1
            model.zero_grad(set_to_none=True)  # an optimizer skips what has no gradient
            logger.warning("%s: skipped; %d more may be skipped", step.read(), self.skips_left)
        else:
            self._steps.append(step)

    def find(self, *, in_a_row: int = IN_A_ROW) -> BadStep | None:
        """The step at which training diverged, if it has: the first one of any process."""
        steps = [step.read() for step in self._steps]
        self._steps.clear()
        self._recent.extend(steps)
        bad = next((step for step in steps if self._is_broken(step)), None)
        row = list(takewhile(lambda step: step.loss > self.limit, reversed(self._recent)))
        if len(row) >= in_a_row:
            bad = bad or row[-1]
        return min((found for found in gather(bad) if found), default=None)

    def _is_broken(self, step: BadStep) -> bool:
        return not (math.isfinite(step.loss) and (self.scaled or math.isfinite(step.gradient_norm)))
