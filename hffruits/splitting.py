"""Splits that keep groups whole: near-duplicates of one photo never lie on both sides.

Takes labels and group numbers, gives indices. Which photos belong together is decided elsewhere.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from sklearn.model_selection import StratifiedGroupKFold

from hffruits.errors import InputError


@dataclass(frozen=True)
class Split:
    """Indices of the pictures of each split, and what couldn't be kept."""

    parts: dict[str, list[int]]
    cut: tuple[str, ...] = ()  # classes whose groups had to be cut: their figures are too good


def split_by_groups(
    labels: Sequence[str], groups: Sequence[int], fractions: dict[str, float], *, seed: int
) -> Split:
    """Take a share of every class for each split in `fractions`, the rest is `train`.

    A group lies in one split as a whole, and each class gives at least one picture to each split.
    What several classes share stays in train, for it can't measure any. A class whose groups are
    too few for that, or so large that it would lose more than twice the share, is cut in the order
    given, so that only the neighbours at the cut are alike. Raises `InputError` for fractions that
    leave nothing to train on, and for a class with too few pictures.
    """
    _check_fractions(fractions)
    by_class: dict[str, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, (label, group) in enumerate(zip(labels, groups, strict=True)):
        by_class[label][group].append(index)
    classes = Counter(group for own in by_class.values() for group in own)
    home: dict[int, str] = {}  # group -> split; else train
    single: dict[int, str] = {}  # index -> split, of groups that are cut
    cut = []
    for label, own in sorted(by_class.items()):
        total = sum(map(len, own.values()))
        wanted = {split: max(1, round(share * total)) for split, share in fractions.items()}
        alone = {group: len(rows) for group, rows in own.items() if classes[group] == 1}
        for_train = 1 if len(alone) == len(own) else 0
        rng = random.Random(f"{seed}/{label}")  # one class never disturbs another
        placed = _place(alone, wanted, for_train, rng)
        if placed is None:
            cut.append(label)
            single |= _cut_in_order(label, sorted(chain(*own.values())), wanted)
        else:
            home |= placed
    parts: dict[str, list[int]] = {"train": [], **{split: [] for split in fractions}}
    for index, group in enumerate(groups):
        parts[single.get(index) or home.get(group, "train")].append(index)
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
    sizes: dict[int, int], wanted: dict[str, int], for_train: int, rng: random.Random
) -> dict[int, str] | None:
    """Group -> split held out, `for_train` left over at least; None where that takes too much."""
    free = list(sizes)
    rng.shuffle(free)
    home: dict[int, str] = {}
    for later, (split, count) in zip(reversed(range(len(wanted))), wanted.items(), strict=True):
        spare = len(free) - later - for_train  # one for each split after this one
        if spare < 1:
            return None
        chosen, have = [], 0
        for group in free:
            if have < count and have + sizes[group] <= count and len(chosen) < spare:
                chosen.append(group)
                have += sizes[group]
        if not chosen:  # all are larger than the share
            chosen = [min(free, key=lambda group: sizes[group])]
        home |= dict.fromkeys(chosen, split)
        free = [group for group in free if group not in home]
    held_out = sum(sizes[group] for group in home)
    return home if held_out <= 2 * sum(wanted.values()) else None


def _cut_in_order(label: str, indices: list[int], wanted: dict[str, int]) -> dict[int, str]:
    """The last pictures for the splits held out, the first ones for train."""
    if len(indices) <= len(wanted):
        raise InputError(
            f"{label}: {len(indices)} image(s); splitting into train, {', '.join(wanted)} needs "
            f"{1 + len(wanted)}. Add some or remove the class."
        )
    home, end = {}, len(indices)
    for later, (split, count) in zip(reversed(range(len(wanted))), wanted.items(), strict=True):
        count = min(count, end - later - 1)  # one for each split after this one, and for train
        home |= dict.fromkeys(indices[end - count : end], split)
        end -= count
    return home | dict.fromkeys(indices[:end], "train")
