"""Learning-rate finder (LR range test): raise the rate step by step, see where the loss falls.

arXiv:1506.01186, section 3.3. One pass of some hundred steps; nothing is saved but the plot.
"""

import copy
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import TrainerCallback, set_seed
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from hffruits.core.dataloader_workers import translate_worker_errors
from hffruits.core.errors import InputError, optional_output
from hffruits.core.plots import draw_lr_range
from hffruits.data.arguments import DataArguments
from hffruits.training.argument_checks import check_arguments, check_range_test
from hffruits.training.arguments import FruitTrainingArguments, ModelArguments
from hffruits.training.linear_probe import probe_head
from hffruits.training.run_state import TrainingRun
from hffruits.training.setup import load_datasets, make_trainer, prepare_model, resolve_arguments

logger = logging.getLogger(__name__)
SMOOTHING = 0.9  # of the loss, by an exponential mean over the steps
DIVERGED_FACTOR = 3.0  # stop where the smoothed loss is this many times its minimum


@dataclass(frozen=True)
class RangeTest:
    """Rates and losses of a range test, one value a step, and the rate that it suggests."""

    rates: list[float]
    losses: list[float]
    suggestion: float


def find_lr(
    data_args: DataArguments,
    model_args: ModelArguments,
    training_args: FruitTrainingArguments,
    *,
    file: Path,
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 100,
) -> RangeTest:
    """Train `steps` steps at rates from `lowest` to `highest`, and draw the loss into `file`.

    Raises `InputError` as training would. A plot that can't be written is a warning.
    """
    check_range_test(training_args, lowest=lowest, highest=highest, steps=steps)
    args = range_test_arguments(training_args, lowest=lowest, highest=highest, steps=steps)
    args.output_dir = args.output_dir or str(file.parent)
    check_arguments(data_args, model_args, args)
    set_seed(args.seed)
    run = TrainingRun(data_args, model_args, args)
    run.datasets = load_datasets(data_args, None, args.seed)
    run.prepared = prepare_model(model_args, args, run.labels, augment=data_args.augment)
    run.args = resolve_arguments(args, run.prepared)
    trainer = make_trainer(run, callbacks=[_StopWhenDivergedCallback()], stop_if_diverged=False)
    run.trainer = trainer
    with translate_worker_errors("Set a smaller dataloader_num_workers."):
        probe_head(run)
        trainer.train()
    logged = [row for row in trainer.state.log_history if "learning_rate" in row]
    rates = [row["learning_rate"] for row in logged]
    losses = [row["loss"] for row in logged]
    if len(rates) < steps:
        logger.info(
            "stopped at %.1e, after %d of %d steps: the loss diverged", rates[-1], len(rates), steps
        )
    best = suggest(rates, losses)
    with optional_output(file, remedy=f"The rate that it suggests: {best:.1e}."):
        draw_lr_range(rates, losses, smooth(losses), best, file)
    return RangeTest(rates, losses, best)


def range_test_arguments(
    training_args: FruitTrainingArguments, *, lowest: float, highest: float, steps: int
) -> FruitTrainingArguments:
    """A copy for one pass at exponentially rising rates, without validation or checkpoints."""
    args = copy.copy(training_args)
    args.learning_rate, args.max_steps, args.warmup_steps = lowest, steps, 0
    args.lr_scheduler_type = "exponential"
    args.lr_scheduler_kwargs = {"gamma": (highest / lowest) ** (1 / (steps - 1))}
    args.eval_strategy, args.save_strategy = IntervalStrategy.NO, SaveStrategy.NO
    args.load_best_model_at_end, args.early_stopping_patience = False, 0
    args.logging_steps, args.ema_decay = 1, 0.0
    args.logging_nan_inf_filter = False  # it would log a NaN or infinite loss as 0
    return args


def suggest(rates: list[float], losses: list[float]) -> float:
    """The rate at which the smoothed loss falls most steeply, before its minimum.

    What comes after the first NaN or infinite loss does not count.
    """
    finite = int(np.argmin(np.isfinite([*losses, math.nan])))
    curve = np.asarray(smooth(losses[:finite]))
    if len(curve) < 2:
        raise InputError(f"lowest={rates[0]:g}: NaN or infinite losses from the start. Go lower.")
    until = max(2, int(curve.argmin()) + 1)
    slope = np.gradient(curve[:until], np.log(rates[:until]))
    return rates[int(slope.argmin())]


def smooth(losses: list[float]) -> list[float]:
    """Exponential mean over the steps, corrected for its start."""
    mean, out = 0.0, []
    for step, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        out.append(mean / (1 - SMOOTHING**step))
    return out


class _StopWhenDivergedCallback(TrainerCallback):
    def on_log(self, args, state, control, logs=None, **kwargs):
        losses = [row["loss"] for row in state.log_history if "loss" in row]
        if not losses or "loss" not in (logs or {}):
            return
        curve = smooth(losses)
        broken = not math.isfinite(losses[-1])
        control.should_training_stop |= broken or curve[-1] > DIVERGED_FACTOR * min(curve)
