"""Which columns hold images, labels, groups: as the user named them, by type or by usual names.

A standard row has `image` (undecoded), `label` (text), `path` (a name of its own), `group` where
asked for, and `split` until it is split by that.
"""

import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

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

from hffruits.core.counts import counted
from hffruits.core.errors import InputError
from hffruits.core.escaping import shorten
from hffruits.core.names import clean_name, list_names
from hffruits.core.progress import progress_bar
from hffruits.data.images import Kind, is_image_head, kind_of
from hffruits.data.readers.error_translation import quiet, translate_dataset_errors
from hffruits.data.readers.folders import class_parts, split_named
from hffruits.data.readers.image_cells import FileFinder, image_of, is_base64, with_slashes

logger = logging.getLogger(__name__)
Rows = Dataset | IterableDataset
Row = dict[str, Any]

ROW = Features({"image": Image(decode=False), "label": Value("string"), "path": Value("string")})

# Columns by their usual names, the most specific first; those of `_IDS` may hold numbers.
_IDS = ("image_id", "img_id", "photo_id", "imageid", "id")
_IMAGES = (
    "image", "img", "picture", "photo", "file_name", "filename", "image_path", "img_path",
    "file_path", "filepath", "path", "image_name", "img_name", "image_file", "fname", "file", "jpg",
    "jpeg", "png", "webp", "image_bytes", "bytes", "image_url", "url", *_IDS,
)  # fmt: skip
_LABELS = (
    "label", "labels", "class", "cls", "class_name", "category", "fruit", "fine_label", "variety",
    "target", "txt", "json",
)  # fmt: skip
_NAMES = ("path", "file_name", "filename", "image_path", "filepath", "__key__")
SPLIT_COLUMNS = ("split", "set", "subset", "data_set", "dataset", "partition", "phase")
FLAGS_OF_SPLITS = (  # which may mean splits, but not which way round
    "is_train", "is_training", "is_val", "is_valid", "is_validation", "is_test",
    "fold", "folds", "kfold", "k_fold",
)  # fmt: skip
_BITS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


def no_rows(source: object) -> InputError:
    """The error of a table without rows."""
    return InputError(f"{source}: no rows. Give a table with one image per row.")


# ---- rows of any columns as standard rows ----


def features_of(rows: Rows) -> Features:
    """The columns of rows and their types; of a stream, as its first rows have them."""
    if rows.features is None:  # a stream has its columns with its first row
        rows = rows._resolve_features()
    return rows.features or Features()


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
    one_hot: tuple[str, ...] = ()  # a column for each class, in place of `label`
    base64: bool = False  # the images are text that holds them
    split: str | None = None
    split_classes: tuple[str, ...] | None = None  # of numbered splits

    @property
    def features(self) -> Features:
        """The columns of standard rows, with `group` and `split` where there are such."""
        more = [name for name in ("group", "split") if getattr(self, name)]
        return Features(ROW | dict.fromkeys(more, Value("string")))

    @property
    def key_folders(self) -> bool:
        """Whether labels are all folders of the key, which need the other rows to be named."""
        return self.label == "__key__"

    @property
    def texts(self) -> list[str]:
        """The columns without the images."""
        return sorted({self.label, self.group, self.name, self.split, *self.one_hot} - {None, ""})

    def text_of(self, row: Row, place: str, index: int = 0) -> Row:
        """All of a standard row but the image; rows without a name are numbered in `place`."""
        name = row[self.name] if self.name else None
        by_number = name in (None, "") or (self.name == self.image and is_base64(name))
        if by_number or self.name == "__key__":  # which is unique in its shard
            name = None if by_number else name
            name = f"{place}/{name or f'{index:08d}'}"
        else:
            name = os.path.join(self.below, with_slashes(str(name)))  # noqa: PTH118, faster
        if self.one_hot:
            ones = self.ones(row)
            label = clean_name(ones[0]) if len(ones) == 1 else None
        elif self.key_folders:
            label = _folder_of(row["__key__"])
        else:
            label = _label_of(row[self.label], self.classes)
        text = {"label": label, "path": name}
        if self.group:
            group = row[self.group]  # one without is a group of its own
            text["group"] = None if group in (None, "") else str(group)
        if self.split:
            text["split"] = self.split_of(row)
        return text

    def split_of(self, row: Row) -> str | None:
        """What the split column of a row says."""
        return _label_of(row[self.split], self.split_classes)

    def ones(self, row: Row) -> list[str]:
        """The classes that a row's one-hot columns name."""
        return [name for name in self.one_hot if _bit(row[name])]


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
        classes = [name for name in names if _holds_classes(features[name])]
        image = self._find("image_column_name", self.image, names, source, typed or _IMAGES)
        usual = [name for name in classes if name.lower() in _LABELS] or classes
        usual = [*usual, *(name for name in _LABELS if name != image.lower()), "__key__"]
        one_hot: tuple[str, ...] = ()
        if not (self.label or _usual(names, usual)):
            rest = [n for n in names if n not in (image, self.group) and not _is_no_class(n)]
            one_hot = _one_hot_columns(rows, rest, source)
        label = "" if one_hot else self._find("label_column_name", self.label, names, source, usual)
        base64 = _holds_base64(rows, image)
        is_path = not base64 and _is_path(features[image], image)
        _check_kinds(features, image, label, source, is_path=is_path, is_local=folder is not None)
        by_path = [image] if is_path else []
        others = {*names} - {label} - ({image} if base64 else set()) | ({"__key__"} & {*names})
        known = [name for name in (*_NAMES, *by_path) if name in others]
        return Columns(
            image,
            label,
            self.group if self.group in names else None,
            known[0] if known else None,
            tuple(getattr(features.get(label), "names", ())) or None,
            "" if below == "." else below,
            one_hot,
            base64,
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
        group = self.group if self.group in names else None
        split = _usual([name for name in names if name not in (label, group)], ["split"])
        return Columns(self.image, label, group, "__key__", split=split)

    @staticmethod
    def _find(
        option: str, asked: str | None, names: list[str], source: object, usual: Iterable[str]
    ) -> str:
        found = asked or _usual(names, usual)
        if found in names:
            return found
        is_csv = str(source).lower().endswith((".csv", ".tsv"))
        if is_csv and len(names) == 1:
            raise InputError(
                f"{source}: only one column, {shorten(names[0])}. Separate the columns by commas, "
                "semicolons, tabs or |, and name them in the first line."
            )
        problem = f"no column {asked!r}" if asked else "unclear which column it is"
        header = ". The first line must name them" if is_csv and _is_data(names) else ""
        raise InputError(
            f"{source}: {option}: {problem}{header}. Name one of {list_names(names, 20)}."
        )


def _check_kinds(
    features: Features, image: str, label: str, source: object, *, is_path: bool, is_local: bool
) -> None:
    """Raise `InputError` for columns that hold no images, or no label."""
    if not (is_path or _holds_images(features[image])):
        raise InputError(
            f"{source}: {image}: neither images nor paths. Name the column with them as "
            "image_column_name."
        )
    if is_path and not is_local:
        raise InputError(
            f"{source}: {image}: text, not images. Download the files, and give the table "
            "beside them as data_dir."
        )
    if isinstance(features.get(label), (List, LargeList)):
        raise InputError(
            f"{source}: {label}: lists. Name a column with one class a row as label_column_name."
        )


def _usual(names: list[str], usual: Iterable[str]) -> str | None:
    """The first of the usual names that there is, whatever its case, spaces and hyphens."""
    plain = {plain_name(name): name for name in reversed(names)}
    plain |= {name.lower(): name for name in reversed(names)}
    return next((plain[n.lower()] for n in usual if n.lower() in plain), None)


def plain_name(name: str) -> str:
    """A column's name without regard to its case, spaces and hyphens."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def _is_data(names: list[str]) -> bool:
    """Whether these are no names of columns but the values of a table without any."""
    return any(kind_of(with_slashes(name).rpartition("/")[2]) is Kind.PHOTO for name in names)


# ---- a column for each class ----


def _is_no_class(column: str) -> bool:
    """Whether a column is called like a path, an id, a split or a row's number, not a class."""
    name = plain_name(column)
    return name in {*_NAMES, *_IMAGES, *SPLIT_COLUMNS} or re.fullmatch(r"|unnamed:_\d+", name)


def _one_hot_columns(rows: Rows, names: list[str], source: object) -> tuple[str, ...]:
    """The columns of 0 and 1 among these, a class each; none where fewer than two are.

    Raises `InputError` where other columns stand beside them, one of which may be the label.
    """
    features = features_of(rows)
    values = [name for name in names if isinstance(features[name], Value)]
    first = list(islice(rows.select_columns(values), 100)) if len(values) > 1 else []
    hot = [name for name in values if first and all(_bit(row[name]) is not None for row in first)]
    if len(hot) < 2:
        return ()
    if others := [name for name in names if name not in hot]:
        raise InputError(
            f"{source}: label_column_name: unclear which column it is: {list_names(hot)} hold 0 "
            f"and 1, as columns for each class do, but {list_names(others)} beside them don't. "
            "Name the column with the classes, or remove those that are none."
        )
    logger.info("%s: a column of 0 and 1 for each class: %s", source, list_names(hot, 20))
    return tuple(hot)


def _bit(value: Any) -> bool | None:
    """What a one-hot column says; None for what is neither 0 nor 1."""
    return _BITS.get(str(value).strip().lower())


def _check_one_hot(rows: Dataset, columns: Columns, source: object) -> None:
    """Warn of rows of no class or several, which are left out; raise where those are most."""
    counts: Counter[int] = Counter()
    shared = {*columns.one_hot}  # by all rows that have several
    first = ""
    for number, row in enumerate(rows.select_columns(columns.texts), 1):
        ones = columns.ones(row)
        counts[min(len(ones), 2)] += 1
        if len(ones) > 1:
            shared &= {*ones}
        if len(ones) != 1:
            first = first or f"row {number}: {list_names(ones) or 'none'}"
    if not first:
        return
    said = (
        f"{source}: of the classes {list_names(columns.one_hot)}, "
        f"{counted(counts[2], 'row has', 'rows have')} several and {counts[0]} none ({first})"
    )
    hint = ""
    if counts[2] > 1 and len(shared) == 1:
        flag = shorten(shared.pop())
        hint = f". All that have several have {flag}: if that is no class, remove its column"
    if counts[1] * 2 < len(rows):
        raise InputError(
            f"{said}{hint}. A photo needs exactly one: give a table with one class a row, and name "
            "its column as label_column_name."
        )
    logger.warning("%s, and are left out%s", said, hint)


# ---- standard rows ----


def standard_rows(
    rows: Rows,
    columns: Columns,
    source: object,
    *,
    prefix: str,
    folder: Path | None = None,
    with_images: bool = True,
) -> Rows:
    """The rows as `image`, `label`, `path` (and `group`, `split`).

    Not `with_images`, for streams only, they are empty and their column is not read.
    """
    finder = FileFinder(folder, source) if folder else None
    if isinstance(rows, IterableDataset):
        used = {*columns.texts, columns.image} if with_images else {*columns.texts}
        stream = rows.select_columns(sorted(used))
        if finder and with_images:
            _check_first_files(stream, columns, finder)
        if columns.image in used and isinstance(features_of(rows)[columns.image], Image):
            stream = stream.cast_column(columns.image, Image(decode=False))
        return IterableDataset.from_generator(
            _stream_rows,
            features=columns.features,
            gen_kwargs={
                "shards": list(range(stream.num_shards)),
                "stream": stream,
                "columns": columns,
                "source": str(source),
                "finder": finder,
                "prefix": prefix,
                "with_images": with_images,
            },
        )
    # The images stay in the file that they are in, and are not read.
    images = _image_column(rows, columns, finder)
    if columns.one_hot:
        _check_one_hot(rows, columns, source)
    texts = [
        columns.text_of(row, prefix, index)
        for index, row in enumerate(progress_bar(rows.select_columns(columns.texts), **_BAR))
    ]
    features = Features({name: own for name, own in columns.features.items() if name != "image"})
    texts = Dataset.from_list(texts, features)
    return concatenate_datasets([images, texts], axis=1)


_BAR = {"desc": "Reading rows", "unit": "row", "leave": False}


def _holds_classes(feature: Any) -> bool:
    """Whether a column's type says that it holds classes, and these are no splits."""
    return isinstance(feature, ClassLabel) and not all(map(split_named, feature.names))


def _is_text(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string")


def _is_path(feature: Any, column: str) -> bool:
    is_number = isinstance(feature, Value) and re.fullmatch(r"u?int\d+", feature.dtype)
    return _is_text(feature) or bool(is_number and plain_name(column) in _IDS)


def _holds_images(feature: Any) -> bool:
    if isinstance(feature, dict):
        own = [feature[name] for name in ("bytes", "path") if name in feature]
        return bool(own) and all(_holds_images(part) or part == Value("null") for part in own)
    binary = isinstance(feature, Value) and feature.dtype in ("binary", "large_binary")
    return isinstance(feature, Image) or binary or _is_text(feature)


def _holds_base64(rows: Rows, column: str) -> bool:
    """Whether the first image of a column is text that holds it."""
    feature = features_of(rows)[column]
    if isinstance(feature, dict):
        return _is_text(feature.get("bytes"))
    if isinstance(feature, Image) or not _holds_images(feature):
        return False
    first = islice(rows.select_columns(column), 20)
    return is_base64(next((row[column] for row in first if row[column]), None))


def _image_column(rows: Dataset, columns: Columns, finder: FileFinder | None) -> Dataset:
    """One column, `image`, undecoded; nothing is copied where the rows hold all the bytes."""
    images = rows.select_columns(columns.image)
    if columns.image != "image":
        images = images.rename_column(columns.image, "image")
    feature, made = images.features["image"], Features({"image": ROW["image"]})
    # files may come and go, so that nothing is taken from the cache
    options = {"features": made, "load_from_cache_file": False}
    find = partial(_with_image, finder=finder)
    if columns.base64:
        with quiet():
            found = images.map(find, **options)
    elif _is_path(feature, columns.image):
        found = Dataset.from_dict(
            {"image": [image_of(path, finder) for path in images["image"]]}, made
        )
    else:
        found = images.cast_column("image", Image(decode=False))
        chunks = found.data.column("image").chunks
        if any(chunk.null_count or chunk.field("bytes").null_count for chunk in chunks):
            with quiet():
                found = found.map(find, **options)
    if finder:
        if strays := finder.drop_strays():
            with quiet():
                found = found.map(partial(_without_strays, strays=strays), **options)
        finder.report(columns.image, len(rows))
    return found


def _with_image(row: Row, finder: FileFinder | None = None) -> Row:
    return {"image": image_of(row["image"], finder)}


def _without_strays(row: Row, strays: dict[str, str]) -> Row:
    path = row["image"]["path"]
    return {"image": row["image"] | {"path": strays.get(path, path)}}


def _check_first_files(stream: IterableDataset, columns: Columns, finder: FileFinder) -> None:
    """Raise `InputError` where none of the first files of a stream is there."""
    if _is_path(features_of(stream)[columns.image], columns.image) and not columns.base64:
        names = [row[columns.image] for row in islice(stream, 20)]
        for name in names:
            image_of(name, finder)
        finder.report(columns.image, len(names), of_stream=True)


def _label_of(value: Any, classes: tuple[str, ...] | None = None) -> str | None:
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
    return "/".join(class_parts(PurePosixPath(key).parts[:-1])) or None


def _stream_rows(
    shards: list[int],
    stream: IterableDataset,
    columns: Columns,
    source: str,
    finder: FileFinder | None,
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
                yield {"image": image_of(image, finder)} | text


def images_in(sample: Row) -> list[str]:
    """Its photos; where it has none that is read by its name, others, and last its videos."""
    found: dict[Kind, list[str]] = defaultdict(list)
    for name, value in sample.items():
        kind = kind_of(f"_.{name}")
        if isinstance(value, bytes) and (kind is not Kind.UNKNOWN or is_image_head(value)):
            found[kind].append(name)
    order = (Kind.PHOTO, Kind.UNREAD, Kind.UNKNOWN, Kind.VIDEO)
    return next((found[kind] for kind in order if kind in found), [])
