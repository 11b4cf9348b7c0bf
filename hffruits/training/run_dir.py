"""The folder of a run, and the checkpoint that it resumes from; no run is overwritten unasked."""

import json
import os
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from hffruits.core.distributed import gather, on_main_process
from hffruits.core.errors import InputError
from hffruits.models.artifact import (
    ARTIFACT_FILES,
    CONFIG,
    EXAMPLES,
    METRICS,
    SPLITS,
    TRAIN_LIST,
    TRAINING_ARGS,
)
from hffruits.models.examples import remove_examples
from hffruits.training.checkpointing import (
    ASIDE,
    STATE,
    checkpoints,
    find_fault,
    newest_whole,
    rescue,
)

SEEN_WITHIN = 20.0  # seconds: network file systems take some


@dataclass(frozen=True)
class RunDir:
    """The folder of one run."""

    folder: Path
    checkpoint: Path | None = None  # to resume from
    replaces: bool = False  # holds an earlier run, to be cleared once the new one can start
    by_itself: bool = False  # started again by a cluster, with the same command

    @property
    def lists(self) -> Path:
        """The file lists of this run's split."""
        return self.folder / SPLITS

    @property
    def recorded_arguments(self) -> dict[str, Any] | None:
        """What the run that is resumed began with: its `training_args.json`."""
        file = self.checkpoint and self.checkpoint.parent / TRAINING_ARGS
        return json.loads(file.read_text(encoding="utf-8")) if file and file.is_file() else None

    @property
    def is_finished(self) -> bool:
        """True where the run to be resumed has ended, and its records were written.

        Its report, plot and card need not have been. One that stopped early has ended too, but may
        be resumed.
        """
        folder = self.checkpoint and self.checkpoint.parent
        if not (folder and (folder / METRICS).is_file()):
            return False
        state = json.loads((self.checkpoint / STATE).read_text(encoding="utf-8"))
        return self.by_itself or state["global_step"] >= state["max_steps"]

    @property
    def lists_to_repeat(self) -> Path | None:
        """The lists of the run that is resumed, so that it never trains on what it is tested on."""
        lists = self.checkpoint and self.checkpoint.parent / SPLITS
        return lists if lists and (lists / TRAIN_LIST).is_file() else None


def choose_run_dir(
    output_dir: str | None, *, name: str, resume: str | None = None, overwrite: bool = False
) -> RunDir:
    """`output_dir`, or the next free `runs/NAME`; whoever claims it makes it.

    `resume` is a checkpoint folder, `last` for the newest whole one in `output_dir`, or `auto` for
    the same, and a new run where there is none. Raises `InputError` before anything of an earlier
    run would be lost.
    """
    checkpoint = find_checkpoint(resume, output_dir) if resume else None
    if output_dir is not None:
        folder = Path(output_dir).expanduser()
    elif checkpoint is not None:
        folder = checkpoint.parent
    else:
        choices = [Path("runs", name), *(Path("runs", f"{name}-{n}") for n in range(2, 10_000))]
        folder = next(path for path in choices if not path.exists())
    resumes = checkpoint is not None and checkpoint.parent.resolve() == folder.resolve()
    occupied = not resumes and _holds_run(folder)
    if occupied and not overwrite:
        raise InputError(
            f"{folder}: already holds a run. Choose another output_dir, resume it with "
            "resume_from_checkpoint, or replace it with overwrite_output_dir."
        )
    if not resumes and not occupied:
        _refuse_foreign_files(folder)
    return RunDir(folder, checkpoint, replaces=occupied, by_itself=resume == "auto")


def _refuse_foreign_files(folder: Path) -> None:
    """Raise `InputError` where a run would write over files that none wrote, as a README.md."""
    if (folder / TRAINING_ARGS).exists():  # of a run that has no checkpoint yet
        return
    for name in sorted(ARTIFACT_FILES | {EXAMPLES, SPLITS}):
        if (folder / name).exists():
            raise InputError(
                f"{folder}: has {name} that no run wrote, and a run writes one. Choose another "
                "output_dir."
            )


def check_shared(folder: Path) -> None:
    """Raise `InputError` where another machine of the run doesn't see what is in `folder`.

    All processes call it. It tries the nearest folder that is there already.
    """
    if PartialState().num_processes <= int(os.environ.get("LOCAL_WORLD_SIZE", 1)):
        return

    def put() -> Path:
        there = next(path for path in (folder, *folder.parents) if path.exists())
        file = there / f".hffruits-{uuid.uuid4().hex}"
        file.touch()
        return file

    file = on_main_process(put)
    seen = gather(_appears(file))
    on_main_process(file.unlink)
    if not all(seen):
        raise InputError(
            f"{folder}: process {seen.index(False)}, on another machine, doesn't see it. Give an "
            "output_dir that all machines share."
        )


def _appears(file: Path) -> bool:
    deadline = time.monotonic() + SEEN_WITHIN
    while not file.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def find_checkpoint(resume: str, output_dir: str | None) -> Path | None:
    """The checkpoint that `resume` means; of `last` and `auto`, the newest that is whole.

    `auto` gives none where there is no checkpoint at all: a job that may be started again has the
    same command each time. Only damaged ones are an error: no run starts from scratch unasked.
    """
    if resume not in ("last", "auto"):
        fault = "no such folder"
        if Path(resume).exists():
            is_folder = Path(resume).is_dir()
            fault = find_fault(Path(resume)) if is_folder else "a file, not a checkpoint's folder"
        if fault:
            raise InputError(
                f"{resume}: {fault}. Name a checkpoint, like runs/x/checkpoint-50, or none: then "
                "output_dir's newest complete one is used."
            )
        return Path(resume)
    if output_dir is None:
        raise InputError("resume_from_checkpoint: set output_dir to the run to resume.")
    folder = Path(output_dir).expanduser()
    rescue(folder)
    there = checkpoints(folder)
    if not there and resume == "auto":
        return None
    found = newest_whole(folder)
    if found is None:
        reason = "no checkpoint is complete" if there else "no checkpoint to resume from"
        raise InputError(f"{output_dir}: {reason}. Start without resuming.")
    return found


def clear_run(folder: Path) -> None:
    """Delete what a run wrote, and nothing else that may lie in its folder."""
    for path in [*checkpoints(folder), folder / ASIDE, folder / SPLITS]:
        shutil.rmtree(path, ignore_errors=True)
    remove_examples(folder)
    for name in ARTIFACT_FILES:
        (folder / name).unlink(missing_ok=True)


def _holds_run(folder: Path) -> bool:
    return (folder / CONFIG).exists() or bool(checkpoints(folder))
