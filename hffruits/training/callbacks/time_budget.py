"""Time budget callback: stops training when the time is used up."""

import logging
import time

from transformers import TrainerCallback
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from hffruits.core.distributed import LOOK_EVERY, on_main_process

logger = logging.getLogger(__name__)


class TimeBudgetCallback(TrainerCallback):
    """Ends training at a time of `time.monotonic`, with a last validation where there are any.

    The learning rate hasn't come down by then, so this is for when an estimate was wrong. The main
    process checks the clock for all of them.
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
                "time_budget: stopped at epoch %.1f of %g, since the rest would take too long",
                *(state.epoch, state.num_train_epochs),
            )
