"""A journal of JSON lines, by which an interrupted job resumes where it stopped.

The first line says of which job they are. A line that was cut short by a kill is dropped.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hffruits.core.errors import InputError
from hffruits.core.files import release_lock

Row = dict[str, Any]


class Journal:
    """A context: one process at a time writes it. Raises `InputError` where that can't be."""

    def __init__(self, file: Path, head: Row):
        self.file, self.head = file, head
        self._lock = FileLock(file.with_name(f".{file.name}.lock"), timeout=0)

    def __enter__(self) -> "Journal":
        try:
            self._lock.acquire()
        except Timeout as error:
            raise InputError(
                f"{self.file}: another process is writing it. Wait until that has ended."
            ) from error
        try:
            self._begin()
            self._stream = self.file.open("a", encoding="utf-8", buffering=1)  # line by line
        except BaseException:
            release_lock(self._lock)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        release_lock(self._lock)

    def write(self, row: Row) -> None:
        self._stream.write(json.dumps(row) + "\n")

    def rows(self) -> Iterator[Row]:
        """Those that were written, in this process or before, without the head."""
        lines = self._read()
        next(lines)
        yield from lines

    def remove(self) -> None:
        """It is needed no more; closed first, since Windows removes no open file."""
        self._stream.close()
        self.file.unlink()

    def _begin(self) -> None:
        """Write the head, or check that it is the one of this job."""
        self.file.touch()
        _drop_torn_line(self.file)
        if not self.file.stat().st_size:
            self.file.write_text(json.dumps(self.head) + "\n", encoding="utf-8")
            return
        if was := describe_difference(next(self._read()), self.head):
            raise InputError(f"{self.file}: was started with {was}. Use that, or remove it.")

    def _read(self) -> Iterator[Row]:
        try:
            with self.file.open(encoding="utf-8") as lines:
                yield from map(json.loads, lines)
        except ValueError as error:
            remedy = "Remove it to start from scratch."
            raise InputError(f"{self.file}: is damaged ({error}). {remedy}") from error


def describe_difference(found: Row, wanted: Row) -> str:
    """How the head of another job differs from the one that is wanted; "" where it doesn't."""
    other = [name for name in wanted if found.get(name) != wanted[name]]
    if other == ["weights"]:
        return "other weights: the model has changed since"
    return ", ".join(f"{name}={found.get(name)}" for name in other if name != "weights")


def _drop_torn_line(file: Path) -> None:
    """Lines are short."""
    with file.open("r+b") as stream:
        end = stream.seek(0, os.SEEK_END)
        start = max(0, end - 1_000_000)
        stream.seek(start)
        stream.truncate(start + stream.read().rfind(b"\n") + 1)
