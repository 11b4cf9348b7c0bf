"""Batch prediction: labels for any number of files, as a table; resumes after an interruption.

Predictions go to a journal beside the output as they come. When all are there, the journal becomes
the table, which holds only labels: what it was made with (model, precision, ...) is in a hidden
file beside it, `.predictions.csv.json`, so that it isn't taken for the result of another command.
Under several processes each labels its share of the files and writes a table of its own, so that
none waits for another.
"""

import json
import logging
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hffruits.core.counts import counted
from hffruits.core.distributed import join_processes, on_main_process
from hffruits.core.errors import InputError, short_reason
from hffruits.core.files import translate_write_errors, write_json
from hffruits.core.progress import progress_bar
from hffruits.data.images import is_image_file, walk_files
from hffruits.data.pixel_limit import MAX_PIXELS, check_max_pixels
from hffruits.inference.classifier import (
    FruitClassifier,
    Prediction,
    UnreadableImageError,
    open_classifier,
)
from hffruits.inference.journal import Journal, Row, describe_difference
from hffruits.inference.sources import by_place, expand_sources
from hffruits.inference.table_writer import WRITERS, read_paths, table_text, write_table

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labelled:
    """What one process did."""

    file: Path
    processes: int
    images: int
    before: int  # of them, done when it started
    unknown: int
    unreadable: int

    def __str__(self) -> str:
        before = f" ({self.before:,} of them before)" if self.before else ""
        several = self.processes > 1
        share = f" by this one of {self.processes} processes" if several else ""
        return (
            f"Labelled  {counted(self.images, 'photo')}{before}{share}; {self.unknown:,} not "
            f"recognised, {self.unreadable:,} unreadable\n"
            f"Saved     {self.file}{', a part of the table' if several else ''}"
        )


@dataclass(frozen=True)
class AlreadyComplete:
    """A table that was there, with all the photos that were asked for."""

    file: Path
    images: int

    def __str__(self) -> str:
        photos = counted(self.images, "photo")
        return f"Complete  {photos}, all labelled before\nSaved     {self.file}"


@dataclass(frozen=True)
class Job:
    """What is to be labelled into which table, and which of `processes` this one is."""

    output: Path
    model: str
    sources: tuple[Path, ...]
    top_k: int = 1
    precision: str = "fp32"
    max_image_pixels: int = MAX_PIXELS
    allow_truncated_images: bool = False
    rank: int = 0
    processes: int = 1

    @property
    def file(self) -> Path:
        return self._file_of(self.rank)

    @property
    def head(self) -> Row:
        """What must be the same for a journal to be resumed."""
        return {
            "model": self.model,
            "weights": _state_of(Path(self.model).expanduser()),
            "precision": self.precision,
            "top_k": self.top_k,
            "max_image_pixels": self.max_image_pixels,
            "allow_truncated_images": self.allow_truncated_images,
            "processes": self.processes,
            "sources": [str(source) for source in self.sources],
            "folder": str(Path.cwd()),  # that paths start from
        }

    def check(self) -> AlreadyComplete | None:
        """Make the output's folder; says if the output is there with all of the images.

        Raises `InputError` for sources without images, and for an output of an unknown kind, that
        is there without some of them, that another job made (another model, say), or that was
        started with another number of processes.
        """
        if self.top_k < 1:
            raise InputError(f"top_k={self.top_k}: must be 1 or more.")
        check_max_pixels(self.max_image_pixels)
        if self.output.suffix.lower() not in WRITERS:
            known = ", ".join(WRITERS)
            raise InputError(f"{self.output}: unknown kind of file. Known: {known}.")
        if next(self.images(), None) is None:
            raise InputError(
                f"{self.sources[0]}: no image files. Give a folder with .jpg, .png, ... files."
            )
        with translate_write_errors(self.output):
            self.output.parent.mkdir(parents=True, exist_ok=True)
        files = [self._file_of(rank) for rank in range(self.processes)]
        finished = [file for file in files if file.exists()]
        there = {path for file in finished for path in read_paths(file)}
        for file in finished:
            self._check_made_by_this(file)
        if finished == files:
            return self._complete(files, there)
        own = {file.name for file in files}
        if other := sorted(self._begun() - own):
            raise InputError(
                f"{self.output.with_name(other[0])}: was started with another number of processes. "
                "Use the same number, or remove it."
            )
        return None

    def _check_made_by_this(self, file: Path) -> None:
        """That a finished table is of this job; of which photos, its rows say."""
        remedy, record = "Name another, or remove it.", _record_of(file)
        try:
            made = dict(json.loads(record.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            reason = f"{record.name}, which says what it was made with: {short_reason(error)}"
            raise InputError(
                f"{file}: is there, but maybe of another job ({reason}). {remedy}"
            ) from error
        wanted = {name: value for name, value in self.head.items() if name != "sources"}
        if was := describe_difference(made, wanted):
            raise InputError(f"{file}: was made with {was}. {remedy}")

    def _complete(self, files: list[Path], there: set[str]) -> AlreadyComplete:
        """With all images, as they were then: none has been written since the first table."""
        begun = min(file.stat().st_mtime_ns for file in files)
        lacking = changed = 0
        for path in self.images():
            lacking += table_text(str(path)) not in there
            changed += path.exists() and path.stat().st_mtime_ns > begun
        if lacking or changed:
            what = f"without {lacking:,}" if lacking else f"older than {changed:,}"
            raise InputError(
                f"{self.output}: is there, {what} of these photos. Name another, or remove it."
            )
        for file in files:  # of a kill between the table and the end of its journal
            with translate_write_errors(_journal_of(file)):
                _journal_of(file).unlink(missing_ok=True)
        return AlreadyComplete(self.output, len(there))

    def images(self) -> Iterator[Path]:
        """All of them: files that were named, and images in folders; none twice."""
        named = by_place(self.sources)
        for whole, source in named.items():
            if not named.keys().isdisjoint(whole.parents):
                continue  # it lies in another source
            files = walk_files(source) if source.is_dir() else [source]
            yield from (path for path in files if path == source or is_image_file(path))

    def share(self) -> Iterator[Path]:
        """Those that this process labels. Their names decide, for files may come and go."""
        for path in self.images():
            name = str(path).encode("utf-8", "surrogateescape")
            if zlib.crc32(name) % self.processes == self.rank:
                yield path

    def _file_of(self, rank: int) -> Path:
        if self.processes == 1:
            return self.output
        part = f"-{rank:05d}-of-{self.processes:05d}"
        return self.output.with_name(f"{self.output.stem}{part}{self.output.suffix}")

    def _begun(self) -> set[str]:
        """Tables of this name that are there, or that a journal is for."""
        stem, suffix = re.escape(self.output.stem), re.escape(self.output.suffix)
        table = re.compile(rf"{stem}-\d{{5}}-of-\d{{5}}{suffix}(\.part)?")
        names = {path.name for path in self.output.parent.iterdir()}
        found = {name for name in names if table.fullmatch(name)}
        found |= names & {f"{self.output.name}.part"}
        return {name.removesuffix(".part") for name in found}


def label_into_table(
    model: str | Path,
    sources: Iterable[str | Path],
    output: Path,
    *,
    top_k: int = 1,
    batch_size: int = 32,
    precision: str = "fp32",
    max_image_pixels: int = MAX_PIXELS,
    allow_truncated_images: bool = False,
) -> Labelled | AlreadyComplete | None:
    """Label the images among `sources`, files and folders, into `output`; counts its own.

    Under `accelerate launch`, every process calls this, and writes `output` with its number in the
    name; None from one whose table was complete before the others'. Raises `InputError` for a
    model, sources or an output that can't be used.
    """
    state = join_processes()
    found = on_main_process(lambda: expand_sources(sources))
    job = Job(
        Path(output).expanduser(),
        model=str(model),
        sources=tuple(found),
        top_k=top_k,
        precision=precision,
        max_image_pixels=max_image_pixels,
        allow_truncated_images=allow_truncated_images,
        rank=state.process_index,
        processes=state.num_processes,
    )
    if complete := on_main_process(job.check):
        return complete
    fruits = open_classifier(model, precision=precision)
    try:
        return label_files(fruits, job, batch_size=batch_size)
    except InputError as error:
        if job.rank:  # the first process reports its own
            logger.error("process %d: %s", job.rank, error)
        raise


def label_files(fruits: FruitClassifier, job: Job, *, batch_size: int = 32) -> Labelled | None:
    """Label this process's share of a job's images into its table; None where it is complete.

    What a journal holds already is not done again. Raises `InputError` for a journal of another
    job, and where nothing can be written any more; what was labelled until then stays.
    """
    place = _journal_of(job.file)
    try:
        if job.file.exists():  # the other processes are to continue
            place.unlink(missing_ok=True)
            return None
        with Journal(place, job.head) as journal:
            done = {row["path"] for row in journal.rows()}
            _label_rest(fruits, job, journal, done, batch_size)
            counts = {"images": 0, "unknown": 0, "unreadable": 0}
            write_json(_record_of(job.file), job.head)  # before: no table without it
            write_table(_counted(journal.rows(), counts), job.file, top_k=job.top_k)
            journal.remove()
        return Labelled(job.file, job.processes, before=len(done), **counts)
    except OSError as error:
        raise InputError(
            f"{job.file}: can't be written ({error.strerror}). Run the same command again to "
            "resume when it can."
        ) from error


def _label_rest(
    fruits: FruitClassifier, job: Job, journal: Journal, done: set[str], batch_size: int
) -> None:
    rest = sum(1 for path in job.share() if str(path) not in done)
    total = {"total": len(done) + rest, "initial": len(done), "disable": job.rank > 0}
    with progress_bar(desc="Labelling", unit="img", **total) as bar:

        def keep(row: Row) -> None:
            journal.write(row)
            bar.update()

        def keep_unreadable(error: InputError) -> None:
            assert isinstance(error, UnreadableImageError)
            keep({"path": str(error.source), "error": error.reason})

        paths = (path for path in job.share() if str(path) not in done)
        options = {
            "top_k": job.top_k,
            "batch_size": batch_size,
            "max_image_pixels": job.max_image_pixels,
            "allow_truncated_images": job.allow_truncated_images,
            "on_unreadable": keep_unreadable,
        }
        for prediction in fruits.stream(paths, **options):
            keep(_row(prediction))


def _row(prediction: Prediction) -> Row:
    row: Row = {"path": str(prediction.path)}
    for place, (label, score) in enumerate(prediction.top, 1):
        suffix = "" if place == 1 else f"_{place}"
        row |= {f"label{suffix}": label, f"score{suffix}": round(score, 6)}
    return row | {"known": prediction.known}


def _counted(rows: Iterable[Row], counts: dict[str, int]) -> Iterator[Row]:
    for row in rows:
        counts["images"] += 1
        counts["unknown"] += row.get("known") is False
        counts["unreadable"] += "error" in row
        yield row


def _journal_of(table: Path) -> Path:
    return table.with_name(f"{table.name}.part")


def _record_of(table: Path) -> Path:
    """Where it is kept what a table was made with; hidden, as what reads whole folders expects."""
    return table.with_name(f".{table.name}.json")


def _state_of(model: Path) -> list[list[str | int]]:
    """Name, bytes and time of a local model's weights, which show whether it is still the same."""
    suffixes = (".safetensors", ".onnx", ".bin")
    files = [file for file in model.glob("*") if file.suffix in suffixes]
    return sorted([file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files)
