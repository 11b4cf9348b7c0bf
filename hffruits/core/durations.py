"""Durations parsed and formatted: `1h30m` -> seconds -> `1 h 30 min`."""

import re

from hffruits.core.errors import InputError

_UNITS = (3600, 60, 1)  # seconds of h, m, s


def parse_duration(text: str, *, name: str = "duration") -> float:
    """Seconds of `300`, `90s`, `5m` or `1h30m`.

    Raises `InputError` for other text and for 0; `name` is the option that it is the value of.
    """
    words, number = text.strip().lower(), r"(\d+(?:\.\d+)?)"
    words += "s" if re.fullmatch(number, words) else ""
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
