"""Detection of the input format, and its raw rows by split: folder, archive, table, shards, Hub."""

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, takewhile
from pathlib import Path
from typing import Any

from datasets import Dataset

from hffruits.core.cache import cache_root, make_once
from hffruits.core.errors import InputError
from hffruits.core.names import list_names, unify_names
from hffruits.data.arguments import DataArguments
from hffruits.data.class_hierarchy import coarse_from_folders
from hffruits.data.images import (
    Kind,
    is_image_file,
    kind_of,
    may_be_image,
    walk_folders,
)
from hffruits.data.readers.archives import is_archive, looks_like_webdataset, unpack
from hffruits.data.readers.column_mapping import ROW, AskedColumns, FoundRows, Rows
from hffruits.data.readers.folders import (
    LABEL_FROM,
    ImageFile,
    Listing,
    class_parts,
    find_image_files,
    name_folders,
    split_in,
    split_named,
)
from hffruits.data.readers.tables import (
    TABLES,
    is_saved_dataset,
    load_hub,
    load_saved_dataset,
    load_tables,
)
from hffruits.data.readers.webdataset import load_webdataset
from hffruits.data.samples import samples_dir

logger = logging.getLogger(__name__)
VERSION = 5  # of what is unpacked of an archive: raise it when that changes


@dataclass(frozen=True)
class RawRows:
    """Rows by split, not checked yet: `image`, `label` (text), `path` and maybe `group`."""

    splits: dict[str, Rows]
    coarse: dict[str, str] = field(default_factory=dict)  # class -> coarse label, by its folders
    root: Path | None = None  # the folder that `path` starts from
    videos: tuple[str, ...] = ()  # paths of those that lie beside photos
    empty: dict[str, str] = field(default_factory=dict)  # folder without photos -> what it holds
    key_folders: bool = False  # whether the labels are folders of keys
    label_from: str | None = None  # what those mean

    def name_classes(self, counts: Mapping[str, Counter[str]]) -> dict[str, str]:
        """Label -> the class that it is, from how many rows of each split have it."""
        if self.key_folders:
            return name_folders(counts, self.label_from)
        return unify_names(sum(counts.values(), Counter()))


def open_source(data: DataArguments, *, with_images: bool = True, to_train: bool = True) -> RawRows:
    """Find the rows of any usual form of data; no image is decoded.

    Not `with_images`, for streams only, they are empty where that spares reading them. Not
    `to_train`, folders, saved datasets and those of the Hub need no train split. Raises
    `InputError` for what is not there or can't be understood.
    """
    if data.label_from not in (None, *LABEL_FROM):
        raise InputError(f"label_from={data.label_from}: must be one of {', '.join(LABEL_FROM)}.")
    if data.data_dir and data.dataset_name:
        raise InputError(
            f"data_dir={data.data_dir}, dataset_name={data.dataset_name}: give one of them."
        )
    asked = AskedColumns(data.image_column_name, data.label_column_name, data.group_by)
    options = {"streaming": data.streaming}
    if data.dataset_name or data.data_dir is None or "://" in str(data.data_dir):
        _check_encoding(data)
    if data.dataset_name:
        options |= {"config": data.dataset_config_name, "split_names": data.split_names}
        options["to_train"] = to_train
        found = load_hub(data.dataset_name, asked, with_images=with_images, **options)
        return _rows_of(found, data)
    if data.data_dir is None and not data.streaming:
        return _open_folder(samples_dir())
    if "://" in str(data.data_dir):
        urls = {"train": _shard_urls(str(data.data_dir))}
        return _rows_of(load_webdataset(urls, asked, **options), data)
    path = Path(data.data_dir or samples_dir()).expanduser()
    if is_saved_dataset(path) and not data.streaming:
        _check_encoding(data)
        reading = {"split_names": data.split_names, "to_train": to_train}
        return _rows_of(load_saved_dataset(path, asked, **reading), data)
    listing = list(walk_folders(path)) if path.is_dir() else None
    files = _files_of(path, listing)
    _check_encoding(data, files)
    if files and files[0].suffix.lower() in TABLES:
        _check_no_folders(data)
        tables = _by_split(path, files)
        options |= {"encoding": data.table_encoding, "with_images": with_images}
        return RawRows(load_tables(tables, asked, **options))
    if len(files) > 1 and files[0].suffix.lower() == ".zip":
        raise InputError(f"{path}: holds {len(files)} zips. Unpack them, and give the folder.")
    if _are_shards(files, data.streaming):
        shards = {split: list(map(str, some)) for split, some in _by_split(path, files).items()}
        return _rows_of(load_webdataset(shards, asked, **options), data)
    if data.streaming:
        raise InputError(
            f"{path}: streaming is for shards, tables and the Hub. Leave it out: photos in folders "
            "and saved datasets are read one by one anyway."
        )
    reading = {"label_from": data.label_from, "to_train": to_train}
    if not files:
        return _open_folder(path, listing=listing, **reading)
    folder = _unpacked(files[0])
    listing = list(walk_folders(folder))
    try:
        if tables := _files_in(folder, listing, archive=files[0]):
            raise InputError(
                f"{folder}: holds no class folders, but {list_names(p.name for p in tables)}. "
                "Unpack it, and give that as data_dir."
            )
        return _open_folder(folder, listing=listing, **reading)
    except InputError as error:  # the user knows the archive
        raise InputError(str(error).replace(str(folder), str(files[0]))) from error


def _check_no_folders(data: DataArguments) -> None:
    if data.label_from:
        raise InputError(
            f"label_from={data.label_from}: is for folders, and {data.source_name} names its "
            "classes in a column. Leave it out, or name the column as label_column_name."
        )


def _check_encoding(data: DataArguments, files: Sequence[Path] = ()) -> None:
    """Raise `InputError` for an encoding of tables that hold none, or of no tables."""
    kinds = {file.suffix.lower() for file in files}
    if not kinds & {*TABLES} - {".parquet"}:
        data.refuse("table_encoding", why=f"is for CSV and JSON, and {data.source_name} is neither")


def _rows_of(found: FoundRows, data: DataArguments) -> RawRows:
    """Those of shards or the Hub, whose labels may be folders."""
    if not found.key_folders:
        _check_no_folders(data)
    return RawRows(found, key_folders=found.key_folders, label_from=data.label_from)


def _are_shards(files: list[Path], streaming: bool) -> bool:
    if not files or files[0].suffix.lower() == ".zip":
        return False
    return len(files) > 1 or streaming or looks_like_webdataset(files[0])


def _shard_urls(url: str) -> list[str]:
    """The URLs of shards that are meant."""
    if found := re.match(r"(?:https?://huggingface\.co|hf:/)/datasets/([^/]+/[^/?#]+)/?$", url):
        raise InputError(f"{url}: a dataset of the Hub. Give its id, {found[1]}, as dataset_name.")
    if not re.search(r"\.(tar|tar\.gz|tgz)$", url):
        raise InputError(f"{url}: only shards (.tar) are read from a URL. Download it first.")
    return _in_range(url)


def _in_range(name: str) -> list[str]:
    """The names that `{000..012}` in one means, as in WebDataset."""
    if not (found := _RANGE.search(name)):
        return [name]
    first, last = found.groups()
    if not int(first) <= int(last) < 1_000_000 or "{" in name[found.end() :]:
        raise InputError(f"{name}: give one range of shards, the lower end first: {{000..012}}.")
    numbers = [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
    return [name[: found.start()] + number + name[found.end() :] for number in numbers]


def _files_of(path: Path, listing: Listing | None) -> list[Path]:
    """The tables or archives that are meant: none for a folder of photos. `listing`: a folder's."""
    if listing is not None:
        return _of_one_kind(path, _files_in(path, listing))
    if path.is_file():
        if path.suffix.lower() in TABLES or is_archive(path):
            return [path]
        raise InputError(
            f"{path}: not a folder. Give the folder that holds the class folders, a zip or tar of "
            f"it, or a table ({', '.join(TABLES)})."
        )
    if _MAGIC.search(str(path)):
        files = chain.from_iterable(map(_files_of_pattern, map(Path, _in_range(str(path)))))
        return _of_one_kind(path, sorted(files))
    return []


def _files_of_pattern(path: Path) -> list[Path]:
    found = Path(path.anchor or ".").glob(str(path.relative_to(path.anchor or ".")))
    if files := [p for p in found if p.suffix.lower() in TABLES or is_archive(p)]:
        return files
    raise InputError(f"{path}: no table or archive fits this pattern.")


def _files_in(folder: Path, listing: Listing, *, archive: Path | None = None) -> list[Path]:
    """Its tables and archives; none where two folders hold photos, which are classes then.

    One that lies in a class folder is a note about those photos, and no table of the data. The
    folder may be what was unpacked of an archive.
    """
    top = _lone_folder(listing)
    files: list[tuple[Path, str]] = []
    classes: set[str] = set()  # the topmost folders that hold photos, but for those of splits
    holders: set[str] = set()  # and the names of those that the photos lie in
    photos = False
    for path in (parent / name for parent, names in listing for name in names):
        are_classes = len(classes) > 1 or len(holders) > 1
        if _is_table_or_archive(path):
            files.append((path, (_class_parts(path, top) or ("",))[0]))
        elif not are_classes and is_image_file(path):
            photos = True
            inside = _class_parts(path, top)
            classes.update(inside[:1])
            holders.update(inside[-1:])
    outside = sorted(path for path, own in files if own not in classes)
    if len(classes) > 1 or len(holders) > 1:
        _warn_of_tables(folder, outside, "next to class folders", archive)
        return []
    found = outside or sorted(path for path, _ in files)  # of the only folder with photos
    among = [path for path, _ in files if path not in found]
    _warn_of_tables(folder, among, "among photos", archive)
    found = _without_submissions(folder, found, archive)
    if found and photos:
        logger.info("%s: read as the table of the photos next to it", found[0])
    return found


def _class_parts(path: Path, top: Path) -> tuple[str, ...]:
    """The folders of a file below `top` that may be classes."""
    return class_parts(path.relative_to(top).parts[:-1]) if path.is_relative_to(top) else ()


def _lone_folder(listing: Listing) -> Path:
    """The folder that holds everything: a zip often holds one folder, which does."""
    top = listing[0][0]
    while True:
        inside = [folder for folder, _ in listing if folder.parent == top]
        if len(inside) != 1 or split_named(inside[0].name):
            return top
        top = inside[0]


def _warn_of_tables(folder: Path, ignored: list[Path], where: str, archive: Path | None) -> None:
    if ignored:
        names = list_names(path.relative_to(folder) for path in sorted(ignored))
        remedy = f"Unpack {archive.name}, and give one" if archive else "Give one"
        logger.warning("%s: ignored %s. %s as data_dir to use it", names, where, remedy)


def _without_submissions(folder: Path, files: list[Path], archive: Path | None) -> list[Path]:
    """The tables less a competition's sample submission, whose labels are made up.

    Beside one, tables of the test split have no labels either.
    """
    made_up = [path for path in files if _SUBMISSION.search(path.stem)]
    if not made_up or len(made_up) == len(files):
        return files
    kept = [path for path in files if path not in made_up and split_in(Path(path.name)) != "test"]
    ignored = [path for path in files if path not in kept]
    where = "as those of a competition, without labels of their own"
    _warn_of_tables(folder, ignored, where, archive)
    return kept


def _is_table_or_archive(path: Path) -> bool:
    is_table = path.suffix.lower() in TABLES and path.name not in _NO_TABLES and path.is_file()
    return is_table or is_archive(path)


# What `datasets` writes beside its files.
_NO_TABLES = ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MAGIC = re.compile(rf"[*?\[]|{_RANGE.pattern}")
_SUBMISSION = re.compile(r"(?:^|[\W_])submissions?(?:$|[\W_])", re.IGNORECASE)


def _of_one_kind(path: Path, files: list[Path]) -> list[Path]:
    kinds = sorted({p.suffix.lower() for p in files})
    if len(kinds) > 1:
        raise InputError(f"{path}: holds {' and '.join(kinds)} files. Name those of one kind.")
    return files


def _by_split(path: Path, files: list[Path]) -> dict[str, list[Path]]:
    """Split -> files, by their own or their folders' names (`train-000.tar`, `val/0.parquet`)."""
    if len(files) == 1:
        return {"train": files}
    fixed = takewhile(lambda part: not _MAGIC.search(part), path.parts)
    top = path if path.is_dir() else Path(*fixed)
    parts: dict[str, list[Path]] = {}
    for file in files:
        split = split_in(file.relative_to(top)) or "train"
        parts.setdefault(split, []).append(file)
    if "train" not in parts:
        raise InputError(f"{path}: has {', '.join(parts)} files, but none to train on.")
    return parts


def _unpacked(archive: Path) -> Path:
    """The folder that an archive was unpacked into, once for each version of it."""
    stat = archive.stat()
    name = f"{archive.stem}-{stat.st_size:x}-{stat.st_mtime_ns:x}"
    folder = cache_root() / f"archives-v{VERSION}" / name
    wanted = {"wanted": may_be_image, "named": lambda name: kind_of(name) is Kind.VIDEO}
    made = make_once(folder, lambda folder: unpack(archive, folder, kind=_noted, **wanted))
    logger.info("%s: unpacked in %s", archive, folder)
    return made


def _noted(name: str) -> object:
    """Of which files in a folder of an archive the first is enough; each table but JSON counts."""
    table = kind_of(name) is Kind.NOTE and Path(name).suffix.lower() in TABLES
    return name if table and not name.lower().endswith(".json") else kind_of(name)


def _open_folder(root: Path, **reading: Any) -> RawRows:
    found = find_image_files(root, **reading)
    rows = {}
    for split, photos in found.items():
        columns = {
            "image": [{"path": str(root / photo.path), "bytes": None} for photo in photos],
            "label": [photo.label for photo in photos],
            "path": [photo.path.as_posix() for photo in photos],
        }
        rows[split] = Dataset.from_dict(columns, features=ROW)
    videos = tuple(path.as_posix() for path in found.videos)
    empty = {folder.as_posix(): what for folder, what in found.empty.items()}
    return RawRows(rows, _coarse_labels(found), root, videos, empty)


def _coarse_labels(found: Mapping[str, list[ImageFile]]) -> dict[str, str]:
    """By the folders that hold the classes, where each has one, the same in all splits."""
    leaves = {(photo.label, photo.leaf) for photo in found.get("train", ())}
    by_label = dict(leaves)
    parents = {(photo.label, photo.leaf.parent.name) for part in found.values() for photo in part}
    below = [label for label, parent in parents if parent]
    if len(by_label) < len(leaves) or len(set(below)) < len(below):
        logger.warning("a class lies in several folders, so folders give no coarse labels")
        return {}
    return coarse_from_folders(by_label)
