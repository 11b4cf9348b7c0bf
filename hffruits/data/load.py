"""Any usual form of labelled fruit photos in, a checked and split `DatasetDict` out.

Every picture is read once before it is trusted, and near-duplicates are known before anything is
split. No tensors, no augmentation.
"""

import hashlib
import logging
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, Features, Value, concatenate_datasets

from hffruits.core.errors import InputError
from hffruits.data.class_hierarchy import read_coarse_labels
from hffruits.data.image_cache import cache_photos
from hffruits.data.images import MAX_PIXELS, decode_images
from hffruits.data.readers.error_translation import quiet
from hffruits.data.readers.folders import SPLIT_NAMES
from hffruits.data.source import Source
from hffruits.data.sources import open_source
from hffruits.data.split_protocol import MapSplit, Split
from hffruits.data.splits import choose_splits, count_leaks, write_lists
from hffruits.data.validation import Part, Skipped, check_pictures

logger = logging.getLogger(__name__)


class FruitDatasets(DatasetDict):
    """A `DatasetDict` that also knows what came to light on the way.

    `skipped`: the files left out. `coarse`: class -> coarse label, empty without a hierarchy.
    `leaks`: for each split held out, how many of its pictures have a near-duplicate in train.
    `fingerprint`: a digest of all pictures' bytes, labels and splits, wherever they lie.
    """

    def __init__(
        self,
        splits: dict[str, Dataset],
        skipped: list[Skipped],
        coarse: dict[str, str] | None = None,
        leaks: dict[str, int] | None = None,
        fingerprint: str | None = None,
    ):
        super().__init__(splits)
        self.skipped, self.coarse, self.leaks = skipped, coarse or {}, leaks or {}
        self.fingerprint = fingerprint

    def split(self, name: str) -> Split:
        """One of them as a `Split`."""
        rows = self[name]
        labels = rows.with_format(None)["label"][:]  # else each photo is decoded
        return MapSplit(rows, labels, tuple(rows.features["label"].names))

    def write_lists(self, folder: Path) -> None:
        """Write `train.txt`, ...: one path a line, so that the same split can be made again."""
        write_lists(self, folder)

    def __reduce__(self):
        known = (self.skipped, self.coarse, self.leaks, self.fingerprint)
        return FruitDatasets, (dict(self), *known)


def load_fruits(
    data_dir: str | Path | None = None,
    *,
    source: Source | None = None,
    validation_fraction: float = 0.15,
    test_fraction: float = 0.15,
    split_by: str = "duplicates",
    group_by: str | None = None,
    seed: int = 42,
    lists_dir: str | Path | None = None,
    write_lists_to: str | Path | None = None,
    exclude: str | Path | None = None,
    coarse_labels: str | Path | None = None,
    cache: str = "none",
    cache_size: int = 512,
    max_bad_fraction: float = 0.05,
    max_pixels: int = MAX_PIXELS,
    num_workers: int | None = None,
) -> FruitDatasets:
    """Load labelled photos as `train`, `validation`, `test`.

    `data_dir` is a folder of class folders, nested at any depth; a zip or tar of one; a CSV,
    JSONL or Parquet file; or WebDataset shards. `source` says the same of a Hub dataset, or names
    columns. Splits that the data has are kept; a missing `validation` (and `test`, where neither
    is given) is split off train by class, with near-duplicates kept on one side (`split_by`), or
    whatever shares `group_by`: a column, or a pattern found in the path.

    Columns: `image` (PIL, upright RGB), `label` (`ClassLabel`, names from train) and `path` (below
    `data_dir`, or a name of its own). The label of a photo in a folder is the leaf folder's name,
    with its parent where two leaves of one split share it.

    `lists_dir` repeats an earlier split from the lists that `write_lists_to` received; `exclude`
    is a list of paths to leave out; `cache` is one of `photo_cache.CACHES`. Raises `InputError`
    for anything wrong with the data.
    """
    if data_dir and source:
        raise InputError(f"data_dir={data_dir}, source={source.name}: give one of them.")
    group_by = group_by or (source and source.group_by)
    source = replace(source or Source(data_dir), group_by=group_by)
    raw = open_source(source)
    checked = check_pictures(
        raw,
        name=source.name,
        exclude=exclude,
        max_bad_fraction=max_bad_fraction,
        max_pixels=max_pixels,
        num_workers=num_workers,
    )
    checked.check_classes()
    parts = choose_splits(
        checked.parts,
        {"validation": validation_fraction, "test": test_fraction},
        split_by=split_by,
        group_by=group_by,
        seed=seed,
        lists_dir=lists_dir and Path(lists_dir),
    )
    names = _label_names({split: part.rows["label"][:] for split, part in parts.items()})
    coarse = {name: raw.coarse[name] for name in names if name in raw.coarse}
    if len(coarse) < len(names):  # of an archive of lists, say
        coarse = {}
    if coarse_labels is not None:
        coarse = read_coarse_labels(Path(coarse_labels), names)
    datasets = {}
    for split in SPLIT_NAMES:
        if split in parts:
            rows = parts[split].rows
            if cache == "decoded" or (cache != "none" and split == "train"):
                digests = parts[split].records["digest"]
                rows = cache_photos(rows, digests, cache, size=cache_size, max_pixels=max_pixels)
            datasets[split] = _build_dataset(rows, names, max_pixels)
    if write_lists_to is not None:
        write_lists(datasets, Path(write_lists_to))
    leaks = count_leaks(parts)
    return FruitDatasets(datasets, checked.skipped, coarse, leaks, _fingerprint(parts))


def _fingerprint(parts: dict[str, Part]) -> str:
    """The same for the same pictures in the same classes and splits, in any order and place."""
    digest = hashlib.sha256()
    for split in SPLIT_NAMES:
        if split in parts:
            pairs = zip(parts[split].rows["label"][:], parts[split].records["digest"], strict=True)
            lines = sorted(f"{split}\0{label}\0{picture.decode()}\n" for label, picture in pairs)
            digest.update("".join(lines).encode(errors="surrogateescape"))
    return digest.hexdigest()


def _label_names(labels: dict[str, list[str]]) -> list[str]:
    """Sorted class names of train; every other split must stay within them."""
    known = set(labels["train"])
    names = sorted(known)
    if len(names) < 2:
        raise InputError(
            f"only one class ({', '.join(names)}). Telling fruits apart needs two class folders."
        )
    for split, own in labels.items():
        unknown = Counter(label for label in own if label not in known)
        if unknown:
            listed = ", ".join(f"{label} ({count} images)" for label, count in unknown.items())
            raise InputError(
                f"{split} has classes that train lacks: {listed}. Add them to train, or remove "
                f"them from {split}."
            )
    return names


# ---- as a `datasets.Dataset` ----


def _build_dataset(rows: Dataset, names: list[str], max_pixels: int) -> Dataset:
    ids = {name: index for index, name in enumerate(names)}
    # `image` stays undecoded, so that `open_rgb` alone decides how a file becomes a picture
    texts = Dataset.from_dict(
        {"label": [ids[label] for label in rows["label"][:]], "path": rows["path"][:]},
        Features({"label": ClassLabel(names=names), "path": Value("string")}),
    )
    with quiet():
        rows = concatenate_datasets([rows.select_columns("image"), texts], axis=1)
    return rows.with_transform(partial(decode_images, max_pixels=max_pixels))
