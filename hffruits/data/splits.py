"""Which picture is in which split: as the data has it, as lists say, or made without leaks."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from datasets import Dataset

from hffruits.core.errors import InputError
from hffruits.core.escaping import list_line, name_in_line
from hffruits.core.names import path_key
from hffruits.data.readers.folders import SPLIT_NAMES
from hffruits.data.splitting import split_by_groups
from hffruits.data.validation import Part, join_parts

logger = logging.getLogger(__name__)
SPLIT_BY = ("duplicates", "class")


def choose_splits(
    parts: dict[str, Part],
    fractions: dict[str, float],
    *,
    split_by: str = "duplicates",
    group_by: str | None = None,
    seed: int = 42,
    lists_dir: Path | None = None,
    only: str | None = None,
) -> dict[str, Part]:
    """The pictures of each split: as listed, else as the data has them, else made.

    A missing `validation`, and `test` where neither is given, is taken from train. Of lists, the
    one of the split `only` is enough for a model that is trained already.
    """
    _check_split_by(split_by)
    if lists_dir is not None:
        return _read_lists(join_parts(list(parts.values())), lists_dir, only)
    if "validation" in parts:
        return parts
    if "test" in parts:
        fractions = {"validation": fractions["validation"]}
    train = parts["train"]
    together = group_rows(train, split_by=split_by, group_by=group_by).tolist()
    # groups that the user knows stay whole, whatever their size
    options = {"seed": seed, "cut_large": group_by is None}
    split = split_by_groups(train.rows["label"][:], together, fractions, **options)
    if split.cut:
        why = f"group_by={group_by} gives" if group_by else "near-duplicates leave"
        logger.warning(
            "%s: %s too few groups to split, or too large ones, so each is cut in the order of its "
            "files. Their figures will be too good", ", ".join(split.cut), why,
        )  # fmt: skip
    return parts | {name: train.take(indices) for name, indices in split.parts.items()}


def group_rows(
    part: Part, *, split_by: str = "duplicates", group_by: str | None = None
) -> np.ndarray:
    """A number for each row, (N,) integers: rows with the same one stay together.

    `group_by`: the column that the rows carry as `group`, or a pattern; of a pattern, what its
    groups in parentheses find in the path counts, or else all that it finds. A row without either
    stands alone. Raises `InputError` for a pattern that is none, or that finds nothing.
    """
    _check_split_by(split_by)
    rows = part.rows
    if group_by is None:
        return part.groups if split_by == "duplicates" else np.arange(len(rows))
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
        if missed := finds.count(None):
            logger.warning(
                "group_by=%s: %d of %d paths don't have it (such as %s) and stand alone",
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
            raise InputError(f"{file}: names no picture. Use the lists as they were written.")
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
    """For each split held out, how many of its pictures have a near-duplicate in train; warns."""
    leaks = {
        split: int(np.isin(part.groups, parts["train"].groups).sum())
        for split, part in parts.items()
        if split != "train"
    }
    for split, count in leaks.items():
        if count:
            logger.warning(
                "%d of %d %s photos have a near-duplicate in train: the figures will be too good. "
                "`hffruits explore` shows them, `hffruits split --repair` mends them",
                *(count, len(parts[split].rows), split),
            )
    return leaks


def write_lists(datasets: Mapping[str, Dataset], folder: Path) -> None:
    """Write `train.txt`, ...: one path a line, so that the same split can be made again."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLIT_NAMES:
        file = folder / f"{split}.txt"
        if split in datasets:
            paths = datasets[split].with_format(None)["path"][:]  # else each photo is decoded
            file.write_text("\n".join(map(list_line, paths)) + "\n", encoding="utf-8")
        else:
            file.unlink(missing_ok=True)  # of an earlier run
