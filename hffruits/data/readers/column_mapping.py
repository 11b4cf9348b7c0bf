"""Which columns hold images, labels, groups: as the user named them, by type or by usual names.

A standard row has `image` (undecoded), `label` (text), `path` (a name of its own) and, where asked
for, `group`.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
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
)
from tqdm.auto import tqdm

from hffruits.core.errors import InputError
from hffruits.core.names import clean_name
from hffruits.data.images import Kind, is_image_head, kind_of
from hffruits.data.readers.error_translation import quiet, translate_dataset_errors
from hffruits.data.readers.folders import is_wrapper, split_named

Rows = Dataset | IterableDataset
Row = dict[str, Any]

ROW = Features(
    {"image": Image(decode=False), "label": Value("string"), "path": Value("string")}
)  # and `group`

# Columns by their usual names, the most specific first.
_IMAGES = (
    "image", "img", "picture", "photo", "file_name", "filename", "image_path", "filepath", "path",
    "file", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes",
)  # fmt: skip
_LABELS = (
    "label", "labels", "class", "cls", "class_name", "category", "fruit", "fine_label", "variety",
    "target", "txt", "json",
)  # fmt: skip
_NAMES = ("path", "file_name", "filename", "image_path", "filepath", "__key__")


def no_rows(source: object) -> InputError:
    return InputError(f"{source}: no rows. Give a table with one image per row.")


# ---- rows of any columns as standard rows ----


def features_of(rows: Rows) -> Features:
    if rows.features is None:  # a stream has its columns with its first row
        rows = rows._resolve_features()
    return rows.features or Features()


def row_features(group: str | None) -> Features:
    return Features(ROW | ({"group": Value("string")} if group else {}))


class FoundRows(dict[str, Rows]):
    """Rows by split. `key_folders`: their labels are the folders of keys, not named yet."""

    def __init__(self, rows: Mapping[str, Rows], *, key_folders: bool):
        super().__init__(rows)
        self.key_folders = key_folders


@dataclass(frozen=True)
class Columns:
    """Which columns of the rows are what. No `image` is any image, no `name` is by number."""

    image: str | None
    label: str
    group: str | None = None
    name: str | None = None
    classes: tuple[str, ...] | None = None  # of numbered labels
    below: str = ""  # a folder that the names start from

    @property
    def key_folders(self) -> bool:
        """Whether labels are all folders of the key, which need the other rows to be named."""
        return self.label == "__key__"

    @property
    def texts(self) -> list[str]:
        """The columns without the images."""
        return sorted({self.label, self.group, self.name} - {None})

    def text_of(self, row: Row, place: str, index: int = 0) -> Row:
        """All of a standard row but the image; rows without a name are numbered in `place`."""
        name = row[self.name] if self.name else None
        if not name or self.name == "__key__":  # which is unique in its shard
            name = f"{place}/{name or f'{index:08d}'}"
        else:
            name = os.path.join(self.below, str(name))  # noqa: PTH118, faster
        if self.key_folders:
            label = _folder_of(row["__key__"])
        else:
            label = _label_of(row[self.label], self.label, self.classes)
        text = {"label": label, "path": name}
        group = row[self.group] if self.group else None  # one without is a group of its own
        known = None if group in (None, "") else str(group)
        return text | ({"group": known} if self.group else {})


@dataclass(frozen=True)
class AskedColumns:
    """The columns that the user named."""

    image: str | None
    label: str | None
    group: str | None  # a column, or a pattern that doesn't concern us

    def of_table(
        self, rows: Rows, source: object, *, folder: Path | None = None, below: str = ""
    ) -> Columns:
        """Columns as asked for, or by type or usual names."""
        features = features_of(rows)
        if not features or (isinstance(rows, Dataset) and not len(rows)):
            raise no_rows(source)
        names = list(features)
        typed = [name for name in names if isinstance(features[name], Image)]
        classes = [name for name in names if isinstance(features[name], ClassLabel)]
        image = self._find("image_column_name", self.image, names, source, typed or _IMAGES)
        usual = [name for name in classes if name.lower() in _LABELS] or classes
        usual = [*usual, *(name for name in _LABELS if name != image.lower()), "__key__"]
        label = self._find("label_column_name", self.label, names, source, usual)
        if not _holds_images(features[image]):
            raise InputError(
                f"{source}: {image}: neither images nor paths. Name the column with them as "
                "image_column_name."
            )
        if _is_text(features[image]) and folder is None:
            raise InputError(
                f"{source}: {image}: text, not images. Download the files, and give the table "
                "beside them as data_dir."
            )
        if isinstance(features[label], (List, LargeList)):
            raise InputError(
                f"{source}: {label}: lists. Name a column with one class a row as "
                "label_column_name."
            )
        by_path = [image] if _is_text(features[image]) else []
        others = {*names} - {label} | ({"__key__"} & {*names})
        known = [name for name in (*_NAMES, *by_path) if name in others]
        return Columns(
            image,
            label,
            self.group if self.group in names else None,
            known[0] if known else None,
            tuple(getattr(features[label], "names", ())) or None,
            "" if below == "." else below,
        )

    def of_sample(self, sample: Row, source: object) -> Columns:
        """The same for WebDataset, of which any sample may have an image of another format."""
        names = list(sample)
        if self.image:
            self._find("image_column_name", self.image, names, source, ())
        elif not images_in(sample):
            raise InputError(
                f"{source}: no images in its first sample ({', '.join(names)}). Name the member "
                "that is one as image_column_name."
            )
        usual = [*_LABELS, *(["__key__"] if _folder_of(sample["__key__"]) else [])]
        label = self._find("label_column_name", self.label, names, source, usual)
        return Columns(self.image, label, self.group if self.group in names else None, "__key__")

    @staticmethod
    def _find(
        option: str, asked: str | None, names: list[str], source: object, usual: Iterable[str]
    ) -> str:
        lower = {name.lower(): name for name in names}
        found = asked or next((lower[n.lower()] for n in usual if n.lower() in lower), None)
        if found in names:
            return found
        problem = f"no column {asked!r}" if asked else "unclear which column it is"
        listed = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise InputError(f"{source}: {option}: {problem}. Name one of {listed}.")


def standard_rows(
    rows: Rows,
    columns: Columns,
    source: object,
    *,
    prefix: str,
    folder: Path | None = None,
    with_images: bool = True,
) -> Rows:
    """The rows as `image`, `label`, `path` (and `group`).

    Not `with_images`, for streams only, they are empty and their column is not read.
    """
    if isinstance(rows, IterableDataset):
        used = {*columns.texts, columns.image} if with_images else {*columns.texts}
        stream = rows.select_columns(sorted(used))
        if columns.image in used and isinstance(features_of(rows)[columns.image], Image):
            stream = stream.cast_column(columns.image, Image(decode=False))
        return IterableDataset.from_generator(
            _stream_rows,
            features=row_features(columns.group),
            gen_kwargs={
                "shards": list(range(stream.num_shards)),
                "stream": stream,
                "columns": columns,
                "source": str(source),
                "folder": folder,
                "prefix": prefix,
                "with_images": with_images,
            },
        )
    # The images stay in the file that they are in, and are not read.
    images = _image_column(rows, columns.image, folder)
    texts = [
        columns.text_of(row, prefix, index)
        for index, row in enumerate(tqdm(rows.select_columns(columns.texts), **_BAR))
    ]
    features = row_features(columns.group)
    texts = Dataset.from_list(texts, Features({n: features[n] for n in list(features)[1:]}))
    return concatenate_datasets([images, texts], axis=1)


_BAR = {"desc": "Reading rows", "unit": "row", "leave": False}


def _is_text(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string")


def _holds_images(feature: Any) -> bool:
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
        found = [image_of(path, folder) for path in images["image"]]
        return Dataset.from_dict({"image": found}, Features({"image": ROW["image"]}))
    images = images.cast_column("image", Image(decode=False))
    chunks = images.data.column("image").chunks
    if any(chunk.null_count or chunk.field("bytes").null_count for chunk in chunks):
        with quiet():
            return images.map(partial(_with_file, folder=folder), features=images.features)
    return images


def _with_file(row: Row, folder: Path | None) -> Row:
    return {"image": image_of(row["image"], folder)}


def image_of(value: str | bytes | Row | None, folder: Path | None) -> Row:
    """An image as `datasets` stores it; with only the bytes where there are any.

    With a path, too, it would drop the bytes where a file of that name is in the working folder.
    """
    path = value if isinstance(value, str) else None
    if isinstance(value, dict):
        path, value = value.get("path"), value.get("bytes")
    if isinstance(value, bytes):
        return {"path": None, "bytes": value}
    if path and path.startswith("hf://") and folder is None:  # of a Hub dataset, streamed
        with fsspec.open(path) as file:
            return {"path": None, "bytes": file.read()}
    if path:
        return {"path": os.path.join(folder or "", path), "bytes": None}  # noqa: PTH118, faster
    return {"path": None, "bytes": b""}


def _label_of(value: Any, column: str, classes: tuple[str, ...] | None = None) -> str | None:
    """A label as text: a class's name, a JSON object's `label`, a key's folder."""
    if classes is not None and isinstance(value, int):
        value = classes[value] if 0 <= value < len(classes) else None
    if isinstance(value, dict):
        value = next((value[key] for key in _LABELS if value.get(key) is not None), None)
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, float):  # whole numbers beside empty fields become floats in pandas
        value = None if value != value else int(value) if value.is_integer() else value
    return None if value is None else clean_name(str(value)) or None


def _folder_of(key: str) -> str | None:
    """`train/Apple/Red/1` -> `Apple/Red`; None where no folder is named like a class."""
    parts = [part for part in PurePosixPath(key).parts[:-1] if not split_named(part)]
    return None if all(map(is_wrapper, parts)) else "/".join(parts)


def _stream_rows(
    shards: list[int],
    stream: IterableDataset,
    columns: Columns,
    source: str,
    folder: Path | None,
    prefix: str,
    with_images: bool,
) -> Iterator[Row]:
    """Standard rows of some shards, numbered within each, so that names don't depend on readers."""
    with translate_dataset_errors(source):
        for shard in shards:
            view = stream.shard(num_shards=stream.num_shards, index=shard)
            # not `iter(view)`: in a DataLoader worker that would split the shard over the workers
            for index, batch in enumerate(view.iter(batch_size=1)):
                row = {column: values[0] for column, values in batch.items()}
                text = columns.text_of(row, f"{prefix}/{shard:05d}", index)
                image = row[columns.image] if with_images else None
                yield {"image": image_of(image, folder)} | text


def images_in(sample: Row) -> list[str]:
    """Its photos; where it has none that is read by its name, others, and last its videos."""
    found: dict[Kind, list[str]] = defaultdict(list)
    for name, value in sample.items():
        kind = kind_of(f"_.{name}")
        if isinstance(value, bytes) and (kind is not Kind.UNKNOWN or is_image_head(value)):
            found[kind].append(name)
    order = (Kind.PHOTO, Kind.UNREAD, Kind.UNKNOWN, Kind.VIDEO)
    return next((found[kind] for kind in order if kind in found), [])
