"""Rows of labels as a table: CSV, JSON lines or Parquet. A table appears whole or not at all."""

import csv
import json
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hffruits.core.errors import InputError, short_reason
from hffruits.core.files import CSV_ENCODING, write_aside

Row = dict[str, Any]
Columns = dict[str, pa.DataType]


def columns(top_k: int) -> Columns:
    """Their names and types, in order; an image has either labels or an error."""
    runners_up = {
        f"{name}_{place}": kind
        for place in range(2, top_k + 1)
        for name, kind in (("label", pa.string()), ("score", pa.float32()))
    }
    first = {"path": pa.string(), "label": pa.string(), "score": pa.float32(), "known": pa.bool_()}
    return {**first, **runners_up, "error": pa.string()}


def write_table(rows: Iterable[Row], file: Path, *, top_k: int) -> None:
    """By a row of `WRITERS`. Raises OSError where it can't be written."""
    with write_aside(file) as aside:
        WRITERS[file.suffix.lower()](map(_in_utf8, rows), columns(top_k), aside)


def _in_utf8(row: Row) -> Row:
    """File names need not be, but tables are."""
    return row | {"path": table_text(row["path"])}


def table_text(path: str) -> str:
    """A path as tables have it."""
    return path.encode("utf-8", "backslashreplace").decode()


def read_paths(file: Path) -> list[str]:
    """The `path` column of a table that `write_table` wrote.

    Raises `InputError` for another file.
    """
    try:
        return READERS[file.suffix.lower()](file)
    except (OSError, ValueError, LookupError, TypeError, csv.Error, pa.ArrowException) as error:
        raise InputError(
            f"{file}: is there, and not a table of labels ({short_reason(error)}). Name another."
        ) from error


def _read_csv(file: Path) -> list[str]:
    with file.open(newline="", encoding=CSV_ENCODING) as stream:
        rows = csv.reader(stream)
        column = next(rows, []).index("path")
        return [row[column] for row in rows]


def _read_jsonl(file: Path) -> list[str]:
    with file.open(encoding="utf-8") as stream:
        return [json.loads(line)["path"] for line in stream]


def _read_parquet(file: Path) -> list[str]:
    return pq.read_table(file, columns=["path"])["path"].to_pylist()


def _write_csv(rows: Iterable[Row], kinds: Columns, file: Path) -> None:
    with file.open("w", newline="", encoding=CSV_ENCODING) as stream:
        writer = csv.DictWriter(stream, list(kinds), restval="")
        writer.writeheader()
        writer.writerows(rows)


def _write_jsonl(rows: Iterable[Row], kinds: Columns, file: Path) -> None:
    with file.open("w", encoding="utf-8") as stream:
        for row in rows:
            whole = {name: row.get(name) for name in kinds}
            stream.write(json.dumps(whole, ensure_ascii=False) + "\n")


def _write_parquet(rows: Iterable[Row], kinds: Columns, file: Path) -> None:
    schema = pa.schema(list(kinds.items()))
    with pq.ParquetWriter(file, schema) as writer:
        rows = iter(rows)
        while some := list(islice(rows, 50_000)):
            writer.write_table(pa.Table.from_pylist(some, schema=schema))


WRITERS: dict[str, Callable[[Iterable[Row], Columns, Path], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
READERS: dict[str, Callable[[Path], list[str]]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
