"""Splits that keep groups whole: near-duplicates of one photo never lie on both sides.

Takes labels and group numbers, gives indices. Which photos belong together is decided elsewhere.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from sklearn.model_selection import StratifiedGroupKFold

from hffruits.core.errors import InputError


@dataclass(frozen=True)
class Split:
    """Indices of the pictures of each split, and what couldn't be kept."""

    parts: dict[str, list[int]]
    cut: tuple[str, ...] = ()  # classes whose groups had to be cut: their figures are too good


def split_by_groups(
    labels: Sequence[str],
    groups: Sequence[int],
    fractions: dict[str, float],
    *,
    seed: int,
    cut_large: bool = True,
) -> Split:
    """Take a share of every class for each split in `fractions`, the rest is `train`.

    A group lies in one split as a whole, also where it has pictures of several classes, as those of
    one shop; each class gives at least one picture to each split. A class that has too few groups
    for that, or (with `cut_large`) so large ones that it would lose more than twice the share, is
    cut in the order given, so that only the neighbours at the cut are alike.

    Raises `InputError` for fractions that leave nothing to train on, and for a class with too few
    pictures.
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
    return Split(parts, tuple(cut))


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
            f"{label}: {least} group(s) of pictures, fewer than folds={folds}. Use fewer folds, or "
            "add pictures."
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
    """The last pictures for the splits held out, the first ones for train."""
    if len(indices) <= len(fractions):
        raise InputError(
            f"{label}: {len(indices)} image(s); splitting into train, {', '.join(fractions)} needs "
            f"{1 + len(fractions)}. Add some or remove the class."
        )
    home, end = {}, len(indices)
    for place, (split, fraction) in enumerate(fractions.items()):
        later = len(fractions) - place  # one picture each for the splits after this one, and train
        count = min(max(1, round(fraction * len(indices))), end - later)
        home |= dict.fromkeys(indices[end - count : end], split)
        end -= count
    return home | dict.fromkeys(indices[:end], "train")
