"""A labelled image (`Sample`), and a split of them (`Split`): map-style and streamed data alike.

`MapSplit` is of rows that can be read in any order; `StreamSplit` reads them on the fly.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from datasets import Dataset
from PIL import Image

from hffruits.data.images import MAX_PIXELS, ImageSource, open_rgb

UNKNOWN = -1  # label of an image of a class that the model lacks
UNGROUPED = -1  # group of an image that is like no other, or not known to be
Opener = Callable[[str], Image.Image | None]  # by path; None for an image that is gone


class Sample(NamedTuple):
    """An image, undecoded, and its label."""

    path: str
    source: ImageSource
    label: int  # a class, or UNKNOWN
    group: int = UNGROUPED  # equal for images that are not independent


class Split(Protocol):
    """What calibration, evaluation and records ask of a split, however it is read.

    Of `FruitDatasets` and `FruitStreams` alike it is `datasets.split("train")`.
    """

    names: tuple[str, ...]  # of the classes, K

    def __len__(self) -> int: ...

    @property
    def label_counts(self) -> list[int]:
        """Images of each class, (K,)."""

    def samples(self, rank: int = 0, world_size: int = 1) -> Iterator[Sample]:
        """A process's share of the split; over all processes each image comes once."""

    def draw(self, count: int) -> Iterator[Sample]:
        """About `count` samples, drawn from all of the split; the same ones each time."""

    def draw_known(self, count: int, *, after: int = 0) -> Iterator[Sample]:
        """Up to `count` samples of known classes, quickly; none of those of `draw_known(after)`."""

    def some_of_each_class(self, count: int) -> Iterator[Sample]:
        """Up to `count` samples of each class; the same ones each time."""

    def opener(self) -> Opener | None:
        """What opens its images again by their path; None where they come only once."""


@dataclass(frozen=True)
class MapSplit:
    """A `Split` whose rows are a `datasets.Dataset`. It decodes none but those opened."""

    rows: Dataset  # with `image` and `path`
    labels: Sequence[int]  # (N,) numbers in `names`, or UNKNOWN
    names: tuple[str, ...]
    groups: Sequence[int] | None = None  # (N,) numbers, equal for images that are not independent

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def label_counts(self) -> list[int]:
        """Images of each class, (K,); those of unknown classes don't count."""
        counts = Counter(self.labels)
        return [counts[label] for label in range(len(self.names))]

    def samples(self, rank: int = 0, world_size: int = 1) -> Iterator[Sample]:
        """Rows `rank`, `rank + world_size`, ..."""
        return self._samples_at(range(rank, len(self), world_size))

    def draw(self, count: int) -> Iterator[Sample]:
        """`count` samples, or all, in the order of the rows."""
        return self._samples_at(sorted(self._draw(range(len(self)))[:count]))

    def draw_known(self, count: int, *, after: int = 0) -> Iterator[Sample]:
        """Drawn as those of `draw`."""
        known = np.flatnonzero(np.array(self.labels) != UNKNOWN)
        return self._samples_at(sorted(self._draw(known)[after : after + count]))

    def some_of_each_class(self, count: int) -> Iterator[Sample]:
        """Up to `count` samples of each class, drawn, in the order of the rows."""
        taken: Counter[int] = Counter()
        chosen = []
        for row in self._draw(range(len(self))):
            taken[self.labels[row]] += 1
            if taken[self.labels[row]] <= count:
                chosen.append(row)
        return self._samples_at(sorted(chosen))

    def shuffled(self, count: int, *, seed: int) -> "MapSplit":
        """`count` rows, or all, in an order that is drawn."""
        order = np.random.default_rng(seed).permutation(len(self))
        return self.select(order[:count].tolist())

    def select(self, rows: Sequence[int]) -> "MapSplit":
        """These rows, in this order."""
        groups = None if self.groups is None else [self.groups[row] for row in rows]
        labels = [self.labels[row] for row in rows]
        return MapSplit(self.rows.select(rows), labels, self.names, groups)

    def opener(self) -> Opener:
        """What opens its images again by their path."""
        raw = self.rows.with_format(None)
        places = {path: place for place, path in enumerate(raw["path"][:])}

        def open_path(path: str) -> Image.Image | None:
            try:
                source = source_of(raw[places[path]]["image"])
                return open_rgb(source, max_pixels=2 * MAX_PIXELS)  # the limit was kept before
            except OSError:  # gone since
                return None

        return open_path

    def _draw(self, rows: Sequence[int]) -> list[int]:
        return np.random.default_rng(0).permutation(rows).tolist()

    def _samples_at(self, rows: Sequence[int]) -> Iterator[Sample]:
        raw = self.rows.with_format(None)
        for number in rows:
            row = raw[number]
            group = UNGROUPED if self.groups is None else int(self.groups[number])
            yield Sample(row["path"], source_of(row["image"]), self.labels[number], group)


def source_of(image: dict[str, Any] | None) -> Path | bytes:
    """What `open_rgb` takes, of an undecoded `image`; no bytes of a row without one."""
    image = image or {}
    return image.get("bytes") or (Path(image["path"]) if image.get("path") else b"")
