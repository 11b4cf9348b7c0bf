"""Which photos a model learned from, as digests of their bytes, which know them in any place.

A run and `teach` write them beside the model's split lists; they are not published.
"""

from collections.abc import Sequence
from pathlib import Path

from hffruits.core.files import write_text
from hffruits.models.artifact import SPLITS, TRAIN_DIGESTS


def write_train_digests(digests: Sequence[str], model: Path) -> None:
    """Write them to the model's folder; no file where there are none, as of a stream."""
    if digests:
        write_text(model / SPLITS / TRAIN_DIGESTS, "\n".join(digests) + "\n")


def read_train_digests(model: Path) -> list[str]:
    """Those in a model's folder; none of a model of the Hub, say."""
    file = model / SPLITS / TRAIN_DIGESTS
    return file.read_text(encoding="utf-8").split() if file.is_file() else []
