"""Folders of fruit photos in, a checked and split `DatasetDict` out.

Every file is read once before it is trusted. No tensors, no augmentation, no network.
"""

import logging
import os
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from tqdm.auto import tqdm

from hffruits.errors import InputError
from hffruits.images import MAX_PIXELS, find_defect, is_hidden, list_images, open_rgb

logger = logging.getLogger(__name__)

SPLIT_NAMES = ("train", "validation", "test")
SPLITS = {  # folder names, in lower case
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Photo:
    """One image file: its path below the data folder, and its class."""

    path: Path
    label: str


@dataclass(frozen=True)
class Skipped:
    """One file that was left out, and why."""

    path: Path
    reason: str


class FruitDatasets(DatasetDict):
    """A `DatasetDict` that also knows which files were left out (`skipped`)."""

    def __init__(self, splits: dict[str, Dataset], skipped: list[Skipped]):
        super().__init__(splits)
        self.skipped = skipped

    def __reduce__(self):
        return FruitDatasets, (dict(self), self.skipped)


def load_fruits(
    data_dir: str | Path,
    *,
    validation_fraction: float = 0.15,
    test_fraction: float = 0.15,
    seed: int = 42,
    lists_dir: str | Path | None = None,
    write_lists_to: str | Path | None = None,
    max_bad_fraction: float = 0.05,
    max_pixels: int = MAX_PIXELS,
    num_workers: int | None = None,
) -> FruitDatasets:
    """Load a folder of class folders, nested at any depth, as `train`, `validation`, `test`.

    Split folders under their usual names (`train`, `Training`, `val`, `valid`, `Test`, ...) are
    kept; a missing `validation` (and `test`, where neither is given) is split off train by class.
    Columns:
    `image` (PIL, upright RGB), `label` (`ClassLabel`, names from train) and `path` (below
    `data_dir`). A label is the leaf folder's name, with its parent where two leaves of one split
    share it.

    `lists_dir` repeats an earlier split from the lists that `write_lists_to` received.
    Raises `InputError` for anything wrong with the folder.
    """
    if max_pixels > 2 * MAX_PIXELS:
        raise InputError(
            f"max_pixels={max_pixels}: Pillow refuses more than {2 * MAX_PIXELS:,}. Shrink the "
            "pictures first."
        )
    root = Path(data_dir).expanduser()
    splits, skipped = _drop_unreadable(root, find_photos(root), max_pixels, num_workers)
    _check_bad_files(splits, skipped, max_bad_fraction)
    if lists_dir is not None:
        splits = _read_lists(splits, Path(lists_dir))
    elif "validation" not in splits:
        fractions = {"validation": validation_fraction}
        if "test" not in splits:
            fractions["test"] = test_fraction
        splits = _split_by_class(splits, fractions, seed)
    names = _label_names(splits)
    datasets = {
        split: _build_dataset(root, splits[split], names, max_pixels)
        for split in SPLIT_NAMES
        if split in splits
    }
    if write_lists_to is not None:
        write_lists(datasets, Path(write_lists_to))
    return FruitDatasets(datasets, skipped)


def find_photos(root: Path) -> dict[str, list[Photo]]:
    """The image files below `root` by split, with their labels; no file is opened.

    A folder without split folders gives one split, `train`.
    """
    if not root.exists():
        raise InputError(f"{root}: no such folder. Check the path given as data_dir.")
    if not root.is_dir():
        raise InputError(f"{root}: not a folder. Give the folder that holds the class folders.")
    folders = _split_folders(root)
    listed = {split: _list_below(root, below) for split, below in folders.items()}
    if not any(listed.values()):
        raise InputError(
            f"{root}: no images found. Expected one folder a class with .jpg, .png, ... files."
        )
    loose = {
        s: [p for p in paths if (root / p).parent == folders[s]] for s, paths in listed.items()
    }
    if any(loose.values()):
        count = sum(map(len, loose.values()))
        logger.warning("%d images lie outside any class folder and are ignored", count)
    classed = {s: sorted(set(paths) - set(loose[s])) for s, paths in listed.items()}
    _warn_of_mixed_folders(root, classed)
    if not any(classed.values()):
        raise InputError(f"{root}: images, but no class folders. Put each class in its own folder.")
    if not classed.get("train"):
        raise InputError(f"{root}: no images to train on. Put class folders in {root / 'train'}.")
    return _label_photos(root, {s: paths for s, paths in classed.items() if paths}, folders)


def write_lists(datasets: DatasetDict, folder: Path) -> None:
    """Write `train.txt`, ...: one path a line, so that the same split can be made again."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLIT_NAMES:
        file = folder / f"{split}.txt"
        if split in datasets:
            file.write_text("\n".join(datasets[split]["path"]) + "\n", encoding="utf-8")
        else:
            file.unlink(missing_ok=True)  # of an earlier run


# ---- where the photos are, and what they are called ----


def _split_folders(root: Path) -> dict[str, Path]:
    """Split name -> folder; `{"train": root}` where the folder has no split folders."""
    top = root
    while True:
        children = [d for d in sorted(top.iterdir()) if d.is_dir() and not is_hidden(d.name)]
        found = [(SPLITS[d.name.lower()], d) for d in children if d.name.lower() in SPLITS]
        if found or len(children) != 1:
            break
        top = children[0]  # a zip often holds one folder that holds everything
    splits: dict[str, Path] = {}
    for split, folder in found:
        if split in splits:
            names = f"{splits[split].name} and {folder.name}"
            raise InputError(f"{root}: {names} both mean the {split} split. Rename or remove one.")
        splits[split] = folder
    if not splits:
        return {"train": root}
    if "train" not in splits:
        raise InputError(
            f"{root}: has {', '.join(d.name for _, d in found)} but no train folder. Add one, or "
            "give a folder of class folders to have it split."
        )
    extra = [d.name for d in children if d not in splits.values()]
    if extra:
        logger.warning("ignored beside the split folders: %s", ", ".join(extra))
    return splits


def _list_below(root: Path, folder: Path) -> list[Path]:
    """Image paths below `folder`, relative to `root`."""
    paths = [path.relative_to(root) for path in list_images(folder)]
    for path in paths:
        try:
            path.as_posix().encode()
        except UnicodeEncodeError as error:
            name = path.as_posix().encode(errors="surrogateescape")
            raise InputError(f"{name}: not a UTF-8 name. Rename the file or folder.") from error
    return paths


def _warn_of_mixed_folders(root: Path, listed: dict[str, list[Path]]) -> None:
    """Photos beside class folders (`Apple/1.jpg`, `Apple/Gala/2.jpg`) make classes of both."""
    folders = {path.parent for paths in listed.values() for path in paths}
    for folder in sorted(folders & {parent for path in folders for parent in path.parents}):
        logger.warning("%s: holds photos and class folders; both become classes", root / folder)


def _label_photos(
    root: Path, listed: dict[str, list[Path]], folders: dict[str, Path]
) -> dict[str, list[Photo]]:
    """The leaf folder is the label; leaves that collide within a split take their parents along.

    A name that collides in one split is lengthened in all, so that splits agree on it.
    """
    leaves = {
        split: {path.parent: (root / path).parent.relative_to(folders[split]) for path in paths}
        for split, paths in listed.items()
    }
    depth: dict[str, int] = defaultdict(lambda: 1)  # leaf name -> how many folders name the class
    for by_parent in leaves.values():
        same_name = defaultdict(set)
        for leaf in by_parent.values():
            same_name[leaf.name].add(leaf.parts)
        for name, parts in same_name.items():
            while len({p[-depth[name] :] for p in parts}) < len(parts):
                depth[name] += 1
    return {
        split: [_label_photo(path, leaves[split][path.parent], depth) for path in paths]
        for split, paths in listed.items()
    }


def _label_photo(path: Path, leaf: Path, depth: dict[str, int]) -> Photo:
    return Photo(path, "/".join(leaf.parts[-depth[leaf.name] :]))


# ---- which photos can be used ----


def _drop_unreadable(
    root: Path, splits: dict[str, list[Photo]], max_pixels: int, num_workers: int | None
) -> tuple[dict[str, list[Photo]], list[Skipped]]:
    paths = [photo.path for photos in splits.values() for photo in photos]
    defects = _find_defects(root, paths, max_pixels, num_workers)
    reasons = {path: reason for path, reason in zip(paths, defects, strict=True) if reason}
    for path, reason in reasons.items():
        logger.warning("left out %s: %s", path, reason)
    kept = {s: [p for p in photos if p.path not in reasons] for s, photos in splits.items()}
    return kept, [Skipped(path, reason) for path, reason in reasons.items()]


def _find_defects(
    root: Path, paths: list[Path], max_pixels: int, num_workers: int | None
) -> Iterator[str | None]:
    """Threads suffice: Pillow gives up the interpreter lock while it decodes."""
    workers = num_workers or min(32, (os.cpu_count() or 1) + 1)
    with ThreadPoolExecutor(workers) as pool:
        checks = pool.map(lambda path: find_defect(root / path, max_pixels=max_pixels), paths)
        yield from tqdm(checks, total=len(paths), desc="Checking images", unit="img", leave=False)


def _check_bad_files(
    splits: dict[str, list[Photo]], skipped: list[Skipped], max_bad_fraction: float
) -> None:
    total = sum(map(len, splits.values())) + len(skipped)
    first = "; ".join(f"{bad.path}: {bad.reason}" for bad in skipped[:3])
    if len(skipped) > max_bad_fraction * total:
        raise InputError(
            f"{len(skipped)} of {total} images can't be read, over max_bad_fraction="
            f"{max_bad_fraction:g} ({first}). Mend or remove them, or raise max_bad_fraction."
        )
    for split, photos in splits.items():
        if not photos:
            raise InputError(f"{split}: none of its images can be read ({first}). Replace them.")


# ---- splitting ----


def _split_by_class(
    splits: dict[str, list[Photo]], fractions: dict[str, float], seed: int
) -> dict[str, list[Photo]]:
    """Take a share of every class of train for each split in `fractions`, at least one image."""
    for split, fraction in fractions.items():
        if not 0 < fraction < 1 or sum(fractions.values()) >= 1:
            raise InputError(
                f"{split}_fraction={fraction:g}: fractions lie between 0 and 1 and leave some for "
                "train. Try 0.15."
            )
    by_class = defaultdict(list)
    for photo in splits["train"]:
        by_class[photo.label].append(photo)
    parts: dict[str, list[Photo]] = {"train": [], **{split: [] for split in fractions}}
    for label, photos in sorted(by_class.items()):
        needed = 1 + len(fractions)
        if len(photos) < needed:
            raise InputError(
                f"{label}: {len(photos)} image(s); splitting into {', '.join(parts)} needs "
                f"{needed}. Add some or remove the class."
            )
        random.Random(f"{seed}/{label}").shuffle(photos)  # one class never disturbs another
        for split, fraction in fractions.items():
            count = max(1, round(fraction * len(by_class[label])))
            count = min(count, len(photos) - 1)
            parts[split] += photos[:count]
            photos = photos[count:]
        parts["train"] += photos
    parts = {split: sorted(photos, key=lambda photo: photo.path) for split, photos in parts.items()}
    return parts | {split: photos for split, photos in splits.items() if split != "train"}


def _read_lists(splits: dict[str, list[Photo]], folder: Path) -> dict[str, list[Photo]]:
    photos = {photo.path.as_posix(): photo for part in splits.values() for photo in part}
    lists = {split: folder / f"{split}.txt" for split in SPLIT_NAMES}
    if not lists["train"].is_file() or not lists["validation"].is_file():
        raise InputError(
            f"{folder}: no train.txt and validation.txt. Name an earlier run's `splits` folder."
        )
    parts = {}
    for split, file in lists.items():
        if not file.is_file():
            continue
        try:
            names = file.read_text(encoding="utf-8").rstrip("\n").split("\n")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{file}: not UTF-8 text. Use the lists as they were written."
            ) from error
        missing = [name for name in names if name not in photos]
        if missing:
            raise InputError(
                f"{file}: {len(missing)} files are not in the data folder, or can't be read "
                f"(first: {missing[0]}). Use the folder that the lists were made for."
            )
        parts[split] = [photos[name] for name in names]
    return parts


def _label_names(splits: dict[str, list[Photo]]) -> list[str]:
    """Sorted class names of train; every other split must stay within them."""
    known = {photo.label for photo in splits["train"]}
    names = sorted(known)
    if len(names) < 2:
        raise InputError(
            f"only one class ({', '.join(names)}). Telling fruits apart needs two class folders."
        )
    for split, photos in splits.items():
        unknown = Counter(photo.label for photo in photos if photo.label not in known)
        if unknown:
            listed = ", ".join(f"{label} ({count} images)" for label, count in unknown.items())
            raise InputError(
                f"{split} has classes that train lacks: {listed}. Add them to train, or remove "
                f"them from {split}."
            )
    return names


# ---- as a `datasets.Dataset` ----


def _build_dataset(root: Path, photos: list[Photo], names: list[str], max_pixels: int) -> Dataset:
    ids = {name: index for index, name in enumerate(names)}
    columns = {
        "image": [str(root / photo.path) for photo in photos],
        "label": [ids[photo.label] for photo in photos],
        "path": [photo.path.as_posix() for photo in photos],
    }
    features = Features(
        # undecoded, so that `open_rgb` alone decides how a file becomes a picture
        {"image": Image(decode=False), "label": ClassLabel(names=names), "path": Value("string")}
    )
    dataset = Dataset.from_dict(columns, features=features)
    return dataset.with_transform(partial(decode_images, max_pixels=max_pixels))


def decode_images(batch: dict[str, list], max_pixels: int = MAX_PIXELS) -> dict[str, list]:
    """Turn the `image` column of a batch from `{"path", "bytes"}` into upright RGB pictures."""
    if "image" not in batch:
        return batch
    sources = [image["bytes"] or image["path"] for image in batch["image"]]
    return batch | {"image": [open_rgb(source, max_pixels=max_pixels) for source in sources]}
