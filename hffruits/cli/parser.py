"""The flags of each command but `train`, and the command line as it may be recorded.

What a function of the package takes is named alike here, so that a command passes its flags on.
Nothing heavy is imported before a command about data asks for its parser.
"""

import argparse
import json
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hffruits.core.flags import OneLineParser
from hffruits.core.imports import import_module

if TYPE_CHECKING:
    from hffruits.data.arguments import DataArguments
    from hffruits.training.arguments import Arguments

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
        allow_abbrev=False,
        formatter_class=parsing.HelpFormatter,
    )
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
    return data, vars(own)


def explore_parser(description: str | None) -> argparse.ArgumentParser:
    parser = data_parser("explore", description)
    _add_output_dir(parser, "exploration")
    parser.add_argument(
        "--max_images",
        type=int,
        default=20_000,
        help="photos to compute features of, for label errors and the map [%(default)s]",
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
    parser.add_argument(
        "--format", default="openvino", help="onnx, openvino, web, torch [%(default)s]"
    )
    parser.add_argument("--precision", default="fp32", help="fp32, fp16, bf16, int8 [%(default)s]")
    parser.add_argument("--output_dir", help="[MODEL-format-precision]")
    parser.add_argument(
        "--max_accuracy_drop",
        type=float,
        default=0.005,
        help="accuracy that may be lost [%(default)s]",
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
    parser.add_argument("--output_dir", default=default, help="[%(default)s]")


def _add_batch_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch_size", type=int, default=32, help="photos per step [%(default)s]")


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
    parser.add_argument("--seed", type=int, default=42, help="random seed [%(default)s]")


# ---- commands that take the flags of training as well ----


def preview_parser(description: str | None) -> argparse.ArgumentParser:
    parser = _parser_beside_training("preview", description)
    parser.add_argument("--output", type=Path, default=Path("preview.png"), help="[%(default)s]")
    parser.add_argument("--photos", type=int, default=6, help="rows [%(default)s]")
    parser.add_argument("--views", type=int, default=7, help="augmented columns [%(default)s]")
    return parser


def find_lr_parser(description: str | None) -> argparse.ArgumentParser:
    parser = _parser_beside_training("find-lr", description)
    parser.add_argument("--output", type=Path, default=Path("find_lr.png"), help="[%(default)s]")
    parser.add_argument("--lowest", type=float, default=1e-6, help="first rate [%(default)s]")
    parser.add_argument("--highest", type=float, default=1.0, help="last rate [%(default)s]")
    parser.add_argument("--steps", type=int, default=100, help="of training [%(default)s]")
    return parser


def search_parser(description: str | None) -> argparse.ArgumentParser:
    parser = _parser_beside_training("search", description)
    parser.add_argument(
        "--trials", type=int, default=20, help="total number of trials [%(default)s]"
    )
    return parser


def _parser_beside_training(name: str, description: str | None) -> argparse.ArgumentParser:
    return OneLineParser(
        prog=f"hffruits {name}",
        description=description,
        usage=f"hffruits {name} [DATA_DIR] [--flag value ...]",
        epilog="Takes the flags of `hffruits train` as well.",
        allow_abbrev=False,
    )


def parse_beside_training(
    parser: argparse.ArgumentParser, argv: list[str]
) -> tuple[argparse.Namespace, "Arguments"]:
    """A command's own flags, and those of training."""
    args, rest = parser.parse_known_args(argv)
    return args, parse_train(rest, prog=parser.prog, also=list(vars(args)))


def parse_train(
    argv: list[str], *, prog: str = "hffruits train", also: Iterable[str] = ()
) -> "Arguments":
    """The flags of training; `also` are those of the command itself."""
    parsing = import_module("hffruits.training.parser")
    return parsing.parse_train_arguments(argv, prog=prog, also=also)


def without(argv: list[str], *names: str) -> list[str]:
    """A command line without some of its flags and their values."""
    flags = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in names:
        flags.add_argument(f"--{name}", f"--{name.replace('_', '-')}")
    return flags.parse_known_args(argv)[1]


# ---- the others ----


def plot_lr_parser(description: str | None) -> argparse.ArgumentParser:
    parser = OneLineParser(prog="hffruits plot-lr", description=description)
    parser.add_argument("schedules", nargs="*", help="names; default: all that need no validation")
    parser.add_argument("--output", type=Path, default=Path("lr.png"), help="[%(default)s]")
    parser.add_argument("--steps", type=int, default=1000, help="of training [%(default)s]")
    parser.add_argument("--warmup_steps", type=int, default=100, help="of them [%(default)s]")
    parser.add_argument("--learning_rate", type=float, default=1e-3, help="peak [%(default)s]")
    parser.add_argument(
        "--lr_scheduler_kwargs", type=json.loads, default={}, help='JSON, as in {"gamma": 0.5}'
    )
    return parser


def predict_parser(description: str | None) -> argparse.ArgumentParser:
    parser = OneLineParser(prog="hffruits predict", description=description)
    parser.add_argument("model", help=MODEL)
    parser.add_argument("images", nargs="+", help="image files, or folders of them")
    parser.add_argument("--revision", help="which commit, branch or tag of a Hub model")
    parser.add_argument("--top_k", type=int, default=1, help="labels per photo [%(default)s]")
    parser.add_argument("--batch_size", type=int, default=32, help="photos per step [%(default)s]")
    parser.add_argument(
        "--precision",
        default="fp32",
        help="bf16: faster on CPUs and GPUs with bfloat16 units [fp32]",
    )
    _add_max_image_pixels(parser)
    parser.add_argument(
        "--allow_truncated_images",
        action="store_true",
        help="read JPEGs that lack only their last bytes, with a warning",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="write a table (.csv, .jsonl, .parquet); the same command resumes if it was stopped, "
        "and `torchrun --nproc_per_node N -m hffruits predict ...` spreads it over processes",
    )
    return parser


def push_parser(description: str | None) -> argparse.ArgumentParser:
    parser = OneLineParser(prog="hffruits push", description=description)
    parser.add_argument("folder", type=Path, help="the model's folder")
    parser.add_argument("repo_id", help=REPO_ID)
    _add_push_flags(parser)
    parser.add_argument(
        "--datasets",
        nargs="*",
        default=(),
        metavar="USER/NAME",
        help="the Hub datasets that it was trained on, for the card [a run names its own]",
    )
    parser.add_argument("--card", type=Path, metavar="FILE", help="use this model card")
    parser.add_argument(
        "--no_report",
        dest="report",
        action="store_false",
        help="don't publish report.html, which shows some of the photos",
    )
    return parser


def space_parser(description: str | None) -> argparse.ArgumentParser:
    parser = OneLineParser(prog="hffruits space", description=description)
    parser.add_argument("model", help="user/name of a model on the Hub: see hffruits push")
    parser.add_argument("repo_id", nargs="?", help="user/name of the Space, made if it is new")
    parser.add_argument("--revision", help="which commit, branch or tag of the model")
    parser.add_argument("--output_dir", type=Path, help="write its files here, too")
    parser.add_argument("--title", default="What fruit is this?", help="[%(default)s]")
    _add_push_flags(parser)
    parser.add_argument(
        "--check",
        default="full",
        metavar="full|quick|none",
        help="start its files first: with its requirements in an environment of their own "
        "(minutes, some GB), or with the packages that are installed here [%(default)s]",
    )
    return parser


def samples_parser(description: str | None) -> argparse.ArgumentParser:
    parser = OneLineParser(prog="hffruits samples", description=description)
    parser.add_argument("folder", metavar="DIR", type=Path, help="a new or empty folder")
    return parser


def demo_parser(description: str | None) -> argparse.ArgumentParser:
    parser = OneLineParser(prog="hffruits demo", description=description)
    model = "folder or Hub id [the newest below runs/, else the bundled ImageNet model]"
    parser.add_argument("model", nargs="?", help=model)
    parser.add_argument("--model", dest="named", help="the same as MODEL above")
    parser.add_argument("--revision", help="which commit, branch or tag of a Hub model")
    parser.add_argument("--share", action="store_true", help="make a public link, for 3 days")
    parser.add_argument(
        "--auth",
        metavar="USER:PASSWORD",
        help="ask visitors for these; HFFRUITS_AUTH keeps them out of the list of processes",
    )
    parser.add_argument(
        "--data_dir",
        type=Path,
        metavar="DIR",
        help="what the model was trained on: show visitors a photo of each class",
    )
    parser.add_argument(
        "--feedback_dir",
        type=Path,
        metavar="DIR",
        help="save visitors' feedback on predictions here [feedback; off where others than this "
        "computer reach the page]",
    )
    parser.add_argument(
        "--save_dir",
        type=Path,
        metavar="DIR",
        help="save taught models below this folder [runs; off as above]",
    )
    _add_max_image_pixels(parser)
    return parser


def _add_push_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--private", action="store_true", help="a repository that only you see")
    parser.add_argument("--license", help="the Hub's name of one: apache-2.0, cc-by-4.0, ...")
