"""`load_fruits`: labelled photos in any usual form as a checked, split `DatasetDict`.

Every image is read once before it is trusted, and near-duplicates are known before anything is
split. No tensors, no augmentation.
"""

import hashlib
import logging
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, concatenate_datasets

from hffruits.core.counts import counted
from hffruits.core.errors import InputError
from hffruits.core.names import list_names
from hffruits.data.arguments import DataArguments
from hffruits.data.class_hierarchy import read_coarse_labels
from hffruits.data.image_cache import cache_images
from hffruits.data.images import decode_images
from hffruits.data.readers.folders import SPLIT_NAMES
from hffruits.data.sources import open_source
from hffruits.data.split_protocol import MapSplit, Split
from hffruits.data.splits import (
    choose_splits,
    count_leaks,
    independent_groups,
    shares_to_hold_out,
    write_lists,
)
from hffruits.data.stream_dataset import FruitStreams, load_streams
from hffruits.data.validation import Part, Skipped, check_images

logger = logging.getLogger(__name__)


class FruitDatasets(DatasetDict):
    """A `DatasetDict` that also knows what came to light on the way.

    `skipped`: the files left out. `coarse`: class -> coarse label, empty without a hierarchy.
    `dropped`: class that `rare_classes` left out -> number of its photos.
    `leaks`: for each split held out, how many of its images have a near-duplicate in train.
    `groups`: numbers of the images of each split, equal for those that are not independent.
    `fingerprint`: a digest of all images' bytes, labels and splits, wherever they lie. `truncated`:
    the files that lack their end, used since `allow_truncated_images` was set. `digests`: of the
    bytes of each image of train.
    """

    def __init__(
        self,
        splits: dict[str, Dataset],
        skipped: list[Skipped],
        *,
        coarse: dict[str, str] | None = None,
        leaks: dict[str, int] | None = None,
        fingerprint: str | None = None,
        dropped: dict[str, int] | None = None,
        truncated: list[str] | None = None,
        groups: dict[str, np.ndarray] | None = None,
        digests: list[str] | None = None,
    ):
        super().__init__(splits)
        self.skipped, self.fingerprint = skipped, fingerprint
        self.coarse, self.leaks, self.groups = coarse or {}, leaks or {}, groups or {}
        self.dropped, self.truncated = dropped or {}, truncated or []
        self.digests = digests or []

    def split(self, name: str) -> Split:
        """One of them as a `Split`."""
        rows = self[name]
        labels = rows.with_format(None)["label"][:]  # else each photo is decoded
        names = tuple(rows.features["label"].names)
        return MapSplit(rows, labels, names, self.groups.get(name))

    def write_lists(self, folder: Path) -> None:
        """Write `train.txt`, ...: one path a line, so that the same split can be made again."""
        write_lists(self, folder)

    def __reduce__(self):
        return partial(FruitDatasets, **vars(self)), (dict(self),)


FruitData = FruitDatasets | FruitStreams


def load_fruits(
    data: DataArguments | str | Path | None = None,
    *,
    seed: int = 42,
    num_workers: int | None = None,
    **options: Any,
) -> FruitData:
    """Load labelled photos, checked and split, as `train`, `validation` and `test`.

    Every image is read once; broken ones are left out. Splits that the data has are kept; a missing
    `validation` (and `test`, where neither is given) is split off train by class, with
    near-duplicates on one side (`split_by`), or whatever shares `group_by`: a column, or a pattern
    found in the path. The label of a photo in a folder is the leaf folder's name, with its parent
    where two leaves share it.

    Args:
        data: a folder of class folders, nested at any depth; a zip or tar of one; a CSV, JSONL or
            Parquet file; WebDataset shards; a folder that `save_to_disk` wrote; a Hub id
            (`user/name`); or a ready `DataArguments`. None for the sample set.
        seed: of the splits that are made.
        num_workers: threads that read the images; by default as many as there are cores. A stream
            is read by one.
        **options: fields of `DataArguments`: `validation_fraction`, `exclude`, `streaming`, ...

    Returns:
        A `DatasetDict` that also has `skipped`, `dropped`, `coarse`, `leaks`, `fingerprint` and
        `groups`; with `streaming`, a `FruitStreams`. Its columns: `image` (PIL, upright RGB),
        `label` (`ClassLabel`, names from train) and `path` (below the data's folder, or a name of
        its own).

    Raises:
        InputError: for anything wrong with the data, for unknown options, and for values out of
            range.

    >>> import hffruits
    >>> fruits = hffruits.load_fruits("fruits")
    >>> {split: len(rows) for split, rows in fruits.items()}
    {'train': 32, 'validation': 12, 'test': 20}
    >>> fruits["train"][0]["image"].mode
    'RGB'
    """
    data = DataArguments.of(data, function=load_fruits, **options)
    if data.streaming:
        return load_streams(data, seed=seed)
    raw = open_source(data)
    if data.split_lists is None:
        shares_to_hold_out(data, raw.splits)  # what is wrong with them, before photos are read
    checked = check_images(raw, data, num_workers=num_workers)
    checked.check_classes()
    checked.check_labels()
    parts = choose_splits(checked.parts, data, seed=seed)
    names = _label_names({split: part.rows["label"][:] for split, part in parts.items()})
    coarse = {name: raw.coarse[name] for name in names if name in raw.coarse}
    if len(coarse) < len(names):  # of an archive of lists, say
        coarse = {}
    if data.coarse_labels is not None:
        coarse = read_coarse_labels(Path(data.coarse_labels), names)
    datasets = {}
    for split in SPLIT_NAMES:
        if split in parts:
            rows = _cached(parts[split], data) if _is_cached(split, data) else parts[split].rows
            datasets[split] = _build_dataset(rows, names, data.max_image_pixels)
    rare = [Skipped(Path(path), why) for path, why in parts.left_out.items()]
    return FruitDatasets(
        datasets,
        checked.skipped + rare,
        coarse=coarse,
        leaks=count_leaks(parts),
        fingerprint=_fingerprint(parts),
        dropped=parts.dropped,
        truncated=checked.truncated,
        groups=independent_groups(parts, data),
        digests=parts["train"].digests,
    )


def _is_cached(split: str, data: DataArguments) -> bool:
    kind = data.image_cache
    return kind == "decoded" or (kind != "none" and split == "train")


def _cached(part: Part, data: DataArguments) -> Dataset:
    return cache_images(
        part.rows,
        part.records["digest"],
        data.image_cache,
        size=data.image_cache_size,
        max_pixels=data.max_image_pixels,
    )


def _fingerprint(parts: dict[str, Part]) -> str:
    """The same for the same images in the same classes and splits, in any order and place."""
    digest = hashlib.sha256()
    for split in SPLIT_NAMES:
        if split in parts:
            pairs = zip(parts[split].rows["label"][:], parts[split].records["digest"], strict=True)
            lines = sorted(f"{split}\0{label}\0{image.decode()}\n" for label, image in pairs)
            digest.update("".join(lines).encode(errors="surrogateescape"))
    return digest.hexdigest()


def _label_names(labels: dict[str, list[str]]) -> list[str]:
    """Sorted class names of train; every other split must stay within them."""
    known = set(labels["train"])
    names = sorted(known)
    if len(names) < 2:
        raise InputError(
            f"train has only one class ({', '.join(names)}). Classification needs two folders."
        )
    for split, own in labels.items():
        unknown = Counter(label for label in own if label not in known)
        if unknown:
            counts = (f"{label} ({counted(count, 'image')})" for label, count in unknown.items())
            listed = list_names(counts, 10)
            raise InputError(
                f"{split} has classes that train lacks: {listed}. Add them to train, or remove "
                f"them from {split}."
            )
    return names


# ---- as a `datasets.Dataset` ----


def _build_dataset(rows: Dataset, names: list[str], max_pixels: int) -> Dataset:
    ids = {name: index for index, name in enumerate(names)}
    # Numbers are put beside all rows of the source, and rows selected then: beside selected rows,
    # `datasets` would copy their photos, into the folder that they came from.
    everything = Dataset(rows.data, rows.info)
    chosen = np.arange(len(everything))
    if rows._indices is not None:
        chosen = rows._indices["indices"].to_numpy().astype(np.int64)
    labels = np.zeros(len(everything), np.int64)
    labels[chosen] = [ids[label] for label in rows["label"][:]]
    numbers = Dataset.from_dict({"label": labels}, Features({"label": ClassLabel(names=names)}))
    # `image` stays undecoded, so that only `open_rgb` decides how a file becomes an image
    joined = [everything.select_columns("image"), numbers, everything.select_columns("path")]
    rows = concatenate_datasets(joined, axis=1).select(chosen)
    return rows.with_transform(partial(decode_images, max_pixels=max_pixels))
