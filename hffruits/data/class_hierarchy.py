"""Coarse labels: Royal-Gala is an Apple. From the folders that hold classes, or from a file."""

import csv
import difflib
import io
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath

from hffruits.core.errors import InputError
from hffruits.core.names import match_names, unify_names

logger = logging.getLogger(__name__)


def coarse_from_folders(leaves: Mapping[str, PurePath]) -> dict[str, str]:
    """Class -> coarse label, from each class's folder below the split (`Fruit/Apple/Royal-Gala`).

    A folder that holds nothing but class folders names them all (`Apple`); where it holds other
    folders too (`Fruit`), a class stands for itself. Empty where it would add nothing.
    """
    children: dict[PurePath, set[PurePath]] = defaultdict(set)
    for leaf in leaves.values():
        for folder in (leaf, *leaf.parents):
            if folder.name:
                children[folder.parent].add(folder)
    classes = set(leaves.values())
    coarse = {}
    for label, leaf in leaves.items():
        parent = leaf.parent
        names_all = bool(parent.name) and children[parent] <= classes and parent not in classes
        coarse[label] = parent.name if names_all else label
    return _if_useful(coarse)


def read_coarse_labels(file: Path, labels: Iterable[str]) -> dict[str, str]:
    """Class -> coarse label from a JSON object, or from a CSV file of two columns (class, coarse).

    A class that the file lacks stands for itself. Raises `InputError` for a file that can't be
    used, and for one that names no class of the data.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        if file.suffix.lower() == ".json":
            rows = json.loads(text)
        else:
            lines = csv.reader(io.StringIO(text, newline=""))
            rows = {row[0].strip(): row[1].strip() for row in lines if row}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: can't be read ({error}). Check the path.") from error
    except (ValueError, IndexError, RecursionError, csv.Error) as error:
        raise InputError(
            f'{file}: not a mapping of classes. Give JSON ({{"Royal-Gala": "Apple"}}) or CSV with '
            "two columns (Royal-Gala,Apple)."
        ) from error
    if not isinstance(rows, dict) or not all(
        isinstance(v, str) and v.strip() for v in rows.values()
    ):
        raise InputError(f"{file}: must map each class to one name.")
    labels = list(labels)
    coarse_names = unify_names(Counter(rows.values()))
    own_names = match_names(rows, labels)
    rows = {own_names.get(name, name): coarse_names[kind] for name, kind in rows.items()}
    if not set(labels) & set(rows):
        raise InputError(
            f"{file}: names none of the classes ({', '.join(labels[:3])}, ...). Use their names."
        )
    # not where the file covers other classes on purpose, but for what may be misspelt
    for name in sorted(set(rows) - set(labels)):
        if near := difflib.get_close_matches(name, set(labels) - set(rows), 1, 0.7):
            logger.warning("%s: %s is not a class of the data. Is it %s?", file, name, near[0])
    coarse = {label: rows.get(label, label) for label in labels}
    if not _if_useful(coarse):
        kinds = len(set(coarse.values()))
        raise InputError(
            f"{file}: makes {kinds} coarse classes of {len(labels)} classes, which adds nothing. "
            "Map some classes, but not all, to the same name."
        )
    return coarse


def _if_useful(coarse: dict[str, str]) -> dict[str, str]:
    """Empty where each class stands for itself, or all for one."""
    return coarse if 1 < len(Counter(coarse.values())) < len(coarse) else {}
