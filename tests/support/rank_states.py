"""Script for launched processes: trains, and prints the state of each process as JSON."""

import hashlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import TrainerCallback

from hffruits.core.distributed import gather, join_processes
from hffruits.training.run import train
from hffruits.training.trainer import FruitTrainer
from support.runs import tiny_arguments


def digest(values: Iterable[torch.Tensor]) -> str:
    """SHA-256 of weights, or of weights and buffers."""
    return hashlib.sha256(b"".join(v.detach().numpy().tobytes() for v in values)).hexdigest()


class RecordStateCallback(TrainerCallback):
    """Records at each step what the processes must agree on."""

    def __init__(self):
        self.trainer: FruitTrainer | None = None
        self.seen: list = []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        averaged = self.trainer.averaged.average.module
        weights = digest(model.parameters()), digest(averaged.parameters())
        self.seen.append([state.global_step, *weights])

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        figures = {k: v for k, v in metrics.items() if "runtime" not in k and "second" not in k}
        self.seen.append([figures, state.best_metric, control.should_training_stop])

    def on_train_end(self, args, state, control, **kwargs):
        self.seen.append([state.global_step, Path(state.best_model_checkpoint).name])


def main(data_dir: Path, output_dir: Path) -> None:
    """One run with every option that has state."""
    join_processes()
    torch.set_num_threads(1)
    recorder, start = RecordStateCallback(), FruitTrainer.__init__

    def started(self, *args, callbacks=(), **kwargs):
        start(self, *args, callbacks=[*callbacks, recorder], **kwargs)
        recorder.trainer = self

    def evaluated(self, *args, **kwargs):  # batch norm's statistics, too
        recorder.seen.append(["evaluated", digest(self.model.state_dict().values())])
        return evaluate(self, *args, **kwargs)

    evaluate = FruitTrainer.evaluation_loop
    FruitTrainer.__init__, FruitTrainer.evaluation_loop = started, evaluated
    options = {
        "num_train_epochs": 5, "per_device_train_batch_size": 3, "ema_decay": 0.9,
        "mixup_alpha": 0.2, "cutmix_alpha": 1.0, "batch_norm": "train",
        "eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True,
        "early_stopping_patience": 1, "learning_rate": 0.01,
    }  # fmt: skip
    train(*tiny_arguments(data_dir, output_dir, **options))
    seen = gather(recorder.seen)
    if join_processes().is_main_process:
        print("SEEN", json.dumps(seen))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
