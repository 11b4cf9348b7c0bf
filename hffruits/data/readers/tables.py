"""Labelled images in tables: CSV, JSONL and Parquet files, saved datasets, datasets of the Hub.

Nothing is downloaded but what is named.
"""

import codecs
import csv
import logging
import os
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from pathlib import Path
from typing import Any

from datasets import (
    DatasetDict,
    Features,
    Value,
    load_dataset,
    load_dataset_builder,
    load_from_disk,
)
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
from datasets.packaged_modules.parquet.parquet import Parquet
from pyarrow import parquet

from hffruits.core.errors import InputError, added_to_errors
from hffruits.core.escaping import shorten
from hffruits.core.names import list_names
from hffruits.data.readers.column_mapping import (
    AskedColumns,
    Columns,
    FoundRows,
    Rows,
    no_rows,
    standard_rows,
)
from hffruits.data.readers.error_translation import quiet, translate_dataset_errors
from hffruits.data.readers.folders import SPLIT_ALIASES, split_named
from hffruits.data.readers.own_splits import NamedRows, split_rows, with_split_column

logger = logging.getLogger(__name__)
TABLES = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".json": "json", ".parquet": "parquet"}


def load_tables(
    files: dict[str, list[Path]],
    asked: AskedColumns,
    *,
    encoding: str | None = None,
    streaming: bool = False,
    with_images: bool = True,
) -> dict[str, Rows]:
    """The rows of CSV, TSV, JSONL, JSON or Parquet files by split, all of one kind.

    Images are bytes, or paths, where relative ones start at the folder of their file. Text is
    UTF-8, or as its first bytes or `encoding` say. Not `with_images`, for streams only, they are
    empty, and those in Parquet are not read.
    """
    top = os.path.commonpath([file.parent for some in files.values() for file in some])
    found: list[NamedRows] = []
    for split, some in files.items():
        for number, (folder, group) in enumerate(groupby(sorted(some), lambda file: file.parent)):
            table = list(group)
            options = {"streaming": streaming, **_text_options(table, encoding)}
            rows = _load_table(table, **options)
            below = folder.relative_to(top).as_posix()  # else two folders may have a 0.jpg
            with translate_dataset_errors(table[0]), _advice(files):
                columns = asked.of_table(rows, table[0], folder=folder, below=below)
                if split == "train":
                    columns = with_split_column(columns, rows, table[0])
            if not with_images:
                rows = _load_table(table, columns=columns.texts, **options)
            prefix = f"{split}-{number}" if number else split
            standard = standard_rows(
                rows, columns, table[0], prefix=prefix, folder=folder, with_images=with_images
            )
            found.append(NamedRows(split, standard, table[0]))
    return split_rows(found)


def _advice(files: dict[str, list[Path]]) -> AbstractContextManager[None]:
    """Within it, an error of the columns of one of several tables says how to read only one."""
    if sum(map(len, files.values())) == 1:
        return nullcontext()
    one = f"To read only one of the tables, give it as data_dir, as {files['train'][0]}."
    return added_to_errors(one)


def load_hub(
    name: str,
    asked: AskedColumns,
    *,
    config: str | None = None,
    split_names: dict[str, str] | None = None,
    streaming: bool = False,
    with_images: bool = True,
    to_train: bool = True,
) -> FoundRows:
    """The rows of a Hub dataset by split; `split_names` says what its splits mean.

    Where it has no labels but keys (`Apple/Red/1`), labels are their folders, as of shards.

    Not `to_train`, its only split may be one to measure on. Not `with_images`, for streams only,
    they are empty, and not read where that can be. It can't run code: `datasets` no longer runs
    any that comes with the data.
    """
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise InputError(f"{name}: not a Hub dataset id (user/name). Use data_dir for files.")
    if Path(name).is_dir():  # `datasets` would take that
        raise InputError(f"{name}: also a local folder. Give it as data_dir, or run elsewhere.")
    try:
        found = _load_hub(name, config, streaming=streaming)
    except InputError as error:
        if known := re.search(r"onfig.* (?:available configs|Available): \[(.*?)\]", str(error)):
            problem = f"no configuration {config!r}" if config else "has several configurations"
            raise InputError(
                f"{name}: {problem}. Name one of {known[1]} as dataset_config_name."
            ) from error
        raise
    chosen = _choose_splits(name, list(found), split_names or {}, to_train=to_train)
    columns = _columns_of_splits(name, found, chosen, asked)
    if not with_images:
        needed = {text for some in columns.values() for text in some.texts}
        found = _load_hub(name, config, streaming=streaming, columns=sorted(needed))
    rows = {
        split: standard_rows(
            found[theirs], columns[split], name, prefix=split, with_images=with_images
        )
        for split, theirs in chosen.items()
    }
    parts = split_rows(NamedRows(split, part, name) for split, part in rows.items())
    return FoundRows(parts, key_folders=columns["train"].key_folders)


def is_saved_dataset(folder: Path) -> bool:
    """Whether `save_to_disk` of a `Dataset` or `DatasetDict` has written a folder."""
    one = (folder / "dataset_info.json").is_file() and (folder / "state.json").is_file()
    return one or (folder / "dataset_dict.json").is_file()


def load_saved_dataset(
    folder: Path,
    asked: AskedColumns,
    *,
    split_names: dict[str, str] | None = None,
    to_train: bool = True,
) -> FoundRows:
    """The rows of a folder that `save_to_disk` has written, by split: Arrow files, no pickles.

    `split_names` says what the splits of a `DatasetDict` mean. Not `to_train`, its only split may
    be one to measure on.
    """
    with translate_dataset_errors(folder), quiet():
        saved = load_from_disk(str(folder))
    found = saved if isinstance(saved, DatasetDict) else DatasetDict({"train": saved})
    found = found.with_format(None)  # the format that was set is saved, too
    chosen = _choose_splits(str(folder), list(found), split_names or {}, to_train=to_train)
    columns = _columns_of_splits(folder, found, chosen, asked, folder=folder)
    rows = {
        split: standard_rows(found[theirs], columns[split], folder, prefix=split, folder=folder)
        for split, theirs in chosen.items()
    }
    parts = split_rows(NamedRows(split, part, folder) for split, part in rows.items())
    return FoundRows(parts, key_folders=columns["train"].key_folders)


def _columns_of_splits(
    source: object,
    found: Mapping[str, Rows],
    chosen: dict[str, str],
    asked: AskedColumns,
    folder: Path | None = None,
) -> dict[str, Columns]:
    columns = {
        split: asked.of_table(found[theirs], source, folder=folder)
        for split, theirs in chosen.items()
    }
    if len({some.key_folders for some in columns.values()}) > 1:
        raise InputError(
            f"{source}: some splits have labels, others only folders in their keys. Name the "
            "column with the labels as label_column_name."
        )
    columns["train"] = with_split_column(columns["train"], found[chosen["train"]], source)
    return columns


# ---- what `datasets` loads ----


def _load_hub(
    name: str, config: str | None, *, streaming: bool, columns: list[str] | None = None
) -> Any:
    with translate_dataset_errors(name), quiet(bars=True):  # a download may take hours
        if not streaming:
            return load_dataset(name, config)
        builder = load_dataset_builder(name, config)
        if isinstance(builder, ImageFolder):  # it would decode: one bad file would end the stream
            builder.config.decode_num_threads = 0
        if isinstance(builder, Parquet):  # other builders read rows as a whole
            builder.config.columns = columns
        return builder.as_streaming_dataset()


def _load_table(
    files: list[Path], *, streaming: bool, columns: list[str] | None = None, **text_options: Any
) -> Rows:
    first = files[0]
    kind = TABLES[first.suffix.lower()]
    options = text_options
    if kind == "parquet":
        # `datasets` takes a file without rows for a damaged one
        with translate_dataset_errors(first):
            files = [file for file in files if parquet.read_metadata(file).num_rows]
        options = {"columns": columns}
    if not any(file.stat().st_size for file in files):
        raise no_rows(first)
    names = [_without_magic(file) for file in files]
    with translate_dataset_errors(first), quiet():
        return load_dataset(kind, data_files=names, split="train", streaming=streaming, **options)


# ---- text ----


def _text_options(files: list[Path], asked: str | None) -> dict[str, Any]:
    """How `datasets` is to read CSV and JSON files of one kind."""
    kind = TABLES[files[0].suffix.lower()]
    if kind == "parquet":
        return {}
    encodings = {file: _encoding_of(file, asked) for file in files}
    if len(set(encodings.values())) > 1:
        other = next(file for file in files if encodings[file] != encodings[files[0]])
        raise InputError(
            f"{files[0]} is {encodings[files[0]]} and {other} {encodings[other]}. Save both as "
            "UTF-8."
        )
    encoding = encodings[files[0]]
    if kind == "csv":
        return _csv_options(files[0], encoding)
    if encoding.startswith(("utf-16", "utf-32")):  # which `datasets` would cut at single bytes
        raise InputError(
            f"{files[0]}: {encoding.upper()}, which JSON is not read in. Save it as UTF-8."
        )
    return {} if encoding == "utf-8" else {"encoding": encoding}


def _csv_options(file: Path, encoding: str) -> dict[str, Any]:
    """Every column as text, for a label may be 007 or NA; the separator as the header has it."""
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding
    with translate_dataset_errors(file), file.open(newline="", encoding=encoding) as stream:
        header = stream.readline(2**20)
        sep = "\t" if file.suffix.lower() == ".tsv" else max(",;\t|", key=header.count)
        names = next(csv.reader([header], delimiter=sep, skipinitialspace=True), [])
        if not stream.read(1):
            raise no_rows(file)
    if twice := [name for name, count in Counter(names).items() if name and count > 1]:
        raise InputError(f"{file}: {list_names(twice)} heads two columns. Rename one of them.")
    return {
        "features": Features({name: Value("string") for name in names if name}) or None,
        "sep": sep,
        "encoding": encoding,
        "skipinitialspace": True,
        "index_col": False,  # else a separator at the end of each line would shift the columns
        "na_filter": False,
    }


def _encoding_of(file: Path, asked: str | None) -> str:
    """UTF-8, UTF-16 or UTF-32, where the file shows it, or as asked for.

    No other one is inferred: labels with wrong letters would be trained. Raises `InputError` for a
    file that is none of these, with how its first odd line would read.
    """
    with translate_dataset_errors(file), file.open("rb") as stream:
        mark = stream.read(4)
        if mark in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):  # before UTF-16, which starts alike
            return "utf-32"
        if mark[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
        stream.seek(0)
        head = stream.read(_CHECKED)
        if stream.read(1):  # without the line that is cut, or the letter, if there is only one
            head = head.rpartition(b"\n")[0] or head.rstrip(_NOT_ASCII)
    lines = head.split(b"\n")
    odd = next((line for line in lines if not _is_utf_8(line)), None)
    if asked is not None:
        known = _known_encoding(asked)
        if odd is None and known not in ("utf-8", "utf-8-sig") and not head.isascii():
            logger.warning("%s: is UTF-8, but read as %s as asked. Check its labels", file, asked)
        return known
    if odd is None:
        return "utf-8"
    usual = _wide_encoding(head) if b"\0" in odd else "cp1252"
    if usual != "cp1252":  # whose lines don't end at a single byte
        letter = 4 if "32" in usual else 2
        odd = head[: len(odd) // letter * letter]
    raise InputError(
        f"{file}: not UTF-8. Save it as that, or name its encoding as table_encoding: with "
        f"{usual}, a line of it is {shorten(odd.decode(usual, errors='replace').strip())!r}."
    )


def _wide_encoding(head: bytes) -> str:
    """The encoding without a mark of a text of several bytes a letter, whose first is ASCII."""
    zeros = tuple(byte == 0 for byte in head[:4])
    if zeros[:3] == (True, True, True):
        return "utf-32-be"
    if zeros[1:] == (True, True, True):
        return "utf-32-le"
    return "utf-16-be" if zeros[0] else "utf-16-le"


_CHECKED = 2**26  # bytes of a table, whose encoding is looked for
_NOT_ASCII = bytes(range(0x80, 0x100))


def _is_utf_8(line: bytes) -> bool:
    try:
        return "\0" not in line.decode("utf-8")
    except UnicodeDecodeError:
        return False


def _known_encoding(name: str) -> str:
    """Python's name of an encoding of text."""
    try:
        if "text".encode(name).decode(name) == "text":
            return codecs.lookup(name).name
    except (LookupError, UnicodeError):
        pass
    raise InputError(
        f"table_encoding={name}: unknown. Name one such as utf-8, cp1252, cp1251, gbk or shift_jis."
    )


def _without_magic(file: Path) -> str:
    """A name that `datasets` doesn't take for a pattern."""
    return re.sub(r"([*?[])", r"[\1]", str(file.absolute()))


def _choose_splits(
    source: str, found: list[str], wanted: dict[str, str], *, to_train: bool
) -> dict[str, str]:
    """Our split names -> theirs: as asked for, else by their usual names."""
    for theirs in wanted.values():
        if theirs not in found:
            raise InputError(f"{source}: has no split {theirs!r}. It has {', '.join(found)}.")
    if len(set(wanted.values())) < len(wanted):
        raise InputError(f"{source}: the same split is named twice. Name another, or none.")
    rest = [name for name in found if name not in wanted.values()]
    chosen = _usual_splits(source, rest, wanted) | wanted
    of_no_split = len(found) == 1 and not (to_train and split_named(found[0]))
    if "train" not in chosen and of_no_split and not wanted:
        chosen = {"train": found[0]}
    if "train" not in chosen:
        raise InputError(
            f"{source}: none of its splits ({', '.join(found)}) is called train. Name one as "
            "train_split_name."
        )
    if ignored := [name for name in found if name not in chosen.values()]:
        logger.warning("%s: ignored the splits %s", source, list_names(ignored))
    return chosen


def _usual_splits(source: str, found: list[str], wanted: dict[str, str]) -> dict[str, str]:
    """Our split names, less those `wanted` -> theirs; the plainest of several (`test`, `test2`)."""
    named: dict[str, list[str]] = {}
    for name in found:
        if (split := split_named(name)) and split not in wanted:
            named.setdefault(split, []).append(name)
    chosen = {}
    for split, names in named.items():
        plain = [name for name in names if name.lower() in SPLIT_ALIASES] or names
        if len(plain) > 1:
            raise InputError(
                f"{source}: {' and '.join(plain)} both mean the {split} split. Name one as "
                f"{split}_split_name."
            )
        chosen[split] = plain[0]
    return chosen
