"""Train, validation and test splits: as in the data, as in lists, or made here.

In those made here groups stay whole: near-duplicates of one photo, or what `group_by` names, lie
on one side, unless a class has too few groups (then it is warned of). Splits that the data has, or
that lists give, stay as they are, and their leaks are counted.
"""

import logging
import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from datasets import Dataset
from sklearn.model_selection import StratifiedGroupKFold

from hffruits.core.errors import InputError
from hffruits.core.escaping import list_line, name_in_line
from hffruits.core.files import write_text
from hffruits.core.names import path_key
from hffruits.data.arguments import DataArguments
from hffruits.data.readers.folders import SPLIT_NAMES
from hffruits.data.validation import Part, join_parts

logger = logging.getLogger(__name__)
SPLIT_BY = ("duplicates", "class")


def choose_splits(
    parts: dict[str, Part], data: DataArguments, *, seed: int = 42, only: str | None = None
) -> dict[str, Part]:
    """The images of each split: as `split_lists` say, else as the data has them, else made.

    A missing `validation`, and `test` where neither is given, is taken from train. Of lists, the
    one of the split `only` is enough for a model that is trained already.
    """
    _check_split_by(data.split_by)
    if data.split_lists is not None:
        return _read_lists(join_parts(list(parts.values())), Path(data.split_lists), only)
    if "validation" in parts:
        return parts
    fractions = {"validation": data.validation_fraction}
    if "test" not in parts:
        fractions["test"] = data.test_fraction
    train = parts["train"]
    together = group_rows(train, data).tolist()
    # groups that the user knows stay whole, whatever their size
    options = {"seed": seed, "cut_large": data.group_by is None}
    split = split_by_groups(train.rows["label"][:], together, fractions, **options)
    if split.cut:
        why = f"group_by={data.group_by} gives" if data.group_by else "near-duplicates leave"
        logger.warning(
            "%s: %s too few groups to split, or too large ones, so each is cut in the order of its "
            "files. Their metrics will be too optimistic", ", ".join(split.cut), why,
        )  # fmt: skip
    return parts | {name: train.take(indices) for name, indices in split.parts.items()}


def independent_groups(part: Part, data: DataArguments) -> np.ndarray:
    """A number for each row, (N,) integers, equal for images that are not independent.

    As `group_by` has them, else near-duplicates. Raises `InputError` as `group_rows`.
    """
    return part.groups if data.group_by is None else group_rows(part, data, warn=False)


def group_rows(part: Part, data: DataArguments, *, warn: bool = True) -> np.ndarray:
    """A number for each row, (N,) integers: rows with the same one stay together.

    `group_by`: the column that the rows carry as `group`, or a pattern; of a pattern, what its
    groups in parentheses find in the path counts, or else all that it finds. A row without either
    is a group of its own. Raises `InputError` for a pattern that is none, or that finds nothing.
    """
    _check_split_by(data.split_by)
    rows, group_by = part.rows, data.group_by
    if group_by is None:
        return part.groups if data.split_by == "duplicates" else np.arange(len(rows))
    if "group" in rows.column_names:
        keys = [index if key is None else key for index, key in enumerate(rows["group"][:])]
    else:
        try:
            pattern = re.compile(group_by)
        except re.error as error:
            raise InputError(f"group_by={group_by}: not a pattern ({error}).") from error
        finds = [pattern.search(path) for path in rows["path"][:]]
        if not any(finds):
            first = rows["path"][0]
            raise InputError(
                f"group_by={group_by}: no column of that name, and found in no path (such as "
                f"{first}). Name a column, or a pattern that fits the paths."
            )
        if warn and (missed := finds.count(None)):
            logger.warning(
                "group_by=%s: %d of %d paths don't have it (such as %s); each is its own group",
                *(group_by, missed, len(finds), rows["path"][finds.index(None)]),
            )
        keys = [(m.groups() or m.group()) if m else index for index, m in enumerate(finds)]
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys])


def _check_split_by(split_by: str) -> None:
    if split_by not in SPLIT_BY:
        raise InputError(f"split_by={split_by}: must be one of {', '.join(SPLIT_BY)}.")


def _read_lists(every: Part, folder: Path, only: str | None = None) -> dict[str, Part]:
    lists = {split: folder / f"{split}.txt" for split in SPLIT_NAMES}
    if not lists["train"].is_file() or not lists["validation"].is_file():
        raise InputError(
            f"{folder}: no train.txt and validation.txt. Name an earlier run's `splits` folder."
        )
    paths = every.rows["path"][:]
    places = {path_key(path): index for index, path in enumerate(paths)}
    places |= {path: index for index, path in enumerate(paths)}
    parts = {}
    for split, file in lists.items():
        if not file.is_file() or only not in (None, split):
            continue
        try:
            lines = file.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"{file}: can't be read ({error}). Use the lists as they were written."
            ) from error
        names = [name_in_line(line) for line in lines if line]
        if not names:
            raise InputError(f"{file}: names no photo. Use the lists as they were written.")
        found = [places.get(name, places.get(path_key(name))) for name in names]
        missing = [name for name, place in zip(names, found, strict=True) if place is None]
        if missing:
            raise InputError(
                f"{file}: {len(missing)} of {len(names)} photos are not in the data folder, can't "
                f"be read or are excluded (first: {missing[0]}). Use the folder that the lists "
                "were made for; for other photos start another run."
            )
        parts[split] = every.take(found)
    listed = {label for part in parts.values() for label in part.rows["label"][:]}
    if only is None and (lost := sorted(set(every.rows["label"][:]) - listed)):
        logger.warning("%s: names no photo of %s", folder, ", ".join(lost))
    return parts


def count_leaks(parts: Mapping[str, Part]) -> dict[str, int]:
    """For each split held out, how many of its images have a near-duplicate in train; warns."""
    leaks = {
        split: int(np.isin(part.groups, parts["train"].groups).sum())
        for split, part in parts.items()
        if split != "train"
    }
    for split, count in leaks.items():
        if count:
            logger.warning(
                "%d of %d %s photos have a near-duplicate in train: its metrics are optimistic. "
                "`hffruits explore` shows them, `hffruits split --repair` fixes them",
                *(count, len(parts[split].rows), split),
            )
    return leaks


def write_lists(datasets: Mapping[str, Dataset], folder: Path) -> None:
    """Write `train.txt`, ...: one path a line, so that the same split can be made again."""
    for split in SPLIT_NAMES:
        file = folder / f"{split}.txt"
        if split in datasets:
            paths = datasets[split].with_format(None)["path"][:]  # else each photo is decoded
            write_text(file, "\n".join(map(list_line, paths)) + "\n")
        else:
            file.unlink(missing_ok=True)  # of an earlier run


# ---- splits of labels and group numbers ----


@dataclass(frozen=True)
class GroupSplit:
    """Indices of the images of each split, and what couldn't be kept."""

    parts: dict[str, list[int]]
    cut: tuple[str, ...] = ()  # classes whose groups had to be cut: their metrics are optimistic


def split_by_groups(
    labels: Sequence[str],
    groups: Sequence[int],
    fractions: dict[str, float],
    *,
    seed: int,
    cut_large: bool = True,
) -> GroupSplit:
    """Take a share of every class for each split in `fractions`, the rest is `train`.

    A group lies in one split as a whole, also where it has images of several classes, as those of
    one shop; each class gives at least one image to each split. A class that has too few groups
    for that, or (with `cut_large`) so large ones that it would lose more than twice the share, is
    cut in the order given, so that only the neighbours at the cut are alike.

    Raises `InputError` for fractions that leave nothing to train on, and for a class with too few
    images.
    """
    _check_fractions(fractions)
    by_class: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, (label, group) in enumerate(zip(labels, groups, strict=True)):
        by_class[label][group].append(index)
    home: dict[int, str] = {}  # group -> split
    # who has the least choice goes first
    for label, own in sorted(by_class.items(), key=lambda item: (len(item[1]), item[0])):
        if len(own) > len(fractions):
            _place(label, own, fractions, home, seed)
    cut = []
    single: dict[int, str] = {}  # index -> split, of groups that are cut
    for label, own in sorted(by_class.items()):
        total = sum(map(len, own.values()))
        wanted = sum(max(1, round(fraction * total)) for fraction in fractions.values())
        held_out = sum(len(rows) for group, rows in own.items() if home.get(group) in fractions)
        everywhere = len({home.get(group) for group in own}) > len(fractions)
        if not everywhere or (cut_large and held_out > 2 * wanted):
            cut.append(label)
            single |= _cut_in_order(label, sorted(chain(*own.values())), fractions)
    parts: dict[str, list[int]] = {"train": [], **{split: [] for split in fractions}}
    for index, group in enumerate(groups):
        parts[single.get(index) or home[group]].append(index)
    return GroupSplit(parts, tuple(cut))


def fold_by_groups(
    labels: Sequence[str], groups: Sequence[int], folds: int, *, seed: int
) -> list[list[int]]:
    """`folds` lists of indices, each class spread evenly over them, no group in two of them.

    Raises `InputError` for fewer than two folds, and for classes with fewer groups than folds.
    """
    if folds < 2:
        raise InputError(f"folds={folds}: give 2 or more.")
    counts = Counter(label for label, _ in set(zip(labels, groups, strict=True)))
    least, label = min((count, label) for label, count in counts.items())
    if least < folds:
        raise InputError(
            f"{label}: {least} group(s) of photos, fewer than folds={folds}. Use fewer folds, or "
            "add photos."
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return [test.tolist() for _, test in splitter.split(labels, labels, groups)]


def _check_fractions(fractions: dict[str, float]) -> None:
    for split, fraction in fractions.items():
        if not 0 < fraction < 1 or sum(fractions.values()) >= 1:
            raise InputError(
                f"{split}_fraction={fraction:g}: fractions lie between 0 and 1 and leave some for "
                "train. Try 0.15."
            )


def _place(
    label: str,
    own: dict[int, list[int]],
    fractions: dict[str, float],
    home: dict[int, str],
    seed: int,
) -> None:
    """Give each group of one class its split, where another class has not given it one yet."""
    total = sum(map(len, own.values()))
    free = [group for group in own if group not in home]
    random.Random(f"{seed}/{label}").shuffle(free)  # one class never disturbs another
    missing = {"train", *fractions} - {home.get(group) for group in own}
    for split, fraction in fractions.items():
        wanted = max(1, round(fraction * total))
        have = sum(len(members) for group, members in own.items() if home.get(group) == split)
        missing.discard(split)
        spare = len(free) - len(missing)  # one group each for those after this one, and train
        chosen: list[int] = []
        for group in free:
            if have >= wanted or len(chosen) >= spare:
                break
            if have + len(own[group]) <= wanted:
                chosen.append(group)
                have += len(own[group])
        if not have and spare > 0:  # all are larger than the share
            chosen = [min(free, key=lambda group: len(own[group]))]
        home |= dict.fromkeys(chosen, split)
        free = [group for group in free if group not in home]
    home |= dict.fromkeys(free, "train")


def _cut_in_order(label: str, indices: list[int], fractions: dict[str, float]) -> dict[int, str]:
    """The last images for the splits held out, the first ones for train."""
    if len(indices) <= len(fractions):
        raise InputError(
            f"{label}: {len(indices)} image(s); splitting into train, {', '.join(fractions)} needs "
            f"{1 + len(fractions)}. Add some or remove the class."
        )
    home, end = {}, len(indices)
    for place, (split, fraction) in enumerate(fractions.items()):
        later = len(fractions) - place  # one image each for the splits after this one, and train
        count = min(max(1, round(fraction * len(indices))), end - later)
        home |= dict.fromkeys(indices[end - count : end], split)
        end -= count
    return home | dict.fromkeys(indices[:end], "train")
