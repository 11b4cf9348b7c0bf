"""Data set repair: which photos to leave out and why, and a clean copy, split without leaks.

Originals stay untouched.
"""

import logging
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePath

from hffruits.core.cache import cache_root
from hffruits.core.errors import InputError
from hffruits.core.escaping import list_line, printable
from hffruits.core.files import write_text
from hffruits.core.names import file_key, file_name
from hffruits.core.progress import progress_bar
from hffruits.data.arguments import DataArguments
from hffruits.data.images import Kind, kind_of
from hffruits.data.readers.folders import is_wrapper, split_named
from hffruits.data.sources import open_source
from hffruits.data.splits import ChosenSplits, choose_splits, drop_classes
from hffruits.data.validation import Part, check_images, files_of, join_parts

logger = logging.getLogger(__name__)
KEPT_FIRST = ("test", "validation", "train")  # of near-duplicates, the side that stays


@dataclass(frozen=True)
class Cleaned:
    """What is left of a dataset."""

    parts: dict[str, Part]
    left_out: dict[str, str]  # path -> reason
    coarse: dict[str, str]  # class -> coarse label
    own_splits: frozenset[str]  # those that were not made here

    def repaired(self) -> "Cleaned":
        """Less what `choose_repairs` says."""
        repairs = choose_repairs(self.parts)
        left_out = self.left_out | paths_of(self.parts, repairs)
        return replace(self, parts=leave_out(self.parts, repairs), left_out=left_out)

    def divided(self, data_args: DataArguments, seed: int) -> "Cleaned":
        """With the splits that the data lacks made."""
        own = replace(data_args, split_lists=None)
        return self._with(choose_splits(self.parts, own, seed=seed))

    def without(self, classes: Container[str]) -> "Cleaned":
        """Less all photos of some classes."""
        return self._with(drop_classes(self.parts, classes))

    def _with(self, chosen: ChosenSplits) -> "Cleaned":
        return replace(self, parts=dict(chosen), left_out=self.left_out | chosen.left_out)


def clean(data_args: DataArguments, *, resplit: bool = False, seed: int = 42) -> Cleaned:
    """Repaired and split, with near-duplicates (or `group_by`) on one side.

    `resplit` forgets the data's own splits. Raises `InputError` for data that can't be used.
    """
    divided = load_usable(data_args, resplit=resplit).repaired().divided(data_args, seed)
    return divided.repaired()  # a split by `group_by` may have parted near-duplicates


def load_usable(
    data_args: DataArguments, *, resplit: bool = False, to_repair: bool = True
) -> Cleaned:
    """The images that can be read, by the data's own splits, or all in one with `resplit`.

    Raises `InputError` for data that can't be used; unless it is `to_repair`, also for a file that
    a table gives several labels, which a repair leaves out.
    """
    data_args = replace(data_args, streaming=False, max_unreadable_fraction=1.0)
    raw = open_source(data_args)
    checked = check_images(raw, data_args)
    checked.check_classes()
    if not to_repair:
        checked.check_labels()
    parts = checked.parts
    if resplit:
        parts = {"train": join_parts(list(parts.values()))}
    bad = [skipped for skipped in checked.skipped if skipped.photo]
    left_out = {skipped.path.as_posix(): f"can't be used: {skipped.reason}" for skipped in bad}
    own_splits = frozenset() if resplit else frozenset(parts)
    return Cleaned(parts, left_out, raw.coarse, own_splits)


def photos_outside(parts: Mapping[str, Part], data_args: DataArguments) -> list[str]:
    """The photos that a table names outside of its own folder, by `..` or absolute paths."""
    source = Path(data_args.data_dir or "").expanduser()
    if not data_args.data_dir or "://" in str(source):
        return []
    folder = next(place for place in (source, *source.parents) if place.is_dir())
    whole = os.path.abspath(folder)  # noqa: PTH100, keeps links
    unpacked = os.path.abspath(cache_root())  # noqa: PTH100, which holds what archives held
    tops = (whole, os.path.realpath(folder), unpacked)
    files = chain.from_iterable(files_of(part.rows) for part in parts.values())
    places = (os.path.abspath(file) for file in files if file)  # noqa: PTH100
    return [place for place in places if not any(map(PurePath(place).is_relative_to, tops))]


# ---- what is left out ----


def choose_repairs(parts: Mapping[str, Part]) -> dict[str, dict[int, str]]:
    """Split -> row -> why it is better left out.

    Of near-duplicates in several classes those outside the class of two thirds go, or else all, for
    it is unclear which label is wrong; of near-duplicates in several splits those in the test
    stay, else those in validation; of exact duplicates in one split the first one stays.
    """
    members: dict[int, list[tuple[str, int]]] = defaultdict(list)
    labels = {split: part.rows["label"][:] for split, part in parts.items()}
    paths = {split: part.rows["path"][:] for split, part in parts.items()}
    for split in KEPT_FIRST:
        if split in parts:
            for row, group in enumerate(parts[split].groups.tolist()):
                members[group].append((split, row))
    repairs: dict[str, dict[int, str]] = {split: {} for split in parts}
    for group in members.values():
        counts = Counter(labels[split][row] for split, row in group)
        (main, most), *others = counts.most_common()
        trusted = {main} if most >= 2 * len(group) / 3 else set()
        kept, own = next((p for p in group if labels[p[0]][p[1]] in trusted), group[0])
        seen = set()
        for split, row in group:
            digest = parts[split].records["digest"][row]
            if others and labels[split][row] not in trusted:
                repairs[split][row] = f"in several classes: {', '.join(sorted(counts))}"
            elif split != kept:
                repairs[split][row] = f"near-duplicate of {paths[kept][own]} in {kept}"
            elif digest in seen:
                repairs[split][row] = "exact duplicate"
            seen.add(digest)
    return repairs


def leave_out(parts: Mapping[str, Part], repairs: dict[str, dict[int, str]]) -> dict[str, Part]:
    """The parts without what is to be left out.

    Raises `InputError` where a split would be empty, or train would lack a class of the others.
    """
    kept = {}
    for split, part in parts.items():
        rows = [row for row in range(len(part.rows)) if row not in repairs[split]]
        if not rows:
            raise InputError(f"{split}: nothing is left after the repair. Set resplit.")
        kept[split] = part.take(rows)
    before, after = (
        {label for part in some.values() for label in part.rows["label"][:]}
        for some in (parts, kept)
    )
    if gone := sorted(before - after):
        raise InputError(
            f"{', '.join(gone)}: nothing of it is left after the repair. Check its photos with "
            "`hffruits explore`, and leave it out with exclude or correct them."
        )
    known = set(kept["train"].rows["label"][:])
    for split, part in kept.items():
        if lost := sorted(set(part.rows["label"][:]) - known):
            raise InputError(
                f"{', '.join(lost)}: left in {split}, but not in train, after the repair. Set "
                "resplit."
            )
    return kept


# ---- what is written ----


def write_exclusions(reasons: dict[str, str], file: Path) -> None:
    """A list for `--exclude`: a path a line, and why."""
    lines = [f"{list_line(path)}\t{printable(why)}" for path, why in sorted(reasons.items())]
    write_text(file, "\n".join(["# path, and why it is left out", *lines]) + "\n")


def check_empty(folder: Path) -> None:
    """Raise `InputError` for a folder that holds something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: not empty. Name another output_dir.")


def write_copy(parts: Mapping[str, Part], coarse: Mapping[str, str], folder: Path) -> int:
    """Copy the photos to `folder`/split/[coarse/]class/name; returns how many.

    Raises `InputError` for a folder that is not empty, and where the disk is full.
    """
    check_empty(folder)
    total = sum(len(part.rows) for part in parts.values())
    classes = _class_folders({label for part in parts.values() for label in part.rows["label"][:]})
    taken: dict[str, int] = {}
    bar = progress_bar(total=total, desc="Copying", unit="img", leave=False)
    try:
        for split, part in parts.items():
            for row, record in zip(part.rows, part.records, strict=True):
                own, leaf = coarse.get(row["label"]), classes[row["label"]]
                above = [_folder_name(own)] if own and own not in leaf.split("/") else []
                name = _file_name(row["path"], record["format"].decode())
                target = _free(folder.joinpath(split, *above, leaf, name), taken)
                target.parent.mkdir(parents=True, exist_ok=True)
                if row["image"]["bytes"] is None:
                    shutil.copy2(row["image"]["path"], target)
                else:
                    target.write_bytes(row["image"]["bytes"])
                bar.update()
    except OSError as error:
        raise InputError(
            f"{folder}: copying stopped ({error.strerror}). Free space, remove it and try again."
        ) from error
    finally:
        bar.close()
    return total


def count_by_reason(reasons: Mapping[str, str]) -> dict[str, int]:
    """How many are left out for each kind of reason."""
    kinds = (reason.split(": ")[0].split(" of ")[0] for reason in reasons.values())
    return dict(Counter(kinds).most_common())


def _class_folders(labels: set[str]) -> dict[str, str]:
    """A folder for each class, which `find_image_files` will give the same name; never one outside.

    A label with a slash is a nested folder only where another class ends alike (`Apple/Red`,
    `Pepper/Red`), for there the parent is part of the name. No two classes share a folder, also
    where file systems fold case.
    """
    ends = Counter(label.rpartition("/")[2] for label in labels)
    folders: dict[str, str] = {}
    taken: dict[str, int] = {}
    for label in sorted(labels):
        parts = label.split("/") if ends[label.rpartition("/")[2]] > 1 else [label]
        folders[label] = _free(Path(*map(_folder_name, parts)), taken).as_posix()
        if folders[label] != label:
            logger.warning("class %s: its folder is called %s", label, folders[label])
    return folders


def _folder_name(name: str) -> str:
    """One part of a class's folder, which is read neither as a split nor as no class."""
    name = file_name(name)
    return f"_{name}" if split_named(name) or is_wrapper(name) else name


def _file_name(path: str, form: str) -> str:
    """The last part of a row's name, with a suffix that image folders know."""
    name = file_name(path.rpartition("/")[2])
    if kind_of(name) is Kind.PHOTO:
        return name
    return f"{name}.{_SUFFIXES.get(form, form.lower())}"


_SUFFIXES = {
    "JPEG": "jpg",
    "MPO": "jpg",
    "JPEG2000": "jp2",
    "HEIF": "heic",
}  # where the format is no suffix


def _free(path: Path, taken: dict[str, int]) -> Path:
    """The path, or one like it that no other photo has, on file systems that fold case either."""
    free, key = path, file_key(path.as_posix())
    while file_key(free.as_posix()) in taken:
        taken[key] += 1
        free = path.with_name(f"{path.stem}-{taken[key]}{path.suffix}")
    taken[file_key(free.as_posix())] = 1
    return free


def paths_of(parts: Mapping[str, Part], repairs: dict[str, dict[int, str]]) -> dict[str, str]:
    """Path -> reason, over all splits."""
    reasons = {}
    for split, part in parts.items():
        paths = part.rows["path"][:]
        reasons |= {paths[row]: reason for row, reason in repairs[split].items()}
    return reasons
