"""Train, validation and test splits: as in the data, as in lists, or made here.

In those made here groups stay whole: near-duplicates of one photo, or what `group_by` names, lie
on one side, unless a class has too few groups (then it is warned of). Splits that the data has, or
that lists give, stay as they are, and their leaks are counted.
"""

import logging
import random
import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from datasets import Dataset
from sklearn.model_selection import StratifiedGroupKFold

from hffruits.core.counts import counted
from hffruits.core.errors import InputError
from hffruits.core.escaping import list_line, name_in_line
from hffruits.core.files import write_text
from hffruits.core.names import list_counts, list_names, path_key
from hffruits.data.arguments import DataArguments
from hffruits.data.readers.folders import SPLIT_NAMES
from hffruits.data.validation import Part, join_parts

logger = logging.getLogger(__name__)
SPLIT_BY = ("duplicates", "class")
RARE_CLASSES = ("error", "train_only", "drop")


class ChosenSplits(dict[str, Part]):
    """The images of each split, and the classes of too few photos that were dropped.

    `dropped`: class -> number of its photos. `left_out`: path of each of these -> reason.
    """

    def __init__(
        self,
        parts: Mapping[str, Part],
        dropped: dict[str, int] | None = None,
        left_out: dict[str, str] | None = None,
    ):
        super().__init__(parts)
        self.dropped, self.left_out = dropped or {}, left_out or {}


def choose_splits(
    parts: dict[str, Part], data: DataArguments, *, seed: int = 42, only: str | None = None
) -> ChosenSplits:
    """The images of each split: as `split_lists` say, else as the data has them, else made.

    A missing `validation`, and `test` where neither is given, is taken from train. Of lists, the
    one of the split `only` is enough for a model that is trained already. Raises `InputError` for
    classes of too few photos, where `rare_classes` doesn't say what to do with them.
    """
    _check_choice("split_by", data.split_by, SPLIT_BY)
    _check_choice("rare_classes", data.rare_classes, RARE_CLASSES)
    if data.split_lists is not None:
        listed = _read_lists(join_parts(list(parts.values())), Path(data.split_lists), only)
        if only or data.rare_classes != "drop":
            return ChosenSplits(listed)
        gone = drop_classes(parts, _labels_of(parts) - _labels_of(listed))  # by an earlier run
        return ChosenSplits(listed, gone.dropped, gone.left_out)
    if not (fractions := shares_to_hold_out(data, parts)):
        return ChosenSplits(parts)
    rare = find_rare(parts["train"].rows["label"][:], 1 + len(fractions))
    kept = drop_classes(parts, rare if data.rare_classes == "drop" else ())
    train = kept["train"]
    together = group_rows(train, data).tolist()
    # groups that the user knows stay whole, whatever their size
    options = {"seed": seed, "cut_large": data.group_by is None}
    options["train_only"] = data.rare_classes == "train_only"
    split = split_by_groups(train.rows["label"][:], together, fractions, **options)
    _warn_of_split(split, data)
    if data.group_by is None and data.split_by == "duplicates" and not split.cut:
        _report_near_duplicates(together)
    made = {name: train.take(indices) for name, indices in split.parts.items()}
    return ChosenSplits(kept | made, kept.dropped, kept.left_out)


def shares_to_hold_out(data: DataArguments, present: Container[str]) -> dict[str, float]:
    """Split -> the share of train that it takes, of those that are missing; {} where none is.

    Raises `InputError` for shares that leave a split empty.
    """
    if "validation" in present:
        return {}
    if data.validation_fraction == 0:
        raise InputError(
            "validation_fraction=0: validation photos choose the best epoch and calibrate the "
            "scores, so some are needed. Give a small share, as 0.05, and test_fraction=0."
        )
    shares = {"validation": data.validation_fraction}
    if "test" not in present and data.test_fraction != 0:
        shares["test"] = data.test_fraction
    _check_fractions(shares)
    return shares


def find_rare(labels: Iterable[str], needed: int) -> dict[str, int]:
    """The classes with fewer images than are needed, and how many they have; the fewest first."""
    counts = sorted(Counter(labels).items(), key=lambda item: (item[1], item[0]))
    return {label: count for label, count in counts if count < needed}


def drop_classes(parts: Mapping[str, Part], dropped: Container[str]) -> ChosenSplits:
    """The parts without these classes, with a warning; without a part that had nothing else."""
    if not dropped:
        return ChosenSplits(parts)
    kept, counts, left_out = {}, Counter(), {}
    for split, part in parts.items():
        labels, paths = part.rows["label"][:], part.rows["path"][:]
        rows = [row for row, label in enumerate(labels) if label not in dropped]
        if rows:
            kept[split] = part.take(rows)
        gone = [row for row, label in enumerate(labels) if label in dropped]
        counts.update(labels[row] for row in gone)
        left_out |= {paths[row]: f"rare class: {labels[row]}" for row in gone}
    if "train" not in kept:
        raise InputError(
            "rare_classes=drop: leaves no class, for all have too few photos. Add photos."
        )
    logger.warning("rare_classes=drop: left out %s", list_counts(counts))
    return ChosenSplits(kept, dict(counts), left_out)


def _labels_of(parts: Mapping[str, Part]) -> set[str]:
    return {label for part in parts.values() for label in part.rows["label"][:]}


def _warn_of_split(split: "GroupSplit", data: DataArguments) -> None:
    if split.train_only:
        listed = list_names(split.train_only, 20)
        logger.warning("rare_classes=train_only: trained on, not held out: %s", listed)
    if split.cut:
        train_only = data.rare_classes == "train_only"
        why = f"groups of group_by={data.group_by}" if data.group_by else "near-duplicates"
        logger.warning(
            "%s: the %s can't be kept whole, being fewer than the splits or too large, so these "
            "classes are split file by file. Their metrics will be too optimistic%s",
            *(list_names(split.cut, 20), why),
            "" if train_only else "; rare_classes=train_only only trains on those with too few",
        )


def _report_near_duplicates(groups: Iterable[int]) -> None:
    """Say how many images have others like them, in groups that the split kept whole."""
    alike = [count for count in Counter(groups).values() if count > 1]
    if alike:
        kept = f"{sum(alike):,} near-duplicates in {counted(len(alike), 'group')}"
        logger.info("%s, each on one side of the split", kept)


def independent_groups(parts: Mapping[str, Part], data: DataArguments) -> dict[str, np.ndarray]:
    """A number for each row of each part, (N,) integers, equal for images not independent.

    As `group_by` has them, else near-duplicates. Raises `InputError` as `group_rows`.
    """
    if data.group_by is None:
        return {split: part.groups for split, part in parts.items()}
    numbers = group_rows(join_parts(list(parts.values())), data, warn=False)
    ends = np.cumsum([len(part.rows) for part in parts.values()])
    return dict(zip(parts, np.split(numbers, ends[:-1]), strict=True))


def group_rows(part: Part, data: DataArguments, *, warn: bool = True) -> np.ndarray:
    """A number for each row, (N,) integers: rows with the same one stay together.

    `group_by`: the column that the rows carry as `group`, or a pattern; of a pattern, what its
    groups in parentheses find in the path counts, or else all that it finds. A row without either
    is a group of its own. Raises `InputError` for a pattern that is none, or that finds nothing.
    """
    _check_choice("split_by", data.split_by, SPLIT_BY)
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


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InputError(f"{name}={value}: must be one of {', '.join(known)}.")


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
    if only is None and (lost := sorted(set(every.rows["label"][:]) - _labels_of(parts))):
        logger.warning("%s: names no photo of %s", folder, list_names(lost, 20))
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
    train_only: tuple[str, ...] = ()  # classes with too few groups that are in train as a whole


def split_by_groups(
    labels: Sequence[str],
    groups: Sequence[int],
    fractions: dict[str, float],
    *,
    seed: int,
    cut_large: bool = True,
    train_only: bool = False,
) -> GroupSplit:
    """Take a share of every class for each split in `fractions`, the rest is `train`.

    A group lies in one split as a whole, also where it has images of several classes, as those of
    one shop; each class gives at least one image to each split. A class that has too few groups
    for that, or (with `cut_large`) so large ones that it would lose more than twice the share, is
    cut in the order given, so that only the neighbours at the cut are alike; with `train_only`, one
    with too few groups is left to train as a whole.

    Raises `InputError` for fractions that leave nothing to train on, and for classes with too few
    images.
    """
    _check_fractions(fractions)
    by_class: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, (label, group) in enumerate(zip(labels, groups, strict=True)):
        by_class[label][group].append(index)
    few = {label for label, own in by_class.items() if len(own) <= len(fractions)}
    whole = few if train_only else set()
    _check_enough(labels, fractions, whole, every=whole == set(by_class))
    # group -> split
    home = dict.fromkeys(chain.from_iterable(by_class[label] for label in whole), "train")
    # who has the least choice goes first
    for label, own in sorted(by_class.items(), key=lambda item: (len(item[1]), item[0])):
        if label not in few:
            _place(label, own, fractions, home, seed)
    cut = []
    single: dict[int, str] = {}  # index -> split, of groups that are cut
    for label, own in sorted(by_class.items()):
        if label in whole:
            continue
        total = sum(map(len, own.values()))
        wanted = sum(max(1, round(fraction * total)) for fraction in fractions.values())
        held_out = sum(len(rows) for group, rows in own.items() if home.get(group) in fractions)
        everywhere = len({home.get(group) for group in own}) > len(fractions)
        if not everywhere or (cut_large and held_out > 2 * wanted):
            cut.append(label)
            single |= _cut_in_order(sorted(chain(*own.values())), fractions)
    parts: dict[str, list[int]] = {"train": [], **{split: [] for split in fractions}}
    for index, group in enumerate(groups):
        parts[single.get(index) or home[group]].append(index)
    return GroupSplit(parts, tuple(cut), tuple(sorted(whole)))


def _check_enough(
    labels: Sequence[str], fractions: Mapping[str, float], whole: Container[str], *, every: bool
) -> None:
    """Raise `InputError` where a class can't give an image to each split, or none gives any."""
    splits = f"train, {', '.join(fractions)}"
    if every:
        raise InputError(
            f"rare_classes=train_only: no class has photos enough to hold any out ({splits}). Add "
            "photos, or group less of them by group_by."
        )
    needed = 1 + len(fractions)
    if rare := find_rare((label for label in labels if label not in whole), needed):
        fewer = ", test_fraction=0 to need only 2" if "test" in fractions and needed == 3 else ""
        raise InputError(
            f"{counted(len(rare), 'class', 'classes')} with fewer photos than the {needed} that "
            f"a split into {splits} needs: {list_counts(rare)}. Add photos, or set "
            "rare_classes=train_only to train on them without measuring them, rare_classes=drop to "
            f"leave them out{fewer}."
        )


def fold_by_groups(
    labels: Sequence[str], groups: Sequence[int], folds: int, *, seed: int
) -> list[list[int]]:
    """`folds` lists of indices, each class spread evenly over them, no group in two of them.

    Raises `InputError` for fewer than two folds, and for classes with fewer groups than folds.
    """
    if folds < 2:
        raise InputError(f"folds={folds}: give 2 or more.")
    if few := count_few_groups(labels, groups, folds):
        raise InputError(
            f"{counted(len(few), 'class', 'classes')} with fewer groups of photos than "
            f"folds={folds}: {list_counts(few)}. Use fewer folds, add photos, or set "
            "rare_classes=train_only or rare_classes=drop."
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return [test.tolist() for _, test in splitter.split(labels, labels, groups)]


def count_few_groups(labels: Sequence[str], groups: Sequence[int], needed: int) -> dict[str, int]:
    """The classes with fewer groups than are needed, and how many they have; the fewest first."""
    return find_rare((label for label, _ in set(zip(labels, groups, strict=True))), needed)


def _check_fractions(fractions: dict[str, float]) -> None:
    wrong = [split for split, fraction in fractions.items() if not 0 < fraction < 1]
    if wrong or sum(fractions.values()) >= 1:
        named = ", ".join(f"{split}_fraction={fractions[split]:g}" for split in wrong or fractions)
        raise InputError(
            f"{named}: fractions lie between 0 and 1 and leave some for train. Try 0.15."
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


def _cut_in_order(indices: list[int], fractions: dict[str, float]) -> dict[int, str]:
    """The last images for the splits held out, the first ones for train."""
    home, end = {}, len(indices)
    for place, (split, fraction) in enumerate(fractions.items()):
        later = len(fractions) - place  # one image each for the splits after this one, and train
        count = min(max(1, round(fraction * len(indices))), end - later)
        home |= dict.fromkeys(indices[end - count : end], split)
        end -= count
    return home | dict.fromkeys(indices[:end], "train")
