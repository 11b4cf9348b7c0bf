"""Arguments of training: `FruitTrainingArguments`, beside `ModelArguments` and `DataArguments`.

The fields are in `options`; every field of transformers' `TrainingArguments` is a flag as well (see
`parser`). Values are checked where they are used, and in `argument_checks`.
"""

import copy
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from accelerate.state import AcceleratorState
from transformers import TrainingArguments
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from hffruits.core.distributed import (
    cores_per_process,
    join_processes,
    may_use_cuda,
    may_use_gpu,
)
from hffruits.core.hardware import cpu_has_bf16, gpu_has_bf16
from hffruits.core.launch import launched_processes
from hffruits.data.arguments import DataArguments
from hffruits.training.options import ModelArguments, TrainingOptions
from hffruits.training.schedule_functions import BY_VALIDATION

MOST_WORKERS = 16  # a core decodes and augments 300 to 400 photos a second


@dataclass
class FruitTrainingArguments(TrainingOptions, TrainingArguments):
    """transformers' own `TrainingArguments`, with defaults for fine-tuning on photos."""

    def __post_init__(self):
        has_gpu = may_use_gpu() and not self.use_cpu
        self.resume_from_checkpoint = _RESUME.get(
            str(self.resume_from_checkpoint).lower(), self.resume_from_checkpoint
        )
        launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
        if launched != "no" and self.bf16 is None and not self.fp16:
            self.fp16, self.bf16 = launched == "fp16", launched == "bf16"
        undecided = self.bf16 is None and not self.fp16
        # a trial may turn out otherwise the next time
        tries = not has_gpu and not self.full_determinism and cpu_has_bf16()
        self.try_bf16 = undecided and tries
        self.bf16 = (has_gpu and gpu_has_bf16()) if undecided else bool(self.bf16)
        if not has_gpu:  # else transformers takes no bf16, and each process trains for itself
            self.use_cpu = True
            if launched_processes() > 1:
                join_processes(self.ddp_timeout, cpu=True)  # which transformers would forget
        if self.dataloader_num_workers is None:
            self.dataloader_num_workers = choose_num_workers(has_gpu)
            self.dataloader_persistent_workers = self.dataloader_num_workers > 0
        if not (has_gpu and may_use_cuda()):  # a copy that nothing waits for needs pinned memory
            self.dataloader_pin_memory = False
        elif self.accelerator_config is None:
            self.accelerator_config = {"non_blocking": True}
        if self.ema_decay is None:
            self.ema_decay = 0.0 if self.divides_weights else 0.995
        if self.early_stopping_patience:
            self.restore_callback_states_from_checkpoint = True
        if self.metric_for_best_model is None:
            follows = self.early_stopping_patience or self.schedule in BY_VALIDATION
            self.metric_for_best_model = "accuracy" if follows else "accuracy_2se"
        # transformers would refuse names that are ours, and make a default folder of its own
        own = {"output_dir": self.output_dir}
        for name, stand_in in (("optim", "adamw_torch"), ("lr_scheduler_type", "constant")):
            if getattr(self, name) not in _KNOWN_TO_TRANSFORMERS[name]:
                own[name] = str(getattr(self, name))
                setattr(self, name, stand_in)
        super().__post_init__()
        for name, value in own.items():
            setattr(self, name, value)

    @property
    def clip_limit(self) -> float:
        """The limit of the chosen `clip_mode`; infinite where nothing is to be clipped."""
        limits = {"value": self.max_grad_value, "agc": self.agc_clip_factor}
        return limits.get(self.clip_mode, self.max_grad_norm) or math.inf

    @property
    def uses_fsdp(self) -> bool:
        """Whether FSDP is asked for, here or of `accelerate launch`."""
        return bool(self.fsdp) or os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"

    @property
    def divides_weights(self) -> bool:
        """Whether FSDP or DeepSpeed is asked for, here or of `accelerate launch`."""
        launched = os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true"
        return self.uses_fsdp or bool(self.deepspeed) or launched

    @property
    def total_batch_size(self) -> int:
        """Images that one update of the weights sees, on all devices."""
        return self.train_batch_size * self.gradient_accumulation_steps * self.world_size

    def steps_per_epoch(self, images: int) -> int:
        """Updates of the weights in an epoch of so many images."""
        batches = images / (self.train_batch_size * self.world_size)
        batches = int(batches) if self.dataloader_drop_last else math.ceil(batches)
        return max(1, math.ceil(batches / self.gradient_accumulation_steps))

    @property
    def learning_rate_factor(self) -> float:
        """What `scale_learning_rate` makes of the batch size."""
        return LEARNING_RATE_SCALES[self.scale_learning_rate](self.total_batch_size / BASE_BATCH)

    @property
    def optimizer(self) -> str:
        """The name of the optimizer."""
        return str(getattr(self.optim, "value", self.optim))

    @property
    def schedule(self) -> str:
        """The name of the learning-rate schedule."""
        return str(getattr(self.lr_scheduler_type, "value", self.lr_scheduler_type))


class Arguments(NamedTuple):
    """All that a run is given: the three groups of flags."""

    data: DataArguments
    model: ModelArguments
    training: FruitTrainingArguments


BASE_BATCH = 32  # the default learning rates are for it
LEARNING_RATE_SCALES: dict[str, Callable[[float], float]] = {
    "none": lambda times: 1.0,
    "sqrt": math.sqrt,  # arXiv:2205.10287, for Adam
    "linear": lambda times: times,  # arXiv:1706.02677, for SGD
}
_KNOWN_TO_TRANSFORMERS = {
    "optim": {name.value for name in OptimizerNames},
    "lr_scheduler_type": {name.value for name in SchedulerType},
}
# how people say "the last one", or "no", as a flag's or a file's value
_RESUME = {"true": "last", "last": "last", "auto": "auto", "false": None, "none": None, "": None}


def choose_num_workers(has_gpu: bool) -> int:
    """A GPU waits for images; without one, workers would take the cores that compute."""
    return min(MOST_WORKERS, cores_per_process()) if has_gpu else 0


def with_precision(args: FruitTrainingArguments, precision: str) -> FruitTrainingArguments:
    """A copy of the arguments with `no`, `bf16` or `fp16`, whatever the launcher has set.

    `dataclasses.replace` would set up the devices again, and lose the other processes.
    """
    args = copy.copy(args)
    args.bf16, args.fp16, args.mixed_precision = precision == "bf16", precision == "fp16", precision
    AcceleratorState._reset_state()  # accelerate refuses another precision otherwise
    return args
