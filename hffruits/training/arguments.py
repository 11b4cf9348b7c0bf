"""What a run can be told: three dataclasses, and the parser that fills them.

Every `TrainingArguments` field is a flag as well. Values are checked where they are used.
"""

import argparse
import copy
import difflib
import inspect
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NoReturn

import yaml
from accelerate.state import AcceleratorState
from transformers import HfArgumentParser, TrainingArguments
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from hffruits.core.distributed import cores_per_process, join_processes, may_use_gpu
from hffruits.core.escaping import printable
from hffruits.core.hardware import cpu_has_bf16, gpu_has_bf16
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
        None, "Height and width in training alone (CNNs); a little smaller is faster and no worse."
    )
    freeze: str = option(
        "half",
        "Stages that keep their weights: none, half, three_quarters, head_only, stages:K, gradual "
        "or lp_ft.",
    )
    cache_features: str | None = option(
        None,
        "Compute once what the frozen stages make of the pictures: views:V keeps V augmented views "
        "of each, which the epochs see in turn; none for not. Default: up to 8 views on CPUs, "
        "where disk and memory have room and nothing else stands against it.",
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
        "Go on with an interrupted run: a checkpoint folder; with no value, output_dir's last; "
        "auto: the last if there is one, for jobs that are started again by themselves.",
        nargs="?",
        const="last",
    )
    time_budget: str | None = option(
        None,
        "The time that a run may take, as 5m or 1h30m: image_size, freeze and num_train_epochs are "
        "chosen to give the best model within it, but for what you change of them.",
    )
    num_train_epochs: float = option(16, "How often training sees every picture.")
    per_device_train_batch_size: int = option(32, "Pictures a step, on each device.")
    per_device_eval_batch_size: int = option(64, "Pictures a step in evaluation, on each device.")
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
    skip_bad_steps: int = option(
        0,
        "Steps whose loss or gradient is not a number that may be left out; at the next one "
        "training stops. To look for them, a GPU waits at each step.",
    )
    batch_norm: str | None = option(
        None,
        "Batch norm: train, freeze, freeze_stats, sync (GPUs) or recalibrate. Default: freeze, but "
        "train where the weights start at random.",
    )
    ema_decay: float | None = option(
        None,
        "Keep this moving average of the weights, with warmup; 0 for none. Default: 0.995, but "
        "none under FSDP and DeepSpeed, which divide the weights.",
    )
    label_smoothing_factor: float = option(0.1, "Share of each label spread over all classes.")
    mixup_alpha: float = option(0.0, "Blend pairs of pictures and labels (0.2 is usual).")
    cutmix_alpha: float = option(0.0, "Paste a part of one picture into another (1.0 is usual).")
    mix_probability: float = option(1.0, "Share of the batches that are mixed, where any are.")
    class_weights: str = option(
        "none", "Weight of a class in the loss: none, balanced or effective (number of photos)."
    )
    balanced_sampler: bool = option(False, "Draw every class equally often.")
    focal_gamma: float = option(0.0, "Focal loss: down-weight what is easy (2 is usual).")
    hub_license: str | None = option(
        None, "With push_to_hub: the Hub's name of the model's licence, as apache-2.0."
    )
    hub_report: bool = option(
        True, "With push_to_hub: publish the report as well, which shows some of the photos."
    )
    reject_rate: float = option(
        0.05,
        "Share of known fruit that may be refused as unknown, which sets the threshold; 0 refuses "
        "nothing.",
    )
    early_stopping_patience: int = option(
        0, "Stop after this many validations without a better one; 0 for never."
    )
    bf16: bool | None = option(
        None,
        "Compute in bfloat16. Default: on GPUs that have it, and on CPUs where it is quicker.",
        nargs="?",
        const=True,
    )
    eval_strategy: str = option("epoch", "When to validate: no, steps or epoch.")
    save_strategy: str = option("epoch", "When to save a checkpoint: no, steps, epoch or best.")
    save_total_limit: int | None = option(2, "How many checkpoints to keep; the best one is kept.")
    load_best_model_at_end: bool = option(True, "End with the best epoch, not with the last one.")
    metric_for_best_model: str | None = option(
        None,
        "What makes an epoch the best: accuracy, top5_accuracy, macro_f1, loss, or steady_accuracy "
        "(default), where a later epoch wins over one that is better by less than two standard "
        "errors. Early stopping and reduce_lr_on_plateau default to accuracy.",
    )
    logging_steps: float = option(10, "Steps between two reports of the loss.")
    dataloader_num_workers: int | None = option(
        None, "Processes that prepare pictures. Default: by the number of cores and devices."
    )
    logging_nan_inf_filter: bool = option(
        False, "Leave losses that are not numbers out of the log; a GPU waits at each step for it."
    )
    remove_unused_columns: bool = option(False, "Must stay off: pictures are made on the fly.")
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
            if int(os.environ.get("WORLD_SIZE", 1)) > 1:
                join_processes(self.ddp_timeout, cpu=True)  # which transformers would forget
        if self.dataloader_num_workers is None:
            self.dataloader_num_workers = choose_num_workers(has_gpu)
            self.dataloader_persistent_workers = self.dataloader_num_workers > 0
        if not has_gpu:
            self.dataloader_pin_memory = False
        elif self.accelerator_config is None:
            self.accelerator_config = {"non_blocking": True}  # the copies of pinned batches
        if self.ema_decay is None:
            self.ema_decay = 0.0 if self.divides_weights else 0.995
        if self.early_stopping_patience:
            self.restore_callback_states_from_checkpoint = True
        if self.metric_for_best_model is None:
            follows = self.early_stopping_patience or self.schedule in BY_VALIDATION
            self.metric_for_best_model = "accuracy" if follows else "steady_accuracy"
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
        """Pictures that one update of the weights sees, on all devices."""
        return self.train_batch_size * self.gradient_accumulation_steps * self.world_size

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
    """A GPU waits for pictures; on CPUs alone, workers would take the cores that compute."""
    return min(MOST_WORKERS, cores_per_process()) if has_gpu else 0


def with_precision(args: FruitTrainingArguments, precision: str) -> FruitTrainingArguments:
    """A copy of the arguments with `no`, `bf16` or `fp16`, whatever the launcher has set.

    `dataclasses.replace` would set up the devices anew, and lose the other processes.
    """
    args = copy.copy(args)
    args.bf16, args.fp16, args.mixed_precision = precision == "bf16", precision == "fp16", precision
    AcceleratorState._reset_state()  # accelerate refuses another precision otherwise
    return args


# ---- command line ----

_GROUPS = (DataArguments, ModelArguments, FruitTrainingArguments)
_OWN_FLAGS = {name for group in _GROUPS for name in inspect.get_annotations(group)} | {
    "seed", "gradient_accumulation_steps", "lr_scheduler_kwargs", "optim_args", "fp16",
    "torch_compile", "max_steps", "push_to_hub",
    "hub_model_id", "hub_private_repo", "full_determinism", "activation_checkpointing", "use_cpu",
}  # fmt: skip
# name -> a file of flags, each with what it gave on real photos
RECIPES = {file.stem: file for file in Path(__file__).with_name("recipes").glob("*.yaml")}
_FIRST_FLAGS = {"recipe", "config", "help", "help_all"}
_HIDDEN = {"remove_unused_columns", "gradient_checkpointing", "logging_nan_inf_filter"}


def parse_train_arguments(
    argv: list[str], *, prog: str | None = None
) -> tuple[DataArguments, ModelArguments, FruitTrainingArguments]:
    """Read flags, and under them a `--config` file. Exits with code 2 and one line if they err."""
    parser = _Parser(
        _GROUPS,
        prog=prog,
        usage="%(prog)s [DATA_DIR] [--flag value ...]",
        description="Fine-tune an image model on folders of fruit photos.",
        epilog="Every other field of transformers' TrainingArguments works too: see --help_all.",
        formatter_class=_HelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("data", nargs="?", help="the same as --data_dir, or as --dataset_name")
    _add_first_flags(parser)
    first = _Brief(prog=parser.prog, add_help=False, allow_abbrev=False)
    _add_first_flags(first)
    known, _ = first.parse_known_args(argv)
    if known.help or known.help_all:
        _print_help(parser, everything=known.help_all)
        parser.exit()
    if known.recipe:
        parser.set_defaults(**_read_config(parser, _find_recipe(parser, known.recipe)))
    if known.config:
        parser.set_defaults(**_read_config(parser, Path(known.config)))
    try:
        data, model, training, extra, unknown = parser.parse_args_into_dataclasses(
            argv, return_remaining_strings=True, look_for_args_file=False
        )
    except (ValueError, TypeError, ImportError) as error:  # TrainingArguments' own checks
        parser.error(" ".join(str(error).split()))
    if unknown:
        parser.error(f"unknown: {' '.join(unknown)}{_suggest(parser, unknown[0])}")
    _name_data(parser, data, extra.data, argv)
    return data, model, training


def data_parser(
    command: str, description: str, *, then: dict[str, str] | None = None, **words: str
) -> "_Parser":
    """The parser of a command about data; `parse_data_arguments` uses it.

    `words` are what comes before the data, with their help, and `then` what comes after them; the
    data must be named where something does.
    """
    first = "".join(f"{word.upper()} " for word in words)
    last = "".join(f" {word.upper()}" for word in then or ())
    named = f"DATA_DIR{last}" if then else "[DATA_DIR]"
    parser = _Parser(
        (DataArguments,),
        prog=f"hffruits {command}",
        usage=f"hffruits {command} {first}{named} [--flag value ...]",
        description=description,
        allow_abbrev=False,
        formatter_class=_HelpFormatter,
    )
    for word, help in words.items():
        parser.add_argument(word, help=help)
    optional = {} if then else {"nargs": "?"}
    parser.add_argument("data", **optional, help="the same as --data_dir, or as --dataset_name")
    for word, help in (then or {}).items():
        parser.add_argument(word, help=help)
    parser.add_argument("--seed", type=int, default=42, help="of everything drawn")
    return parser


def parse_data_arguments(
    parser: "_Parser", argv: list[str]
) -> tuple[DataArguments, argparse.Namespace]:
    """The data, and the command's own flags. Exits with code 2 and one line if they err."""
    data, extra, unknown = parser.parse_args_into_dataclasses(
        argv, return_remaining_strings=True, look_for_args_file=False
    )
    if unknown:
        parser.error(f"unknown: {' '.join(unknown)}{_suggest(parser, unknown[0])}")
    _name_data(parser, data, extra.data, argv)
    return data, extra


def _name_data(parser: "_Parser", data: DataArguments, word: str | None, argv: list[str]) -> None:
    """Take the command's first word for the data that it names, whatever a file names."""
    if word is None:
        return
    if flags := [flag for flag in argv if re.match(r"--(data[_-]dir|dataset[_-]name)\b", flag)]:
        parser.error(f"{word} and {flags[0]}: give one of them.")
    hub = _is_hub_id(word)
    data.data_dir, data.dataset_name = (None, word) if hub else (word, None)


def _is_hub_id(text: str) -> bool:
    """True for `user/name` where no such folder is, nor one that would hold it."""
    path = Path(text)
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", text)) and not path.parent.exists()


class _Brief(argparse.ArgumentParser):
    """One line for an error: the usage of 150 flags would hide it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {printable(' '.join(message.split()))}\n")


class _Parser(_Brief, HfArgumentParser):
    """Of the dataclasses' fields."""


def _add_first_flags(parser: argparse.ArgumentParser) -> None:
    """What must be known before the rest can be parsed."""
    names = ", ".join(sorted(RECIPES))
    parser.add_argument("--recipe", help=f"settings that were measured together: {names}")
    parser.add_argument("--config", help="YAML or JSON file with any of these; flags override it")
    parser.add_argument("-h", "--help", action="store_true", help="show the usual options and exit")
    parser.add_argument("--help_all", action="store_true", help="show every option and exit")


def _find_recipe(parser: argparse.ArgumentParser, name: str) -> Path:
    if name not in RECIPES:
        parser.error(f"--recipe {name}: unknown. Known: {', '.join(sorted(RECIPES))}.")
    return RECIPES[name]


def _read_config(parser: argparse.ArgumentParser, file: Path) -> dict[str, object]:
    """Values by field name, as text, so that argparse converts and checks them like flags."""
    try:
        text = file.read_text(encoding="utf-8")
        values = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        parser.error(f"--config {file}: {' '.join(str(error).split())}")
    if not isinstance(values, dict):
        parser.error(f"--config {file}: holds no `name: value` lines.")
    several = {action.dest for action in parser._actions if action.nargs == "+"}
    known = {f.name for group in _GROUPS for f in fields(group)}
    for name, value in values.items():
        if name not in known:
            parser.error(f"--config {file}: unknown {name}{_suggest(parser, str(name))}")
        if value is False and name.endswith("_strategy"):
            values[name] = "no"  # YAML reads a bare no as false
        elif isinstance(value, list) and name not in several:
            parser.error(f"--config {file}: {name} takes one value, not a list.")
        elif isinstance(value, bool | int | float):
            values[name] = str(value)
    return values


def _suggest(parser: argparse.ArgumentParser, wrong: str) -> str:
    flags = [option for action in parser._actions for option in action.option_strings]
    near = difflib.get_close_matches("--" + wrong.lstrip("-").split("=")[0], flags, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


class _HelpFormatter(argparse.HelpFormatter):
    """One line a flag: no `--with-hyphens` twins, no metavar in capitals, the default behind."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=34, width=100)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        shown = [o for o in action.option_strings if "-" not in o.lstrip("-")] or [action.dest]
        return ", ".join(shown)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        plain = action.default not in (None, "", argparse.SUPPRESS, False)
        return text + (" [%(default)s]" if plain and action.option_strings else "")


def _print_help(parser: argparse.ArgumentParser, *, everything: bool) -> None:
    for action in parser._actions:
        if action.dest in _HIDDEN or any(o.startswith("--no_") for o in action.option_strings):
            action.help = argparse.SUPPRESS
        own = action.dest in _OWN_FLAGS | _FIRST_FLAGS | {"data"}
        if not everything and not own:
            action.help = argparse.SUPPRESS
    parser.print_help()
