"""Sampling: which rows of a dataset are shown or embedded, and where their images are."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from datasets import Dataset


def draw_evenly(labels: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """Rows in order: all, or `count` of them, as many of each class as it has and its share is."""
    if count >= len(labels):
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    turns = np.zeros(len(labels), int)  # the how-manieth of its class each is
    seen: Counter[str] = Counter()
    for row in order:
        turns[row] = seen[labels[row]]
        seen[labels[row]] += 1
    return np.sort(order[np.argsort(turns[order], kind="stable")][:count])


def sources_of(rows: Dataset) -> Iterator[Path | bytes]:
    """Files or contents of the undecoded images of rows."""
    for batch in rows.select_columns("image").iter(64):
        for image in batch["image"]:
            yield Path(image["path"]) if image["bytes"] is None else image["bytes"]
