"""User text made safe for what would interpret it: terminals, Markdown, spreadsheets, file lists.

Names of classes, files and folders are any text. HTML pages escape by Jinja's autoescape, YAML and
JSON by their dumpers, shell commands by `shlex`, plots by `plots.py`.
"""

import json
import re

# Controls, line separators, and what turns the direction of all that follows
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SURROGATES = re.compile("[\ud800-\udfff]")
# What Markdown, or a dialect of it, reads within a line; `_` counts only at the edge of a word
_INLINE = re.compile(r"([\\`*\[\]<>|~$&#!@]|(?<![^\W_])_|_(?![^\W_]))")
_AT_START = re.compile(r"^(?:(?=[-+](?:[\s-]|$)|=+$)|(\d{1,9})(?=[.)](?:\s|$)))")  # lists, headings


def printable(text: object, *, keep: str = "") -> str:
    """A text in one line that moves no cursor, sets no colour and turns no other text.

    Such characters are written as `\\x1b`; those in `keep` stay.
    """

    def escape(found: re.Match[str]) -> str:
        return found[0] if found[0] in keep else found[0].encode("unicode_escape").decode()

    return _CONTROLS.sub(escape, str(text))


def is_unicode(text: str) -> bool:
    """Whether it can be sent: no half of a character, as JSON may spell one (`\\ud800`)."""
    return not _SURROGATES.search(text)


def shorten(text: object, most: int = 120) -> str:
    """A long value with its middle left out, so that a message stays one to be read."""
    text = str(text)
    half = most // 2
    return text if len(text) <= most else f"{text[:half]}...{text[3 - half :]}"


def markdown(text: object) -> str:
    """A text that Markdown shows as it is, in its line and in its cell of a table."""
    line = _INLINE.sub(r"\\\1", printable(" ".join(str(text).split())))
    line = line.replace("://", r"\://").replace("www.", r"www\.")  # else they become links
    return _AT_START.sub(r"\1\\", line)


def markdown_code(text: object) -> str:
    """The same as a code span, for names that are typed; not for tables, where `|` would end it."""
    line = printable(" ".join(str(text).split()))
    ticks = "`" * (_longest_ticks(line) + 1)
    pad = " " if "`" in line else ""
    return f"{ticks}{pad}{line}{pad}{ticks}"


def markdown_block(text: str, language: str) -> str:
    """Lines of code as they are, whatever they hold."""
    fence = "`" * max(3, _longest_ticks(text) + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _longest_ticks(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def spreadsheet_cell(text: str) -> str:
    """A cell that a spreadsheet would compute, led by an apostrophe.

    For tables that people read; those that programs read again keep the text as it is.
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def list_line(name: str) -> str:
    """A file's name as a line of a list: as JSON where it would be torn or be taken for JSON."""
    torn = name.startswith(('"', "\ufeff")) or _CONTROLS.search(name)
    return json.dumps(name) if torn else name


def name_in_line(line: str) -> str:
    """The name that `list_line` made this of."""
    try:
        return json.loads(line) if line.startswith('"') else line
    except ValueError:  # of a list that an earlier version wrote
        return line
