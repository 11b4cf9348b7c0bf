"""Arguments of training: `ModelArguments` and `FruitTrainingArguments`, beside `DataArguments`.

Every `TrainingArguments` field is a flag as well (see `parser`). Values are checked where they are
used, and in `argument_checks`.
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
from hffruits.data.arguments import DataArguments, option
from hffruits.training.lr_schedules import BY_VALIDATION

MOST_WORKERS = 16  # a core decodes and augments 300 to 400 photos a second


@dataclass
class ModelArguments:
    """Which backbone."""

    _argument_group_name = "model"

    model_name_or_path: str = option(
        "efficientnet_lite0",
        "A bundled backbone (efficientnet_lite0, 1, 2), a timm name, a Hub id, or a folder.",
    )
    model_revision: str | None = option(None, "Branch, tag or commit of a Hub model.")
    pretrained: bool = option(True, "Start from the backbone's trained weights.")
    image_size: int | None = option(
        None, "Height and width that the model sees (timm's CNNs). Default: the backbone's own."
    )
    train_image_size: int | None = option(
        None, "Height and width in training only (CNNs); a little smaller is faster and no worse."
    )
    freeze: str = option(
        "half",
        "Stages that keep their weights: none, half, three_quarters, head_only, stages:K, gradual "
        "or lp_ft.",
    )
    feature_cache_views: int | None = option(
        None,
        "Compute the frozen stages' output once and cache it, for this many augmented views of "
        "each image, which the epochs see in turn; 0 for no cache. Default: up to 8 views on CPUs, "
        "where disk and memory have room and no other option excludes it.",
    )
    lora_rank: int = option(
        0, "Train low-rank updates of this rank instead of a ViT's own weights; 0 for not."
    )


@dataclass
class FruitTrainingArguments(TrainingArguments):
    """transformers' own `TrainingArguments`, with defaults for fine-tuning on photos."""

    _argument_group_name = "training"

    output_dir: str | None = option(None, "Where the model goes. Default: runs/NAME_OF_DATA.")
    overwrite_output_dir: bool = option(False, "Replace the model that output_dir holds.")
    resume_from_checkpoint: str | None = option(
        None,
        "Resume an interrupted run: a checkpoint folder; with no value, output_dir's last; "
        "auto: the last if there is one, for jobs that are started again by themselves.",
        nargs="?",
        const="last",
    )
    time_budget: str | None = option(
        None,
        "The time that a run may take, as 5m or 1h30m: image_size, freeze and num_train_epochs are "
        "chosen to give the best model within it, except those that you set.",
    )
    num_train_epochs: float = option(16, "How often training sees every image.")
    per_device_train_batch_size: int = option(32, "Images a step, on each device.")
    per_device_eval_batch_size: int = option(64, "Images a step in evaluation, on each device.")
    learning_rate: float | None = option(
        None, "Peak learning rate. Default: 1e-3 for nets with batch norm, 1e-4 for the others."
    )
    lr_scheduler_type: str = option(
        "cosine",
        "Shape of the learning rate: step, exponential, time_based, one_cycle, or any of "
        "transformers' (cosine, linear, ...).",
    )
    warmup_steps: float = option(0.1, "Steps of linear warmup, or, below 1, their share of all.")
    scale_learning_rate: str = option(
        "none",
        "Scale learning_rate with the batch of all devices and accumulated steps, against 32: "
        "none, sqrt (Adam and its kin) or linear (SGD).",
    )
    weight_decay: float = option(0.05, "Decay of the weights; norms and biases are left out.")
    layer_decay: float = option(
        1.0, "Learning rate of each layer as a share of the next one's, the head's being full."
    )
    optim: str = option("adamw_torch_fused", "Optimizer: transformers' names, or timm:NAME.")
    max_grad_norm: float = option(1.0, "Clip the gradient to this norm; 0 for no clipping.")
    clip_mode: str = option(
        "norm", "How gradients are clipped: norm, value, or agc (adaptive, by unit)."
    )
    max_grad_value: float = option(0.05, "With clip_mode=value: the largest entry of a gradient.")
    agc_clip_factor: float = option(
        0.01, "With clip_mode=agc: the largest norm of a unit's gradient against its weights'."
    )
    max_skipped_steps: int = option(
        0,
        "How many steps with a NaN or infinite gradient may be skipped; at the next one training "
        "stops. Checking for them makes a GPU wait at each step.",
    )
    batch_norm: str | None = option(
        None,
        "Batch norm: train, freeze, freeze_stats, sync (GPUs) or recalibrate. Default: freeze, but "
        "train where the weights start at random.",
    )
    ema_decay: float | None = option(
        None,
        "Decay of a moving average of the weights, with warmup; 0 for none. Default: 0.995, but "
        "none under FSDP and DeepSpeed, which divide the weights.",
    )
    label_smoothing_factor: float = option(0.1, "Share of each label spread over all classes.")
    mixup_alpha: float = option(0.0, "Blend pairs of images and labels (0.2 is usual).")
    cutmix_alpha: float = option(0.0, "Paste a part of one image into another (1.0 is usual).")
    mix_probability: float = option(1.0, "Share of the batches that are mixed, where any are.")
    class_weights: str = option(
        "none", "Weight of a class in the loss: none, balanced or effective (number of photos)."
    )
    balanced_sampler: bool = option(False, "Draw every class equally often.")
    focal_gamma: float = option(0.0, "Focal loss: down-weight what is easy (2 is usual).")
    hub_license: str | None = option(
        None, "With push_to_hub: the Hub's name of the model's license, as apache-2.0."
    )
    hub_report: bool = option(
        True, "With push_to_hub: publish the report and examples as well, which show some photos."
    )
    reject_rate: float = option(
        0.05,
        "Share of known fruit that may be rejected as unknown, which sets the OOD threshold; 0 "
        "rejects nothing.",
    )
    early_stopping_patience: int = option(
        0, "Stop after this many validations without a better one; 0 for never."
    )
    bf16: bool | None = option(
        None,
        "Compute in bfloat16. Default: on GPUs that have it, and on CPUs where it is faster.",
        nargs="?",
        const=True,
    )
    eval_strategy: str = option("epoch", "When to validate: no, steps or epoch.")
    save_strategy: str = option("epoch", "When to save a checkpoint: no, steps, epoch or best.")
    save_total_limit: int | None = option(2, "How many checkpoints to keep; the best one is kept.")
    load_best_model_at_end: bool = option(True, "End with the best epoch, not with the last one.")
    metric_for_best_model: str | None = option(
        None,
        "What makes an epoch the best: accuracy, top5_accuracy, macro_f1, loss, or accuracy_2se "
        "(default): accuracy, but a later epoch wins over one that is better by less than two "
        "standard errors. Early stopping and reduce_lr_on_plateau default to accuracy.",
    )
    logging_steps: float = option(10, "Steps between two reports of the loss.")
    dataloader_num_workers: int | None = option(
        None, "DataLoader workers. Default: by the number of cores and devices."
    )
    logging_nan_inf_filter: bool = option(
        False, "Leave NaN and infinite losses out of the log; a GPU waits at each step for it."
    )
    remove_unused_columns: bool = option(False, "Must stay off: images are made on the fly.")
    report_to: str | None = option("none", "Experiment trackers: tensorboard, wandb, ... or none.")

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
