"""`hffruits split`: split lists for a dataset, k-fold too, and a repaired list or copy of it."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hffruits.core.claims import claims_output_dir
from hffruits.core.counts import counted
from hffruits.core.errors import InputError
from hffruits.core.files import translate_write_errors
from hffruits.core.names import list_names
from hffruits.core.results import Result
from hffruits.data.arguments import OF_EPOCHS, DataArguments
from hffruits.data.readers.folders import SPLIT_NAMES
from hffruits.data.splits import (
    count_few_groups,
    count_leaks,
    fold_by_groups,
    group_rows,
    write_lists,
)
from hffruits.data.validation import Part, join_parts
from hffruits.exploration.repair import (
    Cleaned,
    check_empty,
    count_by_reason,
    load_usable,
    photos_outside,
    write_copy,
    write_exclusions,
)

logger = logging.getLogger(__name__)
REPAIRS = ("none", "list", "copy")


class SplitLists(Result):
    """The lists that `split` has written, and how many photos are in each."""

    @property
    def images(self) -> list[dict[str, int]]:
        """Split -> number of photos, for each fold; one without folds."""
        return self.record["images"]

    @property
    def left_out(self) -> dict[str, int]:
        """Reason -> number of photos that are in no list."""
        return self.record["left_out"]

    @property
    def lists(self) -> list[Path]:
        """The folders to give as `split_lists`, one a fold."""
        folds = len(self.images)
        several = [self.folder / f"fold-{number}" for number in range(1, folds + 1)]
        return several if self.record["folds"] else [self.folder]

    @property
    def photos(self) -> Path | None:
        """The clean copy that `repair="copy"` makes; None without."""
        return self.folder / "photos" if self.record["repair"] == "copy" else None

    @property
    def summary(self) -> str:
        first = ", ".join(f"{name} {count:,}" for name, count in self.images[0].items())
        return (
            f"{counted(len(self.images), 'fold')}, the first: {first}"
            if self.record["folds"]
            else first
        )


@claims_output_dir
def split(
    data: DataArguments | str | Path | None = None,
    *,
    output_dir: str | Path = "splits",
    repair: str = "none",
    folds: int = 0,
    resplit: bool = False,
    seed: int = 42,
    **data_options: Any,
) -> SplitLists:
    """Write the lists of a split without leaks, k-fold too; the photos stay as they are.

    Near-duplicates stay on one side, or whatever shares `group_by`; classes are divided evenly.

    Args:
        data: labelled photos, as for `load_fruits`; None for the sample set.
        output_dir: a folder for `train.txt`, `validation.txt`, ..., outside the data; with folds,
            for `fold-1/train.txt` and so on.
        repair: "none"; "list" leaves out unreadable files, photos in two classes, leaks and exact
            duplicates, and writes `exclude.txt`; "copy" writes the photos that are left to
            `output_dir`/photos as well.
        folds: k of a k-fold split: each photo is held out once, for the test, or for validation
            where the data has a test split; 0 for one split.
        resplit: ignore the data's own splits.
        seed: random seed.
        **data_options: fields of `DataArguments`: `validation_fraction`, `group_by`, ...

    Returns:
        A `SplitLists`: `images`, `left_out`, `lists` (for `split_lists`), `photos`, `folder`.

    Raises:
        InputError: for data that can't be used, and for names and numbers that don't fit.

    >>> import hffruits
    >>> lists = hffruits.split("fruits", resplit=True, test_fraction=0.25)
    >>> lists
    SplitLists(splits: train ..., validation ..., test ...)
    >>> run = hffruits.load_fruits("fruits", split_lists=str(lists.folder))
    >>> len(run["test"]) == lists.images[0]["test"]
    True
    """
    data_args = DataArguments.of(data, function=split, **data_options)
    data_args.refuse("streaming", "split_lists", why="doesn't go with making lists")
    data_args.refuse(*OF_EPOCHS, why="acts in training only")
    output_dir = Path(output_dir).expanduser()
    if repair not in REPAIRS:
        raise InputError(f"repair={repair}: must be one of {', '.join(REPAIRS)}.")
    if repair == "copy" and folds:
        raise InputError("repair=copy, folds: a copy has one split. Copy first, then fold that.")
    _check_output_dir(data_args, output_dir, repair)
    usable = load_usable(data_args, resplit=resplit, to_repair=repair != "none")
    if repair != "none":
        usable = usable.repaired()
    if folds:
        names = [f"fold-{number}" for number in range(1, folds + 1)]
        folded = dict(zip(names, fold_splits(usable, data_args, folds, seed), strict=True))
        made = {name: fold.parts for name, fold in folded.items()}
        left_out = left_out_of_all(folded.values())
    else:
        divided = usable.divided(data_args, seed)
        if repair == "none":
            count_leaks(divided.parts)
        else:  # a split by `group_by` may have parted near-duplicates
            divided = divided.repaired()
        made, left_out = {"": divided.parts}, divided.left_out
    with translate_write_errors(output_dir):
        output_dir.mkdir(parents=True, exist_ok=True)
        if repair != "none":
            write_exclusions(left_out, output_dir / "exclude.txt")
        for name, some in made.items():
            write_lists(_rows(some), output_dir / name)
        for folder in output_dir.glob("fold-*"):
            if folds and folder.name not in made:
                write_lists({}, folder)  # of an earlier run with more folds
    if repair == "copy":
        if outside := photos_outside(made[""], data_args):
            logger.warning(
                "%d of the photos that are copied lie outside the table's folder: %s",
                *(len(outside), list_names(outside, 2)),
            )
        write_copy(made[""], usable.coarse, output_dir / "photos")
    counts = [{split: len(rows) for split, rows in _rows(some).items()} for some in made.values()]
    record = {"images": counts, "left_out": count_by_reason(left_out)}
    return SplitLists(output_dir, record | {"folds": folds, "repair": repair})


def _check_output_dir(data_args: DataArguments, output_dir: Path, repair: str) -> None:
    """Reject early what would fail after a long scan, or would do harm."""
    data_args.check_outside(output_dir)
    if repair == "copy":
        check_empty(output_dir / "photos")
    exclude = data_args.exclude and Path(data_args.exclude).resolve()
    if repair != "none" and exclude == (output_dir / "exclude.txt").resolve():
        raise InputError(f"exclude={exclude}: would be overwritten. Name another output_dir.")


def fold_splits(usable: Cleaned, data_args: DataArguments, folds: int, seed: int) -> list[Cleaned]:
    """One split a fold, with near-duplicates (or `group_by`) on one side in each.

    Classes with fewer groups than folds are what `rare_classes` says: never in the part that is
    held out, or in no fold.
    """
    usable, rare = _without_rare(usable, data_args, folds)
    pool = _pool(usable)
    labels, together = pool.rows["label"][:], group_rows(pool, data_args)
    folded = np.array([row for row, label in enumerate(labels) if label not in rare], int)
    own = [labels[row] for row in folded]
    if not own:
        raise InputError(
            f"folds={folds}: each class has fewer groups of photos. Use fewer folds, or add photos."
        )
    made = []
    for held_out in fold_by_groups(own, together[folded].tolist(), folds, seed=seed):
        rows = folded[held_out].tolist()
        fold = {"train": pool.take(sorted(set(range(len(labels))) - set(rows)))}
        fold["test"] = pool.take(rows)
        if "test" in usable.parts:
            fold |= {"validation": fold["test"], "test": usable.parts["test"]}
        made.append(replace(usable, parts=fold).divided(data_args, seed))
    return made


def left_out_of_all(folds: Iterable[Cleaned]) -> dict[str, str]:
    """Path -> reason, of the photos that no fold has."""
    first, *others = [fold.left_out for fold in folds]
    return {path: why for path, why in first.items() if all(path in more for more in others)}


def _without_rare(
    usable: Cleaned, data_args: DataArguments, folds: int
) -> tuple[Cleaned, dict[str, int]]:
    """The data less the classes dropped, and those that aren't held out, with their groups' number.

    None of either where `rare_classes` is `error`.
    """
    if data_args.rare_classes == "error":
        return usable, {}
    pool = _pool(usable)
    rare = count_few_groups(pool.rows["label"][:], group_rows(pool, data_args).tolist(), folds)
    if not rare or data_args.rare_classes == "train_only":
        return usable, rare
    return usable.without(rare), {}


def _pool(usable: Cleaned) -> Part:
    """What is folded: all but the data's own test split."""
    return join_parts([part for split, part in usable.parts.items() if split != "test"])


def _rows(parts: Mapping[str, Part]) -> dict[str, Any]:
    return {split: parts[split].rows for split in SPLIT_NAMES if split in parts}
