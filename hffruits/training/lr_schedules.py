"""Learning-rate schedules as PyTorch's schedulers: transformers' own, and `schedule_functions`."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import get_scheduler
from transformers.trainer_utils import SchedulerType

from hffruits.core.errors import InputError
from hffruits.training.schedule_functions import (
    BY_VALIDATION,
    SCHEDULES,
    build_schedule,
    check_options,
    check_rates,
    check_schedules,
    compute_rates,
    wrong_options,
)

SCHEDULE_NAMES = (*SCHEDULES, *(kind.value for kind in SchedulerType))
# What transformers' own ask for and have no default of: total steps -> options.
_DEFAULT_OPTIONS: dict[str, Callable[[int], dict[str, Any]]] = {
    "cosine_with_min_lr": lambda total: {"min_lr_rate": 0.01},
    "cosine_warmup_with_min_lr": lambda total: {"min_lr_rate": 0.01},
    "warmup_stable_decay": lambda total: {"num_decay_steps": math.ceil(total / 5)},
}


def make_scheduler(
    optimizer: Optimizer,
    name: str,
    *,
    total: int,
    warmup: int = 0,
    options: dict[str, Any] | None = None,
    maximise: bool = True,
) -> LRScheduler:
    """The scheduler of any name in `SCHEDULE_NAMES`, for `total` steps of which `warmup` warm up.

    `maximise`: whether the metric that `BY_VALIDATION` ones follow is better when larger.
    Raises `InputError` for options that the schedule lacks.
    """
    options = options or {}
    if name in SCHEDULES:
        return LambdaLR(optimizer, build_schedule(name, total, warmup=warmup, **options))
    if name in _DEFAULT_OPTIONS and "min_lr" not in options:  # which says the same
        options = _DEFAULT_OPTIONS[name](total) | options
    if name in BY_VALIDATION:
        options = {"mode": "max" if maximise else "min"} | options
    try:
        return get_scheduler(
            name,
            optimizer,
            num_warmup_steps=warmup,
            num_training_steps=total,
            scheduler_specific_kwargs=dict(options),
        )
    except (TypeError, ValueError) as error:
        raise wrong_options(name, options, error) from error


def learning_rates(name: str, *, peak: float, total: int, **kwargs: Any) -> list[float]:
    """The learning rate of each of `total` steps. `kwargs` as for `make_scheduler`.

    Raises `InputError` for options that give no rate, or a negative one, and for those of
    transformers' own that give one above `peak`.
    """
    if name in SCHEDULES:
        return compute_rates(name, peak=peak, total=total, **kwargs)
    try:
        rates = _learning_rates(name, peak=peak, total=total, **kwargs)
    except InputError:  # which is a ValueError
        raise
    except (TypeError, ValueError, ArithmeticError) as error:
        raise wrong_options(name, kwargs.get("options"), error) from error
    check_rates(name, rates, kwargs.get("options"))
    if max(rates) > peak * (1 + 1e-6):
        rises = f"the rate would rise to {max(rates):.3g}, above learning_rate={peak:g}"
        raise wrong_options(name, kwargs.get("options"), rises)
    return rates


def _learning_rates(name: str, *, peak: float, total: int, **kwargs: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    check_options(kwargs.get("options"))
    scheduler = make_scheduler(optimizer, name, total=total, **kwargs)
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def compare_schedules(
    names: list[str], *, peak: float, total: int, **kwargs: Any
) -> dict[str, list[float]]:
    """`learning_rates` of several names, or of all that need no validation.

    Raises `InputError` for names that are unknown or can't be computed ahead.
    """
    check_schedules(names, SCHEDULE_NAMES, steps=total, peak=peak)
    chosen = names or [name for name in SCHEDULE_NAMES if name not in BY_VALIDATION]
    return {name: learning_rates(name, peak=peak, total=total, **kwargs) for name in chosen}
