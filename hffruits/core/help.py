"""Help of a command: each flag with its default once, in lines as wide as the terminal."""

import argparse
import re
import shutil
import textwrap
from collections.abc import Iterable


class HelpFormatter(argparse.HelpFormatter):
    """Flags without `--with-hyphens` twins and metavars, the default behind, once.

    Lines as wide as the terminal, 100 columns at most, broken only between words.
    """

    def __init__(self, prog: str):
        width = min(100, shutil.get_terminal_size().columns - 2)
        super().__init__(prog, max_help_position=33 if width >= 72 else 8, width=width)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        return ", ".join(plain(action.option_strings) or [str(action.metavar or action.dest)])

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", shown_default(action)
        if not default or re.search(r"%\(default\)|\[[^\]]+\]\.?$", text):
            return text
        text = re.sub(r"(?<!\.)\.$", "", text)
        return f"{text} [{default.replace('%', '%%')}]"

    def _split_lines(self, text: str, width: int) -> list[str]:
        return _wrap(text, width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = (_wrap(line, width - len(indent)) or [""] for line in text.splitlines())
        return "\n".join(indent + part for parts in lines for part in parts)


def _wrap(text: str, width: int) -> list[str]:
    """Lines of a text; what it is indented by, all of them are."""
    lead = re.match(r"\s*(?:\S+ {2,})?", text)
    wide = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.wrap(text, width, subsequent_indent=" " * len(lead[0]), **wide)


def shown_default(action: argparse.Action) -> str:
    """A flag's default as it is shown; "" for a word, and where there is nothing to show."""
    default = action.default
    if default is False or default in (None, "", (), [], {}, argparse.SUPPRESS):
        return ""
    shown = f"{default:g}" if isinstance(default, float) else str(default)
    return shown if action.option_strings else ""


def plain(flags: Iterable[str]) -> list[str]:
    """A flag's spellings without those that have hyphens."""
    return [flag for flag in flags if "-" not in flag.lstrip("-")]
