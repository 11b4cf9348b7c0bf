"""Lines broken at words where a terminal is narrow; what is to be copied from it stays whole.

A file or a pipe gets each line as it is.
"""

import os
import re
import textwrap
from typing import TextIO

LABEL = 10  # characters of a row's label
# Rows whose text is typed or opened: a break would end a command
_WHOLE = {"Saved", "Report", "Demo", "Train", "Use", "Open", "Load", "Suggested"}
# Padded to that length; by one space only where it is a word of nine letters
_LABEL = re.compile(r"[A-Za-z]+(?: \w+)? {2,}|(?:Corrupted|Suggested|Validated) ")
_COLUMNS = re.compile(r"\S(?: {2,}|\t)\S")  # of a table
_CODE = re.compile(r"`[^`]*`")


def wrap(text: str, width: int | None) -> str:
    """The text with lines of at most `width` characters; None for as long as they are."""
    return (
        text if width is None else "\n".join(_wrap_line(line, width) for line in text.split("\n"))
    )


def _wrap_line(line: str, width: int) -> str:
    labelled = bool(_LABEL.fullmatch(line[:LABEL]))
    body = line[LABEL:] if labelled else line
    whole = labelled and line[:LABEL].rstrip() in _WHOLE
    if len(line) <= width or whole or _COLUMNS.search(body):
        return line
    indent = LABEL if labelled else len(line) - len(line.lstrip()) or 2
    held = _CODE.sub(lambda code: code[0].replace(" ", "\0"), body.lstrip())
    first = line[:LABEL] if labelled else line[: len(line) - len(line.lstrip())]
    lines = textwrap.wrap(
        held,
        width,
        initial_indent=first,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines).replace("\0", " ")


def terminal_width(stream: TextIO | None) -> int | None:
    """Columns of the terminal that a stream is; None for anything else."""
    if stream is None or not stream.isatty():
        return None
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):  # a terminal that doesn't say
        return None
