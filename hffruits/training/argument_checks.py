"""Argument validation: unknown values, ranges and conflicts, before any data is read."""

import logging
import math
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate.utils import DynamoBackend
from transformers.integrations import get_available_reporting_integrations
from transformers.trainer_utils import IntervalStrategy

from hffruits.core.counts import counted
from hffruits.core.durations import parse_duration
from hffruits.core.errors import InputError
from hffruits.core.hardware import cpu_has_bf16
from hffruits.core.launch import launched_processes
from hffruits.core.names import did_you_mean
from hffruits.data.arguments import DataArguments
from hffruits.data.image_cache import CACHES
from hffruits.data.splits import RARE_CLASSES, SPLIT_BY
from hffruits.data.transforms import AUGMENTATIONS
from hffruits.evaluation.metrics import METRIC_NAMES
from hffruits.models.batch_norm import POLICIES
from hffruits.models.freezing import CHANGING, check_plan
from hffruits.models.loading import find_model
from hffruits.training.arguments import (
    LEARNING_RATE_SCALES,
    Arguments,
    FruitTrainingArguments,
    ModelArguments,
)
from hffruits.training.callbacks.gradient_clipping import CLIP_MODES
from hffruits.training.feature_cache.store import MOST_VIEWS
from hffruits.training.losses import CLASS_WEIGHTS
from hffruits.training.lr_schedules import BY_VALIDATION, SCHEDULE_NAMES
from hffruits.training.optimizers import check_optimizer
from hffruits.training.options import TrainingOptions

logger = logging.getLogger(__name__)

# field -> its known values
_CHOICES: dict[str, tuple[str, ...]] = {
    "augment": tuple(AUGMENTATIONS),
    "split_by": SPLIT_BY,
    "rare_classes": RARE_CLASSES,
    "image_cache": tuple(CACHES),
    "lr_scheduler_type": SCHEDULE_NAMES,
    "clip_mode": tuple(CLIP_MODES),
    "scale_learning_rate": tuple(LEARNING_RATE_SCALES),
    "batch_norm": POLICIES,
    "class_weights": tuple(CLASS_WEIGHTS),
    "torch_compile_backend": tuple(backend.value.lower() for backend in DynamoBackend),
    "metric_for_best_model": ("loss", *METRIC_NAMES, "accuracy_2se"),
}

# field -> what its value must be, and the test
_OVER_0 = "more than 0, and finite", lambda value: 0 < value < math.inf
_FROM_0 = "0 or more, and finite", lambda value: 0 <= value < math.inf
_RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "image_cache_size": ("32 or more", lambda value: value >= 32),
    "shuffle_buffer": ("1 or more", lambda value: value >= 1),
    "num_train_epochs": _OVER_0,
    "warmup_steps": _FROM_0,
    "dataloader_num_workers": _FROM_0,
    "dataloader_prefetch_factor": ("1 or more", lambda value: value is None or value >= 1),
    "eval_accumulation_steps": ("1 or more", lambda value: value is None or value >= 1),
    "eval_steps": ("more than 0", lambda value: value is None or value > 0),
    "save_steps": ("more than 0", lambda value: value > 0),
    "logging_steps": ("more than 0", lambda value: value > 0),
    "seed": ("between 0 and 4294967295", lambda value: 0 <= value < 2**32),
    "per_device_train_batch_size": ("more than 0", lambda value: value > 0),
    "per_device_eval_batch_size": ("more than 0", lambda value: value > 0),
    "image_size": ("32 or more", lambda value: value is None or value >= 32),
    "train_image_size": ("32 or more", lambda value: value is None or value >= 32),
    "gradient_accumulation_steps": ("more than 0", lambda value: value > 0),
    "learning_rate": (_OVER_0[0], lambda value: value is None or 0 < value < math.inf),
    "weight_decay": _FROM_0,
    "layer_decay": ("more than 0 and at most 1", lambda value: 0 < value <= 1),
    "max_grad_norm": ("0 or more", lambda value: value >= 0),
    "max_grad_value": ("more than 0", lambda value: value > 0),
    "agc_clip_factor": ("more than 0", lambda value: value > 0),
    "ema_decay": ("at least 0 and less than 1", lambda value: 0 <= value < 1),
    "label_smoothing_factor": ("at least 0 and less than 1", lambda value: 0 <= value < 1),
    "mixup_alpha": _FROM_0,
    "cutmix_alpha": _FROM_0,
    "mix_probability": ("between 0 and 1", lambda value: 0 <= value <= 1),
    "focal_gamma": _FROM_0,
    "reject_rate": ("at least 0 and less than 1", lambda value: 0 <= value < 1),
    "feature_cache_views": (
        f"between 0 and {MOST_VIEWS}",
        lambda value: value is None or 0 <= value <= MOST_VIEWS,
    ),
    "lora_rank": ("0 or more", lambda value: value >= 0),
    "max_skipped_steps": ("0 or more", lambda value: value >= 0),
    "early_stopping_patience": ("0 or more", lambda value: value >= 0),
}

# what a feature cache doesn't go with, and why: (data, model, training) -> bool
_AGAINST_FEATURE_CACHE: list[tuple[Callable[[Any, Any, Any], bool], str]] = [
    (
        lambda data, model, args: data.streaming or model.lora_rank,
        "feature_cache_views: needs photos at hand and frozen stages, so not streaming or "
        "lora_rank. Leave it out.",
    ),
    (
        lambda data, model, args: args.mixup_alpha or args.cutmix_alpha,
        "feature_cache_views and mixup or cutmix: cached features can't be mixed. Use one of them.",
    ),
    (
        lambda data, model, args: model.freeze in ("none", *CHANGING),
        "feature_cache_views: needs stages that stay frozen. Set freeze to half, three_quarters, "
        "head_only or stages:K.",
    ),
    (
        lambda data, model, args: (
            args.torch_compile or args.divides_weights or args.gradient_checkpointing
        ),
        "feature_cache_views and torch_compile, fsdp, deepspeed or activation_checkpointing: the "
        "frozen trunk can't be run by itself there. Use one of them.",
    ),
]

# two options that exclude each other, and why: (data, model, training) -> bool
_PUSHED_ONCE = ("every_save", "end")  # the default, and what is done
_CONFLICTS: list[tuple[Callable[[Any, Any, Any], bool], str]] = [
    (
        lambda data, model, args: data.streaming and args.balanced_sampler,
        "streaming and balanced_sampler: a stream comes in its own order. Use class_weights.",
    ),
    (
        lambda data, model, args: (
            data.streaming
            and (
                data.split_lists
                or data.exclude
                or data.group_by
                or data.image_cache != "none"
                or data.allow_truncated_images
            )
        ),
        "streaming: split_lists, exclude, group_by, image_cache and allow_truncated_images need "
        "all photos at hand. Leave them out, or don't stream.",
    ),
    (
        lambda data, model, args: (
            args.hub_revision or args.hub_always_push or args.hub_strategy not in _PUSHED_ONCE
        ),
        "hub_revision, hub_always_push, hub_strategy: the model is pushed once, to main, when it "
        "is measured. Leave them out.",
    ),
    (
        lambda data, model, args: (
            args.time_budget and (data.streaming or args.max_steps > 0 or args.torch_compile)
        ),
        "time_budget: plans epochs over photos at hand, and can't know how long compiling takes, "
        "so not with streaming, max_steps or torch_compile. Use one of them.",
    ),
    (
        lambda data, model, args: not args.eval_do_concat_batches,
        "eval_do_concat_batches=False: metrics are over all validation photos. Leave it out.",
    ),
    (
        lambda data, model, args: (
            args.batch_eval_metrics or args.prediction_loss_only or args.label_names
        ),
        "batch_eval_metrics, prediction_loss_only, label_names: metrics are of all predictions for "
        "all validation photos. Leave them out.",
    ),
    (
        lambda data, model, args: (
            args.greater_is_better == args.metric_for_best_model.endswith("loss")
        ),
        "greater_is_better: the worst epoch by metric_for_best_model would count as the best. "
        "Leave it out.",
    ),
    (
        lambda data, model, args: args.neftune_noise_alpha or args.use_liger_kernel,
        "neftune_noise_alpha, use_liger_kernel: are for language models. Leave them out.",
    ),
    (
        lambda data, model, args: (
            args.dataloader_persistent_workers and not args.dataloader_num_workers
        ),
        "dataloader_persistent_workers: there are no workers. Set dataloader_num_workers to 1 or "
        "more, or leave it out.",
    ),
    (
        lambda data, model, args: data.streaming and args.dataloader_drop_last,
        "streaming and dataloader_drop_last: a stream gives every row. Leave one of them out.",
    ),
    (
        lambda data, model, args: _accumulates_otherwise(args),
        "accelerator_config: num_steps in gradient_accumulation_kwargs would change how many steps "
        "training has after they are planned. Set gradient_accumulation_steps in its place.",
    ),
    (
        lambda data, model, args: args.auto_find_batch_size,
        "auto_find_batch_size: steps are planned for batches of one size. Where memory doesn't "
        "last, set per_device_train_batch_size smaller and gradient_accumulation_steps larger.",
    ),
    (
        lambda data, model, args: args.save_on_each_node,
        "save_on_each_node: output_dir is shared, so one process saves for all. Leave it out.",
    ),
    (
        lambda data, model, args: args.save_only_model,
        "save_only_model: a run couldn't be resumed from its checkpoints. Leave it out.",
    ),
    (
        lambda data, model, args: (
            data.image_cache != "none" and int(os.environ.get("GROUP_WORLD_SIZE", 1)) > 1
        ),
        "image_cache: the photos are cached on the first machine, where the others can't read "
        "them. Leave it out on several machines.",
    ),
    (
        lambda data, model, args: args.time_budget and args.full_determinism,
        "time_budget and full_determinism: what fits a time depends on how fast the machine is "
        "just then. Use one of them.",
    ),
    (
        lambda data, model, args: args.balanced_sampler and args.class_weights != "none",
        "balanced_sampler and class_weights: rare classes would count twice. Use one of them.",
    ),
    (
        lambda data, model, args: model.train_image_size and data.augment == "none",
        "train_image_size and augment=none: without crops, training sees what validation sees. "
        "Use one of them.",
    ),
    (
        lambda data, model, args: args.early_stopping_patience and not _validates(args),
        "early_stopping_patience: needs validation and the best model. Set eval_strategy to epoch "
        "and load_best_model_at_end to true.",
    ),
    (
        lambda data, model, args: (
            args.metric_for_best_model == "accuracy_2se"
            and (args.early_stopping_patience or args.schedule in BY_VALIDATION)
        ),
        "metric_for_best_model=accuracy_2se: grows with every epoch, so it can't show when "
        "training has stopped improving. Use accuracy or loss.",
    ),
    (
        lambda data, model, args: model.lora_rank and model.freeze not in ("none", "half"),
        "lora_rank and freeze: LoRA freezes the backbone itself. Leave freeze out.",
    ),
    (
        lambda data, model, args: model.lora_rank and args.layer_decay < 1,
        "lora_rank and layer_decay: the layers' own weights don't learn. Use one of them.",
    ),
    (
        lambda data, model, args: model.lora_rank and args.clip_mode == "agc",
        "lora_rank and clip_mode=agc: updates that begin at 0 would be clipped to nothing. Use "
        "clip_mode=norm.",
    ),
    (
        lambda data, model, args: model.freeze == "head_only" and args.layer_decay < 1,
        "freeze=head_only and layer_decay: only one layer learns. Use one of them.",
    ),
    (
        lambda data, model, args: (
            model.freeze == "head_only" and args.batch_norm not in (None, "train")
        ),
        "freeze=head_only and batch_norm: frozen norms keep their statistics. Leave batch_norm "
        "out.",
    ),
    (
        lambda data, model, args: args.clip_mode != "agc" and args.agc_clip_factor != 0.01,
        "agc_clip_factor: acts only with clip_mode=agc. Set that too.",
    ),
    (
        lambda data, model, args: args.clip_mode != "value" and args.max_grad_value != 0.05,
        "max_grad_value: acts only with clip_mode=value. Set that too.",
    ),
    (
        lambda data, model, args: (
            args.mix_probability < 1 and not (args.mixup_alpha or args.cutmix_alpha)
        ),
        "mix_probability: nothing is mixed. Set mixup_alpha or cutmix_alpha.",
    ),
    (
        lambda data, model, args: (
            args.divides_weights and (model.lora_rank or model.freeze in CHANGING)
        ),
        "lora_rank, freeze=gradual and lp_ft: need whole weights, which FSDP and DeepSpeed shard. "
        "Leave them out.",
    ),
    (
        lambda data, model, args: args.ema_decay and args.divides_weights,
        "ema_decay: averages whole weights, which FSDP and DeepSpeed shard. Set it to 0.",
    ),
    (
        lambda data, model, args: args.batch_norm == "recalibrate" and args.divides_weights,
        "batch_norm=recalibrate: needs whole weights, which FSDP and DeepSpeed shard.",
    ),
    (
        lambda data, model, args: args.clip_mode != "norm" and args.divides_weights,
        "clip_mode: value and agc need whole gradients, which FSDP and DeepSpeed shard. Use norm.",
    ),
    (
        lambda data, model, args: args.max_skipped_steps and (args.fp16 or args.divides_weights),
        "max_skipped_steps: fp16 skips such steps by itself, and it needs whole gradients, which "
        "FSDP and DeepSpeed shard. Leave it out.",
    ),
    (
        lambda data, model, args: args.layer_decay < 1 and _own_groups(args.optimizer),
        "layer_decay: this optimizer makes groups or rates of its own. Use adamw_torch, sgd or "
        "another plain one.",
    ),
    (
        lambda data, model, args: (
            args.batch_norm == "sync" and args.world_size > 1 and args.device.type == "cpu"
        ),
        "batch_norm=sync: PyTorch synchronises batch norm only on GPUs. Use train or freeze.",
    ),
    (
        lambda data, model, args: args.train_sampling_strategy != "random",
        "train_sampling_strategy: images come in an order of their own. Leave it out; see "
        "balanced_sampler.",
    ),
]


def check_arguments(
    data_args: DataArguments, model_args: ModelArguments, args: FruitTrainingArguments
) -> None:
    """Raise `InputError` for values that are unknown or out of range, and for conflicts."""
    groups = (data_args, model_args, args)
    for name, known in _CHOICES.items():
        value = _value(groups, name)
        if value is not None and value not in known:
            hint = did_you_mean(value, known)
            raise InputError(f"{name}={value}: unknown{hint}. Known: {', '.join(known)}.")
    for name, (wanted, holds) in _RANGES.items():
        value = _value(groups, name)
        if not holds(value):
            raise InputError(f"{name}={value}: must be {wanted}.")
    check_optimizer(args.optimizer)
    check_plan(model_args.freeze)
    if args.time_budget is not None:
        parse_duration(args.time_budget, name="time_budget")
    if args.remove_unused_columns:
        raise InputError("remove_unused_columns: would drop the images. Leave it off.")
    missing = set(args.report_to) - set(get_available_reporting_integrations())
    if missing:
        names = ", ".join(sorted(missing))
        raise InputError(f"report_to={names}: not installed. Run pip install {names}, or use none.")
    if args.output_dir:
        data_args.check_outside(Path(args.output_dir))
    for name in ("exclude", "coarse_labels", "split_lists"):  # all photos are checked first
        file = getattr(data_args, name)
        if file and not Path(file).exists():
            raise InputError(f"{name}={file}: no such file or folder. Check the path.")
    check_conflicts(*groups)
    warn_of_missing_gpu(args)
    if model_args.pretrained:
        find_model(model_args.model_name_or_path, revision=model_args.model_revision)


def warn_of_missing_gpu(args: FruitTrainingArguments) -> None:
    """Warn, in one line, of what asks for a GPU where training runs on the CPU."""
    if args.device.type != "cpu":
        return
    asked = []
    if launched_processes() > 1 and os.environ.get("ACCELERATE_USE_CPU", "").lower() == "false":
        asked.append(f"{launched_processes()} processes share it (launch them with --cpu)")
    if args.fp16 or (args.bf16 and not cpu_has_bf16()):
        name = "fp16" if args.fp16 else "bf16"
        asked.append(f"{name} is slower than float32 there (leave it out)")
    if asked:
        said = ", and ".join(asked)
        logger.warning("no GPU is used: training runs on the CPU; %s. nvidia-smi lists GPUs", said)


def check_conflicts(
    data_args: DataArguments, model_args: ModelArguments, args: FruitTrainingArguments
) -> None:
    """Raise `InputError` for options that exclude each other."""
    against_cache = _AGAINST_FEATURE_CACHE if _caches_features(model_args) else []
    for excluded, reason in (*_CONFLICTS, *against_cache):
        if excluded(data_args, model_args, args):
            raise InputError(reason)


def check_photos(args: FruitTrainingArguments, images: int) -> None:
    """Raise `InputError` for options that leave nothing to do with so many training photos."""
    batch = args.train_batch_size * args.world_size
    if args.dataloader_drop_last and images < batch:
        raise InputError(
            f"dataloader_drop_last: {counted(images, 'photo')} to train on are fewer than a batch "
            f"of {batch}, so none would be left. Leave it out, or use smaller batches."
        )
    an_epoch, by_epoch = args.steps_per_epoch(images), args.eval_strategy == IntervalStrategy.EPOCH
    steps = args.max_steps if args.max_steps > 0 else math.ceil(an_epoch * args.num_train_epochs)
    if args.warmup_steps >= max(2, steps) and args.schedule not in ("one_cycle", *BY_VALIDATION):
        raise InputError(
            f"warmup_steps={args.warmup_steps:g}: training has {counted(steps, 'step')}, so it "
            "would never reach its learning rate. Use fewer, or a share below 1."
        )
    if args.eval_strategy == IntervalStrategy.STEPS and args.eval_steps > steps:
        raise InputError(
            f"eval_steps={args.eval_steps:g}: training has {counted(steps, 'step')}, so it would "
            "never be validated. Use fewer, or eval_strategy=epoch."
        )
    unit, last = ("epochs", steps / an_epoch) if by_epoch else ("steps", steps)
    if args.eval_strategy != IntervalStrategy.NO and args.eval_delay > last:
        raise InputError(
            f"eval_delay={args.eval_delay:g}: training has {last:g} {unit}, so it would never be "
            "validated. Use less."
        )


# ---- of the commands beside training ----


def check_range_test(
    args: FruitTrainingArguments, *, lowest: float, highest: float, steps: int
) -> None:
    """Raise `InputError` for rates that don't rise, and for what a range test chooses itself."""
    if not (0 < lowest < highest < math.inf and steps >= 10):
        raise InputError(
            f"lowest={lowest:g}, highest={highest:g}, steps={steps}: give 0 < lowest < highest and "
            "10 steps or more."
        )
    if args.time_budget:
        raise InputError("time_budget: plans a whole run. Leave it out here.")
    if args.scale_learning_rate != "none":
        raise InputError("scale_learning_rate: a range test finds the rate itself. Leave it out.")


def check_search(args: FruitTrainingArguments, *, trials: int) -> None:
    """Raise `InputError` for no trials, and for what a search can't do or chooses itself."""
    if trials < 1:
        raise InputError(f"trials={trials}: give 1 or more.")
    if args.time_budget:
        raise InputError("time_budget: plans one run. Leave it out of a search.")
    if args.scale_learning_rate != "none":
        raise InputError("scale_learning_rate: a search finds the rate itself. Leave it out.")
    if args.eval_strategy == IntervalStrategy.NO:
        raise InputError("eval_strategy=no: a search compares validations. Set it to epoch.")


# training options that all trials of a search share
_OF_A_TRIAL = (
    "num_train_epochs", "max_steps", "per_device_train_batch_size", "seed", "batch_norm",
    "mixup_alpha", "cutmix_alpha", "learning_rate",
)  # fmt: skip


def check_same_search(
    recorded: dict[str, Any], arguments: Arguments, *, folder: Path
) -> dict[str, Any]:
    """What a search is of, to be recorded.

    Raises `InputError` where the one in `folder` began with something else.
    """
    data, model, training = (asdict(group) for group in arguments)
    requested = data | model | {name: training[name] for name in _OF_A_TRIAL}
    for name, value in requested.items():
        began = recorded.get(name, value)
        if began != value:
            raise InputError(
                f"{folder}: its search has {name}={began}, not {value}. Give another output_dir."
            )
    return requested


def check_preview(data_args: DataArguments, *, photos: int, views: int) -> None:
    """Raise `InputError` for an empty grid, and for a stream."""
    if photos < 1 or views < 1:
        raise InputError(f"photos={photos}, views={views}: give 1 or more.")
    if data_args.streaming:
        raise InputError("streaming: a preview needs photos at hand. Give it a folder of some.")


# ---- what goes with what ----


def features_can_be_cached(*arguments: Any) -> bool:
    """Whether nothing in these (data, model, training) arguments stands against it."""
    return not any(excluded(*arguments) for excluded, _ in _AGAINST_FEATURE_CACHE)


def takes_layer_decay(model_args: ModelArguments, plan: str, args: FruitTrainingArguments) -> bool:
    """Whether a layer decay goes with this freezing plan and optimizer, and without LoRA."""
    return plan != "head_only" and not model_args.lora_rank and not _own_groups(args.optimizer)


# What may differ when a run is resumed: where it writes, what it prints, how it is spread.
_FREE = {
    "output_dir", "overwrite_output_dir", "resume_from_checkpoint", "max_unreadable_fraction",
    "per_device_eval_batch_size", "save_strategy", "save_total_limit", "logging_steps", "bf16",
    "dataloader_num_workers", "report_to", "split_lists", "validation_fraction", "test_fraction",
    "remove_unused_columns", "time_budget", "logging_nan_inf_filter", "max_skipped_steps",
    "per_device_train_batch_size",  # see _BATCH
}  # fmt: skip
# What a stream's rows depend on as well: it has no lists, and is dealt out to readers.
_STREAMED = {
    "validation_fraction", "test_fraction", "dataloader_num_workers", "world_size",
    "per_device_train_batch_size",
}  # fmt: skip
# What decides together how many images a step sees, which must stay.
_BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps", "world_size")
# Fields of transformers' own that change what is learned.
_SAME = {
    "seed", "max_steps", "lr_scheduler_kwargs", "optim_args", "fp16",
    "adam_beta1", "adam_beta2", "adam_epsilon", "eval_steps", "dataloader_drop_last",
}  # fmt: skip


def check_same_run(recorded: dict[str, dict[str, Any]], arguments: Arguments) -> None:
    """Raise `InputError` where a resumed run would differ from how it began."""
    streamed = _STREAMED if arguments[0].streaming else set()
    moved = {"data_dir"} if recorded.get("data_fingerprint") else set()  # see check_same_photos
    args, began = arguments[2], recorded["training"]
    now = math.prod(getattr(args, name) for name in _BATCH)
    then = math.prod(began[name] for name in _BATCH)
    if now != then:
        raise InputError(
            f"{' x '.join(_BATCH)} = {now}: the run began with "
            f"{' x '.join(str(began[name]) for name in _BATCH)} = {then}. Resume with the same "
            "product, or start another run."
        )
    own = (DataArguments, ModelArguments, TrainingOptions)
    for group, kind, values in zip(("data", "model", "training"), own, arguments, strict=True):
        same = (_SAME if group == "training" else set()) | streamed
        for name in sorted(set(kind.__annotations__) - _FREE - moved | same):
            now, then = getattr(values, name, None), recorded[group].get(name)
            now = getattr(now, "value", now)
            chosen_later = now is None  # by the model, as it was when the run began
            if name in recorded[group] and now != then and not chosen_later:
                raise InputError(
                    f"{name}={now}: the run began with {then}. Resume with {name}={then}, or "
                    "start another run."
                )


def check_same_photos(
    recorded: dict[str, Any], *, fingerprint: str | None, place: str | None
) -> None:
    """Warn where the photos of a resumed run have changed in their `place`.

    The same photos in another one are the same. Raises `InputError` for other photos there.
    """
    if recorded.get("data_fingerprint") in (None, fingerprint):
        return
    if place != recorded["data_path"]:
        raise InputError(
            f"data_dir={place}: other photos than those that the run began with, in "
            f"{recorded['data_path']}. Resume with the same, or start another run."
        )
    logger.warning("the photos have changed since this run began")


def _value(groups: Arguments, name: str) -> Any:
    for group in groups:
        if name in type(group).__dataclass_fields__:
            value = getattr(group, name)
            value = getattr(value, "value", value)
            return value.removeprefix("eval_") if name == "metric_for_best_model" else value
    raise AssertionError(name)


def _caches_features(model: ModelArguments) -> bool:
    return bool(model.feature_cache_views)


def _validates(args: FruitTrainingArguments) -> bool:
    return args.eval_strategy != IntervalStrategy.NO and args.load_best_model_at_end


def _accumulates_otherwise(args: FruitTrainingArguments) -> bool:
    """Whether accelerate is given a number of steps; the Trainer itself puts 1 there."""
    steps = (args.accelerator_config.gradient_accumulation_kwargs or {}).get("num_steps")
    return steps is not None and (steps, args.gradient_accumulation_steps) != (1, 1)


def _own_groups(optimizer: str) -> bool:
    return optimizer.startswith(
        ("galore", "lomo", "adalomo", "apollo", "adafactor", "muon", "dion")
    )
