"""Labelled pictures that are no folders: CSV, JSONL and Parquet files, Hub datasets, WebDataset.

Whatever the form, the result is raw rows: `image` (undecoded), `label` (text), `path` (a name of
its own for each row) and, where asked for, `group`. Nothing is downloaded but what is named.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, Features, Image, IterableDataset, Value, load_dataset
from datasets.exceptions import DatasetNotFoundError, DatasetsError
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HTTPError

from hffruits.errors import InputError
from hffruits.folders import SPLITS

Rows = Dataset | IterableDataset

TABLES = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".json": "json", ".parquet": "parquet"}
ROW = Features(
    {"image": Image(decode=False), "label": Value("string"), "path": Value("string")}
)  # and `group`

# Columns by their usual names, the most telling first.
_IMAGES = (
    "image", "img", "picture", "photo", "file_name", "filename", "image_path", "filepath", "path",
    "file", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes",
)  # fmt: skip
_LABELS = (
    "label", "labels", "class", "cls", "class_name", "category", "fruit", "fine_label", "variety",
    "target", "txt", "json",
)  # fmt: skip
_NAMES = ("path", "file_name", "filename", "image_path", "filepath", "__key__")


def load_tables(
    files: dict[str, list[Path]],
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    streaming: bool = False,
) -> dict[str, Rows]:
    """The rows of CSV, TSV, JSONL, JSON or Parquet files by split, all of one kind.

    Pictures are paths (relative ones start at the file's folder) or bytes. One file with a `split`
    column is split by it.
    """
    first = next(iter(files.values()))[0]
    suffix = first.suffix.lower()
    options = {"sep": "\t"} if suffix == ".tsv" else {}
    data_files = {split: [str(file) for file in some] for split, some in files.items()}
    found = _load(TABLES[suffix], first, data_files=data_files, streaming=streaming, **options)
    columns = _Columns(first, image_column, label_column, group_column, folder=str(first.parent))
    if list(found) != ["train"] or "split" not in columns.of(found["train"]):
        return {split: columns.standard(rows, split) for split, rows in found.items()}
    if streaming:
        raise InputError(f"{first}: a split column can't be streamed. Give a file for each split.")
    parts: dict[str, list[int]] = {}
    for index, value in enumerate(found["train"]["split"]):
        if str(value).lower() not in SPLITS:
            raise InputError(
                f"{first}: split {value!r} in row {index + 1}. Use train, validation and test."
            )
        parts.setdefault(SPLITS[str(value).lower()], []).append(index)
    return {s: columns.standard(found["train"].select(rows), s) for s, rows in parts.items()}


def load_hub(
    name: str,
    *,
    config: str | None = None,
    split_names: dict[str, str] | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    streaming: bool = False,
) -> dict[str, Rows]:
    """The rows of a Hub dataset by split; `split_names` says what its splits mean.

    It can't run code: `datasets` no longer runs any that comes with the data.
    """
    found = _load(name, name, name=config, streaming=streaming)
    chosen = _choose_splits(name, list(found), split_names or {})
    columns = _Columns(name, image_column, label_column, group_column)
    return {split: columns.standard(found[theirs], split) for split, theirs in chosen.items()}


def load_webdataset(
    shards: dict[str, list[str]],
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    streaming: bool = False,
) -> dict[str, Rows]:
    """The rows of WebDataset shards by split (paths or URLs of .tar files).

    The label is the `cls`, `txt` or `json` member of a sample, or the folder of its key.
    """
    first = next(iter(shards.values()))[0]
    found = _load("webdataset", first, data_files=shards, streaming=streaming)
    columns = _Columns(first, image_column, label_column, group_column)
    return {split: columns.standard(rows, split) for split, rows in found.items()}


def _load(builder: str, source: object, **options: Any) -> Any:
    """`load_dataset`, with its troubles told in one line."""
    try:
        return load_dataset(builder, **options)
    except DatasetNotFoundError as error:
        raise InputError(
            f"{source}: no such dataset, or it is private. Check the name, or log in with "
            "`hf auth login`."
        ) from error
    except GatedRepoError as error:
        raise InputError(f"{source}: gated. Ask for access on its page, then log in.") from error
    except (HfHubHTTPError, HTTPError, ConnectionError) as error:
        raise InputError(f"{source}: the Hub can't be reached ({_line(error)}).") from error
    except (DatasetsError, OSError, ValueError, RuntimeError) as error:
        reason = _line(error.__cause__ or error)
        raise InputError(f"{source}: can't be read as a dataset ({reason}).") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _choose_splits(source: str, found: list[str], wanted: dict[str, str]) -> dict[str, str]:
    """Our split names -> theirs: as told, else by their usual names."""
    for theirs in wanted.values():
        if theirs not in found:
            raise InputError(f"{source}: has no split {theirs!r}. It has {', '.join(found)}.")
    rest = [name for name in found if name not in wanted.values()]
    chosen = {SPLITS[name.lower()]: name for name in rest if name.lower() in SPLITS} | wanted
    if "train" not in chosen and len(found) == 1:
        chosen = {"train": found[0]}
    if "train" not in chosen:
        raise InputError(
            f"{source}: none of its splits ({', '.join(found)}) is called train. Name one as "
            "train_split_name."
        )
    return chosen


@dataclass(frozen=True)
class _Columns:
    """Which columns of a source are what, as told or by their usual names."""

    source: object  # for errors
    image: str | None
    label: str | None
    group: str | None
    folder: str | None = None  # where relative paths start

    @staticmethod
    def of(rows: Rows) -> Features:
        if rows.features is None:  # a stream tells its columns with its first row
            rows = rows._resolve_features()
        return rows.features

    def standard(self, rows: Rows, split: str) -> Rows:
        """Raw rows as `image`, `label`, `path` (and `group`)."""
        features = self.of(rows)
        names = list(features)
        pictures = [name for name in names if isinstance(features[name], Image)]
        classes = [name for name in names if isinstance(features[name], ClassLabel)]
        image = self._find("image_column_name", self.image, names, pictures or _IMAGES)
        usual = [name for name in classes if name in _LABELS] or classes
        label = self._find("label_column_name", self.label, names, [*usual, *_LABELS, "__key__"])
        group = self.group if self.group in names else None  # else it is a pattern
        if isinstance(features[image], Image):
            rows = rows.cast_column(image, Image(decode=False))
        convert = partial(
            _standard_row,
            columns=(image, label, group),
            known_as=next((name for name in _NAMES if name in names and name != label), None)
            or (label if label == "__key__" else None),
            folder=self.folder or "",
            prefix=split,
            classes=getattr(features[label], "names", None),
        )
        options: dict[str, Any] = {"with_indices": True, "remove_columns": names}
        options["features"] = Features(ROW | ({"group": Value("string")} if group else {}))
        if isinstance(rows, Dataset):
            options["desc"] = "Reading rows"
        return rows.map(convert, **options)

    def _find(self, option: str, asked: str | None, names: list[str], usual: Iterable[str]) -> str:
        lower = {name.lower(): name for name in names}
        found = asked or next((lower[name] for name in usual if name in lower), None)
        if found in names:
            return found
        problem = f"no column {asked!r}" if asked else "can't tell which column it is"
        raise InputError(f"{self.source}: {option}: {problem}. Name one of {', '.join(names)}.")


def _standard_row(
    row: dict[str, Any],
    index: int,
    *,
    columns: tuple[str, str, str | None],
    known_as: str | None,
    folder: str,
    prefix: str,
    classes: list[str] | None,
) -> dict[str, Any]:
    image, label, group = columns
    picture = row[image]
    if isinstance(picture, str):
        picture = {"path": str(Path(folder, picture)), "bytes": None}
    elif not isinstance(picture, dict):
        picture = {"path": None, "bytes": picture or b""}
    name = row[known_as] if known_as else None
    standard = {
        "image": picture,
        "label": _label_of(row[label], label, classes),
        "path": str(name or f"{prefix}/{index:08d}"),
    }
    return standard | ({"group": str(row[group])} if group else {})


def _label_of(value: Any, column: str, classes: list[str] | None) -> str | None:
    """A label as text: a class's name, a JSON object's `label`, a key's folder."""
    if classes is not None and isinstance(value, int):
        return classes[value] if value >= 0 else None
    if column == "__key__":
        return str(value).rpartition("/")[0].rpartition("/")[2] or None
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str) and value.lstrip().startswith("{"):
        value = json.loads(value)
    if isinstance(value, dict):
        value = next((value[key] for key in _LABELS if value.get(key) is not None), None)
    text = "" if value is None else str(value).strip()
    return text or None
