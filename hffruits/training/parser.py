"""Flags, recipes and config files of `hffruits train` parsed into `Arguments`; so are keywords."""

import argparse
import inspect
import json
import re
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import yaml

from hffruits.core.errors import InputError, short_reason
from hffruits.core.flags import OneLineParser, one_spelling
from hffruits.data.arguments import DataArguments
from hffruits.data.parser import DataParser, HelpFormatter
from hffruits.training.arguments import Arguments, FruitTrainingArguments, ModelArguments

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
    argv: list[str],
    *,
    prog: str = "train.py",
    parser_class: type[DataParser] = DataParser,
    also: Iterable[str] = (),
) -> Arguments:
    """Flags over a file or recipe. Exits with code 2 and one line where they are wrong.

    `also` are flags of the command that are parsed before.
    """
    parser = parser_class(
        _GROUPS,
        prog=prog,
        usage="%(prog)s [DATA_DIR] [--flag value ...]",
        description="Fine-tune an image model on folders of fruit photos.",
        epilog="Every other field of transformers' TrainingArguments works too: see --help_all.",
        formatter_class=HelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    parser.also = also
    parser.add_argument("data", nargs="?", help="the same as --data_dir, or as --dataset_name")
    _add_first_flags(parser)
    first = OneLineParser(prog=parser.prog, add_help=False, allow_abbrev=False)
    first.error = parser.error  # which may raise
    _add_first_flags(first)
    known, _ = first.parse_known_args(argv)
    if known.help or known.help_all:
        _print_help(parser, everything=known.help_all)
        parser.exit()
    config = _read_config(parser, Path(known.config)) if known.config else {}
    recipe = config.pop("recipe", None)
    if known.recipe or recipe:
        parser.set_defaults(**_read_config(parser, _find_recipe(parser, known.recipe or recipe)))
    parser.set_defaults(**config)
    data, model, training, _ = parser.parse(argv)
    return Arguments(data, model, training)


def arguments_from_keywords(
    data: DataArguments | str | Path | None = None, **flags: Any
) -> Arguments:
    """The same as flags of `hffruits train`, `recipe` and `config` too; None is as if not given.

    `data` is as for `load_fruits`, and goes before what a file names. Raises `InputError` for an
    unknown name, with those like it, and for a value that the flag doesn't take.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    if asked := {"help", "help_all"} & set(given):
        raise InputError(f"{asked.pop()}: not a keyword. Run `hffruits train --help`.")
    named = {name: str(given[name]) for name in ("data_dir", "dataset_name") if name in given}
    meant = DataArguments.of(data, **named)
    words = _words(meant.changed | given)
    parsed = parse_train_arguments(words, prog="hffruits train", parser_class=_KeywordParser)
    if meant.data_dir or meant.dataset_name:  # else a file may name the data
        parsed.data.data_dir, parsed.data.dataset_name = meant.data_dir, meant.dataset_name
    return parsed


def _words(flags: dict[str, Any]) -> list[str]:
    """Flags and their values as words of a command line."""
    words = []
    for name, value in flags.items():
        if isinstance(value, list | tuple):
            words += [f"--{name}", *map(str, value)]
        else:
            text = json.dumps(value) if isinstance(value, dict | bool) else str(value)
            words.append(f"--{name}={text}")
    return words


class _KeywordParser(DataParser):
    """For notebooks and scripts, which an exit would end."""

    def error(self, message: str) -> NoReturn:
        raise InputError(re.sub(r"(?<![\w-])--(?!help)(?=\w)", "", one_spelling(message)))


def _add_first_flags(parser: argparse.ArgumentParser) -> None:
    """What must be known before the rest can be parsed."""
    names = ", ".join(sorted(RECIPES))
    parser.add_argument("--recipe", help=f"settings that were measured together: {names}")
    parser.add_argument(
        "--config", help="YAML or JSON file with any of these, a recipe too; flags override it"
    )
    parser.add_argument("-h", "--help", action="store_true", help="show the usual options and exit")
    parser.add_argument("--help_all", action="store_true", help="show every option and exit")


def _find_recipe(parser: argparse.ArgumentParser, name: str) -> Path:
    if name not in RECIPES:
        parser.error(f"--recipe {name}: unknown. Known: {', '.join(sorted(RECIPES))}.")
    return RECIPES[name]


def _read_config(parser: DataParser, file: Path) -> dict[str, object]:
    """Values by field name, as text, so that argparse converts and checks them like flags.

    Without those that are null.
    """
    try:
        text = file.read_text(encoding="utf-8")
        values = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except UnicodeDecodeError:
        parser.error(f"--config {file}: not UTF-8. Save it as that.")
    except (OSError, ValueError, yaml.YAMLError) as error:
        parser.error(f"--config {file}: {short_reason(error)}")
    if not isinstance(values, dict):
        parser.error(f"--config {file}: holds no `name: value` lines.")
    several = {action.dest for action in parser._actions if action.nargs == "+"}
    known = {"recipe", *(f.name for group in _GROUPS for f in fields(group))}
    if unknown := [str(name) for name in values if name not in known]:
        said = ", ".join(name + parser.suggest(name) for name in unknown)
        parser.error(f"--config {file}: unknown {said}")
    values = {name: value for name, value in values.items() if value is not None}
    for name, value in values.items():
        if value is False and name.endswith("_strategy"):
            values[name] = "no"  # YAML reads a bare no as false
        elif isinstance(value, list) and name not in several:
            parser.error(f"--config {file}: {name} takes one value, not a list.")
        elif isinstance(value, bool | int | float):
            values[name] = str(value)
    return values


def _print_help(parser: argparse.ArgumentParser, *, everything: bool) -> None:
    for action in parser._actions:
        if action.dest in _HIDDEN or any(o.startswith("--no_") for o in action.option_strings):
            action.help = argparse.SUPPRESS
        own = action.dest in _OWN_FLAGS | _FIRST_FLAGS | {"data"}
        if not everything and not own:
            action.help = argparse.SUPPRESS
    parser.print_help()
