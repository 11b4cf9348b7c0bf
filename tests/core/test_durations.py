"""Durations are parsed and formatted."""

import pytest

from hffruits.core.durations import format_duration, parse_duration
from hffruits.core.errors import InputError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("300", 300), ("90s", 90), ("5m", 300), ("1h30m", 5400), (" 1.5H ", 5400), ("1h0m5s", 3605)],
)
def test_text_becomes_seconds(text, seconds):
    assert parse_duration(text, name="time_budget") == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "soon", "5 minutes", "-5m", "1.2.3m", "m", "5m1h", ".", "1h30"]
)
def test_text_that_is_no_duration_is_an_error(text):
    with pytest.raises(InputError, match=f"time_budget={text}: must be a time"):
        parse_duration(text, name="time_budget")


def test_a_small_number_needs_its_unit():
    with pytest.raises(InputError, match=r"time_budget=3: of what\? Write 3s, 3m or 3h\.$"):
        parse_duration("3", name="time_budget")
    assert parse_duration("3s") == 3 and parse_duration("30") == 30


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (45.4, "45 s"), (200, "3 min 20 s"), (300, "5 min"), (7500, "2 h 5 min")],
)
def test_seconds_become_text(seconds, text):
    assert format_duration(seconds) == text
