"""Labelled pictures that are no folders: CSV, JSONL and Parquet files, Hub datasets, WebDataset.

Whatever the form, the result is raw rows: `image` (undecoded), `label` (text), `path` (a name of
its own for each row) and, where asked for, `group`. Nothing is downloaded but what is named.
"""

import csv
import json
import logging
import os
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from datasets import (
    ClassLabel,
    Dataset,
    Features,
    Image,
    IterableDataset,
    LargeList,
    List,
    Value,
    concatenate_datasets,
    load_dataset,
)
from datasets.exceptions import DatasetNotFoundError, DatasetsError
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
from datasets.utils.logging import CRITICAL, get_verbosity, set_verbosity
from huggingface_hub.errors import HfHubHTTPError, HTTPError
from tqdm.auto import tqdm

from hffruits.errors import InputError
from hffruits.folders import SPLITS
from hffruits.images import is_hidden, is_image_name

logger = logging.getLogger(__name__)
VERSION = 1  # of how shards become rows: raise it when that changes

Rows = Dataset | IterableDataset
Row = dict[str, Any]

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

    Pictures are bytes, or paths, where relative ones start at the folder of their file. Where no
    file is of a split, a `split` column splits the rows.
    """
    asked = _Asked(image_column, label_column, group_column)
    parts: dict[str, list[Rows]] = {}
    for split, some in files.items():
        for number, (folder, group) in enumerate(groupby(sorted(some), lambda file: file.parent)):
            table = list(group)
            rows = _load_table(table, streaming=streaming)
            prefix = f"{split}-{number}" if number else split
            standard = asked.standard(rows, table[0], folder=folder, prefix=prefix)
            if list(files) == ["train"] and "split" in _features(rows):
                found = _by_column(rows, standard, table[0])
            else:
                found = {split: standard}
            for name, part in found.items():
                parts.setdefault(name, []).append(part)
    if "train" not in parts:
        source = next(iter(files.values()))[0]
        raise InputError(f"{source}: its split column has no train. Name the rows to train on so.")
    return {
        split: concatenate_datasets(some) if len(some) > 1 else some[0]
        for split, some in parts.items()
    }


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
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise InputError(f"{name}: no id of a Hub dataset. It is user/name; files are data_dir.")
    if Path(name).is_dir():  # `datasets` would take that
        raise InputError(f"{name}: a folder here, too. Give it as data_dir, or run elsewhere.")
    found = _load(name, name, name=config, streaming=streaming)
    chosen = _choose_splits(name, list(found), split_names or {})
    asked = _Asked(image_column, label_column, group_column)
    return {
        split: asked.standard(found[theirs], name, prefix=split) for split, theirs in chosen.items()
    }


def load_webdataset(
    shards: dict[str, list[str]],
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    streaming: bool = False,
) -> dict[str, Rows]:
    """The rows of WebDataset shards by split (paths or URLs of .tar files).

    The label is the `cls` or `txt` member of a sample, a field of its `json`, or the folder of its
    key. Not by the builder of `datasets`, which takes a `cls` for a number, goes by the members of
    the first samples, and drops pictures where a file of their name is in the working folder.
    """
    asked = _Asked(image_column, label_column, group_column)
    first = next(iter(shards.values()))[0]
    with _troubles_told(first):
        sample = next(_samples(first), None)
    if sample is None:
        raise InputError(f"{first}: no samples in it. Give shards that hold pictures and labels.")
    columns = asked.of_sample(sample, first)
    found = {}
    for split, some in shards.items():
        # With times and sizes, for `datasets` keeps what it made for the same arguments.
        options = {
            "features": _row_features(columns.group),
            "gen_kwargs": {
                "shards": [(shard, _state(shard)) for shard in some],
                "columns": columns,
                "version": VERSION,
            },
        }
        if streaming:
            found[split] = IterableDataset.from_generator(_shard_rows, **options)
            continue
        with _troubles_told(first), _quiet():
            found[split] = Dataset.from_generator(_shard_rows, **options)
    return found


# ---- what `datasets` loads ----


def _load_table(files: list[Path], *, streaming: bool) -> Rows:
    first = files[0]
    kind = TABLES[first.suffix.lower()]
    options = _csv_options(first) if kind == "csv" else {}
    names = [_without_magic(file) for file in files]
    return _load(kind, first, data_files=names, split="train", streaming=streaming, **options)


def _csv_options(file: Path) -> dict[str, Any]:
    """Every column as text, for a label may be 007 or NA; the separator as the header has it."""
    with _troubles_told(file), file.open(newline="", encoding="utf-8-sig") as stream:
        header = stream.readline(2**20)
        sep = "\t" if file.suffix.lower() == ".tsv" else max(",;\t", key=header.count)
        names = next(csv.reader([header], delimiter=sep, skipinitialspace=True), [])
    return {
        "features": Features({name: Value("string") for name in names if name}) or None,
        "sep": sep,
        "encoding": "utf-8-sig",
        "skipinitialspace": True,
        "index_col": False,  # else a separator at the end of each line would shift the columns
        "na_filter": False,
    }


def _without_magic(file: Path) -> str:
    """A name that `datasets` doesn't take for a pattern."""
    return re.sub(r"([*?[])", r"[\1]", str(file.absolute()))


def _load(builder: str, source: object, **options: Any) -> Any:
    """`load_dataset`, with its troubles told in one line and nothing else."""
    with _troubles_told(source), _quiet():
        return load_dataset(builder, **options)


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars and no log of `datasets`: they tell of its own files."""
    verbosity, bars = get_verbosity(), not are_progress_bars_disabled()
    set_verbosity(CRITICAL)
    if bars:
        disable_progress_bars()
    try:
        yield
    finally:
        set_verbosity(verbosity)
        if bars:
            enable_progress_bars()


@contextmanager
def _troubles_told(source: object) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except DatasetNotFoundError as error:
        if "gated" in str(error):
            raise InputError(
                f"{source}: gated. Ask for access on its page, then log in with `hf auth login`."
            ) from error
        raise InputError(
            f"{source}: no such dataset, or it is private. Check the name, or log in with "
            "`hf auth login`."
        ) from error
    except (HfHubHTTPError, HTTPError, ConnectionError) as error:
        raise InputError(
            f"{source}: the Hub can't be reached ({_line(error)}). Try again later."
        ) from error
    except (DatasetsError, tarfile.TarError, *_DAMAGE) as error:
        cause = error.__cause__ or error
        if isinstance(cause, InputError):
            raise cause from None
        raise InputError(f"{source}: can't be read as a dataset ({_line(cause)}).") from error


_DAMAGE = (OSError, ValueError, TypeError, RuntimeError, EOFError, zlib.error, csv.Error)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


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


def _by_column(rows: Rows, standard: Rows, source: Path) -> dict[str, Rows]:
    """The standard rows by the `split` column of the rows they were made of."""
    if isinstance(rows, IterableDataset):
        raise InputError(f"{source}: a split column can't be streamed. Give a file for each split.")
    parts: dict[str, list[int]] = {}
    for index, value in enumerate(rows["split"]):
        split = SPLITS.get(str(value).strip().lower())
        if split is None:
            raise InputError(
                f"{source}: split {value!r} in row {index + 1}. Use train, validation and test."
            )
        parts.setdefault(split, []).append(index)
    return {split: standard.select(indices) for split, indices in parts.items()}


# ---- rows of any columns as standard rows ----


def _features(rows: Rows) -> Features:
    if rows.features is None:  # a stream tells its columns with its first row
        rows = rows._resolve_features()
    return rows.features or Features()


def _row_features(group: str | None) -> Features:
    return Features(ROW | ({"group": Value("string")} if group else {}))


@dataclass(frozen=True)
class _Columns:
    """Which columns of the rows are what. No `image` is any picture, no `name` is by number."""

    image: str | None
    label: str
    group: str | None = None
    name: str | None = None
    classes: tuple[str, ...] | None = None  # of numbered labels

    def text_of(self, row: Row, place: str) -> Row:
        """All of a standard row but the picture; `place` names rows without a name."""
        name = row[self.name] if self.name else None
        text = {
            "label": _label_of(row[self.label], self.label, self.classes),
            "path": str(name or place),
        }
        return text | ({"group": str(row[self.group])} if self.group else {})


@dataclass(frozen=True)
class _Asked:
    """The columns that the user named."""

    image: str | None
    label: str | None
    group: str | None  # a column, or a pattern that doesn't concern us

    def of_table(self, features: Features, source: object, folder: Path | None) -> _Columns:
        """Columns as told, or by type or usual names."""
        names = list(features)
        pictures = [name for name in names if isinstance(features[name], Image)]
        classes = [name for name in names if isinstance(features[name], ClassLabel)]
        image = self._find("image_column_name", self.image, names, source, pictures or _IMAGES)
        usual = [name for name in classes if name.lower() in _LABELS] or classes
        usual = [*usual, *(name for name in _LABELS if name != image.lower()), "__key__"]
        label = self._find("label_column_name", self.label, names, source, usual)
        if not _holds_pictures(features[image]):
            raise InputError(
                f"{source}: {image}: neither pictures nor paths. Name the column with them as "
                "image_column_name."
            )
        if _is_text(features[image]) and folder is None:
            raise InputError(
                f"{source}: {image}: text, not pictures. Download the files, and give the table "
                "beside them as data_dir."
            )
        if isinstance(features[label], (List, LargeList)):
            raise InputError(
                f"{source}: {label}: lists. Name a column with one class a row as "
                "label_column_name."
            )
        by_path = [image] if _is_text(features[image]) else []
        known = [name for name in (*_NAMES, *by_path) if name in names and name != label]
        return _Columns(
            image,
            label,
            self.group if self.group in names else None,
            known[0] if known else (label if label == "__key__" else None),
            tuple(getattr(features[label], "names", ())) or None,
        )

    def of_sample(self, sample: Row, source: object) -> _Columns:
        """The same for WebDataset, of which any sample may have a picture of another format."""
        names = list(sample)
        if self.image:
            self._find("image_column_name", self.image, names, source, ())
        elif not _pictures_in(sample):
            raise InputError(
                f"{source}: no pictures in its first sample ({', '.join(names)}). Name the member "
                "that is one as image_column_name."
            )
        usual = [*_LABELS, *(["__key__"] if "/" in sample["__key__"] else [])]
        label = self._find("label_column_name", self.label, names, source, usual)
        return _Columns(self.image, label, self.group if self.group in names else None)

    @staticmethod
    def _find(
        option: str, asked: str | None, names: list[str], source: object, usual: Iterable[str]
    ) -> str:
        lower = {name.lower(): name for name in names}
        found = asked or next((lower[n.lower()] for n in usual if n.lower() in lower), None)
        if found in names:
            return found
        problem = f"no column {asked!r}" if asked else "can't tell which column it is"
        raise InputError(f"{source}: {option}: {problem}. Name one of {', '.join(names)}.")

    def standard(
        self, rows: Rows, source: object, *, prefix: str, folder: Path | None = None
    ) -> Rows:
        """The rows as `image`, `label`, `path` (and `group`)."""
        features = _features(rows)
        if not features or (isinstance(rows, Dataset) and not len(rows)):
            raise InputError(f"{source}: no rows. Give a table with a picture a row.")
        columns = self.of_table(features, source, folder)
        if isinstance(rows, IterableDataset):
            used = {columns.image, columns.label, columns.group, columns.name} - {None}
            stream = rows.select_columns(sorted(used))
            if isinstance(features[columns.image], Image):
                stream = stream.cast_column(columns.image, Image(decode=False))
            return IterableDataset.from_generator(
                _stream_rows,
                features=_row_features(columns.group),
                gen_kwargs={
                    "shards": list(range(stream.num_shards)),
                    "stream": stream,
                    "columns": columns,
                    "source": str(source),
                    "folder": folder,
                    "prefix": prefix,
                },
            )
        # The pictures stay in the file that they are in, and are not read.
        images = _image_column(rows, columns.image, folder)
        used = {columns.label, columns.group, columns.name} - {None}
        texts = [
            columns.text_of(row, f"{prefix}/{index:08d}")
            for index, row in enumerate(tqdm(rows.select_columns(sorted(used)), **_BAR))
        ]
        features = _row_features(columns.group)
        texts = Dataset.from_list(texts, Features({n: features[n] for n in list(features)[1:]}))
        return concatenate_datasets([images, texts], axis=1)


_BAR = {"desc": "Reading rows", "unit": "row", "leave": False}


def _is_text(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string")


def _holds_pictures(feature: Any) -> bool:
    if isinstance(feature, dict):
        return bool({"bytes", "path"} & set(feature))
    binary = isinstance(feature, Value) and feature.dtype in ("binary", "large_binary")
    return isinstance(feature, Image) or binary or _is_text(feature)


def _image_column(rows: Dataset, column: str, folder: Path | None) -> Dataset:
    """One column, `image`, undecoded; nothing is copied where the rows hold all the bytes."""
    images = rows.select_columns(column)
    if column != "image":
        images = images.rename_column(column, "image")
    if _is_text(images.features["image"]):
        pictures = [_picture(path, folder) for path in images["image"]]
        return Dataset.from_dict({"image": pictures}, Features({"image": ROW["image"]}))
    images = images.cast_column("image", Image(decode=False))
    chunks = images.data.column("image").chunks
    if any(chunk.null_count or chunk.field("bytes").null_count for chunk in chunks):
        with _quiet():
            return images.map(partial(_with_file, folder=folder), features=images.features)
    return images


def _with_file(row: Row, folder: Path | None) -> Row:
    return {"image": _picture(row["image"], folder)}


def _picture(value: str | bytes | Row | None, folder: Path | None) -> Row:
    """A picture as `datasets` stores it; with bytes alone where there are any.

    With a path, too, it would drop the bytes where a file of that name is in the working folder.
    """
    path = value if isinstance(value, str) else None
    if isinstance(value, dict):
        path, value = value.get("path"), value.get("bytes")
    if isinstance(value, bytes):
        return {"path": None, "bytes": value}
    if path and "://" in path and folder is None:  # of a Hub dataset, streamed
        with fsspec.open(path) as file:
            return {"path": None, "bytes": file.read()}
    if path:
        return {"path": os.path.join(folder or "", path), "bytes": None}  # noqa: PTH118, quicker
    return {"path": None, "bytes": b""}


def _label_of(value: Any, column: str, classes: tuple[str, ...] | None = None) -> str | None:
    """A label as text: a class's name, a JSON object's `label`, a key's folder."""
    if classes is not None and isinstance(value, int):
        return classes[value] if 0 <= value < len(classes) else None
    if column == "__key__":
        return str(value).rpartition("/")[0].rpartition("/")[2] or None
    if isinstance(value, dict):
        value = next((value[key] for key in _LABELS if value.get(key) is not None), None)
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, float):  # whole numbers beside empty fields become floats in pandas
        value = None if value != value else int(value) if value.is_integer() else value
    text = "" if value is None else str(value).strip()
    return text or None


def _stream_rows(
    shards: list[int],
    stream: IterableDataset,
    columns: _Columns,
    source: str,
    folder: Path | None,
    prefix: str,
) -> Iterator[Row]:
    """Standard rows of some shards, numbered within each, so that names don't depend on readers."""
    with _troubles_told(source):
        for shard in shards:
            view = stream.shard(num_shards=stream.num_shards, index=shard)
            # not `iter(view)`: in a data-loader worker that would split the shard over the workers
            for index, batch in enumerate(view.iter(batch_size=1)):
                row = {column: values[0] for column, values in batch.items()}
                text = columns.text_of(row, f"{prefix}/{shard:05d}-{index:08d}")
                yield {"image": _picture(row[columns.image], folder)} | text


# ---- WebDataset ----


def _shard_rows(
    shards: list[tuple[str, str]], columns: _Columns, version: int
) -> Iterator[Row]:
    """Standard rows of some shards. Keys are unique in a shard, so it is part of the name."""
    for shard, _ in shards:
        stem = PurePosixPath(shard.replace("\\", "/")).name.split(".")[0]
        with _troubles_told(shard):
            for sample in _samples(shard):
                found = [columns.image] if columns.image else _pictures_in(sample)
                if len(found) > 1:
                    raise InputError(
                        f"{shard}: {sample['__key__']} has the pictures {', '.join(found)}. Name "
                        "the one that counts as image_column_name."
                    )
                content = sample.get(found[0]) if found else None
                padded = {columns.label: None, columns.group: None} | sample
                row = columns.text_of(padded, f"{stem}/{sample['__key__']}")
                yield {"image": _picture(content, None)} | row


def _samples(shard: str) -> Iterator[Row]:
    """Each sample of a tar: `__key__`, the members by their extensions, the fields of its JSON."""
    with fsspec.open(shard) as file, tarfile.open(fileobj=file, mode="r|*") as tar:
        members = ((*_key_of(info.name), info) for info in tar if info.isfile())
        shown = ((key, name, info) for key, name, info in members if key)
        for key, group in groupby(shown, key=lambda member: member[0]):
            sample: Row = {"__key__": key}
            for _, name, info in group:
                content = tar.extractfile(info).read()
                if name == "json":
                    fields = json.loads(content)
                    sample = (fields if isinstance(fields, dict) else {"json": fields}) | sample
                else:
                    sample[name] = content
            yield sample


def _key_of(name: str) -> tuple[str | None, str]:
    """`Apple/001.seg.png` -> `Apple/001`, `seg.png`. See github.com/webdataset/webdataset."""
    path = PurePosixPath(name)
    stem, _, extension = path.name.partition(".")
    if not stem or not extension or any(is_hidden(part) for part in path.parts):
        return None, ""
    return path.with_name(stem).as_posix(), extension.lower()


def _pictures_in(sample: Row) -> list[str]:
    return [
        name
        for name, value in sample.items()
        if isinstance(value, bytes) and is_image_name(f"_.{name}")
    ]


def _state(shard: str) -> str:
    """What changes when a shard does."""
    if "://" in shard:
        return ""
    with _troubles_told(shard):
        stat = Path(shard).stat()
    return f"{stat.st_size:x}-{stat.st_mtime_ns:x}"
