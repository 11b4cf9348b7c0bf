"""Script: one small run with all that has state; killed after a step if one is named.

`python -m support.killed_run DATA_DIR OUTPUT_DIR OPTIONS [STEP]`, with options as JSON.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
from transformers import TrainerCallback

from hffruits.training import run
from hffruits.training.trainer import FruitTrainer
from support.runs import tiny_arguments, trainer_with

EVERYTHING = {  # 32 photos: 4 steps an epoch, 12 in all, validation and a checkpoint every 3
    "num_train_epochs": 3, "save_strategy": "steps", "save_steps": 3, "eval_strategy": "steps",
    "eval_steps": 3, "logging_steps": 1, "ema_decay": 0.9, "mixup_alpha": 0.2, "cutmix_alpha": 1.0,
    "mix_probability": 0.7, "balanced_sampler": True, "save_total_limit": None,
}  # fmt: skip


class Kill(TrainerCallback):
    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def main(data_dir: str, output_dir: str, options: str, step: str | None = None) -> None:
    torch.set_num_threads(1)
    run.show_artifact = run.write_model_card = lambda *_, **__: None
    if step:
        FruitTrainer.__init__ = trainer_with(Kill(int(step)))
    options = EVERYTHING | json.loads(options)
    arguments = tiny_arguments(Path(data_dir), Path(output_dir), **options)
    arguments[0].augment = "medium"
    run.train(*arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])
