"""The state of a training run in one object: arguments, folder, data, plan, model, trainer."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel, TrainerCallback
from transformers.image_processing_utils import BaseImageProcessor

from hffruits.data.arguments import DataArguments
from hffruits.data.load import FruitData
from hffruits.data.transforms import Transform, input_size, train_transform
from hffruits.training.arguments import Arguments, FruitTrainingArguments, ModelArguments
from hffruits.training.cost_estimate import Plan
from hffruits.training.run_dir import RunDir
from hffruits.training.trainer import FruitTrainer

RANDOM, PROBE, KEPT = "random", "probe", "kept"  # how a head starts


@dataclass(frozen=True)
class PreparedModel:
    """A model that is ready to be trained, and what belongs to it."""

    model: PreTrainedModel | nn.Module  # a peft model with LoRA
    processor: BaseImageProcessor
    head: tuple[str, ...]
    plan: str  # of freezing
    batch_norm: str  # policy
    train_image_size: int | None = None  # pixels, where it differs from validation's
    head_start: str = RANDOM  # or PROBE, or KEPT: it was trained on the same classes
    callbacks: list[TrainerCallback] = field(default_factory=list)
    views: int = 0  # of each image whose features are cached; 0 for none
    bf16_features: bool = False  # whether these are computed in bfloat16

    @property
    def train_size(self) -> tuple[int, int]:
        """Pixels (high, wide) of what training sees."""
        size = self.train_image_size
        return (size, size) if size else input_size(self.processor)

    def train_transform(self, augment: str, *, scaled: bool = True) -> Transform:
        """How training sees images."""
        size = self.train_image_size
        return train_transform(self.processor, augment, size=size, scaled=scaled)


@dataclass
class TrainingRun:
    """One run, from its arguments to its trainer: each phase fills in the fields that follow.

    `args` is the run's own copy, without the Hub token; `requested` is what the caller gave.
    """

    data_args: DataArguments
    model_args: ModelArguments
    args: FruitTrainingArguments
    # where it writes, and how it began
    run_dir: RunDir | None = None
    requested: Arguments | None = None
    recorded: dict[str, Any] | None = None  # training_args.json of a run that is resumed
    command: str | None = None  # that others would give for the same
    started: float = 0.0  # of time.monotonic
    repo_id: str | None = None  # to push to
    # what it works on
    datasets: FruitData | None = None
    plan: Plan | None = None  # for a time budget
    unplanned: FruitTrainingArguments | None = None  # as they were before it
    prepared: PreparedModel | None = None
    trainer: FruitTrainer | None = None

    @property
    def arguments(self) -> Arguments:
        """The run's own, as they are by now."""
        return Arguments(self.data_args, self.model_args, self.args)

    @property
    def folder(self) -> Path:
        """Where the model is saved."""
        return self.run_dir.folder

    @property
    def labels(self) -> list[str]:
        """Names of the classes."""
        return list(self.datasets["train"].features["label"].names)

    @property
    def seconds_at_end(self) -> float:
        """Of a time budget, what is reserved for the time after training."""
        if not self.args.time_budget:
            return 0.0
        return self.plan.seconds_at_end if self.plan else self.recorded.get("seconds_at_end", 0.0)

    @property
    def fingerprint(self) -> str | None:
        """Says whether the photos are the same; None for a stream, which is not read ahead."""
        return self.datasets.fingerprint

    @property
    def best_epoch(self) -> float | None:
        """The epoch of the best checkpoint, where one was chosen."""
        if not self.trainer.args.load_best_model_at_end:
            return None
        state = self.trainer.state
        evaluations = [row for row in state.log_history if "eval_loss" in row]
        return next((r["epoch"] for r in evaluations if r["step"] == state.best_global_step), None)
