"""Durations parsed and formatted: `1h30m` -> seconds -> `1 h 30 min`."""

import re

from hffruits.core.errors import InputError

_UNITS = (3600, 60, 1)  # seconds of h, m, s
_FEWEST = 30  # seconds that a number without a unit means; fewer are rather minutes


def parse_duration(text: str, *, name: str = "duration") -> float:
    """Seconds of `300`, `90s`, `5m` or `1h30m`.

    Raises `InputError` for other text, for 0, and for a small number without a unit; `name` is the
    option that it is the value of.
    """
    words, number = text.strip().lower(), r"(\d+(?:\.\d+)?)"
    if re.fullmatch(number, words):
        if 0 < float(words) < _FEWEST:
            raise InputError(f"{name}={text}: of what? Write {words}s, {words}m or {words}h.")
        words += "s"
    found = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s)?", words)
    parts = found.groups("0") if found else ()
    seconds = sum(unit * float(part) for unit, part in zip(_UNITS, parts, strict=False))
    if not seconds:
        raise InputError(f"{name}={text}: must be a time such as 90s, 5m or 1h30m.")
    return seconds


def format_duration(seconds: float) -> str:
    """As `45 s`, `3 min 20 s` or `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    words = [f"{hours} h", f"{left} min"] if hours else [f"{minutes} min", f"{rest} s"]
    return " ".join(word for word in words if not word.startswith("0 ")) or "0 s"
