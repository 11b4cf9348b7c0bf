"""Learning-rate schedules: transformers' own, and four that it lacks as pure step -> factor.

A factor depends only on the step, so a resumed run needs no state. torch has step, exponential and
one_cycle too, but as recurrences: their rounding adds up (so the rates aren't the same to the bit),
they have no warmup from 0, and its one_cycle also moves the momentum.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import get_scheduler
from transformers.trainer_utils import SchedulerType

from hffruits.core.errors import InputError

Schedule = Callable[[int], float]


def step(total: int, *, step_size: int | None = None, gamma: float = 0.1) -> Schedule:
    """Times `gamma` every `step_size` steps (default: a third of `total`).

    As `torch.optim.lr_scheduler.StepLR`.
    """
    size = math.ceil(total / 3) if step_size is None else step_size
    if size < 1:
        raise ValueError("step_size must be 1 or more")
    return lambda t: gamma ** (t // size)


def exponential(total: int, *, gamma: float | None = None, final: float = 0.01) -> Schedule:
    """Times `gamma` every step (default: so that it ends at `final`).

    As `torch.optim.lr_scheduler.ExponentialLR`.
    """
    base = gamma or final ** (1 / total)
    return lambda t: base**t


def time_based(total: int, *, decay: float | None = None, final: float = 0.05) -> Schedule:
    """Inverse time, 1 / (1 + `decay` t) (default: so that it ends at `final`).

    Robbins and Monro, 1951.
    """
    rate = (1 / final - 1) / total if decay is None else decay
    return lambda t: 1 / (1 + rate * t)


def one_cycle(
    total: int, *, pct_start: float = 0.3, div_factor: float = 25.0, final_div_factor: float = 1e4
) -> Schedule:
    """Up from 1 / `div_factor` to the peak, then down to nearly nothing, both along a cosine.

    As `torch.optim.lr_scheduler.OneCycleLR`; arXiv:1708.07120.
    """
    start, end = 1 / div_factor, 1 / (div_factor * final_div_factor)
    top = max(pct_start * total - 1, 1e-9)  # the step of the peak
    last = max(total - 1, top + 1e-9)

    def factor(t: int) -> float:
        if t <= top:
            return _cosine(start, 1.0, t / top)
        return _cosine(1.0, end, min(1.0, (t - top) / (last - top)))

    return factor


def _cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) / 2 * (1 + math.cos(math.pi * share))


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "step": step,
    "exponential": exponential,
    "time_based": time_based,
    "one_cycle": one_cycle,
}
SCHEDULE_NAMES = (*SCHEDULES, *(kind.value for kind in SchedulerType))
BY_VALIDATION = ("reduce_lr_on_plateau", "greedy")  # these follow a metric, not the step

# What transformers' own ask for and have no default of: total steps -> options.
_DEFAULT_OPTIONS: dict[str, Callable[[int], dict[str, Any]]] = {
    "cosine_with_min_lr": lambda total: {"min_lr_rate": 0.01},
    "cosine_warmup_with_min_lr": lambda total: {"min_lr_rate": 0.01},
    "warmup_stable_decay": lambda total: {"num_decay_steps": math.ceil(total / 5)},
}


def build_schedule(name: str, total: int, *, warmup: int = 0, **options: Any) -> Schedule:
    """A row of `SCHEDULES` over `total` steps, after `warmup` steps of linear warmup from 0.

    `one_cycle` warms up by itself. Raises `InputError` for options that the schedule lacks.
    """
    warmup = 0 if name == "one_cycle" else warmup
    try:
        after = SCHEDULES[name](max(1, total - warmup), **options)
    except TypeError as error:
        raise _wrong_options(name, options, error) from error
    return lambda t: t / warmup if t < warmup else after(t - warmup)


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
        raise _wrong_options(name, options, error) from error


def learning_rates(name: str, *, peak: float, total: int, **kwargs: Any) -> list[float]:
    """The learning rate of each of `total` steps. `kwargs` as for `make_scheduler`.

    Raises `InputError` for options that give no rate, or a negative one, and for those of
    transformers' own that give one above `peak`.
    """
    try:
        rates = _learning_rates(name, peak=peak, total=total, **kwargs)
    except InputError:  # which is a ValueError
        raise
    except (TypeError, ValueError, ArithmeticError) as error:
        raise _wrong_options(name, kwargs.get("options"), error) from error
    if not all(0 <= rate < math.inf for rate in rates):
        raise _wrong_options(name, kwargs.get("options"), "the rate would be negative or infinite")
    if name not in SCHEDULES and max(rates) > peak * (1 + 1e-6):
        rises = f"the rate would rise to {max(rates):.3g}, above learning_rate={peak:g}"
        raise _wrong_options(name, kwargs.get("options"), rises)
    return rates


def _learning_rates(name: str, *, peak: float, total: int, **kwargs: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
    if not isinstance(kwargs.get("options") or {}, dict):
        raise TypeError('give {"name": value}')
    scheduler = make_scheduler(optimizer, name, total=total, **kwargs)
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def compare_schedules(names: list[str], **kwargs: Any) -> dict[str, list[float]]:
    """`learning_rates` of several names, or of all that need no validation.

    Raises `InputError` for names that are unknown or can't be computed ahead.
    """
    if kwargs["total"] < 1:
        raise InputError(f"steps={kwargs['total']}: give 1 or more.")
    for name in names:
        if name not in SCHEDULE_NAMES:
            raise InputError(f"{name}: unknown schedule. Known: {', '.join(SCHEDULE_NAMES)}.")
        if name in BY_VALIDATION:
            raise InputError(f"{name}: follows the validation, so it can't be drawn ahead.")
    chosen = names or [name for name in SCHEDULE_NAMES if name not in BY_VALIDATION]
    return {name: learning_rates(name, **kwargs) for name in chosen}


def _wrong_options(name: str, options: object, error: object) -> InputError:
    return InputError(
        f"lr_scheduler_kwargs={options}: not for {name} ({error}). Choose others, or another "
        "learning_rate."
    )
