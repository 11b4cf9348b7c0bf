"""A command line parsed into dataclasses: one-line errors, a first word that is data.

`training.parser` and `cli.parser` build theirs with it. Imports nothing heavy.
"""

import argparse
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

from hffruits.core.errors import InputError
from hffruits.core.flags import OneLineParser
from hffruits.data.arguments import DataArguments


def _parser_class() -> type[argparse.ArgumentParser]:
    """transformers' `HfArgumentParser`, from its file: the package takes most of a second.

    Where that file has come to need more of the package, from there: the name that it is run under
    is in no package, so that it finds none of ours by a relative import.
    """
    package = importlib.util.find_spec("transformers")
    file = Path(package.origin or "").with_name("hf_argparser.py") if package else Path()
    if "transformers" not in sys.modules and file.is_file():
        spec = importlib.util.spec_from_file_location("_hf_argparser", file)
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            return module.HfArgumentParser
        except (ImportError, AttributeError, NameError):
            pass
    from transformers import HfArgumentParser

    return HfArgumentParser


class DataParser(OneLineParser, _parser_class()):
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
