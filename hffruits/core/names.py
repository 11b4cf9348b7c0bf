"""Names compared as a reader sees them: Unicode forms, letter case, spaces, invisible characters.

Class names that differ only in the latter are one class everywhere: in folders, tables, shards and
the Hub's `ClassLabel`, across splits, and between new data and a model.
"""

import difflib
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from unicodedata import normalize

from hffruits.core.counts import counted
from hffruits.core.errors import FewWarnings
from hffruits.core.escaping import shorten

logger = logging.getLogger(__name__)
# Control characters but for spaces, soft hyphens, zero-width spaces, marks of direction.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\ufeff]"
)
_JOINERS = re.compile("[\u200c\u200d\ufe00-\ufe0f]")  # some scripts need them
_WINDOWS_DEVICES = re.compile(
    r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\.|$)", re.IGNORECASE
)


@lru_cache(2**16)
def clean_name(name: str) -> str:
    """The name in composed Unicode (NFC), with single spaces and nothing that can't be seen."""
    return " ".join(_INVISIBLE.sub("", normalize("NFC", name)).split())


@lru_cache(2**16)
def name_key(name: str) -> str:
    """The same text for names that a reader takes for one: also where only their case differs."""
    return normalize("NFC", _JOINERS.sub("", clean_name(name)).casefold())


def path_key(path: str) -> str:
    """The same text for a path in any Unicode form: macOS' zips and lists have another one."""
    return normalize("NFC", path)


def public_name(model: str | Path) -> str:
    """A Hub id or a folder as it was named; of one that says where it lies the last name."""
    place = Path(model).expanduser()
    says_where = place.is_absolute() or not place.name or ".." in place.parts
    if not says_where:
        return str(model)
    return place.resolve().name if place.name in ("", "..") else place.name


def unify_names(counts: Mapping[str, int]) -> dict[str, str]:
    """Each name -> what it is called: cleaned, and as most photos have it where case differs.

    Warns of names that differ in their case.
    """
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for name, count in counts.items():
        forms[name_key(name)][clean_name(name)] += count
    chosen, warnings = {}, FewWarnings(logger)
    for key, own in forms.items():
        chosen[key] = min(own, key=lambda name: (-own[name], name))
        if len(own) > 1:
            listed = ", ".join(f"{name} ({counted(own[name], 'photo')})" for name in sorted(own))
            warnings.warn("%s: treated as one name, %s", listed, chosen[key])
    return {name: chosen[name_key(name)] or name for name in counts}


def match_names(names: Iterable[str], known: Iterable[str]) -> dict[str, str]:
    """Name -> the known name that it is, exactly or as a reader sees it; without unknown ones."""
    known = list(known)
    exact, by_key = set(known), {name_key(name): name for name in reversed(known)}
    found = {name: name if name in exact else by_key.get(name_key(name)) for name in names}
    return {name: match for name, match in found.items() if match is not None}


def list_names(names: Iterable[object], most: int = 5) -> str:
    """The names with commas; where there are more than `most`, the first ones and how many more.

    Very long names are shortened.
    """
    some = [shorten(name) for name in names]
    more = f" and {len(some) - most} more" if len(some) > most else ""
    return ", ".join(some[:most]) + more


def list_counts(counts: Mapping[str, int], most: int = 20) -> str:
    """`Kiwi (2), Lime (1)`; where there are more than `most`, the first ones and how many more."""
    return list_names((f"{name} ({count:,})" for name, count in counts.items()), most)


def file_name(name: str) -> str:
    """One part of a path from any text, fit for all file systems: no separators, nothing reserved.

    Names that differ may give the same, or one that differs only in its case: see `file_key`.
    """
    name = re.sub(r'[/\\<>:"|?*\x00-\x1f]', "_", name)
    name = re.sub(r"[. ]+$", lambda end: "_" * len(end[0]), name)  # which Windows drops
    reserved = not name or name.startswith(".") or _WINDOWS_DEVICES.match(name)
    return f"_{name}" if reserved or name in ("__MACOSX", "@eaDir") else name


def file_key(path: str) -> str:
    """The same text for paths that some file systems take for one: those that fold case (macOS,
    Windows), and those that store another Unicode form.
    """
    return normalize("NFC", normalize("NFD", path).casefold())


def did_you_mean(wrong: str, known: Iterable[str], *, prefix: str = "") -> str:
    """The known names most like a wrong one, as a hint in brackets; nothing where none is.

    One where it can hardly be another, up to three where several are alike.
    """
    known = list(dict.fromkeys(known))
    for most, cutoff in ((1, 0.9), (3, 0.75), (1, 0.6)):
        if near := difflib.get_close_matches(wrong, known, most, cutoff):
            return f" (did you mean {' or '.join(prefix + name for name in near)}?)"
    return ""


def similar_path(path: Path) -> str:
    """What lies beside a path that doesn't exist and is most like it, as a hint in brackets."""
    try:
        beside = [found.name for found in path.parent.iterdir() if not found.name.startswith(".")]
    except OSError:
        return ""
    where = "" if path.parent == Path() else f"{path.parent}/"
    return did_you_mean(path.name, sorted(beside), prefix=shorten(where))
