"""Learning-rate schedules as pure step -> factor: four that transformers lacks. Imports no torch.

A factor depends only on the step, so a resumed run needs no state. torch has step, exponential and
one_cycle too, but as recurrences: their rounding adds up (so the rates aren't the same to the bit),
they have no warmup from 0, and its one_cycle also moves the momentum.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

from hffruits.core.errors import InputError
from hffruits.core.names import did_you_mean

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
MOST_STEPS = 1_000_000  # that are drawn
BY_VALIDATION = ("reduce_lr_on_plateau", "greedy")  # these follow a metric, not the step


def check_schedules(names: Iterable[str], known: Iterable[str], *, steps: int, peak: float) -> None:
    """Raise `InputError` for steps or a peak that can't be drawn, and for names that are unknown or
    can't be drawn ahead.
    """
    if not 1 <= steps <= MOST_STEPS:
        raise InputError(f"steps={steps}: give 1 to {MOST_STEPS:,}.")
    if not 0 < peak < math.inf:
        raise InputError(f"learning_rate={peak}: give a number above 0.")
    known = list(known)
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            raise InputError(f"{name}: unknown schedule{hint}. Known: {', '.join(known)}.")
        if name in BY_VALIDATION:
            raise InputError(f"{name}: follows the validation, so it can't be drawn ahead.")


def build_schedule(name: str, total: int, *, warmup: int = 0, **options: Any) -> Schedule:
    """A row of `SCHEDULES` over `total` steps, after `warmup` steps of linear warmup from 0.

    `one_cycle` warms up by itself. Raises `InputError` for options that the schedule lacks.
    """
    warmup = 0 if name == "one_cycle" else warmup
    try:
        after = SCHEDULES[name](max(1, total - warmup), **options)
    except TypeError as error:
        raise wrong_options(name, options, error) from error
    return lambda t: t / warmup if t < warmup else after(t - warmup)


def compute_rates(
    name: str, *, peak: float, total: int, warmup: int = 0, options: dict[str, Any] | None = None
) -> list[float]:
    """The learning rate of each of `total` steps, of a row of `SCHEDULES`.

    Raises `InputError` for options that give no rate, or a negative one.
    """
    try:
        check_options(options)
        factor = build_schedule(name, total, warmup=warmup, **(options or {}))
        rates = [peak * factor(step) for step in range(total)]
    except InputError:  # which is a ValueError
        raise
    except (TypeError, ValueError, ArithmeticError) as error:
        raise wrong_options(name, options, error) from error
    check_rates(name, rates, options)
    return rates


def compare_schedules(
    names: list[str], *, peak: float, total: int, **kwargs: Any
) -> dict[str, list[float]]:
    """`compute_rates` of several names, as `lr_schedules.compare_schedules` of all kinds."""
    check_schedules(names, SCHEDULES, steps=total, peak=peak)
    return {name: compute_rates(name, peak=peak, total=total, **kwargs) for name in names}


def check_options(options: object) -> None:
    """Raise `TypeError` for what isn't options by their names."""
    if not isinstance(options or {}, dict):
        raise TypeError('give {"name": value}')


def check_rates(name: str, rates: list[float], options: object) -> None:
    """Raise `InputError` for rates that can't be."""
    if not all(0 <= rate < math.inf for rate in rates):
        raise wrong_options(name, options, "the rate would be negative or infinite")


def wrong_options(name: str, options: object, error: object) -> InputError:
    return InputError(
        f"lr_scheduler_kwargs={options}: not for {name} ({error}). Choose others, or another "
        "learning_rate."
    )
