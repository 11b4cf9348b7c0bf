"""Folders of class folders, nested and split in any usual way, as labelled image files.

Files with the usual suffixes are not opened here; of others, the first bytes are read.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from hffruits.core.errors import InputError
from hffruits.core.names import match_names, name_key, unify_names
from hffruits.data.images import Kind, is_hidden, is_image_file, kind_of, walk_folders

logger = logging.getLogger(__name__)

SPLIT_NAMES = ("train", "validation", "test")
SPLIT_ALIASES = {  # names of folders, columns' values and Hub splits, in lower case
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
LABEL_FROM = ("leaf", "path")


@dataclass(frozen=True)
class ImageFile:
    """One image file: its path below the data folder, its class, and its class's folder."""

    path: Path
    label: str
    leaf: PurePath  # below the split's folder, its parts as `unify_names` has them


class FoundImages(dict[str, list[ImageFile]]):
    """Photos by split, with what else was found: see `find_image_files`.

    `videos`: paths below the data folder. `empty`: folders that should hold photos, and what they
    hold instead.
    """

    def __init__(
        self, splits: dict[str, list[ImageFile]], videos: list[Path], empty: dict[Path, str]
    ):
        super().__init__(splits)
        self.videos, self.empty = videos, empty


@dataclass
class _Listed:
    """What lies below the folder of a split, relative to the data folder."""

    folder: Path  # of the split
    photos: list[Path]
    videos: list[Path]
    others: list[Path]  # of files that are neither, the first note and the first other in a folder
    folders: set[Path]


def find_image_files(root: Path, *, label_from: str | None = None) -> FoundImages:
    """The image files below `root` by split, with their labels; those in unread formats, too.

    A folder without split folders gives one split, `train`. `label_from`: `leaf` for classes by
    the folder that holds the photo, whatever lies above it; `path` to keep folders of one
    name apart by those above them; None for `path` where that is not in doubt.
    """
    if not root.exists():
        raise InputError(f"{root}: no such folder. Check the path given as data_dir.")
    if not root.is_dir():
        raise InputError(f"{root}: not a folder. Give the folder that holds the class folders.")
    listed = {split: _list_below(root, below) for split, below in _split_folders(root).items()}
    if not any(below.photos for below in listed.values()):
        raise InputError(
            f"{root}: no images found. Expected one folder a class with .jpg, .png, ... files."
        )
    _take_out_loose(root, listed)
    _warn_of_mixed_folders(root, listed)
    if not any(below.photos for below in listed.values()):
        raise InputError(f"{root}: images, but no class folders. Put each class in its own folder.")
    if not listed["train"].photos:
        raise InputError(f"{root}: no images to train on. Put class folders in {root / 'train'}.")
    for split, below in listed.items():
        if not below.photos:
            logger.warning("%s: holds no photos, so there is no %s split", below.folder, split)
    filled = {split: below for split, below in listed.items() if below.photos}
    return FoundImages(
        _label_photos(root, filled, label_from),
        [path for below in listed.values() for path in below.videos],
        _find_empty(root, filled),
    )


def _split_folders(root: Path) -> dict[str, Path]:
    """Split name -> folder; `{"train": root}` where the folder has no split folders."""
    children = _folders_in(lone_folder(root))
    found = [
        (SPLIT_ALIASES[d.name.lower()], d) for d in children if d.name.lower() in SPLIT_ALIASES
    ]
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
        logger.warning("ignored next to the split folders: %s", ", ".join(extra))
    return splits


def lone_folder(root: Path) -> Path:
    """The folder that holds everything: a zip often holds one folder, which does."""
    top = root
    while len(children := _folders_in(top)) == 1 and children[0].name.lower() not in SPLIT_ALIASES:
        top = children[0]
    return top


def _folders_in(folder: Path) -> list[Path]:
    return [d for d in sorted(folder.iterdir()) if d.is_dir() and not is_hidden(d.name)]


def _list_below(root: Path, folder: Path) -> _Listed:
    listed = _Listed(folder, [], [], [], set())
    for parent, names in walk_folders(folder):
        below = parent.relative_to(root)
        photos = [below / name for name in names if is_image_file(parent / name)]
        videos = [below / name for name in names if kind_of(name) is Kind.VIDEO]
        rest = sorted({below / name for name in names}.difference(photos, videos))
        listed.others += {kind_of(path.name) is Kind.NOTE: path for path in reversed(rest)}.values()
        listed.folders.add(below)
        listed.photos += photos
        listed.videos += videos
    listed.photos.sort()
    for path in listed.photos:
        try:
            path.as_posix().encode()
        except UnicodeEncodeError as error:
            name = path.as_posix().encode(errors="surrogateescape")
            raise InputError(f"{name}: not a UTF-8 name. Rename the file or folder.") from error
    return listed


def _take_out_loose(root: Path, listed: dict[str, _Listed]) -> None:
    """Photos that lie in a split's folder itself have no class."""
    count = 0 if listed["train"].folder == root else _count_photos_above_splits(root)
    for below in listed.values():
        top = below.folder.relative_to(root)
        classed = [path for path in below.photos if path.parent != top]
        count += len(below.photos) - len(classed)
        below.photos = classed
    if count:
        logger.warning("%d images lie outside any class folder and are ignored", count)


def _count_photos_above_splits(root: Path) -> int:
    top = lone_folder(root)
    folders = [folder for folder in (top, *top.parents) if folder.is_relative_to(root)]
    return sum(is_image_file(path) for folder in folders for path in _files_in(folder))


def _files_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()]


def _warn_of_mixed_folders(root: Path, listed: dict[str, _Listed]) -> None:
    """Photos beside class folders (`Apple/1.jpg`, `Apple/Gala/2.jpg`) make classes of both."""
    folders = {path.parent for below in listed.values() for path in below.photos}
    for folder in sorted(folders & {parent for path in folders for parent in path.parents}):
        logger.warning("%s: holds photos and class folders; both become classes", root / folder)


def _find_empty(root: Path, listed: dict[str, _Listed]) -> dict[Path, str]:
    """Class folders without a photo in any split -> what they hold instead.

    Those of which another split has photos, and those with notes only, are warned of.
    """
    keys = {
        split: {_key(root, below, parent) for path in below.photos for parent in path.parents}
        for split, below in listed.items()
    }
    empty = {}
    for split, below in listed.items():
        for folder, what in _find_empty_in(root, below):
            if _has_photos(_key(root, below, folder), split, keys):
                logger.warning("%s: %s; the class has photos elsewhere", root / folder, what)
            else:
                empty[folder] = what
    return empty


def _key(root: Path, below: _Listed, folder: Path) -> tuple[str, ...]:
    """A folder below the split's, as it is compared with others."""
    path = root / folder
    inside = path.relative_to(below.folder) if path.is_relative_to(below.folder) else Path()
    return tuple(map(name_key, inside.parts))


def _has_photos(own: tuple[str, ...], split: str, keys: dict[str, set[tuple[str, ...]]]) -> bool:
    """Whether a folder is, in any split, among those that hold photos.

    In another split it may lie at a different depth.
    """
    return any(own in known for known in keys.values()) or any(
        other[-1:] == own[-1:] and (_is_within(own, other) or _is_within(other, own))
        for name, known in keys.items()
        if name != split
        for other in known
    )


def _find_empty_in(root: Path, below: _Listed) -> Iterable[tuple[Path, str]]:
    """Folders beside class folders that hold no photo, and what they hold; the topmost of each.

    Beside folders of class folders, those with files that are neither photos nor videos are none of
    them; nor are those with notes anywhere.
    """
    classes = {path.parent for path in below.photos}
    filled = {parent for path in below.photos for parent in path.parents}
    beside = {folder.parent for folder in filled if folder.name}
    videos = Counter(parent for path in below.videos for parent in path.parents)
    others: dict[Path, list[Path]] = defaultdict(list)  # the first of each folder below
    for path in below.others:
        for parent in path.parents:
            others[parent].append(path)
    for folder in sorted(below.folders - filled):
        if folder.parent not in beside:
            continue
        strange = sorted(path for path in others[folder] if kind_of(path.name) is not Kind.NOTE)
        if videos[folder]:
            yield folder, f"{videos[folder]} video(s) and no photo"
        elif strange and folder.parent in {leaf.parent for leaf in classes}:
            yield folder, f"no photo, but other files such as {strange[0].name}"
        elif others[folder]:
            logger.warning("%s: holds no photos, and is ignored", root / folder)
        else:
            yield folder, "no file"


def _label_photos(
    root: Path, listed: dict[str, _Listed], label_from: str | None
) -> dict[str, list[ImageFile]]:
    """The leaf folder is the label; leaves that collide take their parents along.

    A name that collides in one split is lengthened in all, so that splits agree on it.
    """
    counts = {
        split: Counter((root / path).parent.relative_to(below.folder) for path in below.photos)
        for split, below in listed.items()
    }
    leaves = _unify_leaves(counts)
    labels = _label_leaves(leaves, counts, label_from)
    photos = {}
    for split, below in listed.items():
        own = [leaves[(root / path).parent.relative_to(below.folder)] for path in below.photos]
        photos[split] = [
            ImageFile(path, labels[leaf], leaf)
            for path, leaf in zip(below.photos, own, strict=True)
        ]
    return photos


def name_folders(counts: Mapping[str, Mapping[str, int]], label_from: str | None) -> dict[str, str]:
    """Class folder (`Apple/Red`) -> label, from the photos of each folder in each split.

    The rule is that of `find_image_files`, and so are its warnings and errors.
    """
    by_path = {
        split: Counter({PurePosixPath(folder): count for folder, count in own.items()})
        for split, own in counts.items()
    }
    leaves = _unify_leaves(by_path)
    labels = _label_leaves(leaves, by_path, label_from)
    return {str(folder): labels[leaf] for folder, leaf in leaves.items()}


def class_of_folder(folder: str, known: Iterable[str]) -> str:
    """Which of the known classes a class folder is, by as many of its last parts as fit."""
    parts = PurePosixPath(folder).parts
    names = ["/".join(parts[start:]) for start in range(len(parts))]
    found = match_names(names, known)
    return next((found[name] for name in names if name in found), names[-1])


def _unify_leaves(counts: Mapping[str, Counter[PurePath]]) -> dict[PurePath, PurePath]:
    """Class folder -> the same, where names that a reader takes for one are written alike."""
    totals = sum(counts.values(), Counter())
    parts: Counter[str] = Counter()
    for folder, count in totals.items():
        for part in set(folder.parts):
            parts[part] += count
    unified = unify_names(parts)
    return {folder: type(folder)(*(unified[part] for part in folder.parts)) for folder in totals}


def _label_leaves(
    leaves: dict[PurePath, PurePath],
    counts: Mapping[str, Counter[PurePath]],
    label_from: str | None,
) -> dict[PurePath, str]:
    own = {split: {leaves[folder] for folder in some} for split, some in counts.items()}
    return _name_leaves(own, label_from)


def _name_leaves(leaves: dict[str, set[PurePath]], label_from: str | None) -> dict[PurePath, str]:
    """Class folder -> label, from the class folders of each split."""
    by_name: dict[str, set[PurePath]] = defaultdict(set)
    for leaf in set().union(*leaves.values()):
        by_name[leaf.name].add(leaf)
    several = {name for name in by_name if _collides(name, leaves)}
    if label_from is None:
        _check_reading(by_name, several)
    labels = {}
    for name, own in by_name.items():
        depth = 1
        while (
            label_from != "leaf"
            and name in several
            and len({leaf.parts[-depth:] for leaf in own}) < len(own)
        ):
            depth += 1
        labels |= {leaf: "/".join(leaf.parts[-depth:]) for leaf in own}
    return labels


def _collides(name: str, leaves: dict[str, set[PurePath]]) -> bool:
    """Whether leaves of one name are several classes.

    Those of one split are; those of two may lie at different depths of the same folders.
    """
    own = [[leaf.parts for leaf in some if leaf.name == name] for some in leaves.values()]
    if any(len(some) > 1 for some in own):
        return True
    single = sorted((some[0] for some in own if some), key=len)
    return not all(map(_is_within, single, single[1:]))


def _is_within(few: tuple[str, ...], many: tuple[str, ...]) -> bool:
    """Whether all of `few` come in `many`, in their order."""
    rest = iter(many)
    return all(part in rest for part in few)


def _check_reading(by_name: dict[str, set[PurePath]], several: set[str]) -> None:
    """Raise `InputError` where most names lie below several folders: those may be groups."""
    if not several:
        return
    name = min(several, key=lambda name: (name.lower() not in SPLIT_ALIASES, name))
    first, second = sorted(by_name[name])[:2]
    if name.lower() in SPLIT_ALIASES:
        raise InputError(
            f"{first}, {second}: split folders below class folders. Swap the levels: "
            f"{name}/{first.parent.name}, {name}/{second.parent.name}."
        )
    if len(several) > len(by_name) / 2 and len(by_name) > 1:
        raise InputError(
            f"{first}, {second}: most folders' names come below several others. Set "
            f"label_from=leaf if those are one class, {name}, or label_from=path if they are two."
        )
    logger.warning(
        "%s and %s are two classes, named with their folders. Set label_from=leaf for one",
        *(first, second),
    )
