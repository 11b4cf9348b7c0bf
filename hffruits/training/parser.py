"""Flags, recipes and config files of `hffruits train` parsed into `Arguments`; so are keywords.

A command line is checked before torch and transformers are imported, which takes seconds: against
our own fields, and transformers' as `transformers_fields` reads them.
"""

import argparse
import json
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, make_dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, get_type_hints

import yaml

from hffruits.core.errors import InputError, short_reason
from hffruits.core.escaping import shorten
from hffruits.core.flags import OneLineParser, one_spelling, suggest
from hffruits.core.imports import import_module
from hffruits.core.names import did_you_mean
from hffruits.data.arguments import DataArguments
from hffruits.data.parser import DataParser
from hffruits.training.flag_help import SECTIONS, USUAL
from hffruits.training.options import ModelArguments, TrainingOptions
from hffruits.training.transformers_fields import read_training_arguments

if TYPE_CHECKING:
    from hffruits.training.arguments import Arguments

# name -> a file of flags, each with what it gave on real photos
RECIPES = {file.stem: file for file in Path(__file__).with_name("recipes").glob("*.yaml")}
_ARGUMENTS = "hffruits.training.arguments"  # imports torch and transformers


@dataclass(frozen=True)
class Command:
    """Whose command line it is."""

    prog: str = "train.py"
    description: str = "Fine-tune an image model on folders of fruit photos."
    own: tuple[argparse.Action, ...] = ()  # flags of the command, which are parsed before
    without_effect: Collection[str] = field(default_factory=frozenset)  # flags of training
    words: Mapping[str, str] = field(default_factory=dict)  # help of flags, in place of theirs


TRAIN = Command("hffruits train")


def parse_train_arguments(
    argv: list[str],
    command: Command = Command(),
    *,
    parser_class: type[DataParser] = DataParser,
) -> "Arguments":
    """Flags over a file or recipe. Exits with code 2 and one line where they are wrong."""
    arguments = import_module(_ARGUMENTS)
    parser = make_parser(arguments.FruitTrainingArguments, command, parser_class)
    return arguments.Arguments(*_parse(parser, argv, command))


def check_train_arguments(argv: list[str], command: Command) -> None:
    """Print the help, or end with what is wrong, before anything heavy is imported.

    `parse_train_arguments` does it again, with transformers' own fields.
    """
    training = None if _ARGUMENTS in sys.modules else _training_fields()
    if training is not None:
        data, *_ = _parse(make_parser(training, command), argv, command)
        data.check_exists()


@cache
def _training_fields() -> type | None:
    """What has the fields of `FruitTrainingArguments`, where they can be had without importing."""
    transformers = read_training_arguments()
    bases = (TrainingOptions, transformers)
    return transformers and make_dataclass("TrainingFields", [], bases=bases)


def make_parser(
    training: type, command: Command, parser_class: type[DataParser] = DataParser
) -> DataParser:
    """The parser of data, model and training; `training` is a dataclass of the latter's fields."""
    parser = parser_class(
        (DataArguments, ModelArguments, training),
        prog=command.prog,
        usage="%(prog)s [DATA_DIR] [--flag value ...]",
        description=command.description,
        add_help=False,
    )
    parser.also = [action.dest for action in command.own]
    help = "folder of class folders, table, archive, ..."
    parser.add_argument("data", nargs="?", metavar="DATA_DIR", help=help)
    _add_first_flags(parser)
    return parser


def flag_names() -> set[str]:
    """Every flag of training."""
    groups = (DataArguments, ModelArguments, TrainingOptions)
    own = {one.name for group in groups for one in fields(group)}
    return own | {name for texts in SECTIONS.values() for name in texts} | {"recipe", "config"}


def _parse(parser: DataParser, argv: list[str], command: Command) -> tuple[Any, Any, Any]:
    first = OneLineParser(prog=parser.prog, add_help=False)
    first.error = parser.error  # which may raise
    _add_first_flags(first)
    known, _ = first.parse_known_args(argv)
    if known.help or known.help_all:
        arrange_help(parser, command, everything=known.help_all)
        parser.print_help()
        parser.exit()
    config = _read_config(parser, Path(known.config).expanduser()) if known.config else {}
    recipe = config.pop("recipe", None)
    if known.recipe or recipe:
        parser.set_defaults(**_read_config(parser, _find_recipe(parser, known.recipe or recipe)))
    parser.set_defaults(**config)
    data, model, training, _ = parser.parse(argv)
    return data, model, training


def arguments_from_keywords(
    data: DataArguments | str | Path | None = None, **flags: Any
) -> "Arguments":
    """The same as flags of `hffruits train`, `recipe` and `config` too; None is as if not given.

    `data` is as for `load_fruits`, and goes before what a file names. Raises `InputError` for an
    unknown name, with those like it, and for a value that the flag doesn't take.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    if asked := {"help", "help_all"} & set(given):
        raise InputError(f"{asked.pop()}: not a keyword. Run `hffruits train --help`.")
    named = {name: str(given[name]) for name in ("data_dir", "dataset_name") if name in given}
    meant = DataArguments.of(data, **named)
    training = import_module(_ARGUMENTS).FruitTrainingArguments
    several = _take_lists(make_parser(training, TRAIN, _KeywordParser))
    words = _words(meant.changed | given, several)
    parsed = parse_train_arguments(words, TRAIN, parser_class=_KeywordParser)
    if meant.data_dir or meant.dataset_name:  # else a file may name the data
        parsed.data.data_dir, parsed.data.dataset_name = meant.data_dir, meant.dataset_name
    return parsed


def _words(flags: dict[str, Any], several: Collection[str]) -> list[str]:
    """Flags and their values as words of a command line; `several` flags take lists.

    Raises `InputError` for what no such word can say.
    """
    words = []
    for name, value in flags.items():
        if not re.fullmatch(r"\w[\w-]*", name):
            raise InputError(f"{name!r}: unknown. `hffruits train --help_all` lists the names.")
        if isinstance(value, list | tuple):
            texts = [str(one) for one in value]
            if len(texts) == 1:
                words.append(f"--{name}={texts[0]}")
                continue
            if name not in several:
                raise InputError(f"{name}={shorten(value)}: takes one value. Give one.")
            if wrong := [text for text in texts if text.startswith("-")]:
                raise InputError(f"{name}: {shorten(wrong[0])} begins with a hyphen. Leave it out.")
            words += [f"--{name}", *texts]
            continue
        try:
            text = json.dumps(value) if isinstance(value, dict | bool) else str(value)
        except TypeError as error:
            raise InputError(f"{name}: {error}. Give texts and numbers.") from error
        words.append(f"--{name}={text}")
    return words


class _KeywordParser(DataParser):
    """For notebooks and scripts, which an exit would end."""

    def error(self, message: str) -> NoReturn:
        raise InputError(re.sub(r"(?<![\w-])--(?!help)(?=\w)", "", one_spelling(message)))


def _add_first_flags(parser: argparse.ArgumentParser) -> None:
    """What must be known before the rest can be parsed."""
    for name in ("recipe", "config"):
        parser.add_argument(f"--{name}", help=USUAL[name])
    parser.add_argument("-h", "--help", action="store_true", help="the usual flags")
    parser.add_argument("--help_all", "--help-all", action="store_true", help="all flags")


def _find_recipe(parser: argparse.ArgumentParser, name: str) -> Path:
    if name not in RECIPES:
        known = ", ".join(sorted(RECIPES))
        parser.error(f"--recipe {name}: unknown{did_you_mean(name, RECIPES)}. Known: {known}.")
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
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        parser.error(f"--config {file}: {short_reason(error)}")
    if not isinstance(values, dict):
        parser.error(f"--config {file}: holds no `name: value` lines.")
    several, of_json = _take_lists(parser), _take_dicts(parser)
    known = {"recipe", *(f.name for group in parser.dataclass_types for f in fields(group))}
    if unknown := [str(name) for name in values if name not in known]:
        said = ", ".join(name + suggest(name, known, prefix="--") for name in unknown)
        parser.error(f"--config {file}: unknown {said}")
    values = {name: value for name, value in values.items() if value is not None}
    for name, value in values.items():
        if value is False and name.endswith("_strategy"):
            values[name] = "no"  # YAML reads a bare no as false
        elif isinstance(value, list) and name not in several:
            parser.error(f"--config {file}: {name} takes one value, not a list.")
        elif isinstance(value, bool | int | float | date):  # a name may look like a date
            values[name] = str(value)
        elif wrong := _wrong_kind(value, name in of_json):
            parser.error(f"--config {file}: {name} takes no {wrong}. Write it as text.")
    return values


def _wrong_kind(value: object, of_json: bool) -> str:
    """What a file's value is, or one in its list, that no flag takes; "" where it is taken.

    `of_json` says that the flag takes `name: value` pairs.
    """
    if of_json and isinstance(value, dict):
        return ""
    names = {dict: "`name: value` pairs", list: "lists of lists", bytes: "binary data"}
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, str | bool | int | float):
            return names.get(type(one), type(one).__name__)
    return ""


def _take_lists(parser: argparse.ArgumentParser) -> set[str]:
    return {action.dest for action in parser._actions if action.nargs == "+"}


def _take_dicts(parser: DataParser) -> set[str]:
    kinds = [get_type_hints(group) for group in parser.dataclass_types]
    return {name for group in kinds for name, kind in group.items() if "dict" in str(kind)}


# ---- help ----


def arrange_help(parser: DataParser, command: Command, *, everything: bool) -> None:
    """Have the help show the flags that a command uses: the usual ones, or all by sections."""
    actions = {action.dest: action for action in reversed(parser._actions)}  # --x before --no_x
    parser._action_groups.clear()
    _add_section(parser, None, [actions["data"]])
    _add_section(parser, "flags" if command.own else None, command.own)
    sections = _all_sections(parser) if everything else {"usual flags": USUAL}
    for title, texts in sections.items():
        used = [name for name in texts if name in actions and name not in command.without_effect]
        for name in used:
            text = command.words.get(name) or texts[name]
            actions[name].help = text or actions[name].help
        _add_section(parser, title, [actions[name] for name in used])
    if not everything:
        _add_section(parser, None, [actions["help"], actions["help_all"]])
    parser.epilog = _TURNED_OFF if everything else _MORE


_TURNED_OFF = "A flag whose default is True is turned off by `--flag false`."
_MORE = "These are the flags that most people need; --help_all lists all of them."


def _all_sections(parser: DataParser) -> dict[str, dict[str, str]]:
    """Title -> flag -> its help, where it isn't that of the field."""
    data, model, training = ([f.name for f in fields(one)] for one in parser.dataclass_types)
    named = {
        "options": dict.fromkeys(("recipe", "config", "help", "help_all"), ""),
        "data": dict.fromkeys(data, ""),
        "model": dict.fromkeys(model, ""),
        **SECTIONS,
    }
    known = {name for texts in named.values() for name in texts}
    later = [name for name in training if name not in known]
    return named | {"others of transformers": dict.fromkeys(later, "")}


def _add_section(
    parser: DataParser, title: str | None, actions: Collection[argparse.Action]
) -> None:
    if actions:
        parser.add_argument_group(title)._group_actions.extend(actions)
