"""Folders of class folders, nested and split as people have them, as labelled photos.

No file is opened here.
"""

import logging
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePath

from hffruits.errors import InputError
from hffruits.images import is_hidden, list_images

logger = logging.getLogger(__name__)

SPLIT_NAMES = ("train", "validation", "test")
SPLITS = {  # names of folders, columns' values and Hub splits, in lower case
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Photo:
    """One image file: its path below the data folder, its class, and its class's folder."""

    path: Path
    label: str
    leaf: PurePath  # below the split's folder


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
    return Photo(path, "/".join(leaf.parts[-depth[leaf.name] :]), leaf)
