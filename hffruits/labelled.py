"""Labelled pictures as samples: of a run's splits, of any data, of things a model doesn't have."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from datasets import Dataset
from PIL import Image

from hffruits.checking import list_pictures
from hffruits.config import DataArguments
from hffruits.errors import InputError
from hffruits.folders import SPLIT_NAMES
from hffruits.images import list_images, open_rgb
from hffruits.inputs import open_source
from hffruits.outcomes import UNKNOWN, Outcomes, Sample, samples_of
from hffruits.report import Opener
from hffruits.splits import choose_splits
from hffruits.stream_data import StreamSplit
from hffruits.unknowns import PICTURES

logger = logging.getLogger(__name__)
SEARCHED = 20_000  # rows of a stream in which some of each class are looked for


@dataclass(frozen=True)
class Photos:
    """What a model is measured on."""

    split: str  # or "all"
    rows: Dataset  # or an iterable of the same rows
    labels: list[int] | None  # of the rows; None for a stream
    ids: dict[str, int]

    @property
    def total(self) -> int | None:
        return None if self.labels is None else len(self.labels)

    def samples(self) -> Iterator[Sample]:
        """Those of this process."""
        state = PartialState()
        if self.labels is not None:
            share = {"rank": state.process_index, "world_size": state.num_processes}
            return samples_of(self.rows, self.labels, **share)
        rows = islice(self.rows, state.process_index, None, state.num_processes)
        return (sample_of(row, self.ids) for row in rows if row["label"])

    def opener(self, outcomes: Outcomes) -> Opener | None:
        """Pictures by the row of their outcome; None for a stream, where they are gone."""
        return None if self.labels is None else picture_opener(self.rows, outcomes)


def choose_photos(data_args: DataArguments, labels: list[str], split: str | None) -> Photos:
    """The rows of the split asked for, or of the one that tells the most."""
    ids = {name: index for index, name in enumerate(labels)}
    raw = open_source(data_args.source)
    if data_args.streaming:
        chosen = _choose_split(list(raw.splits), split)
        return Photos(chosen, raw.splits[chosen], None, ids)
    parts = list_pictures(raw, exclude=data_args.exclude)
    if data_args.split_lists:
        parts = choose_splits(dict(parts), {}, lists_dir=Path(data_args.split_lists))
    chosen = _choose_split(list(parts), split)
    rows = parts[chosen].rows
    found = [ids.get(label, UNKNOWN) for label in rows["label"]]
    if set(found) <= {UNKNOWN}:
        names = sorted(set(rows["label"]))
        raise InputError(
            f"{data_args.source.name}: the model has none of its classes ({', '.join(names[:3])}, "
            f"...). It has {', '.join(labels[:3])}, ... Name the folders so."
        )
    missing = sorted({label for label in rows["label"] if label not in ids})
    if missing:
        logger.warning(
            "%d classes that the model doesn't have count as unknown objects: %s",
            *(len(missing), ", ".join(missing[:5])),
        )
    name = "all" if list(parts) == ["train"] and split is None else chosen
    return Photos(name, rows, found, ids)


def _choose_split(found: list[str], asked: str | None) -> str:
    if asked is None:
        return next(name for name in reversed(SPLIT_NAMES) if name in found)
    if asked not in found:
        raise InputError(f"split={asked}: the data has {', '.join(found)}. Name one of them.")
    return asked


def sample_of(row: dict[str, Any], ids: dict[str, int]) -> Sample:
    """An undecoded row, whose label is text, as a sample."""
    image = row["image"] or {}
    source = image.get("bytes") or (Path(image["path"]) if image.get("path") else b"")
    return Sample(row["path"], source, ids.get(row["label"], UNKNOWN))


def samples_of_split(rows: Dataset | StreamSplit, *, alone: bool = False) -> Iterator[Sample]:
    """This process's samples of a split that training uses; all of them where it reads `alone`."""
    state = PartialState()
    rank, world_size = (0, 1) if alone else (state.process_index, state.num_processes)
    if not isinstance(rows, StreamSplit):
        return samples_of(rows, rank=rank, world_size=world_size)
    ids = {name: index for index, name in enumerate(rows.names)}
    return (sample_of(row, ids) for row in rows.read(rank, world_size))


def some_of_each_class(rows: Dataset | StreamSplit) -> Iterator[Sample]:
    """`unknowns.PICTURES` of each class, for one process to read."""
    taken: Counter[int] = Counter()
    if isinstance(rows, StreamSplit):
        for sample in islice(samples_of_split(rows, alone=True), SEARCHED):
            taken[sample.label] += 1
            if taken[sample.label] <= PICTURES:
                yield sample
        return
    labels = rows.with_format(None)["label"][:]
    chosen = []
    for number in np.random.default_rng(0).permutation(len(labels)).tolist():
        taken[labels[number]] += 1
        if taken[labels[number]] <= PICTURES:
            chosen.append(number)
    yield from samples_of(rows.select(sorted(chosen)))


def unknown_samples(folder: Path) -> Iterator[Sample]:
    """Every picture in a folder, as something that the model doesn't have."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder. Name one with photos of other things.")
    files = list_images(folder)
    if not files:
        raise InputError(f"{folder}: no image files. Name a folder with photos of other things.")
    state = PartialState()
    for file in files[state.process_index :: state.num_processes]:
        yield Sample(str(file), file, UNKNOWN)


def picture_opener(rows: Dataset, outcomes: Outcomes) -> Opener:
    """Pictures of a dataset by the row of their outcome."""
    raw = rows.with_format(None)
    places = {path: place for place, path in enumerate(raw["path"][:])}

    def open_row(row: int) -> Image.Image | None:
        image = raw[places[outcomes.paths[row]]]["image"]
        try:
            return open_rgb(image["bytes"] or image["path"])
        except OSError:  # gone since
            return None

    return open_row
