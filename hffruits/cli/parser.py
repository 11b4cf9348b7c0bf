"""The flags of each command but `train`, and the command line as it may be recorded.

What a function of the package takes is named alike here, so that a command passes its flags on.
Nothing heavy is imported before a command line is known to be right.
"""

import argparse
import json
import logging
import re
import shlex
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hffruits.cli.loading import load
from hffruits.core.flags import OneLineParser
from hffruits.core.help import plain
from hffruits.core.imports import import_module

if TYPE_CHECKING:
    from hffruits.data.arguments import DataArguments
    from hffruits.training.arguments import Arguments
    from hffruits.training.parser import Command

logger = logging.getLogger(__name__)
# command -> flags of data or training that it takes, and that have no effect on it or are refused
_OF_EPOCHS = {"augment", "image_cache", "image_cache_size", "shuffle_buffer"}
_OF_SPLITS = {"split_by", "validation_fraction", "test_fraction", "rare_classes"}
_TO_MEASURE = _OF_EPOCHS | _OF_SPLITS | {"coarse_labels", "max_unreadable_fraction"}
_OF_A_RUN = {  # what is done with a trained model, and how it is chosen
    *("overwrite_output_dir", "resume_from_checkpoint", "time_budget", "reject_rate"),
    *("scale_learning_rate", "early_stopping_patience", "load_best_model_at_end"),
    *("save_strategy", "save_steps", "save_total_limit", "ignore_data_skip"),
    *("push_to_hub", "hub_model_id", "hub_private_repo", "hub_license", "hub_report", "hub_token"),
    *("restore_callback_states_from_checkpoint", "enable_jit_checkpoint"),
}
_WITHOUT_EFFECT: dict[str, set[str]] = {
    "explore": _OF_EPOCHS | {"split_lists"},
    "split": _OF_EPOCHS | {"streaming", "split_lists"},
    "push-data": _OF_EPOCHS | {"streaming", "split_lists"},
    "evaluate": _TO_MEASURE,
    "compare": _TO_MEASURE,
    "export": _TO_MEASURE,
    "search": _OF_A_RUN | {"weight_decay", "label_smoothing_factor"},
    "find-lr": _OF_A_RUN
    | {"learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps"}
    | {"num_train_epochs", "max_steps", "ema_decay", "metric_for_best_model", "output_dir"}
    | {"eval_strategy", "eval_steps", "eval_delay", "logging_steps", "logging_nan_inf_filter"},
}
_REFUSED = {"time_budget", "scale_learning_rate"}  # by these two, with the reason
_OF_A_PREVIEW = {"mixup_alpha", "cutmix_alpha", "mix_probability", "seed"}  # beside data and model

_WORDS = {  # what a flag of training means to a command, where that is something else
    "search": {
        "output_dir": "where the trials go [runs/search-NAME_OF_DATA]",
        "learning_rate": "middle of those tried [1e-3 or 1e-4]",
    },
}


def _path(text: str) -> Path:
    """Of a word in which the shell has left a `~`, as it does behind `--output=`."""
    return Path(text).expanduser()


MODEL = "folder that training wrote, or Hub id"
REPO_ID = "user/name, made if it is new; or a name under your account"


def command_line(command: str, argv: list[str]) -> str:
    """What was asked of us, as it may be published: without the token."""
    hidden = []
    for word in argv:
        after = hidden and re.fullmatch("--hub[_-]token", hidden[-1])
        hidden.append("hf_***" if after else re.sub("^(--hub[_-]token=).*", r"\1hf_***", word))
    return shlex.join(["hffruits", command, *hidden])


# ---- commands about data ----


def data_parser(
    command: str, description: str | None, *, then: dict[str, str] | None = None, **words: str
) -> argparse.ArgumentParser:
    """The parser of a command about data; `parse_data` uses it.

    `words` are what comes before the data, with their help, and `then` what comes after them; the
    data must be named where something does.
    """
    parsing = import_module("hffruits.data.parser")
    data = import_module("hffruits.data.arguments")
    first = "".join(f"{word.upper()} " for word in words)
    last = "".join(f" {word.upper()}" for word in then or ())
    named = f"DATA_DIR{last}" if then else "[DATA_DIR]"
    parser = parsing.DataParser(
        (data.DataArguments,),
        prog=f"hffruits {command}",
        usage=f"hffruits {command} {first}{named} [--flag value ...]",
        description=description,
    )
    hide_flags(parser, _WITHOUT_EFFECT[command])
    for word, help in words.items():
        parser.add_argument(word, help=help)
    optional = {} if then else {"nargs": "?"}
    parser.add_argument("data", **optional, help="the same as --data_dir, or as --dataset_name")
    for word, help in (then or {}).items():
        parser.add_argument(word, help=help)
    return parser


def parse_data(
    parser: argparse.ArgumentParser, argv: list[str]
) -> tuple["DataArguments", dict[str, Any]]:
    """The data, and the command's own words and flags by name.

    Exits with code 2 and one line where they are wrong.
    """
    data, own = parser.parse(argv)
    data.check_exists()
    return data, vars(own)


def hide_flags(parser: argparse.ArgumentParser, names: Collection[str]) -> None:
    """Leave these out of the help; those that would be ignored are refused when they are given."""
    for action in parser._actions:
        if action.dest in names or any(flag.startswith("--no_") for flag in action.option_strings):
            action.help = argparse.SUPPRESS


def explore_parser(description: str | None) -> argparse.ArgumentParser:
    parser = data_parser("explore", description)
    _add_output_dir(parser, "exploration")
    parser.add_argument(
        "--max_images",
        type=int,
        default=20_000,
        help="photos to compute features of, for label errors and the map",
    )
    _add_seed(parser)
    return parser


def split_parser(description: str | None) -> argparse.ArgumentParser:
    parser = data_parser("split", description)
    _add_output_dir(parser, "splits")
    parser.add_argument("--folds", type=int, default=0, help="k of a k-fold split")
    _add_resplit(parser)
    parser.add_argument(
        "--repair",
        default="none",
        metavar="list|copy",
        help="leave out broken files, photos in two classes, leaks and exact duplicates: as a "
        "list, or as a clean copy of the photos",
    )
    _add_seed(parser)
    return parser


def evaluate_parser(description: str | None) -> argparse.ArgumentParser:
    parser = data_parser("evaluate", description, model=MODEL)
    _add_output_dir(parser, "evaluation")
    parser.add_argument(
        "--split", help="train, validation or test [test, else validation, else everything]"
    )
    parser.add_argument(
        "--tta",
        default="",
        metavar="VIEWS",
        help="average views of a photo: flip, zoom, whole, corners",
    )
    parser.add_argument("--unknown_dir", help="photos of what it should report as unknown")
    parser.add_argument(
        "--corruptions", action="store_true", help="also on blurred, dark, noisy ... photos; slow"
    )
    _add_batch_size(parser)
    return parser


def compare_parser(description: str | None) -> argparse.ArgumentParser:
    parser = data_parser("compare", description, model_a=MODEL, model_b="another")
    _add_output_dir(parser, "comparison")
    parser.add_argument("--split", help="train, validation or test [as `hffruits evaluate`]")
    _add_batch_size(parser)
    return parser


def export_parser(description: str | None) -> argparse.ArgumentParser:
    parser = data_parser("export", description, model=MODEL)
    parser.add_argument("--format", default="openvino", help="onnx, openvino, web, torch")
    parser.add_argument("--precision", default="fp32", help="fp32, fp16, bf16, int8")
    parser.add_argument("--output_dir", help="where the export goes [MODEL-format-precision]")
    parser.add_argument(
        "--max_accuracy_drop",
        type=float,
        default=0.005,
        help="accuracy that may be lost",
    )
    parser.add_argument(
        "--force", action="store_true", help="keep it regardless of the accuracy lost"
    )
    return parser


def push_data_parser(description: str | None) -> argparse.ArgumentParser:
    parser = data_parser("push-data", description, then={"repo_id": REPO_ID})
    _add_push_flags(parser)
    _add_resplit(parser)
    parser.add_argument(
        "--keep_location",
        action="store_true",
        help="keep the GPS positions that phones write into photos",
    )
    _add_seed(parser)
    return parser


def _add_output_dir(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--output_dir", default=default, help="where results go")


def _add_batch_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch_size", type=int, default=32, help="photos per step")


def _add_max_image_pixels(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max_image_pixels",
        type=int,
        default=argparse.SUPPRESS,
        help="refuse larger photos; very large JPEGs are decoded at a fraction of their size, "
        "which counts [89478485]",
    )


def _add_resplit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resplit", action="store_true", help="ignore the data's own splits")


def _add_seed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=42, help="random seed")


# ---- commands that take the flags of training as well ----


def preview_parser(description: str | None) -> argparse.ArgumentParser:
    parser = _parser_beside_training("preview", description)
    parser.add_argument("--output", type=_path, default=Path("preview.png"), help="the image")
    parser.add_argument("--photos", type=int, default=6, help="rows; a photo of each class first")
    parser.add_argument("--views", type=int, default=7, help="augmented columns")
    return parser


def find_lr_parser(description: str | None) -> argparse.ArgumentParser:
    parser = _parser_beside_training("find-lr", description)
    parser.add_argument("--output", type=_path, default=Path("find_lr.png"), help="the plot")
    parser.add_argument("--lowest", type=float, default=1e-6, help="first rate")
    parser.add_argument("--highest", type=float, default=1.0, help="last rate")
    parser.add_argument("--steps", type=int, default=100, help="of training")
    return parser


def search_parser(description: str | None) -> argparse.ArgumentParser:
    parser = _parser_beside_training("search", description)
    parser.add_argument("--trials", type=int, default=20, help="total number of trials")
    return parser


def _parser_beside_training(name: str, description: str | None) -> argparse.ArgumentParser:
    return OneLineParser(prog=f"hffruits {name}", description=description, add_help=False)


def parse_beside_training(
    parser: argparse.ArgumentParser, argv: list[str], *, module: str
) -> tuple[argparse.Namespace, "Arguments"]:
    """A command's own flags, and those of training; `module` is what will take them.

    Warns of those of training that are given on the command line and that the command doesn't use;
    a file or recipe may serve several commands.
    """
    parsing = import_module("hffruits.training.parser")
    args, rest = parser.parse_known_args(argv)
    name = parser.prog.split()[-1]
    unused = _without_effect(name)
    own = tuple(parser._actions)
    command = parsing.Command(
        parser.prog, parser.description, own=own, without_effect=unused, words=_WORDS.get(name, {})
    )
    arguments = parse_train(rest, command, module=module)
    given = {word.split("=")[0].lstrip("-").replace("-", "_") for word in rest if word[:2] == "--"}
    refused = _REFUSED if name in _WITHOUT_EFFECT else set()
    silently_unused = unused - refused
    if ignored := sorted(given & silently_unused):
        named = ", ".join(f"--{flag}" for flag in ignored)
        logger.warning("%s: no effect on %s", named, parser.prog)
    return args, arguments


def _without_effect(command: str) -> set[str]:
    """Flags of training that one of these commands doesn't use."""
    if command in _WITHOUT_EFFECT:
        return _WITHOUT_EFFECT[command]
    sections = import_module("hffruits.training.flag_help").SECTIONS.values()
    of_training = {name for texts in sections for name in texts} - _OF_A_PREVIEW
    of_model = {"freeze", "feature_cache_views", "lora_rank"}
    return of_training | of_model | {"streaming", "shuffle_buffer"}


def parse_train(
    argv: list[str], command: "Command | None" = None, *, module: str = "hffruits.training.run"
) -> "Arguments":
    """The flags of training; what they say wrong is said before `module` is imported."""
    parsing = import_module("hffruits.training.parser")
    command = command or parsing.TRAIN
    parsing.check_train_arguments(argv, command)
    load(module)
    return parsing.parse_train_arguments(argv, command)


def without(argv: list[str], *names: str) -> list[str]:
    """A command line without some of its flags and their values."""
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in names:
        flags.add_argument(f"--{name}", f"--{name.replace('_', '-')}")
    return flags.parse_known_args(argv)[1]


@cache
def flag_names(command: str) -> frozenset[str]:
    """Every flag that a command takes."""
    names = set()
    if command in _PARSERS:
        actions = _PARSERS[command](None)._actions
        flags = (flag for one in actions for flag in plain(one.option_strings))
        names |= {flag[2:] for flag in flags if flag.startswith("--")}
    if command in ("train", "preview", "find-lr", "search"):
        parsing = import_module("hffruits.training.parser")
        names |= parsing.flag_names()
    return frozenset(names)


# ---- the others ----


def plot_lr_parser(description: str | None) -> argparse.ArgumentParser:
    parser = OneLineParser(prog="hffruits plot-lr", description=description)
    parser.add_argument("schedules", nargs="*", help="names; default: all that need no validation")
    parser.add_argument("--output", type=_path, default=Path("lr.png"), help="the plot")
    parser.add_argument("--steps", type=int, default=1000, help="of training")
    parser.add_argument("--warmup_steps", type=int, default=100, help="of them")
    parser.add_argument("--learning_rate", type=float, default=1e-3, help="peak")
    parser.add_argument(
        "--lr_scheduler_kwargs", type=json.loads, default={}, help='JSON, as in {"gamma": 0.5}'
    )
    return parser


def predict_parser(description: str | None) -> argparse.ArgumentParser:
    parser = OneLineParser(prog="hffruits predict", description=description)
    parser.add_argument("model", help=MODEL)
    parser.add_argument("images", nargs="+", help="image files, or folders of them")
    parser.add_argument("--revision", help="which commit, branch or tag of a Hub model")
    parser.add_argument("--top_k", type=int, default=1, help="labels per photo")
    parser.add_argument("--batch_size", type=int, default=32, help="photos per step")
    parser.add_argument(
        "--precision",
        default="fp32",
        help="bf16: faster on CPUs and GPUs with bfloat16 units",
    )
    _add_max_image_pixels(parser)
    parser.add_argument(
        "--allow_truncated_images",
        action="store_true",
        help="read JPEGs that lack only their last bytes, with a warning",
    )
    parser.add_argument(
        "--output",
        type=_path,
        help="write a table (.csv, .jsonl, .parquet); the same command resumes if it was stopped, "
        "and `torchrun --nproc_per_node N -m hffruits predict ...` spreads it over processes",
    )
    return parser


def push_parser(description: str | None) -> argparse.ArgumentParser:
    parser = OneLineParser(prog="hffruits push", description=description)
    parser.add_argument("folder", type=_path, help="the model's folder")
    parser.add_argument("repo_id", help=REPO_ID)
    _add_push_flags(parser)
    parser.add_argument(
        "--datasets",
        nargs="*",
        default=(),
        metavar="USER/NAME",
        help="the Hub datasets that it was trained on, for the card [a run names its own]",
    )
    parser.add_argument("--card", type=_path, metavar="FILE", help="use this model card")
    parser.add_argument(
        "--no_report",
        dest="report",
        action="store_false",
        help="don't publish report.html and examples/, which show some of the photos",
    )
    return parser


def space_parser(description: str | None) -> argparse.ArgumentParser:
    parser = OneLineParser(prog="hffruits space", description=description)
    parser.add_argument("model", help="user/name of a model on the Hub: see hffruits push")
    parser.add_argument("repo_id", nargs="?", help="user/name of the Space, made if it is new")
    parser.add_argument("--revision", help="which commit, branch or tag of the model")
    parser.add_argument("--output_dir", type=_path, help="write its files here, too")
    parser.add_argument("--title", default="What fruit is this?", help="of the page")
    _add_push_flags(parser)
    parser.add_argument(
        "--check",
        default="full",
        metavar="full|quick|none",
        help="start its files first: with its requirements in an environment of their own "
        "(minutes, some GB), or with the packages that are installed here",
    )
    return parser


def samples_parser(description: str | None) -> argparse.ArgumentParser:
    parser = OneLineParser(prog="hffruits samples", description=description)
    parser.add_argument("folder", metavar="DIR", type=_path, help="a new or empty folder")
    return parser


def demo_parser(description: str | None) -> argparse.ArgumentParser:
    parser = OneLineParser(prog="hffruits demo", description=description)
    model = "folder or Hub id [the newest below runs/, else the bundled ImageNet model]"
    parser.add_argument("model", nargs="?", help=model)
    parser.add_argument("--model", dest="named", help="the same as MODEL above")
    parser.add_argument("--revision", help="which commit, branch or tag of a Hub model")
    parser.add_argument(
        "--port",
        type=int,
        help="serve at this port [GRADIO_SERVER_PORT, else the first free one from 7860]",
    )
    parser.add_argument(
        "--open", action="store_true", help="open a browser, where there is a display"
    )
    parser.add_argument("--share", action="store_true", help="make a public link, for a week")
    parser.add_argument(
        "--auth",
        metavar="USER:PASSWORD",
        help="ask visitors for these; HFFRUITS_AUTH keeps them out of the list of processes",
    )
    parser.add_argument(
        "--data_dir",
        type=_path,
        metavar="DIR",
        help="what the model was trained on: show visitors a photo of each class [its examples]",
    )
    parser.add_argument(
        "--feedback_dir",
        type=_path,
        metavar="DIR",
        help="save visitors' feedback on predictions here [feedback; off where others than this "
        "computer reach the page]",
    )
    parser.add_argument(
        "--save_dir",
        type=_path,
        metavar="DIR",
        help="save taught models below this folder [runs; off as above]",
    )
    _add_max_image_pixels(parser)
    return parser


def _add_push_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--private", action="store_true", help="a repository that only you see")
    parser.add_argument("--license", help="the Hub's name of one: apache-2.0, cc-by-4.0, ...")


_PARSERS: dict[str, Callable[[str | None], argparse.ArgumentParser]] = {
    "samples": samples_parser,
    "explore": explore_parser,
    "split": split_parser,
    "preview": preview_parser,
    "plot-lr": plot_lr_parser,
    "find-lr": find_lr_parser,
    "search": search_parser,
    "evaluate": evaluate_parser,
    "compare": compare_parser,
    "export": export_parser,
    "predict": predict_parser,
    "push": push_parser,
    "push-data": push_data_parser,
    "space": space_parser,
    "demo": demo_parser,
}
