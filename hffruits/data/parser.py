"""A command line parsed into dataclasses: one-line errors, short help, a first word that is data.

`training.parser` and `cli.parser` build theirs with it.
"""

import argparse
import re
from typing import Any

from transformers import HfArgumentParser

from hffruits.core.errors import InputError
from hffruits.core.flags import OneLineParser, plain
from hffruits.data.arguments import DataArguments


class DataParser(OneLineParser, HfArgumentParser):
    """Of the fields of dataclasses, `DataArguments` first; a positional `data` names the data."""

    def parse(self, argv: list[str]) -> tuple[Any, ...]:
        """The dataclasses, then a namespace of the other flags.

        Exits with code 2 and one line (or raises, as `error` does) where the words are wrong.
        """
        try:
            *groups, extra, unknown = self.parse_args_into_dataclasses(
                argv, return_remaining_strings=True, look_for_args_file=False
            )
        except InputError:
            raise
        except (ValueError, TypeError, ImportError) as error:  # the dataclasses' own checks
            self.error(str(error))
        if unknown:
            self.refuse(unknown)
        self._name_data(groups[0], vars(extra).pop("data"), argv)
        return *groups, extra

    def _name_data(self, data: DataArguments, word: str | None, argv: list[str]) -> None:
        """Take the command's first word for the data that it names, whatever a file names."""
        if word is None:
            return
        named = [flag for flag in argv if re.match(r"--(data[_-]dir|dataset[_-]name)\b", flag)]
        if named:
            self.error(f"{word} and {named[0]}: give one of them.")
        meant = DataArguments.of(word)
        data.data_dir, data.dataset_name = meant.data_dir, meant.dataset_name


class HelpFormatter(argparse.HelpFormatter):
    """One line a flag: no `--with-hyphens` twins, no metavar in capitals, the default behind."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=34, width=100)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        return ", ".join(plain(action.option_strings) or [action.dest])

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        plain = action.default not in (None, "", argparse.SUPPRESS, False)
        return text + (" [%(default)s]" if plain and action.option_strings else "")
