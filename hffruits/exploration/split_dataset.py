"""`hffruits split`: split lists for a data set, k-fold too, and a repaired list or copy of it."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hffruits.core.errors import InputError
from hffruits.core.files import translate_write_errors
from hffruits.data.arguments import DataArguments
from hffruits.data.readers.folders import SPLIT_NAMES
from hffruits.data.splits import count_leaks, fold_by_groups, group_rows, write_lists
from hffruits.data.validation import Part, join_parts
from hffruits.exploration.repair import (
    check_empty,
    count_by_reason,
    load_usable,
    split_parts,
    write_copy,
    write_exclusions,
)

logger = logging.getLogger(__name__)
REPAIRS = ("none", "list", "copy")


def split(
    data_args: DataArguments,
    *,
    output_dir: Path,
    repair: str = "none",
    folds: int = 0,
    resplit: bool = False,
    seed: int = 42,
) -> dict[str, Any]:
    """Write the lists of a split to `output_dir`; returns counts by split, and what was left out.

    `repair`: `list` leaves out what `choose_repairs` says and writes `exclude.txt`; `copy` writes
    the photos that are left to `output_dir`/photos as well. `folds`: that many splits,
    `fold-1/train.txt` and so on: each photo is held out once, for the test, or for validation where
    the data has a test split. `resplit` forgets the data's own splits.
    """
    if repair not in REPAIRS:
        raise InputError(f"repair={repair}: must be one of {', '.join(REPAIRS)}.")
    if repair == "copy" and folds:
        raise InputError("repair=copy, folds: a copy has one split. Copy first, then fold that.")
    _check_output_dir(data_args, output_dir, repair)
    usable = load_usable(data_args, resplit=resplit)
    if repair != "none":
        usable = usable.repaired()
    left_out = usable.left_out
    if folds:
        names = [f"fold-{number}" for number in range(1, folds + 1)]
        made = dict(zip(names, fold_splits(usable.parts, data_args, folds, seed), strict=True))
    else:
        divided = replace(usable, parts=split_parts(usable.parts, data_args, seed))
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
        write_copy(made[""], usable.coarse, output_dir / "photos")
    counts = [{split: len(rows) for split, rows in _rows(some).items()} for some in made.values()]
    return {
        "images": counts,
        "left_out": count_by_reason(left_out),
    }


def _check_output_dir(data_args: DataArguments, output_dir: Path, repair: str) -> None:
    """Refuse early what would be refused after a long scan, or would do harm."""
    data_args.check_outside(output_dir)
    if repair == "copy":
        check_empty(output_dir / "photos")
    exclude = data_args.exclude and Path(data_args.exclude).resolve()
    if repair != "none" and exclude == (output_dir / "exclude.txt").resolve():
        raise InputError(f"exclude={exclude}: would be overwritten. Name another output_dir.")


def fold_splits(
    parts: Mapping[str, Part], data_args: DataArguments, folds: int, seed: int
) -> list[dict[str, Part]]:
    """One split a fold, with near-duplicates (or `group_by`) on one side in each."""
    pool = join_parts([part for split, part in parts.items() if split != "test"])
    together = group_rows(pool, data_args).tolist()
    labels = pool.rows["label"][:]
    made = []
    for held_out in fold_by_groups(labels, together, folds, seed=seed):
        rest = pool.take(sorted(set(range(len(labels))) - set(held_out)))
        fold = {"train": rest, "test": pool.take(held_out)}
        if "test" in parts:
            made.append({"train": rest, "validation": fold["test"], "test": parts["test"]})
        else:
            made.append(split_parts(fold, data_args, seed))
    return made


def _rows(parts: Mapping[str, Part]) -> dict[str, Any]:
    return {split: parts[split].rows for split in SPLIT_NAMES if split in parts}
