"""Our keys of a model's `config.json`: what training, calibration and teaching have written there.

A stranger's file may hold anything under their names; what has another form is left out, with a
warning. The OOD threshold is not among them: a classifier without it would reject nothing.
"""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hffruits.core.escaping import shorten

logger = logging.getLogger(__name__)


def drop_malformed(config: dict[str, Any], labels: Iterable[str], *, name: str | Path) -> None:
    """Remove from a config those of our keys that have another form; `name` is its model's."""
    for key, is_ours in _FORMS.items():
        value = config.get(key)
        if value is not None and not is_ours(value, set(labels)):
            del config[key]
            logger.warning("%s: config.json: %s=%s is ignored", name, key, shorten(repr(value)))


def _maps(value: Any, kind: type) -> bool:
    """Whether it maps texts to values of a kind."""
    return isinstance(value, dict) and all(
        isinstance(key, str) and type(one) is kind for key, one in value.items()
    )


def _is_calibration(value: Any) -> bool:
    return isinstance(value, dict) and all(
        one is None or type(one) in (int, float) for one in value.values()
    )


_FORMS: dict[str, Callable[[Any, set[str]], bool]] = {
    "taught": lambda value, labels: _maps(value, int) and set(value) <= labels,
    "taught_from": lambda value, _: isinstance(value, str),
    "coarse_labels": lambda value, labels: _maps(value, str) and labels <= set(value),
    "calibration": lambda value, _: _is_calibration(value),
    "train_image_size": lambda value, _: type(value) is int and 32 <= value <= 7168,
}
