"""Folders of class folders, nested and split in any usual way, as labelled image files.

Files with the usual suffixes are not opened here; of others, the first bytes are read.
"""

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, groupby, takewhile
from pathlib import Path, PurePath, PurePosixPath

from hffruits.core.counts import counted
from hffruits.core.errors import InputError
from hffruits.core.names import list_names, match_names, name_key, unify_names
from hffruits.data.arguments import check_exists
from hffruits.data.images import Kind, is_image_file, kind_of, walk_folders

logger = logging.getLogger(__name__)

SPLIT_NAMES = ("train", "validation", "test")
SPLIT_ALIASES = {  # as `datasets` has them (SPLIT_KEYWORDS), and what competitions hold out
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
    "holdout": "test", "hold_out": "test", "hold-out": "test", "hold out": "test",
}  # fmt: skip
_WORDS = "|".join(SPLIT_ALIASES)
_CONTENT = r"(?:sets?|images?|imgs?|photos?|pictures?|pics?|data|splits?|folders?|samples?)"
_SPLIT = rf"(?:{_CONTENT}[\s._-]*)*({_WORDS})(?:[\s._-]*{_CONTENT})*"
_NUMBER = r"[\s._-]*\d*"
_SPLIT_NAME = re.compile(_SPLIT + _NUMBER, re.IGNORECASE)
_SPLIT_IN_NAME = re.compile(rf"(?<![^\W\d_]){_SPLIT}(?![^\W\d_])", re.IGNORECASE)
_CLASS_AND_SPLIT = re.compile(rf"(.+?)[\s._-]+{_SPLIT}{_NUMBER}", re.IGNORECASE)
_SPLIT_AND_CLASS = re.compile(rf"{_SPLIT}{_NUMBER}[\s._-]+(.+)", re.IGNORECASE)
_WRAPPER = re.compile(r"(?:images?|imgs?|photos?|pictures?|pics?|jpe?gs?|pngs?)", re.IGNORECASE)
LABEL_FROM = ("leaf", "path")
Listing = list[tuple[Path, list[str]]]  # folders and the names of their files, as `walk_folders`


@lru_cache(2**16)
def split_named(name: str) -> str | None:
    """The split that a folder, column value or Hub split of this name is (`Train_Set`), if any."""
    found = _SPLIT_NAME.fullmatch(name.strip())
    return found and SPLIT_ALIASES[found[1].lower()]


def split_in(path: PurePath) -> str | None:
    """The split that a file's name has in it (`fruits-train-000.tar`), else its nearest folder's.

    Raises `InputError` for a name with two splits in it.
    """
    for name in (path.stem, *reversed(path.parts[:-1])):
        found = sorted({SPLIT_ALIASES[word.lower()] for word in _SPLIT_IN_NAME.findall(name)})
        if len(found) > 1:
            raise InputError(
                f"{path}: {name} names two splits ({' and '.join(found)}). Rename it after one."
            )
        if found:
            return found[0]
    return None


def split_names_of(folders: Collection[str]) -> dict[str, set[str]]:
    """Folder of a path or key -> the splits that its parts name; nothing if that splits nothing."""
    parts = {folder: PurePosixPath(folder).parts for folder in folders}
    start = _first_split_part(parts.values())
    named = {
        folder: {split_named(part) for part in own[start:]} - {None}
        for folder, own in sorted(parts.items())
    }
    splits = set().union(*named.values())
    alike = splits <= {"train"} or all(own == splits for own in named.values())
    return {} if alike else named


def splits_of_folders(folders: Collection[str], source: object) -> dict[str, str]:
    """Folder of a path or key -> the split that its parts name; nothing if that splits nothing.

    Raises `InputError` where some name a split and others none or two, and where none is train.
    """
    named = split_names_of(folders)
    splits = set().union(*named.values())
    listed = ", ".join(sorted(splits))
    for folder, own in named.items():
        if len(own) != 1:
            odd = folder or "a path without folders"
            raise InputError(
                f"{source}: its paths name splits ({listed}), but {odd} names "
                f"{'several' if own else 'none'}. Put all photos below folders of one split each "
                "(train/Kiwi), or give each row a column split; of shards, a JSON field."
            )
    if named and "train" not in splits:
        raise InputError(
            f"{source}: its paths name splits ({listed}), but none is train. Name the folders to "
            "train on so, or give each row a column split; of shards, a JSON field."
        )
    return {folder: split for folder, (split,) in named.items()}


def _first_split_part(folders: Iterable[tuple[str, ...]]) -> int:
    """From which part on names of splits count: below what all share, if some stand there."""
    folders = list(folders)
    levels = zip(*folders, strict=False)
    shared = len(list(takewhile(lambda parts: len({*parts}) == 1, levels)))
    inside = any(split_named(part) for own in folders for part in own[shared:])
    return shared if inside else 0


def is_wrapper(name: str) -> bool:
    """True for the name of a folder that says what lies in it and not of which class: `images`."""
    return bool(_WRAPPER.fullmatch(name.strip()))


def class_parts(folders: Iterable[str]) -> tuple[str, ...]:
    """The folders of a path less those of splits; none where only wrappers are left."""
    parts = tuple(name for name in folders if not split_named(name))
    return () if all(map(is_wrapper, parts)) else parts


@dataclass(frozen=True)
class ImageFile:
    """One image file: its path below the data folder, its class, and its class's folder."""

    path: Path
    label: str
    leaf: PurePath  # without the split's folder, its parts as `unify_names` has them


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
    """What lies below the data folder, relative to it."""

    photos: list[Path]
    videos: list[Path]
    others: list[Path]  # of files that are neither, the first note and the first other in a folder
    folders: set[Path]


def find_image_files(
    root: Path,
    *,
    label_from: str | None = None,
    to_train: bool = True,
    listing: Listing | None = None,
) -> FoundImages:
    """The image files below `root` by split, with their labels; those in unread formats, too.

    A folder without split folders gives one split, `train`. Split folders may stand at any level,
    above the class folders (`images/train/Kiwi`) or below (`Kiwi/train`). `label_from`: `leaf` for
    classes by the folder that holds the photo, whatever lies above it; `path` to keep folders of
    one name apart by those above them; None for `path` where that is not in doubt. Not `to_train`,
    a train split need not be there. `listing`: what `walk_folders` gave, if that was run already.
    """
    check_exists(root)
    if not root.is_dir():
        raise InputError(f"{root}: not a folder. Give the folder that holds the class folders.")
    listed = _list_below(root, walk_folders(root) if listing is None else listing)
    if not listed.photos:
        raise InputError(
            f"{root}: no images found. Expected one folder a class with .jpg, .png, ... files."
        )
    layout = _find_layout(root, listed)
    _check_none_beside_classes(layout, listed)
    photos = _photos_by_split(layout, listed)
    if not photos:
        raise _no_classes(root, layout, listed)
    if to_train and "train" not in photos:
        raise _no_train(root, layout, listed, photos)
    _warn_of_ignored(root, layout, listed, photos)
    holders = {path.parent for path in chain.from_iterable(photos.values())}
    leaves = _unwrap(map(layout.leaf, holders))
    own = {folder: _folder_of_class(folder, leaves[layout.leaf(folder)]) for folder in holders}
    _warn_of_mixed_folders(root, set(own.values()))
    return FoundImages(
        _label_photos(layout, photos, leaves, label_from),
        [path for path in listed.videos if layout.split(path.parent)],
        _find_empty(root, layout, listed, photos, own),
    )


def _list_below(root: Path, listing: Iterable[tuple[Path, list[str]]]) -> _Listed:
    listed = _Listed([], [], [], set())
    for parent, names in listing:
        below = parent.relative_to(root)
        photos = [below / name for name in names if is_image_file(parent / name)]
        videos = [below / name for name in names if kind_of(name) is Kind.VIDEO]
        broken = [name for name in names if _is_broken_link(parent / name)]
        names = set(names).difference(broken)
        rest = sorted({below / name for name in names}.difference(photos, videos))
        listed.others += {kind_of(path.name) is Kind.NOTE: path for path in reversed(rest)}.values()
        listed.folders.add(below)
        listed.folders.update(below / name for name in broken)
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


def _is_broken_link(path: Path) -> bool:
    """Whether it may have been a class folder: a link to nothing, not named like a file."""
    return kind_of(path.name) is Kind.UNKNOWN and path.is_symlink() and not path.exists()


# ---- where the split folders stand ----


@dataclass(frozen=True)
class _Layout:
    """Which parts of a folder's path, relative to the data folder, are splits and which classes.

    Names of splits count from part `start` on; before it they are those of a container. `above` is
    the folder that holds all split folders that count, None where several folders do.
    """

    has_splits: bool = False
    start: int = 0
    above: Path | None = Path()

    def split_folder(self, folder: Path) -> Path | None:
        """The topmost split folder on the way to a folder, if it counts."""
        for end in range(self.start + 1, len(folder.parts) + 1):
            if split_named(folder.parts[end - 1]):
                top = Path(*folder.parts[:end])
                return top if self.above in (None, top.parent) else None
        return None

    def split(self, folder: Path) -> str | None:
        """The split of what lies in a folder; None outside of all."""
        if not self.has_splits:
            return "train"
        top = self.split_folder(folder)
        return top and split_named(top.name)

    def leaf(self, folder: Path) -> PurePath:
        """The class folder without split folders and those above all of them."""
        if not self.has_splits:
            return folder
        parts = folder.parts[len(self.above.parts) if self.above else 0 :]
        return PurePath(*(part for part in parts if not split_named(part)))

    def has_class(self, folder: Path) -> bool:
        """Whether photos in a folder have a split and a class."""
        return bool(self.split(folder) and class_parts(self.leaf(folder).parts))


def _find_layout(root: Path, listed: _Listed) -> _Layout:
    """Raises `InputError` where it is unclear what the split folders split."""
    holders = sorted({path.parent for path in listed.photos})
    found = _Layout(True, _first_split_part(holder.parts for holder in holders), None)
    tops = sorted({top for top in map(found.split_folder, holders) if top})
    if not tops:
        return _Layout()
    layout = replace(found, above=_find_above(root, found, tops, holders))
    tops = list(filter(layout.split, tops))
    _check_one_split_each(root, layout, tops, holders)
    _check_not_mixed(root, layout, tops, holders)
    if layout.above is None:
        listing = list_names(map(str, tops), 3)
        logger.info("split folders below or between class folders are read as splits: %s", listing)
    return layout


def _find_above(root: Path, layout: _Layout, tops: list[Path], holders: list[Path]) -> Path | None:
    """The folder whose split folders count; None for those of several.

    Some archives hold all of it once more, in a folder below (`train/Kiwi`, `data/train/Kiwi`).
    Raises `InputError` where the folder below holds something else of the same splits.
    """
    parents = {top.parent for top in tops}
    above = min(parents, key=lambda folder: len(folder.parts))
    if not all(parent.is_relative_to(above) for parent in parents):
        return None
    own: set[tuple[str | None, ...]] = set()
    below: set[tuple[str | None, ...]] = set()
    for holder in holders:
        if top := layout.split_folder(holder):
            classes = class_parts(holder.relative_to(top).parts)
            (own if top.parent == above else below).add((layout.split(holder), *classes))
    if below <= own:
        return above
    if not {split for split, *_ in below} & {split for split, *_ in own}:
        return None
    places = list_names(root / parent for parent in sorted(parents))
    raise InputError(f"{root}: split folders in several places: {places}. Give one as data_dir.")


def _check_one_split_each(
    root: Path, layout: _Layout, tops: list[Path], holders: list[Path]
) -> None:
    """Raise `InputError` where a path names two splits, or two folders beside each other one."""
    for holder in holders:
        named = {split_named(part) for part in holder.parts[layout.start :]} - {None}
        if len(named) > 1:
            raise InputError(
                f"{root / holder}: below the folders of two splits ({' and '.join(sorted(named))})."
                " Move or rename one."
            )
    seen: dict[tuple[Path, str | None], Path] = {}
    for top in tops:
        other = seen.setdefault((top.parent, layout.split(top)), top)
        if other != top:
            names = f"{other.name} and {top.name}"
            raise InputError(
                f"{root / top.parent}: {names} both mean the {layout.split(top)} split. Rename or "
                "remove one."
            )


def _check_not_mixed(root: Path, layout: _Layout, tops: list[Path], holders: list[Path]) -> None:
    """Raise `InputError` for photos outside of split folders, but for those that are ignored."""
    outside = [
        str(holder)
        for holder in holders
        if not layout.split(holder) and not _is_above(layout, holder) and holder != Path()
        if layout.above is None or not holder.is_relative_to(layout.above)
    ]
    if outside:
        raise InputError(
            f"{root}: photos in split folders ({list_names(map(str, tops))}) and in others "
            f"({list_names(outside)}). Move all photos into split folders (train/Kiwi), or none, "
            "or give the folder that holds only split folders as data_dir; rename a class that is "
            "named like a split."
        )


def _is_above(layout: _Layout, folder: Path) -> bool:
    """Whether a folder holds all split folders: photos in it have no class."""
    return layout.above is not None and layout.above.is_relative_to(folder)


def _photos_by_split(layout: _Layout, listed: _Listed) -> dict[str, list[Path]]:
    """The photos with a class of each split, in the order of `SPLIT_NAMES`; warns of the others."""
    photos: dict[str, list[Path]] = {split: [] for split in SPLIT_NAMES}
    loose: list[Path] = []
    for folder, own in groupby(listed.photos, lambda path: path.parent):
        split = layout.split(folder)
        if layout.has_class(folder):
            photos[split] += own
        elif split or _is_above(layout, folder) or folder == Path():
            loose += own
    if loose:
        logger.warning(
            "%s outside any class folder, so not used, such as %s",
            *(counted(len(loose), "image lies", "images lie"), loose[0]),
        )
    return {split: own for split, own in photos.items() if own}


def _check_none_beside_classes(layout: _Layout, listed: _Listed) -> None:
    """Raise `InputError` where a folder next to class folders is named like none (`Photos`)."""
    holders = {path.parent for path in listed.photos}
    classes = set(filter(layout.has_class, holders))
    children = _children_of(classes)
    for folder in sorted(filter(layout.split, holders - classes)):
        top = layout.split_folder(folder) if layout.above is not None else None
        for inner in (folder, *folder.parents):
            if inner in (top, Path()):
                break
            if others := [f.name for f in children[inner.parent] if _may_name_class(f.name)]:
                raise _names_no_class(folder, inner.name, others)


def _children_of(folders: Iterable[PurePath]) -> dict[PurePath, set[PurePath]]:
    """Folder -> those in it that are, or hold, some of these."""
    children: dict[PurePath, set[PurePath]] = defaultdict(set)
    for folder in folders:
        for inner in (folder, *folder.parents):
            if inner.name:
                children[inner.parent].add(inner)
    return children


def _may_name_class(name: str) -> bool:
    return not (split_named(name) or is_wrapper(name))


def _names_no_class(folder: PurePath, name: str, others: Iterable[str]) -> InputError:
    return InputError(
        f"{folder}: holds photos, next to those in {list_names(sorted(others))}, but {name} names "
        "no class. Move its photos to where their class is, or rename it."
    )


def _no_classes(root: Path, layout: _Layout, listed: _Listed) -> InputError:
    tops = {top for path in listed.photos if (top := layout.split_folder(path.parent))}
    if tops and (beside := _beside(layout, listed, only_photos=True)):
        return InputError(
            f"{root}: {list_names(sorted(tops))}: named like a split, but without class folders. "
            f"Next to it lie {list_names(beside)}. Rename a class that is named like a split, or "
            "give the folder that holds the class folders as data_dir."
        )
    return InputError(
        f"{root}: images, but no class folders. Put each class in its own folder; if a table "
        "names the classes, give that as data_dir, out of its archive."
    )


def _no_train(
    root: Path, layout: _Layout, listed: _Listed, photos: Mapping[str, list[Path]]
) -> InputError:
    if named := [folder for folder in listed.folders if layout.split(folder) == "train"]:
        return InputError(
            f"{root}: no images to train on. Put class folders in {root / min(named)}."
        )
    tops = {layout.split_folder(path.parent) for path in chain.from_iterable(photos.values())}
    beside = _beside(layout, listed, only_photos=True)
    ignored = f" (next to it: {list_names(beside)})" if beside else ""
    return InputError(
        f"{root}: has {list_names(sorted(map(str, tops)))} but no train folder{ignored}. Add one, "
        "or give a folder of class folders, none of them named like a split, to have it split."
    )


def _warn_of_ignored(
    root: Path, layout: _Layout, listed: _Listed, photos: Mapping[str, list[Path]]
) -> None:
    """Folders beside the split folders, and split folders without photos.

    Raises `InputError` where one beside them has the photos of a split that is not there.
    """
    if not layout.has_splits:
        return
    filled = {parent for path in listed.photos for parent in path.parents}
    for split in SPLIT_NAMES:
        named = sorted(f for f in listed.folders if f == layout.split_folder(f))
        own = [folder for folder in named if layout.split(folder) == split]
        if own and split not in photos:
            what = "no class folders" if filled.intersection(own) else "no photos"
            place = root / own[0]
            logger.warning("%s: holds %s, so there is no %s split", place, what, split)
    extra = _beside(layout, listed)
    for folder in sorted(listed.folders & filled) if extra else ():
        split = _split_beside(layout, folder)
        if split and split not in photos:
            raise InputError(
                f"{root / folder}: named like a part of the {split} split, which is not there "
                f"otherwise. Put its class folders into {root / layout.above / split}, or move it "
                "out of the data folder."
            )
    if extra:
        logger.warning("ignored next to the split folders: %s", list_names(extra, 20))


def _split_beside(layout: _Layout, folder: Path) -> str | None:
    """The split that the name of a folder next to the split folders has in it (`test_public`)."""
    beside = folder.parent == layout.above and not layout.split(folder)
    named = {SPLIT_ALIASES[word.lower()] for word in _SPLIT_IN_NAME.findall(folder.name)}
    return named.pop() if beside and len(named) == 1 else None


def _beside(layout: _Layout, listed: _Listed, *, only_photos: bool = False) -> list[str]:
    """The folders next to the split folders, with how many photos they hold."""
    if layout.above is None:
        return []
    beside = {layout.above, *layout.above.parents}
    counts = Counter(parent for path in listed.photos for parent in path.parents)
    return [
        f"{folder} ({counted(counts[folder], 'photo')})" if counts[folder] else str(folder)
        for folder in sorted(listed.folders - beside)
        if folder.parent in beside and not layout.split(folder)
        if counts[folder] or not only_photos
    ]


# ---- folders of no class ----


def _unwrap(folders: Iterable[PurePath]) -> dict[PurePath, PurePath]:
    """Class folder -> the same without a wrapper at its end: `Kiwi` for `Kiwi/images`.

    Raises `InputError` where folders of other names lie next to the wrapper, for then it is unclear
    what they are.
    """
    folders = set(folders)
    children = _children_of(folders)
    unwrapped = {}
    for folder in folders:
        bare = folder
        while is_wrapper(bare.name) and bare.parent.name:
            beside = [other.name for other in children[bare.parent]]
            if others := [name for name in beside if not is_wrapper(name)]:
                raise _names_no_class(folder, bare.name, others)
            bare = bare.parent
        unwrapped[folder] = bare
    if wrapped := sorted(folder for folder, bare in unwrapped.items() if folder != bare):
        first = wrapped[0]
        logger.info(
            "%s: photos of the class %s (%s)",
            *(first, unwrapped[first].name, counted(len(wrapped), "such folder")),
        )
    return unwrapped


def _folder_of_class(folder: Path, leaf: PurePath) -> Path:
    """The folder named like the class, of one that holds photos: less a wrapper, a split below."""
    while folder.name != leaf.name:
        folder = folder.parent
    return folder


def _warn_of_mixed_folders(root: Path, classes: set[Path]) -> None:
    """Photos beside class folders (`Apple/1.jpg`, `Apple/Gala/2.jpg`) make classes of both."""
    for folder in sorted(classes & {parent for path in classes for parent in path.parents}):
        logger.warning("%s: holds photos and class folders; both become classes", root / folder)


def _find_empty(
    root: Path,
    layout: _Layout,
    listed: _Listed,
    photos: Mapping[str, list[Path]],
    own: Mapping[Path, Path],
) -> dict[Path, str]:
    """Class folders without a photo in any split -> what they hold instead.

    Those of which another split has photos, and those with notes only, are warned of. `own`: folder
    with photos -> its class folder.
    """
    folders = {split: {own[path.parent] for path in some} for split, some in photos.items()}
    keys = {
        split: {_key(layout, parent) for folder in some for parent in (folder, *folder.parents)}
        for split, some in folders.items()
    }
    empty = {}
    for folder, what in _find_empty_in(root, layout, listed, own):
        if _has_photos(_key(layout, folder), layout.split(folder), keys):
            logger.warning("%s: %s; the class has photos elsewhere", root / folder, what)
        else:
            empty[folder] = what
    return empty


def _key(layout: _Layout, folder: Path) -> tuple[str, ...]:
    """A class folder, or one above it, as it is compared with others."""
    return tuple(map(name_key, layout.leaf(folder).parts))


def _has_photos(
    own: tuple[str, ...], split: str | None, keys: dict[str, set[tuple[str, ...]]]
) -> bool:
    """Whether a folder is, in any split, among those that hold photos.

    In another split it may lie at a different depth.
    """
    return any(own in known for known in keys.values()) or any(
        other[-1:] == own[-1:] and (_is_within(own, other) or _is_within(other, own))
        for name, known in keys.items()
        if name != split
        for other in known
    )


def _find_empty_in(
    root: Path, layout: _Layout, listed: _Listed, own: Mapping[Path, Path]
) -> Iterable[tuple[Path, str]]:
    """Folders beside class folders that hold no photo, and what they hold; the topmost of each.

    Beside folders of class folders, those with files that are neither photos nor videos are none of
    them; nor are those with notes anywhere.
    """
    classes = set(own.values())
    next_to_classes = {folder.parent for folder in classes}
    filled = {parent for path in listed.photos for parent in path.parents}
    beside = {parent for folder in classes for parent in folder.parents}
    videos = Counter(parent for path in listed.videos for parent in path.parents)
    others: dict[Path, list[Path]] = defaultdict(list)  # the first of each folder below
    for path in listed.others:
        for parent in path.parents:
            others[parent].append(path)
    for folder in sorted(listed.folders - filled):
        if folder.parent not in beside or not _may_be_class(layout, folder):
            continue
        strange = sorted(path for path in others[folder] if kind_of(path.name) is not Kind.NOTE)
        if videos[folder]:
            yield folder, f"{counted(videos[folder], 'video')} and no photo"
        elif strange and folder.parent in next_to_classes:
            yield folder, f"no photo, but other files such as {strange[0].name}"
        elif others[folder]:
            logger.warning("%s: holds no photos, and is ignored", root / folder)
        else:
            yield folder, "no file" if (root / folder).exists() else "a link to nothing"


def _may_be_class(layout: _Layout, folder: Path) -> bool:
    """Not for split folders, nor for those beside or above all of them."""
    if layout.above is None or not layout.has_splits:
        return True
    return layout.split(folder) is not None and folder != layout.split_folder(folder)


# ---- labels ----


def _label_photos(
    layout: _Layout,
    listed: Mapping[str, list[Path]],
    unwrapped: Mapping[PurePath, PurePath],
    label_from: str | None,
) -> dict[str, list[ImageFile]]:
    """The leaf folder is the label; leaves that collide take their parents along.

    A name that collides in one split is lengthened in all, so that splits agree on it.
    """
    holders = {path.parent for paths in listed.values() for path in paths}
    bare = {folder: unwrapped[layout.leaf(folder)] for folder in holders}
    folders = {split: [bare[path.parent] for path in paths] for split, paths in listed.items()}
    counts = {split: Counter(own) for split, own in folders.items()}
    leaves = _unify_leaves(counts)
    labels = _label_leaves(leaves, counts, label_from)
    return {
        split: [
            ImageFile(path, labels[leaves[folder]], leaves[folder])
            for path, folder in zip(paths, folders[split], strict=True)
        ]
        for split, paths in listed.items()
    }


def name_folders(counts: Mapping[str, Mapping[str, int]], label_from: str | None) -> dict[str, str]:
    """Class folder (`Apple/Red`) -> label, from the photos of each folder in each split.

    The rule is that of `find_image_files`, and so are its warnings and errors.
    """
    unwrapped = _unwrap({PurePosixPath(folder) for own in counts.values() for folder in own})
    by_path: dict[str, Counter[PurePath]] = {split: Counter() for split in counts}
    for split, own in counts.items():
        for folder, count in own.items():
            by_path[split][unwrapped[PurePosixPath(folder)]] += count
    leaves = _unify_leaves(by_path)
    labels = _label_leaves(leaves, by_path, label_from)
    return {str(folder): labels[leaves[bare]] for folder, bare in unwrapped.items()}


def class_of_folder(folder: str, known: Iterable[str]) -> str:
    """Which of the known classes a class folder is, by as many of its last parts as fit.

    A wrapper at its end (`Kiwi/images`) counts for nothing where it fits none.
    """
    bare = whole = PurePosixPath(folder)
    while is_wrapper(bare.name) and bare.parent.name:
        bare = bare.parent
    some = (whole.parts, bare.parts)
    names = ["/".join(parts[start:]) for parts in some for start in range(len(parts))]
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
    _check_no_split_in_names({part for leaf in leaves.values() for part in leaf.parts})
    own = {split: {leaves[folder] for folder in some} for split, some in counts.items()}
    return _name_leaves(own, label_from)


def _check_no_split_in_names(names: Iterable[str]) -> None:
    """Raise `InputError` for `Kiwi_train` and `Kiwi_test`, of classes or above: those are one."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for name in sorted(names):
        if parts := _name_and_split(name):
            found[name_key(parts[0])].setdefault(parts[1], name)
    if several := [own for own in found.values() if len(own) > 1]:
        raise InputError(
            f"{', '.join(several[0].values())}: the same name in two splits. Make each split a "
            "folder that is named after it only, as train/Kiwi and test/Kiwi."
        )


def _name_and_split(name: str) -> tuple[str, str] | None:
    """`Kiwi_train_images`, `TrainKiwi` -> `Kiwi`, `train`; None where a name has no split in it."""
    words = re.sub(r"(?<=[a-z\d])(?=[A-Z])", "_", name)
    if match := _CLASS_AND_SPLIT.fullmatch(words):
        return match[1], SPLIT_ALIASES[match[2].lower()]
    if match := _SPLIT_AND_CLASS.fullmatch(words):
        return match[2], SPLIT_ALIASES[match[1].lower()]
    return None


def _name_leaves(leaves: dict[str, set[PurePath]], label_from: str | None) -> dict[PurePath, str]:
    """Class folder -> label, from the class folders of each split."""
    splits: dict[str, dict[str, set[PurePath]]] = defaultdict(lambda: defaultdict(set))
    for split, some in leaves.items():
        for leaf in some:
            splits[leaf.name][split].add(leaf)
    by_name = {name: set().union(*own.values()) for name, own in splits.items()}
    several = {name for name, own in splits.items() if _collide(own.values())}
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


def _collide(splits: Collection[set[PurePath]]) -> bool:
    """Whether leaves of one name are several classes, given those of each split.

    Those of one split are; those of two may lie at different depths of the same folders.
    """
    if any(len(leaves) > 1 for leaves in splits):
        return True
    single = sorted((leaf.parts for leaves in splits for leaf in leaves), key=len)
    return not all(map(_is_within, single, single[1:]))


def _is_within(few: tuple[str, ...], many: tuple[str, ...]) -> bool:
    """Whether all of `few` come in `many`, in their order."""
    rest = iter(many)
    return all(part in rest for part in few)


def _check_reading(by_name: dict[str, set[PurePath]], several: set[str]) -> None:
    """Raise `InputError` where most names lie below several folders: those may be groups."""
    if not several:
        return
    name = min(several)
    first, second = sorted(by_name[name])[:2]
    if len(several) > len(by_name) / 2 and len(by_name) > 1:
        raise InputError(
            f"{first}, {second}: most folders' names come below several others. Set "
            f"label_from=leaf if those are one class, {name}, or label_from=path if they are two."
        )
    logger.warning(
        "%s and %s are two classes, named with their folders. Set label_from=leaf for one",
        *(first, second),
    )
