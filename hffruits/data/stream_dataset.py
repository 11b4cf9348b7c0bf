"""Streamed splits: data larger than the disk, read on the fly after one pass that counts labels.

No near-duplicates, no scan, no lists: rows are held out by a hash of their names.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Features, IterableDataset
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

from hffruits.core.cache import cache_root
from hffruits.core.errors import InputError
from hffruits.core.files import optional_cache, write_text
from hffruits.core.names import match_names
from hffruits.data.arguments import DataArguments
from hffruits.data.class_hierarchy import read_coarse_labels
from hffruits.data.sources import RawRows, open_source
from hffruits.data.split_protocol import UNKNOWN, Sample, Split, source_of
from hffruits.data.splits import shares_to_hold_out
from hffruits.data.stream_index import StreamIndex, index_stream, read_shard, share_of, split_of
from hffruits.data.validation import Skipped

logger = logging.getLogger(__name__)
VERSION = 5  # of what is counted: raise it when that changes
# Fields of `DataArguments` that say which rows there are, and what their labels are.
READ_BY = (
    "data_dir", "dataset_name", "dataset_config_name", "train_split_name",
    "validation_split_name", "test_split_name", "image_column_name", "label_column_name",
    "group_by", "label_from", "table_encoding",
)  # fmt: skip
SEARCHED = 20_000  # rows in which some of each class are searched
SPREAD = 16  # shards, evenly over all, that some known images are of


@dataclass(frozen=True)
class StreamSplit:
    """A `Split` of a stream: undecoded rows, and how many there are of what."""

    stream: IterableDataset
    index: StreamIndex
    part: str  # the index's name of the split
    names: tuple[str, ...]  # of the classes
    shuffle_buffer: int = 1000  # rows among which training draws the next one

    def __len__(self) -> int:
        return self.index.rows(self.part)

    @property
    def features(self) -> Features:
        """As a `Dataset` has them."""
        return Features({"label": ClassLabel(names=list(self.names))})

    @property
    def label_counts(self) -> list[int]:
        """Rows of each class, (K,)."""
        return [self.index.counts[self.part][name] for name in self.names]

    def read(self, rank: int = 0, world_size: int = 1) -> Iterator[dict[str, Any]]:
        """A process's share of the undecoded rows: whole shards, each row once.

        Labels that a reader takes for one of `names` are that one.
        """
        place = self.index.holdout, self.index.seed
        known: dict[str, str] = {}
        for shard in range(rank, self.stream.num_shards, world_size):
            for row in read_shard(self.stream, shard):
                label = row["label"]
                if label and split_of(row["path"], *place) == self.part:
                    if label not in known:
                        known |= {label: label} | match_names([label], self.names)
                    yield row | {"label": known[label]}

    def samples(self, rank: int = 0, world_size: int = 1) -> Iterator[Sample]:
        """The same rows; labels that are none of `names` are UNKNOWN."""
        ids = {name: number for number, name in enumerate(self.names)}
        for row in self.read(rank, world_size):
            yield Sample(row["path"], source_of(row["image"]), ids.get(row["label"], UNKNOWN))

    def draw(self, count: int) -> Iterator[Sample]:
        """About `count` samples, by a hash of their paths; all rows are read for it."""
        wanted = count / max(1, len(self))
        return (sample for sample in self.samples() if share_of(sample.path, "drawn") < wanted)

    def draw_known(self, count: int, *, after: int = 0) -> Iterator[Sample]:
        """The first ones of up to `SPREAD` shards: few are opened, and no rows need be counted."""
        shards = range(0, self.stream.num_shards, -(-self.stream.num_shards // SPREAD))
        share, taken = -(-count // len(shards)), -(-after // len(shards))
        for shard in shards:
            samples = self.samples(shard, self.stream.num_shards)
            known = (sample for sample in samples if sample.label != UNKNOWN)
            yield from islice(known, taken, taken + share)

    def some_of_each_class(self, count: int) -> Iterator[Sample]:
        """Up to `count` samples of each class among the first rows of every shard."""
        taken: Counter[int] = Counter()
        shards = self.stream.num_shards
        for shard in range(shards):
            for sample in islice(self.samples(shard, shards), -(-SEARCHED // shards)):
                taken[sample.label] += 1
                if taken[sample.label] <= count:
                    yield sample

    def opener(self) -> None:
        """None: what was read is gone."""


class FruitStreams(dict[str, StreamSplit]):
    """`train`, `validation` and maybe `test` of a stream, with what `FruitDatasets` says too."""

    fingerprint: str | None = None  # only known once all images were read

    def __init__(self, splits: dict[str, StreamSplit], coarse: dict[str, str] | None = None):
        super().__init__(splits)
        self.coarse = coarse or {}
        self.skipped: list[Skipped] = []
        self.leaks: dict[str, int] = {}
        self.dropped: dict[str, int] = {}
        self.truncated: list[str] = []
        self.digests: list[str] = []

    def split(self, name: str) -> Split:
        """One of them."""
        return self[name]

    def write_lists(self, folder: Path) -> None:
        """Write none: the split is a hash of the rows' names, and so the same again."""

    def __reduce__(self):
        return FruitStreams, (dict(self), self.coarse)


def load_streams(data: DataArguments, *, seed: int = 42) -> FruitStreams:
    """Count the rows of shards, tables or a Hub dataset, and split off what is missing.

    The count is cached on disk, for files that stay as they are and for a Hub dataset's commit.
    Raises `InputError` for anything wrong with the data, and for options that a stream has no use
    for.
    """
    refuse_lists(data)
    raw = open_source(data)
    streams = raw.splits
    texts: dict[str, IterableDataset] = {}  # the same without images, opened where needed
    held_out = shares_to_hold_out(data, streams)
    version = _version_of(data)
    counted = {}
    for split in streams:
        holdout = held_out if split == "train" else {}
        file = version and _count_file(json.dumps([version, split, holdout, seed]))
        index = file and _read_count(file)
        if not index:
            texts = texts or open_source(data, with_images=False).splits
            options = {"unsplit": data.source_name} if list(streams) == ["train"] else {}
            options["description"] = f"Counting {split}"
            index = index_stream(texts[split], holdout=holdout, seed=seed, **options)
            if file:
                _write_count(index, file)
        counted[split] = index
    named = _unify_labels(counted, raw)
    if raw.key_folders:
        streams = {split: name_labels(rows, named.__getitem__) for split, rows in streams.items()}
    names = tuple(sorted(counted["train"].counts["train"]))
    if len(names) < 2:
        found = ", ".join(names)
        raise InputError(f"{data.source_name}: only one class ({found}). Two are needed.")
    whole = {split: (stream, counted[split], "train") for split, stream in streams.items()}
    parts = whole | {split: (streams["train"], counted["train"], split) for split in held_out}
    splits = {
        split: StreamSplit(*part, names, data.shuffle_buffer) for split, part in parts.items()
    }
    for split, rows in splits.items():
        unknown = sorted(rows.index.counts[rows.part].keys() - set(names))
        if unknown:
            raise InputError(
                f"{split} has classes that train lacks: {', '.join(unknown[:5])}. Add them to "
                f"train, or remove them from {split}."
            )
        if not len(rows):
            raise InputError(f"{split}: no rows. Hold out more, or add some.")
    file = data.coarse_labels
    coarse = read_coarse_labels(Path(file), names) if file else {}
    return FruitStreams(splits, coarse)


def refuse_lists(data: DataArguments) -> None:
    """Raise `InputError` for an option that a stream would ignore."""
    names = ("exclude", "split_lists", "group_by", "image_cache", "rare_classes")
    names += ("allow_truncated_images",)
    data.refuse(*names, why="needs all photos at hand, and a stream is read on the fly")


def _unify_labels(counted: dict[str, StreamIndex], raw: RawRows) -> dict[str, str]:
    """Labels that are one class are counted as one; gives label -> class."""
    totals = {split: sum(index.counts.values(), Counter()) for split, index in counted.items()}
    unified = raw.name_classes(totals)
    for own in (own for index in counted.values() for own in index.counts.values()):
        renamed = Counter()
        for label, count in own.items():
            renamed[unified[label]] += count
        own.clear()
        own.update(renamed)
    return unified


def name_labels(stream: IterableDataset, name: Callable[[str], str]) -> IterableDataset:
    """The rows with other labels; those without one stay."""
    options = {"input_columns": ["label"], "features": stream.features}
    return stream.map(partial(_name_label, name=name), **options)


def _name_label(label: str | None, name: Callable[[str], str]) -> dict[str, str | None]:
    return {"label": label and name(label)}


def _count_file(key: str) -> Path:
    digest = hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    return cache_root() / f"streams-v{VERSION}" / f"{digest}.json"


def _read_count(file: Path) -> StreamIndex | None:
    try:
        return StreamIndex.from_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not counted yet, or damaged


def _write_count(index: StreamIndex, file: Path) -> None:
    with optional_cache(file):
        write_text(file, index.to_json())


def _version_of(data: DataArguments) -> str | None:
    """What changes when the rows do; None where that can't be known."""
    described = repr([getattr(data, name) for name in READ_BY])
    if data.dataset_name:
        try:
            return f"{described} {HfApi().dataset_info(data.dataset_name).sha}"
        except (HfHubHTTPError, HTTPError, OfflineModeIsEnabled):
            return None
    path = Path(str(data.data_dir)).expanduser()
    if "://" in str(data.data_dir):
        return None
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
    elif path.is_file():
        files = [path]
    else:
        start = Path(path.anchor or ".")
        files = sorted(start.glob(str(path.relative_to(path.anchor or "."))))
        files = [file for file in files if file.is_file()]
    stats = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return f"{described} {stats}"
