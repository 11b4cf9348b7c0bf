"""A time to be kept: `5m` in words and in seconds, and the end of training when it is over."""

import logging
import re
import time

from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from hffruits.core.distributed import LOOK_EVERY, on_main_process
from hffruits.core.errors import InputError

logger = logging.getLogger(__name__)
_UNITS = (3600, 60, 1)  # seconds of h, m, s


def count_seconds(text: str) -> float:
    """Seconds of `300`, `90s`, `5m` or `1h30m`. Raises `InputError` for other words and for 0."""
    words, number = text.strip().lower(), r"(\d+(?:\.\d+)?)"
    words += "s" if re.fullmatch(number, words) else ""
    found = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s)?", words)
    parts = found.groups("0") if found else ()
    seconds = sum(unit * float(part) for unit, part in zip(_UNITS, parts, strict=False))
    if not seconds:
        raise InputError(f"time_budget={text}: must be a time such as 90s, 5m or 1h30m.")
    return seconds


def format_time(seconds: float) -> str:
    """As `45 s`, `3 min 20 s` or `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    words = [f"{hours} h", f"{left} min"] if hours else [f"{minutes} min", f"{rest} s"]
    return " ".join(word for word in words if not word.startswith("0 ")) or "0 s"


class TimeBudgetCallback(TrainerCallback):
    """Ends training at a time of `time.monotonic`, with a last validation where there are any.

    The learning rate hasn't come down by then, so this is for when an estimate was wrong. The main
    process looks at the clock for all of them.
    """

    def __init__(self, deadline: float):
        self.deadline = deadline

    def on_step_end(self, args, state, control, **kwargs):
        waits = args.world_size > 1 and state.global_step % LOOK_EVERY
        if waits or state.global_step >= state.max_steps:
            return
        if on_main_process(lambda: time.monotonic() > self.deadline):
            control.should_training_stop = True
            control.should_evaluate |= args.eval_strategy == IntervalStrategy.STEPS
            control.should_save |= args.save_strategy == SaveStrategy.STEPS
            logger.warning(
                "time_budget: stopped at epoch %.1f of %g, for the rest would take too long",
                *(state.epoch, state.num_train_epochs),
            )
