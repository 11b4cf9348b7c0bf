"""Command-line flags: one-line errors, which flag a wrong one means, or another tool's."""

import argparse
import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NoReturn

from hffruits.core.escaping import printable, shorten
from hffruits.core.help import HelpFormatter, plain
from hffruits.core.names import did_you_mean

# What other tools call our flags (transformers' and timm's scripts, Ultralytics, Keras, older
# transformers), and no likeness of the letters finds. The first that a command has is meant.
_OURS = {
    "activation_checkpointing": ("gradient_checkpoint", "checkpoint_activations"),
    "augment": ("aa", "augmentation", "augmentations", "aug", "auto_augment", "data_augmentation"),
    "batch_size": ("batch", "bs", "b", "train_batch_size", "val_batch_size", "eval_batch_size"),
    "bf16": ("amp",),
    "dataloader_num_workers": ("workers", "num_workers", "j", "n_workers", "num_proc"),
    "data_dir": (
        "data", "data_path", "data_folder", "dataset", "dataset_dir", "dataset_path", "root",
        "train", "train_data", "train_dir", "train_folder", "train_file", "train_path",
        "train_csv",
        "image_dir", "image_folder", "img_dir", "imagefolder", "csv", "folder", "input_dir",
    ),
    "dataset_config_name": ("dataset_config", "config_name", "subset"),
    "early_stopping_patience": ("patience", "early_stopping", "early_stop"),
    "ema_decay": ("ema", "model_ema", "model_ema_decay"),
    "eval_strategy": ("evaluation_strategy", "eval_steps_strategy", "val_interval"),
    "fp16": ("half",),
    "freeze": ("freeze_backbone", "freeze_base", "freeze_layers", "frozen"),
    "gradient_accumulation_steps": ("accumulate", "accum_iter", "grad_accum_steps", "grad_accum"),
    "group_by": ("groups", "group_column"),
    "hub_token": ("token", "use_auth_token"),
    "image_column_name": ("image_column", "image_col", "x_col"),
    "image_size": ("img_size", "imgsz", "imgsize", "img", "input_size", "resolution", "size",
                   "crop_size", "target_size"),
    "label_column_name": ("label_column", "label_col", "y_col", "target_column"),
    "label_smoothing_factor": ("smoothing", "label_smoothing"),
    "learning_rate": ("lr", "lr0", "base_lr", "blr"),
    "lr_scheduler_type": ("sched", "scheduler", "lr_scheduler", "cos_lr", "lr_schedule"),
    "max_grad_norm": ("clip_grad", "grad_clip", "clip_grad_norm", "gradient_clip_val"),
    "mixup_alpha": ("mixup",),
    "cutmix_alpha": ("cutmix",),
    "model": ("model_name_or_path", "weights", "checkpoint", "model_path", "model_dir",
              "checkpoint_path", "ckpt"),
    "model_name_or_path": ("model", "backbone", "arch", "architecture", "model_name", "network",
                           "weights", "checkpoint", "net", "encoder"),
    "num_train_epochs": ("epochs", "epoch", "n_epochs", "num_epochs", "max_epochs", "nb_epochs"),
    "optim": ("opt", "optimizer"),
    "output": ("out", "output_file", "save_path", "csv", "results_file"),
    "output_dir": ("save_dir", "out", "out_dir", "output", "output_path", "save_path", "log_dir",
                   "logging_dir", "project", "name", "experiment", "dest"),
    "per_device_train_batch_size": (
        "batch", "batch_size", "bs", "b", "train_batch_size", "per_gpu_train_batch_size",
        "mini_batch_size",
    ),
    "per_device_eval_batch_size": ("eval_batch_size", "val_batch_size", "validation_batch_size",
                                   "vb", "per_gpu_eval_batch_size"),
    "precision": ("dtype",),
    "resume_from_checkpoint": ("resume", "resume_from", "initial_checkpoint", "restore"),
    "seed": ("random_seed", "random_state", "manual_seed"),
    "split": ("subset", "phase"),
    "test_fraction": ("test_size", "test_split", "test_ratio"),
    "top_k": ("topk", "k", "num_predictions"),
    "tta": ("ten_crop", "test_time_augmentation"),
    "use_cpu": ("no_cuda", "cpu"),
    "validation_fraction": ("val_split", "validation_split", "val_size", "val_ratio",
                            "train_val_split", "val_fraction"),
    "warmup_steps": ("warmup_ratio", "warmup", "num_warmup_steps"),
    "weight_decay": ("wd", "weight_decay_rate", "l2"),
}  # fmt: skip
# Those whose value means something else: the flag that is meant, and what to give it.
_CONVERTED = {
    **dict.fromkeys(("mixed_precision", "dtype", "amp_dtype"), ("bf16", "or fp16 for float16")),
    "test_pct": ("test_fraction", "0.2 for 20 percent"),
    "valid_pct": ("validation_fraction", "0.2 for 20 percent"),
    "warmup_epochs": ("warmup_steps", "0.1 for one epoch of ten"),
}
_BESIDE_TRAIN = (
    *("validation_dir", "validation_folder", "validation_file", "validation_path"),
    *("val_dir", "val_folder", "val_file", "val_path", "val_data", "valid_dir", "valid_file"),
    *("eval_dir", "eval_file", "test_dir", "test_folder", "test_file", "test_path", "test_data"),
)
_IMAGES = ("source", "input", "image", "img", "image_path", "path", "file", "files", "data_dir")
OTHER_NAMES: dict[str, list[str]] = {name: ["images"] for name in _IMAGES}
for _own, _names in _OURS.items():
    for _name in _names:
        OTHER_NAMES.setdefault(_name, []).append(_own)


_NOT_NEEDED = {
    **dict.fromkeys(
        ("device", "devices", "gpu", "gpus", "gpu_ids", "cuda", "accelerator", "n_gpu", "num_gpus"),
        "a GPU is used where there is one",
    ),
    **dict.fromkeys(
        ("num_classes", "n_classes", "nc", "num_labels", "classes", "class_names"),
        "the data says which classes there are",
    ),
}


class OneLineParser(argparse.ArgumentParser):
    """One line for an error: the usage of 150 flags would hide it.

    All unknown flags are in it, each with the one that is meant; `also` are flags that another
    parser of the command takes.
    """

    also: Iterable[str] = ()

    def __init__(self, *args: Any, **options: Any):
        usual = {"formatter_class": HelpFormatter, "allow_abbrev": False}
        super().__init__(*args, **usual | options)

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """As argparse's; neither "", as an unset variable of the shell is, nor nobody's `~user`."""
        if not arg_string.strip() and action.default != "":
            raise argparse.ArgumentError(action, "empty. Give a value, or leave it out.")
        if re.match(r"~[\w.-]*(/|$)", arg_string):
            try:
                Path(arg_string).expanduser()
            except RuntimeError:
                what = f"{arg_string}: no such user, or without a home folder. Give the whole path."
                raise argparse.ArgumentError(action, what) from None
        return super()._get_value(action, arg_string)

    def parse_args(self, args: Any = None, namespace: Any = None) -> argparse.Namespace:
        """As argparse's, with hints for what is unknown."""
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.refuse(unknown)
        return known

    def refuse(self, unknown: list[str]) -> NoReturn:
        """End with the words that no flag takes."""
        said, hinted = [], True
        for flag, *values in _grouped(unknown):
            hint = self.suggest(flag) if flag.startswith("-") else ""  # a word too many
            hinted &= bool(hint)
            said.append(" ".join(_without_secrets([flag, *map(shorten, values)])) + hint)
        self.error(f"unknown: {', '.join(said)}{'' if hinted else f'. See `{self.prog} --help`.'}")

    def suggest(self, wrong: str) -> str:
        """What is meant by a wrong flag, as a hint in brackets; nothing where that isn't clear."""
        names = (name for one in self._actions for name in plain(one.option_strings))
        flags = [name[2:] for name in names if name.startswith("--")]
        words = [action.dest for action in self._actions if not action.option_strings]
        name = wrong.lstrip("-").split("=")[0].replace("-", "_")
        if re.match(r"-[A-Za-z]\d", wrong):  # with its value, as in `-b16`
            name = name[0]
        flags += self.also
        begun = [flag for flag in flags if flag.startswith(name)]
        hint = suggest(name, flags, prefix="--", words=words)
        return hint or (f" (did you mean --{begun[0]}?)" if len(begun) == 1 else "")

    def error(self, message: str) -> NoReturn:
        if message.startswith("the following arguments are required"):
            message += f". See `{self.prog} --help`."
        self.exit(2, f"{self.prog}: error: {printable(one_spelling(message))}\n")


def suggest(
    wrong: str, known: Iterable[str], *, prefix: str = "", words: Iterable[str] = ()
) -> str:
    """The known names that a wrong one means, as a hint in brackets; nothing where none is like it.

    `words` are what a command takes without a flag.
    """
    known, words = list(known), list(words)
    if wrong.lower() in _BESIDE_TRAIN and "validation_fraction" in known:
        return f" (put val and test beside train, below {prefix}data_dir)"
    own, value = _CONVERTED.get(wrong.lower(), ("", ""))
    if own in known:
        return f" (did you mean {prefix}{own}, {value}?)"
    meant = [wrong, *OTHER_NAMES.get(wrong.lower(), ())]
    for name in meant:
        if name in known:
            return f" (did you mean {prefix}{name}?)"
        if name in words:
            return f" (give {name} without a flag)"
    if why := _NOT_NEEDED.get(wrong.lower()):
        return f" (leave it out: {why})"
    return did_you_mean(wrong, known, prefix=prefix)


def spell_as_flags(message: str, names: Iterable[str], *, given: Collection[str] = ()) -> str:
    """A message of a function with its keywords as the flags of a command: `--freeze=half`.

    `private=True` is `--private`, and `report=False` `--no_report` where that is the flag. A name
    that is an English word too is taken for a flag only with a value, at the head of a message, or
    where it is to be set or left out. What was `given` on the command line stays as it is: a folder
    called `photos`, say. The opposite is the business of the parsers of keywords, whose messages
    begin as flags.
    """
    names = set(names)
    values = {word.partition("=")[2] if word.startswith("--") else word for word in given}
    held = sorted(filter(re.compile("|".join(names)).search, values), key=len, reverse=True)
    for number, value in enumerate(held):
        message = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", f"\0{number}\0", message)
    return re.sub("\0(\\d+)\0", lambda found: held[int(found[1])], _spell(message, names))


def _spell(message: str, names: set[str]) -> str:
    """The same, of a message without such values."""
    words = "|".join(sorted(names, key=len, reverse=True))
    long = "|".join(sorted((name for name in names if "_" in name), key=len, reverse=True))
    free = r"(?<![\w./\\'\"`-])"
    message = re.sub(rf"{free}({words})=True\b", r"--\1", message)
    if off := "|".join(name.removeprefix("no_") for name in names if name.startswith("no_")):
        message = re.sub(rf"{free}({off})=False\b", r"--no_\1", message)
    head, colon, rest = message.partition(": ")
    named = re.split(r", | and ", head)
    if colon and all(name.split("=")[0] in names for name in named):
        head = re.sub(rf"(?:^|(?<=, )|(?<= and ))(?={words})", "--", head)
    text = head + colon + rest
    text = re.sub(rf"{free}({words})(?==[^\s=])", r"--\1", text)
    if long:
        text = re.sub(rf"{free}({long})(?![\w/\\=-]|\.\w)", r"--\1", text)
    for _ in range(2):  # each finds the next one of a list
        text = re.sub(rf"(--\w+,) ({words})(?=,| or\b| and\b)", r"\1 --\2", text)
    to_do = r"\b([Ss]et|[Ll]eave|[Uu]se|with|and|or|,) "
    return re.sub(rf"{to_do}({words})(?= to\b| out\b| as well\b)", r"\1 --\2", text)


def _without_secrets(words: list[str]) -> list[str]:
    """An unknown flag and its values, none of which may be a token or a password."""
    flag, equals, _ = words[0].partition("=")
    if re.search("tok|auth|pass|secret|key", flag, re.IGNORECASE):
        return [f"{flag}=***" if equals else flag, *("***" for _ in words[1:])]
    return [re.sub(r"\bhf_\w{8,}", "hf_***", word) for word in words]


def _grouped(words: list[str]) -> list[list[str]]:
    """Each flag with the values behind it."""
    groups: list[list[str]] = []
    for word in words:
        is_flag = re.match(r"--?[A-Za-z]", word)
        groups.append([word]) if is_flag or not groups else groups[-1].append(word)
    return groups


def one_spelling(message: str) -> str:
    """argparse's message in one line, without the `--with-hyphens` twin of a flag."""
    return re.sub(r"^argument (--\w+)/--[\w-]+:", r"argument \1:", " ".join(message.split()))
