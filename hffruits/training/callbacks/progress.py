"""Progress of training: a table with a line an epoch, and the Trainer's progress bar."""

from typing import Any

from transformers.trainer_callback import (
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)
from transformers.trainer_utils import IntervalStrategy
from transformers.training_args import TrainingArguments

from hffruits.core.errors import optional_output
from hffruits.core.progress import progress_bar


class LogEachEpochCallback(TrainerCallback):
    """Reports the loss of an epoch that is too short for a report of its own."""

    def on_epoch_end(self, args, state, control, **kwargs):
        reported = max((row["epoch"] for row in state.log_history if "loss" in row), default=0)
        if args.logging_strategy != IntervalStrategy.NO:
            control.should_log |= state.epoch - reported >= 1


class EpochTableCallback(ProgressCallback):
    """The progress bar, with the loss in it, and one line an epoch instead of printed dicts."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.current_step = state.global_step  # not 0 when the run is resumed
        if state.is_world_process_zero:
            self.training_bar = progress_bar(
                total=state.max_steps,
                initial=state.global_step,
                desc="Training",
                unit="step",
                dynamic_ncols=True,
            )
            if args.eval_strategy != IntervalStrategy.NO:  # else there is no line
                self._write("epoch  train loss  val loss  val accuracy  val macro-F1")

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        """Validation within training is short, and has its line."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ):
        if self.training_bar is None or not state.is_world_process_zero:
            return
        if "loss" in logs:
            self.training_bar.set_postfix_str(f"loss {logs['loss']:.3f}", refresh=False)
        if "eval_loss" in logs:
            losses = [row["loss"] for row in state.log_history if "loss" in row]
            last = _format_loss(losses[-1], 10) if losses else " " * 10
            self._write(
                f"{logs['epoch']:5.4g}  {last}  {_format_loss(logs['eval_loss'], 8)}  "
                f"{logs['eval_accuracy']:12.1%}  {logs['eval_macro_f1']:12.1%}"
            )

    def _write(self, line: str) -> None:
        """Training continues where the output is closed (`| head`)."""
        with optional_output("the table of epochs", remedy="log_history.json will have it."):
            self.training_bar.write(line)


def _format_loss(loss: float, width: int) -> str:
    return f"{loss:{width}.3f}" if loss < 1000 else f"{loss:{width}.1e}"
