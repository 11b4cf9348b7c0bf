"""Sphinx directive `{flags} COMMAND`: a table of the command's flags, from its own parser.

The parser is the one that `hffruits COMMAND --help_all` (or `--help`) prints, so that the table
can't differ from the command. With `:group: data` only the flags of that group; `:group: own` are
those that belong to no group.
"""

import argparse
import re
from collections.abc import Iterable
from functools import cache
from unittest import mock

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from hffruits.cli.main import COMMANDS
from hffruits.core.help import plain, shown_default

ALL_FLAGS = {"train": "--help_all"}  # commands whose --help leaves some out
COMMON = (None, "options", "positional arguments")  # names of no group


class _Printed(Exception):
    """Carries the parser whose help was about to be printed."""

    def __init__(self, parser: argparse.ArgumentParser):
        self.parser = parser


@cache
def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser that a command parses its words with."""

    def refuse_to_print(parser: argparse.ArgumentParser, file: object = None) -> None:
        raise _Printed(parser)

    with mock.patch.object(argparse.ArgumentParser, "print_help", refuse_to_print):
        try:
            COMMANDS[command]([ALL_FLAGS.get(command, "--help")])
        except _Printed as printed:
            return printed.parser
    raise AssertionError(f"hffruits {command} --help printed nothing")


def flags_of(command: str, group: str | None = None) -> list[argparse.Action]:
    """The words and flags of a command that its help shows, of one group if it is named."""
    groups = parser_of(command)._action_groups
    if group:
        titles = COMMON if group == "own" else (group,)
        groups = [one for one in groups if one.title in titles]
    actions = [action for one in groups for action in one._group_actions]
    return [action for action in actions if action.help != argparse.SUPPRESS]


def describe(action: argparse.Action) -> tuple[str, str, str]:
    """A flag as it is written, its default and its help."""
    spellings = plain(action.option_strings) or action.option_strings
    name = ", ".join(spellings) or action.metavar or action.dest.upper()
    default = shown_default(action)
    text = " ".join((action.help or "").replace("[%(default)s]", "").split())
    text = text % (vars(action) | {"prog": "hffruits"}) if "%" in text else text
    if found := re.search(r" ?\[([^][]+)\]$", text):
        text, default = text[: found.start()], found[1]
    return name, default, text


class FlagTable(SphinxDirective):
    """`{flags} train` with `:group: data`."""

    required_arguments = 1
    option_spec = {"group": directives.unchanged}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        command, group = self.arguments[0], self.options.get("group")
        actions = flags_of(command, group)
        if not actions:
            raise self.error(f"hffruits {command}: no flags of group {group}")
        head = _row([nodes.Text(word)] for word in ("flag", "default", "what"))
        rows = []
        for action in actions:
            name, default, text = describe(action)
            literal = nodes.literal("", name, ids=[f"{command}-{action.dest}"])
            shown = [nodes.literal("", default)] if default else []
            rows.append(_row([[literal], shown, with_code(text)]))
        columns = nodes.tgroup(cols=3)
        columns += [nodes.colspec(colwidth=width) for width in (28, 16, 56)]
        columns += [nodes.thead("", head), nodes.tbody("", *rows)]
        table = nodes.table("", columns, classes=["flags"])
        return [*self._about(parser_of(command)), table] if group in (None, "own") else [table]

    def _about(self, parser: argparse.ArgumentParser) -> list[nodes.Node]:
        """What the help says before and after the flags."""
        texts = [text for text in (parser.description, parser.epilog) if text]
        return [nodes.paragraph("", "", *with_code(" ".join(texts)))]


def _row(cells: Iterable[list[nodes.Node]]) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        row += nodes.entry("", nodes.paragraph("", "", *cell))
    return row


def with_code(text: str) -> list[nodes.Node]:
    """Text in which flags and what stands in backticks are code."""
    parts = re.split(r"`([^`]+)`|(?<![\w-])(--[a-z]\w*)", text)
    shown: list[nodes.Node] = [nodes.Text(parts[0])]
    for quoted, flag, after in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        shown += [nodes.literal("", quoted or flag), nodes.Text(after)]
    return shown


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("flags", FlagTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
