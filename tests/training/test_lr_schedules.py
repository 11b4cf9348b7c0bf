"""Schedules equal PyTorch's where it has them, and every offered name works."""

import pickle

import pytest
import torch
from torch.optim import lr_scheduler as reference

from hffruits.core.errors import InputError
from hffruits.training.lr_schedules import (
    BY_VALIDATION,
    SCHEDULE_NAMES,
    build_schedule,
    compare_schedules,
    learning_rates,
    make_scheduler,
)

PEAK, TOTAL = 0.3, 60


def optimizer(lr: float = PEAK) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)


def rates_of(scheduler: torch.optim.lr_scheduler.LRScheduler) -> list[float]:
    rates = []
    for _ in range(TOTAL):
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
        scheduler.optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("step", {"step_size": 7, "gamma": 0.5}, lambda o: reference.StepLR(o, 7, gamma=0.5)),
        ("exponential", {"gamma": 0.9}, lambda o: reference.ExponentialLR(o, 0.9)),
        ("one_cycle", {}, lambda o: reference.OneCycleLR(o, PEAK, TOTAL, cycle_momentum=False)),
        (
            "one_cycle",
            {"pct_start": 0.1, "div_factor": 10, "final_div_factor": 100},
            lambda o: reference.OneCycleLR(
                o, PEAK, TOTAL, pct_start=0.1, div_factor=10, final_div_factor=100
            ),
        ),
        ("time_based", {"decay": 0.1},
         lambda o: reference.LambdaLR(o, lambda t: 1 / (1 + 0.1 * t))),
    ],
)  # fmt: skip
def test_a_schedule_equals_pytorchs(name, options, theirs):
    ours = learning_rates(name, peak=PEAK, total=TOTAL, options=options)
    assert ours == pytest.approx(rates_of(theirs(optimizer())), rel=1e-9)


@pytest.mark.parametrize("name", ["step", "exponential", "time_based"])
def test_warmup_rises_linearly_to_the_peak_and_the_schedule_follows(name):
    rates = learning_rates(name, peak=1.0, total=50, warmup=10)
    assert rates[:11] == pytest.approx([step / 10 for step in range(11)])
    assert rates[10:] == pytest.approx(learning_rates(name, peak=1.0, total=40))


def test_default_schedules_end_at_a_low_rate():
    ends = {"step": 0.01, "exponential": 0.01, "time_based": 0.05, "one_cycle": 4e-6}
    for name, end in ends.items():
        assert build_schedule(name, 1000)(999) == pytest.approx(end, rel=0.01)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_runs_of_a_few_steps_have_a_rate(total):
    for name in ("step", "exponential", "time_based", "one_cycle"):
        rates = learning_rates(name, peak=1.0, total=total)
        assert len(rates) == total and all(0 < rate <= 1 for rate in rates)


@pytest.mark.parametrize("name", [name for name in SCHEDULE_NAMES if name not in BY_VALIDATION])
def test_every_known_name_works_without_options(name):
    rates = learning_rates(name, peak=1.0, total=40, warmup=4)
    assert max(rates) == pytest.approx(1.0, abs=0.02) and min(rates) >= 0


@pytest.mark.parametrize("name", SCHEDULE_NAMES)
def test_a_schedule_resumes_where_it_was_saved(name):
    """As the Trainer does it: the optimizer's state and the scheduler's are loaded."""
    losses = [1.0, 0.9, *[0.95] * 30]

    def go_on(scheduler, losses: list[float]) -> list[float]:
        rates = []
        for loss in losses:
            scheduler.optimizer.step()
            scheduler.step(*([loss] if name in BY_VALIDATION else []))
            rates.append(scheduler.optimizer.param_groups[0]["lr"])
        return rates

    def start():
        return make_scheduler(optimizer(), name, total=len(losses), warmup=5, maximise=False)

    whole, saved, resumed = start(), start(), start()
    rates = go_on(whole, losses)
    go_on(saved, losses[:14])
    resumed.optimizer.load_state_dict(saved.optimizer.state_dict())
    resumed.load_state_dict(pickle.loads(pickle.dumps(saved.state_dict())))
    assert go_on(resumed, losses[14:]) == rates[14:]
    assert len(set(rates)) > 1 or name == "constant"


@pytest.mark.parametrize(("maximise", "expected"), [(True, 0.1), (False, 1.0)])
def test_the_plateau_follows_the_metrics_direction(maximise, expected):
    plateau = make_scheduler(
        optimizer(1.0), "reduce_lr_on_plateau", total=40, maximise=maximise, options={"patience": 1}
    )
    for falling in (0.9, 0.8, 0.7):
        plateau.step(falling)
    assert plateau.optimizer.param_groups[0]["lr"] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["step", "exponential", "cosine_with_restarts"])
def test_options_of_another_schedule_are_refused(name):
    with pytest.raises(InputError, match=f"speed.*not for {name}"):
        learning_rates(name, peak=1.0, total=40, options={"speed": 2})


def test_schedules_to_plot_must_be_known_and_depend_on_only_the_step():
    assert set(compare_schedules([], peak=1.0, total=10)) == set(SCHEDULE_NAMES) - set(
        BY_VALIDATION
    )
    with pytest.raises(InputError, match=r"wavy: unknown schedule. Known: step, "):
        compare_schedules(["wavy"], peak=1.0, total=10)
    with pytest.raises(InputError, match="greedy: follows the validation"):
        compare_schedules(["greedy"], peak=1.0, total=10)


def test_a_lowest_rate_can_be_given_and_not_be_above_the_rate():
    options = {"peak": 1e-3, "total": 40, "warmup": 4}
    rates = learning_rates("cosine_with_min_lr", **options, options={"min_lr": 1e-4})
    assert rates[-1] == pytest.approx(1e-4, rel=0.1) and max(rates) == pytest.approx(1e-3)
    with pytest.raises(InputError, match=r"rise to 0\..*, above learning_rate=0\.001\)"):
        learning_rates("cosine_with_min_lr", **options, options={"min_lr": 0.1})
