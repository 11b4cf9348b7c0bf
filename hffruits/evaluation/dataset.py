"""Labelled images as samples: of a run's splits, of any data, of classes a model lacks."""

import difflib
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path

from accelerate import PartialState

from hffruits.core.errors import InputError
from hffruits.core.names import match_names
from hffruits.data.arguments import DataArguments
from hffruits.data.images import list_images
from hffruits.data.readers.folders import SPLIT_NAMES, class_of_folder
from hffruits.data.sources import open_source
from hffruits.data.split_protocol import UNKNOWN, MapSplit, Sample, Split
from hffruits.data.splits import choose_splits, independent_groups
from hffruits.data.stream_dataset import StreamSplit, load_streams, name_labels, refuse_lists
from hffruits.data.stream_index import StreamIndex
from hffruits.data.validation import find_duplicates, labelled_rows
from hffruits.evaluation.predictions import Predictions
from hffruits.evaluation.report import RowOpener

logger = logging.getLogger(__name__)
UNSPLIT = StreamIndex(seed=0, holdout={}, shards={}, counts={})


class MissingSplitError(InputError):
    """The data has no such split."""


@dataclass(frozen=True)
class Photos:
    """What a model is measured on."""

    split: str  # or "all"
    rows: Split
    total: int | None  # None for a stream that was not counted
    foreign: dict[str, int] = field(default_factory=dict)  # classes that the model lacks: photos
    digests: dict[str, str] = field(default_factory=dict)  # path -> of the bytes; none of a stream

    def samples(self) -> Iterator[Sample]:
        """Those of this process."""
        return samples_of_split(self.rows)

    def opener(self, predictions: Predictions) -> RowOpener | None:
        """Images by the row of their prediction; None for a stream, where they are gone."""
        return image_opener(self.rows, predictions)

    def draw(self, count: int, *, after: int = 0) -> list[Sample]:
        """Of up to `count` photos of classes that the model has, those of this process.

        `after` so many, so that two draws have none in common.
        """
        state = PartialState()
        drawn = self.rows.draw_known(count, after=after)
        return list(islice(drawn, state.process_index, None, state.num_processes))


def choose_photos(
    data_args: DataArguments,
    labels: list[str],
    split: str | None,
    *,
    held_out_by: int | None = None,
) -> Photos:
    """The rows of the split asked for, or of the test split, else validation, else everything.

    `held_out_by` is the seed with which a run held out rows of a stream. Raises `InputError` for
    data that can't be used, and where the model has none of its classes.
    """
    ids = {name: index for index, name in enumerate(labels)}
    if data_args.streaming:
        return _choose_stream(data_args, ids, split, held_out_by)
    raw = open_source(data_args, to_train=False)
    parts = labelled_rows(raw, data_args)
    if data_args.split_lists:
        lists = Path(data_args.split_lists)
        listed = [name for name in SPLIT_NAMES if (lists / f"{name}.txt").is_file()]
        only = _choose_split(listed, split) if listed else None
        parts = choose_splits(dict(parts), data_args, only=only)
    chosen = _choose_split(list(parts), split)
    rows = parts[chosen].rows
    own_names = match_names(set(rows["label"][:]), labels)
    names = [own_names.get(label, label) for label in rows["label"][:]]
    found = [ids.get(label, UNKNOWN) for label in names]
    if set(found) <= {UNKNOWN}:
        raise foreign_classes(data_args, sorted(set(names)), labels)
    foreign = Counter(name for name in sorted(names) if name not in ids)
    for name in list(foreign)[:5]:
        near = difflib.get_close_matches(name, ids, 1, 0.7)
        logger.warning(
            "class %s: the model doesn't have it; unknown photos of it: %d%s",
            *(name, foreign[name], f". Is it {near[0]}?" if near else ""),
        )
    name = "all" if list(parts) == ["train"] and split is None else chosen
    part = find_duplicates(parts[chosen], raw, data_args)
    groups = independent_groups({chosen: part}, data_args)[chosen]
    digests = dict(zip(rows["path"][:], part.digests, strict=True))
    rows = MapSplit(rows, found, tuple(labels), groups)
    return Photos(name, rows, len(found), dict(foreign), digests)


def _choose_stream(
    data_args: DataArguments, ids: dict[str, int], split: str | None, seed: int | None
) -> Photos:
    if seed is None:
        refuse_lists(data_args)
        raw = open_source(data_args, to_train=False)
        streams = raw.splits
        chosen = _choose_split(list(streams), split)
        stream = streams[chosen]
        if raw.key_folders:
            stream = name_labels(stream, partial(class_of_folder, known=tuple(ids)))
        rows = StreamSplit(stream, UNSPLIT, "train", tuple(ids))
        name = "all" if list(streams) == ["train"] and split is None else chosen
        return Photos(name, rows, None)
    held_out = load_streams(replace(data_args, coarse_labels=None), seed=seed)
    chosen = _choose_split(list(held_out), split)
    rows = replace(held_out[chosen], names=tuple(ids))
    return Photos(chosen, rows, len(rows))


def foreign_classes(data_args: DataArguments, names: list[str], labels: list[str]) -> InputError:
    found = ", ".join(names[:3])
    return InputError(
        f"{data_args.source_name}: the model has none of its classes ({found}, ...). "
        f"It has {', '.join(labels[:3])}, ... Rename the folders."
    )


def _choose_split(found: list[str], asked: str | None) -> str:
    if asked is None:
        return next(name for name in reversed(SPLIT_NAMES) if name in found)
    if asked not in found:
        raise MissingSplitError(
            f"split={asked}: the data has {', '.join(found)}. Name one of them."
        )
    return asked


def samples_of_split(rows: Split) -> Iterator[Sample]:
    """This process's samples of a split."""
    state = PartialState()
    return rows.samples(state.process_index, state.num_processes)


def unknown_samples(folder: Path) -> list[Sample]:
    """Every image in a folder, as something that the model doesn't have; this process's share.

    Raises `InputError` for a folder without images.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder. Name one with photos of other things.")
    files = list_images(folder)
    if not files:
        raise InputError(f"{folder}: no image files. Name a folder with photos of other things.")
    state = PartialState()
    own = files[state.process_index :: state.num_processes]
    return [Sample(str(file), file, UNKNOWN) for file in own]


def image_opener(rows: Split, predictions: Predictions) -> RowOpener | None:
    """Images of a split by the row of their prediction; None for a stream, where they are gone."""
    open_path = rows.opener()
    return open_path and (lambda row: open_path(predictions.paths[row]))
