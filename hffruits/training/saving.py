"""A Trainer whose checkpoints are whole, or not there at all (checkpoints.py)."""

import logging
import shutil
from pathlib import Path
from typing import Any

from torch import nn
from transformers import Trainer
from transformers.trainer_callback import TrainerCallback

from hffruits.core.distributed import on_each_machine, on_main_process
from hffruits.training.checkpoints import (
    ASIDE,
    STATE,
    best_checkpoint,
    delete_old,
    publish,
    translate_disk_errors,
)


class SafeSaving(Trainer):
    """transformers' `Trainer`, with the way its checkpoints are written."""

    _aside: Path | None = None  # where a checkpoint is being written

    def train(self, resume_from_checkpoint: str | None = None, **kwargs: Any):
        best = resume_from_checkpoint and best_checkpoint(Path(resume_from_checkpoint))
        log = logging.getLogger("transformers.trainer")
        if best:
            self.add_callback(_FindBestCallback(best))
            log.addFilter(_is_not_of_best)
        try:
            return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        finally:
            log.removeFilter(_is_not_of_best)

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._aside is None else str(self._aside)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write it aside and rename it when it is whole; only then may an older one go."""
        run = Path(self._get_output_dir(trial))
        aside, name = run / ASIDE, f"checkpoint-{self.state.global_step}"
        on_each_machine(lambda: shutil.rmtree(aside, ignore_errors=True))

        def put() -> None:
            with translate_disk_errors(run):
                publish(aside / name, run / name)

        try:
            with translate_disk_errors(run):
                self._aside = aside
                super()._save_checkpoint(model, trial)
                if self.state.best_model_checkpoint == str(aside / name):
                    self.state.best_model_checkpoint = str(run / name)
                if self.args.should_save:
                    self.state.save_to_json(str(aside / name / STATE))
            self.accelerator.wait_for_everyone()
            on_main_process(put)
        finally:
            self._aside = None
            if self.args.should_save:
                shutil.rmtree(aside, ignore_errors=True)
        if self.args.should_save:
            best = self.state.best_model_checkpoint
            kept = {run / name} | ({Path(best)} if best else set())
            delete_old(run / name, keep=kept, limit=self.args.save_total_limit)


class _FindBestCallback(TrainerCallback):
    """Finds the best checkpoint of a resumed run where it is now: the folder may have moved."""

    def __init__(self, best: Path):
        self.best = best

    def on_train_begin(self, args, state, control, **kwargs):
        state.best_model_checkpoint = str(self.best)


def _is_not_of_best(record: logging.LogRecord) -> bool:
    """False for the warning that a best checkpoint is gone: `_FindBestCallback` knows better."""
    return not record.getMessage().startswith("The best checkpoint ")
