"""The index of a stream: how many rows each shard, split and label has, counted in one pass.

Rows are held out by a hash of their paths, the same on every machine. Nothing is decoded.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import datasets

from hffruits.core.counts import counted
from hffruits.core.errors import InputError
from hffruits.core.progress import progress_bar
from hffruits.data.readers.folders import split_names_of

logger = logging.getLogger(__name__)

Row = dict[str, Any]


@dataclass(frozen=True)
class StreamIndex:
    """How many rows of each split a stream has, by shard and by label."""

    seed: int
    holdout: dict[str, float]
    shards: dict[str, list[int]]  # split -> its rows in each shard
    counts: dict[str, Counter[str]]  # split -> its rows of each label

    def rows(self, split: str) -> int:
        return sum(self.shards[split])

    def to_json(self) -> str:
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str) -> "StreamIndex":
        stored = json.loads(text)
        counts = {split: Counter(labels) for split, labels in stored["counts"].items()}
        return cls(**stored | {"counts": counts})


def split_of(path: str, holdout: dict[str, float], seed: int) -> str:
    """The split of a row: `holdout` takes its shares by a hash of the path, train has the rest."""
    place = share_of(path, seed)
    for split, fraction in holdout.items():
        if place < fraction:
            return split
        place -= fraction
    return "train"


def share_of(path: str, seed: int | str) -> float:
    """A number in [0, 1) that is a row's own, evenly spread over rows."""
    return stable_hash(seed, path) / 2**64


def index_stream(
    stream: datasets.IterableDataset,
    *,
    holdout: dict[str, float],
    seed: int,
    description: str = "Counting images",
    unsplit: str | None = None,
) -> StreamIndex:
    """Read labels and keys once and count them; nothing is decoded.

    `holdout` is {"validation": 0.15, ...}, shares that are split off train; {} for none.
    Rows without a label are left out, here and in `StreamRows`. Raises `InputError` for keys that
    come twice and, where the stream is all of `unsplit`, for folders in them that name splits.
    """
    for split, fraction in holdout.items():
        if not 0 < fraction < 1 or sum(holdout.values()) >= 1:
            raise InputError(
                f"{split}={fraction:g}: fractions lie between 0 and 1 and leave some for train. "
                "Try 0.15."
            )
    shards = {split: [0] * stream.num_shards for split in ("train", *holdout)}
    counts = {split: Counter() for split in shards}
    unlabelled, keys = 0, set()  # hashes, at half the memory of the paths
    folders: set[str] = set()
    columns = stream.select_columns(["label", "path"])
    with progress_bar(desc=description, unit="img", leave=False) as bar:
        for shard in range(stream.num_shards):
            for row in read_shard(columns, shard):
                label, path = row["label"], row["path"]
                if not label:
                    unlabelled += 1
                    continue
                key = stable_hash(path)
                if key in keys:
                    raise InputError(
                        f"{path}: twice in the stream, again in shard {shard}. Paths are keys; "
                        "remove one, or put the shard's name before it."
                    )
                keys.add(key)
                folders.add(path.rpartition("/")[0])
                split = split_of(path, holdout, seed)
                shards[split][shard] += 1
                counts[split][label] += 1
                bar.update()
    if unsplit and (named := split_names_of(folders)):
        splits = ", ".join(sorted(set().union(*named.values())))
        raise InputError(
            f"{unsplit}: its paths name splits ({splits}), and a stream isn't split by them. Name "
            "files or shards so (train-000.tar), or leave streaming out."
        )
    if unlabelled:
        logger.warning(
            "%s left out", counted(unlabelled, "row without a label is", "rows without a label are")
        )
    return StreamIndex(seed=seed, holdout=dict(holdout), shards=shards, counts=counts)


def stable_hash(*parts: int | str) -> int:
    """64 bits, the same on every machine and in every process."""
    text = "/".join(map(str, parts)).encode(errors="surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


def read_shard(stream: datasets.IterableDataset, shard: int) -> Iterator[Row]:
    """The rows of one shard, whoever asks."""
    view = stream.shard(num_shards=stream.num_shards, index=shard)
    # not `iter(view)`, which in a DataLoader worker would split the shard over the workers again
    for batch in view.iter(batch_size=1):
        yield {column: values[0] for column, values in batch.items()}
