"""Splits that rows name themselves: in a column, or in the folders of their paths.

One rule for tables, shards, saved datasets and the Hub: names of files, shards and splits come
first. Where they name none but train, a split column splits the rows, or else (also where that
column has only train) the split folders in their paths; a stream, which can't be split so, is
refused, and so are photos of test or validation folders that a column has as train.
"""

import logging
from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from datasets import Features, IterableDataset, concatenate_datasets

from hffruits.core.errors import InputError
from hffruits.core.escaping import shorten
from hffruits.core.names import list_names
from hffruits.data.readers.column_mapping import (
    FLAGS_OF_SPLITS,
    SPLIT_COLUMNS,
    Columns,
    Rows,
    features_of,
    plain_name,
)
from hffruits.data.readers.folders import (
    split_named,
    split_names_of,
    splits_of_folders,
)

logger = logging.getLogger(__name__)


def with_split_column(columns: Columns, rows: Rows, source: object) -> Columns:
    """The columns with that of the splits: `split`, or one called alike with only their names.

    Warns of one that holds other values, too.
    """
    features = features_of(rows)
    taken = {columns.image, columns.label, columns.group}
    names = {plain_name(name): name for name in features if name not in taken}
    for name in [names[usual] for usual in SPLIT_COLUMNS if usual in names]:
        classes = tuple(getattr(features[name], "names", ())) or None
        found = replace(columns, split=name, split_classes=classes)
        if plain_name(name) == "split":
            return found
        own = rows.select_columns(name)
        own = own.take(1000) if isinstance(own, IterableDataset) else own
        values = dict.fromkeys(found.split_of(row) or "" for row in own)
        others = [value for value in values if not split_named(value)]
        if not others:
            return found
        if len(others) < len(values):
            logger.warning(
                "%s: its column %s names splits, but also %s, so it is not used. Call it split, "
                "and use train, validation and test",
                *(source, name, list_names(map(_shown, others))),
            )
    if flags := [names[usual] for usual in FLAGS_OF_SPLITS if usual in names]:
        logger.warning(
            "%s: its column %s may name splits, but is not used. Add a column split with train, "
            "validation and test to have it split so",
            *(source, list_names(flags)),
        )
    return columns


class NamedRows(NamedTuple):
    """Standard rows, and the split that they are of by the names of files, shards or splits."""

    split: str
    rows: Rows
    source: object
    places: Collection[str] = ()  # what their paths start with that is none of their folders


def split_rows(found: Iterable[NamedRows]) -> dict[str, Rows]:
    """Standard rows by the names of what they are of, and by the splits that they name themselves.

    Raises `InputError` where rows to train on name other splits, and can't be split by them.
    """
    found = list(found)
    lone = all(named.split == "train" for named in found)
    parts: dict[str, list[Rows]] = {}
    for named in found:
        train = named.split == "train"
        own = _own_splits(named, lone=lone) if train else {named.split: named.rows}
        for split, part in own.items():
            parts.setdefault(split, []).append(part)
    if "train" not in parts:
        raise InputError(
            f"{found[0].source}: its split column has no train. Name the rows to train on so."
        )
    return {
        split: concatenate_datasets(some) if len(some) > 1 else some[0]
        for split, some in parts.items()
    }


def _own_splits(named: NamedRows, *, lone: bool) -> dict[str, Rows]:
    """Rows to train on by the splits that they name; not `lone`, other splits are there already."""
    rows, source = named.rows, named.source
    has_column = "split" in rows.features
    if isinstance(rows, IterableDataset):
        return {"train": _refuse_others(rows, source, lone=lone) if has_column else rows}
    parts: dict[str, list[int]] = {}
    if has_column:
        parts = _by_column(rows["split"][:], source, lone=lone)
        rows = rows.remove_columns("split")
    if lone and parts.keys() <= {"train"}:
        parts = _by_path(rows["path"][:], source, named.places)
    elif lone:
        _check_folders(rows["path"][:], parts.get("train", []), source, named.places)
    return {split: rows.select(indices) for split, indices in parts.items()} or {"train": rows}


def _by_column(values: list[str | None], source: object, *, lone: bool) -> dict[str, list[int]]:
    parts: dict[str, list[int]] = {}
    for index, value in enumerate(values):
        split = split_named(value or "")
        if lone and split is None:
            raise InputError(
                f"{source}: split {_shown(value)} in row {index + 1}. Use train, validation and "
                "test."
            )
        parts.setdefault(split or "train", []).append(index)
    if not lone and (others := parts.keys() - {"train"}):
        raise _two_names(source, others)
    return parts


def _shown(value: str | None) -> str:
    return repr(shorten(value)) if value and value.strip() else "empty"


def _two_names(source: object, others: Iterable[str]) -> InputError:
    return InputError(
        f"{source}: train by its name, but {' and '.join(sorted(others))} by its split column. "
        "Remove one of the two."
    )


def _by_path(paths: list[str], source: object, places: Collection[str]) -> dict[str, list[int]]:
    folders = [_folder_of(path, places) for path in paths]
    named = splits_of_folders(set(folders), source)
    parts: dict[str, list[int]] = {}
    for index, folder in enumerate(folders if named else ()):
        parts.setdefault(named[folder], []).append(index)
    if parts:
        logger.info("%s: split as the folders in its paths say", source)
    return parts


def _check_folders(
    paths: list[str], train: list[int], source: object, places: Collection[str]
) -> None:
    """Raise `InputError` where rows of train by their column lie in folders of another split."""
    folders = [_folder_of(path, places) for path in paths]
    named = split_names_of(set(folders))
    for index in train:
        if others := named.get(folders[index], set()) - {"train"}:
            raise InputError(
                f"{source}: {paths[index]} is train by the split column, but "
                f"{' and '.join(others)} by its folder. Correct the column, or remove it."
            )


def _folder_of(path: str, places: Collection[str]) -> str:
    folders = path.split("/")[:-1]
    for end in range(1, len(folders) + 1 if places else 0):
        if "/".join(folders[:end]) in places:
            return "/".join(folders[end:])
    return "/".join(folders)


def _refuse_others(stream: IterableDataset, source: object, *, lone: bool) -> IterableDataset:
    """The rows without their split column; it raises `InputError` for one of another split."""
    features = Features({name: own for name, own in stream.features.items() if name != "split"})
    check = partial(_check_train, source=str(source), lone=lone)
    return stream.map(check, input_columns=["split"], remove_columns=["split"], features=features)


def _check_train(value: str | None, source: str, *, lone: bool) -> dict[str, str]:
    split = split_named(value or "")
    if lone and split != "train":
        raise InputError(
            f"{source}: a split column can't be streamed, and one row's is {_shown(value)}. "
            "Give a file for each split, or leave streaming out."
        )
    if split not in ("train", None):
        raise _two_names(source, [split])
    return {}
