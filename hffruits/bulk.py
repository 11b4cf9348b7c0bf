"""Labels for any number of files, as a table: stopped at any time, the same command goes on.

Answers go to a journal beside the output as they come. When all are there, the journal becomes the
table, which appears whole or not at all. Under several processes each labels its share of the files
and writes a table of its own, so that none waits for another.
"""

import csv
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from hffruits.distributed import join_processes, on_main_process
from hffruits.errors import InputError
from hffruits.images import is_image_name, walk_files
from hffruits.outcomes import open_classifier
from hffruits.predict import FruitClassifier, Prediction, UnreadablePicture

Row = dict[str, Any]  # a line of the journal: `path`, and labels with scores or `error`


@dataclass(frozen=True)
class Labelled:
    """What one process did."""

    file: Path
    tables: int  # of all processes
    pictures: int  # in this one
    before: int  # of them, done when it started
    unknown: int
    unreadable: int


@dataclass(frozen=True)
class Job:
    """A table to be written, and which of `processes` this one is."""

    output: Path
    model: str
    top_k: int
    rank: int = 0
    processes: int = 1

    @property
    def file(self) -> Path:
        return self._file_of(self.rank)

    @property
    def journal(self) -> Path:
        return self.file.with_name(f"{self.file.name}.part")

    @property
    def head(self) -> Row:
        """First line of the journal."""
        return {"model": self.model, "top_k": self.top_k, "processes": self.processes}

    def check(self) -> None:
        """Raises `InputError` for an output of an unknown kind, or that is there already."""
        if self.output.suffix.lower() not in WRITERS:
            known = ", ".join(WRITERS)
            raise InputError(f"{self.output}: unknown kind of file. Known: {known}.")
        try:
            self.output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.output}: can't be written ({error.strerror}).") from error
        if all(self._file_of(rank).exists() for rank in range(self.processes)):
            raise InputError(f"{self.output}: is complete already. Name another, or remove it.")
        own = {self._file_of(rank).name for rank in range(self.processes)}
        stem, suffix = self.output.stem, self.output.suffix
        shards = self.output.parent.glob(f"{stem}-[0-9]*-of-[0-9]*{suffix}*")
        begun = {path.name.removesuffix(".part") for path in shards}
        if self.output.with_name(f"{self.output.name}.part").exists():
            begun.add(self.output.name)
        if other := sorted(begun - own):
            raise InputError(
                f"{self.output.with_name(other[0])}: was begun by another number of processes. "
                "Start as many, or remove it."
            )

    def _file_of(self, rank: int) -> Path:
        if self.processes == 1:
            return self.output
        part = f"-{rank:05d}-of-{self.processes:05d}"
        return self.output.with_name(f"{self.output.stem}{part}{self.output.suffix}")


def label_into_table(
    model: str | Path,
    sources: Iterable[str | Path],
    output: Path,
    *,
    top_k: int = 1,
    batch_size: int = 32,
    precision: str = "fp32",
) -> Labelled:
    """Label the pictures among `sources`, files and folders, into `output`; tells of this process.

    Under `accelerate launch`, every process calls this, and writes `output` with its number in the
    name. Raises `InputError` for a model, sources or an output that can't be used.
    """
    state = join_processes()
    place = {"rank": state.process_index, "processes": state.num_processes}
    job = Job(output, model=str(model), top_k=top_k, **place)
    on_main_process(job.check)
    paths = check_sources(sources)
    fruits = open_classifier(model, precision=precision)
    return label_files(fruits, paths, job, batch_size=batch_size)


def label_files(
    fruits: FruitClassifier, sources: list[Path], job: Job, *, batch_size: int = 32
) -> Labelled:
    """Label this process's share of the pictures among `sources`, files and folders, into a table.

    What a journal tells already is not done again. Raises `InputError` for a journal of another
    model, and where nothing can be written any more; what was labelled until then stays.
    """
    if job.file.exists():  # the other processes are to go on
        return Labelled(job.file, job.processes, 0, 0, 0, 0)
    try:
        done = _resume(job)
        share = sum(1 for path in list_share(sources, job) if str(path) not in done)
        rest = (path for path in list_share(sources, job) if str(path) not in done)
        hidden = job.rank > 0
        counted = {"total": len(done) + share, "initial": len(done), "disable": hidden}
        with (
            job.journal.open("a", encoding="utf-8", buffering=1) as journal,  # line by line
            tqdm(desc="Labelling", unit="img", **counted) as bar,
        ):

            def keep(row: Row) -> None:
                journal.write(json.dumps(row) + "\n")
                bar.update()

            def keep_bad(error: InputError) -> None:
                assert isinstance(error, UnreadablePicture)
                keep({"path": str(error.source), "error": error.reason})

            options = {"top_k": job.top_k, "batch_size": batch_size, "on_bad": keep_bad}
            for prediction in fruits.stream(rest, **options):
                keep(_row(prediction))
        return _finish(job, before=len(done))
    except OSError as error:
        raise InputError(
            f"{job.file}: can't be written ({error.strerror}). The same command goes on when it "
            "can."
        ) from error


def check_sources(sources: Iterable[str | Path]) -> list[Path]:
    """Without those that lie in another one. Raises `InputError` for a path that is not there."""
    paths = {Path(source).absolute(): Path(source) for source in sources}
    for path in paths.values():
        if not path.exists():
            raise InputError(f"{path}: no such file or folder. Check the path.")
    return [path for whole, path in paths.items() if paths.keys().isdisjoint(whole.parents)]


def list_share(sources: list[Path], job: Job) -> Iterator[Path]:
    """The pictures that this process labels, which their names decide: more may come or go."""
    for source in sources:
        files = walk_files(source) if source.is_dir() else [source]
        for path in files:
            if path == source or is_image_name(path.name):
                name = str(path).encode("utf-8", "surrogateescape")
                if zlib.crc32(name) % job.processes == job.rank:
                    yield path


def _row(prediction: Prediction) -> Row:
    row: Row = {"path": str(prediction.path)}
    for place, (label, score) in enumerate(prediction.top, 1):
        suffix = "" if place == 1 else f"_{place}"
        row |= {f"label{suffix}": label, f"score{suffix}": round(score, 6)}
    return row | {"known": prediction.known}


# ---- the journal ----


def _resume(job: Job) -> set[str]:
    """The paths in the journal, begun where there is none; a line that was cut short is dropped."""
    job.journal.touch()
    _drop_torn_line(job.journal)
    if not job.journal.stat().st_size:
        job.journal.write_text(json.dumps(job.head) + "\n", encoding="utf-8")
    rows = _read(job)
    head = next(rows)
    if head != job.head:
        was = ", ".join(f"{name}={head.get(name)}" for name in job.head)
        raise InputError(f"{job.journal}: was begun with {was}. Repeat that, or remove the file.")
    return {row["path"] for row in rows}


def _drop_torn_line(journal: Path) -> None:
    """What a process was writing when it was killed; lines are short."""
    with journal.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        start = max(0, end - 1_000_000)
        file.seek(start)
        file.truncate(start + file.read().rfind(b"\n") + 1)


def _read(job: Job) -> Iterator[Row]:
    try:
        with job.journal.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)
    except ValueError as error:
        remedy = "Remove it, to begin anew."
        raise InputError(f"{job.journal}: is damaged ({error}). {remedy}") from error


def _finish(job: Job, *, before: int) -> Labelled:
    """Turn the journal into the table."""
    counts = {"pictures": 0, "unknown": 0, "unreadable": 0}

    def rows() -> Iterator[Row]:
        reader = _read(job)
        next(reader)  # the head
        for row in reader:
            counts["pictures"] += 1
            counts["unknown"] += row.get("known") is False
            counts["unreadable"] += "error" in row
            # a file name that isn't UTF-8 would break the table
            yield row | {"path": row["path"].encode("utf-8", "backslashreplace").decode()}

    aside = job.file.with_name(f".{job.file.name}.tmp")
    try:
        WRITERS[job.file.suffix.lower()](rows(), columns(job.top_k), aside)
        aside.replace(job.file)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
    job.journal.unlink()
    return Labelled(job.file, job.processes, before=before, **counts)


# ---- tables ----


def columns(top_k: int) -> dict[str, pa.DataType]:
    """Their names and types, in order; a picture has either labels or an error."""
    runners_up = {
        f"{name}_{place}": kind
        for place in range(2, top_k + 1)
        for name, kind in (("label", pa.string()), ("score", pa.float32()))
    }
    first = {"path": pa.string(), "label": pa.string(), "score": pa.float32(), "known": pa.bool_()}
    return {**first, **runners_up, "error": pa.string()}


def _write_csv(rows: Iterable[Row], kinds: dict[str, pa.DataType], file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(kinds), restval="")
        writer.writeheader()
        writer.writerows(rows)


def _write_jsonl(rows: Iterable[Row], _: dict[str, pa.DataType], file: Path) -> None:
    with file.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_parquet(rows: Iterable[Row], kinds: dict[str, pa.DataType], file: Path) -> None:
    schema = pa.schema(list(kinds.items()))
    with pq.ParquetWriter(file, schema) as writer:
        rows = iter(rows)
        while some := list(islice(rows, 50_000)):
            writer.write_table(pa.Table.from_pylist(some, schema=schema))


Writer = Callable[[Iterable[Row], dict[str, pa.DataType], Path], None]
WRITERS: dict[str, Writer] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
