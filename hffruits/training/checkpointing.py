"""Checkpointing: complete or not there, by writing aside, adding checksums and renaming.

`SHA256SUMS` in each holds a digest of every other file, for us and for `sha256sum -c`. What was cut
short or damaged later is found when a run is resumed, and the checkpoint before it is taken.
"""

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn
from transformers import Trainer
from transformers.trainer_callback import TrainerCallback

from hffruits.core.distributed import on_each_machine, on_main_process
from hffruits.core.errors import DISK_FULL, InputError
from hffruits.core.files import flush
from hffruits.models.saving import without_sharing

logger = logging.getLogger(__name__)
SUMS = "SHA256SUMS"
ASIDE = ".saving"  # in a run's folder: where a checkpoint is written
STATE = "trainer_state.json"
# AppleDouble, NFS and FUSE files that were deleted while open, Finder
_SYSTEM_FILES = re.compile(r"\._|\.nfs|\.fuse_hidden|\.DS_Store$")
_TRIED = 1 << 20  # bytes that a full disk won't take


def checkpoints(run: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first."""
    found = [path for path in run.glob("checkpoint-*") if re.search(r"-\d+$", path.name)]
    return sorted((path for path in found if path.is_dir()), key=step_of)


def newest_whole(run: Path) -> Path | None:
    """The newest checkpoint that a run can resume from; warns of any that it can't."""
    for folder in reversed(checkpoints(run)):
        fault = find_fault(folder)
        if fault is None:
            return folder
        logger.warning("%s: %s; it is skipped", folder, fault)
    return None


def rescue(run: Path) -> None:
    """Give a whole checkpoint its name that a run was killed before it could give it."""
    for path in (run / ASIDE).glob("checkpoint-*"):
        if not (run / path.name).exists() and _find_own_fault(path) is None:
            with suppress(OSError):  # a folder that can't be written is reported elsewhere
                path.rename(run / path.name)


def find_fault(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or with the best one before it, which the end needs."""
    fault = _find_own_fault(folder)
    if fault:
        return fault
    best = best_checkpoint(folder)
    other = best is not None and best.resolve() != folder.resolve()  # else it was checked
    fault = _find_own_fault(best) if other else None
    return f"its best checkpoint, {best.name}: {fault}" if fault else None


def best_checkpoint(folder: Path) -> Path | None:
    """The best one before a checkpoint: where it says, or, if the run was moved, beside it."""
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    best = state.get("best_model_checkpoint")
    if not best:
        return None
    return Path(best) if Path(best).is_dir() else folder.with_name(Path(best).name)


def step_of(folder: Path) -> int:
    """The step after which a checkpoint was saved."""
    return int(folder.name.split("-")[-1])


def _find_own_fault(folder: Path) -> str | None:
    if not (folder / STATE).is_file():
        return "not a complete checkpoint"
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return f"has no {SUMS} to check it by"
    digests = dict(reversed(line.split("  ", 1)) for line in lines if "  " in line)
    for name in sorted(_files(folder) | digests.keys()):
        try:
            if _digest(folder / name) != digests.get(name):
                return f"{name} is damaged"
        except OSError as error:
            return f"{name} can't be read ({error.strerror})"
    return None


def _files(folder: Path) -> set[str]:
    """The files of a checkpoint, without what systems put there."""
    there = (path for path in folder.rglob("*") if path.is_file() and path.name != SUMS)
    own = (path for path in there if not _SYSTEM_FILES.match(path.name))
    return {path.relative_to(folder).as_posix() for path in own}


def seal(folder: Path) -> None:
    """Write the checksums of all files, and flush everything to the disk."""
    files = sorted(_files(folder))
    lines = [f"{_digest(folder / file)}  {file}\n" for file in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    folders = {(folder / file).parent for file in files}
    for path in (*(folder / file for file in (*files, SUMS)), *folders, folder):
        flush(path)


def publish(aside: Path, folder: Path) -> None:
    """Seal what was written aside and give it its name, in place of an earlier one of that name."""
    seal(aside)
    earlier = aside.with_name("earlier")
    if folder.exists():
        folder.rename(earlier)
    aside.rename(folder)
    flush(folder.parent)
    shutil.rmtree(earlier, ignore_errors=True)


def delete_old(newest: Path, *, keep: set[Path], limit: int | None) -> None:
    """Leave at most `limit` checkpoints of a run, those in `keep` among them.

    The oldest go first; before them any of later steps, which the run didn't resume from.
    """
    there = checkpoints(newest.parent)
    split = there.index(newest) + 1
    kept = {path.resolve() for path in keep}
    old = [path for path in there[split:] + there[:split] if path.resolve() not in kept]
    surplus = len(there) - (limit or len(there))
    for path in old[: max(0, surplus)]:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def translate_disk_errors(folder: Path) -> Iterator[None]:
    """Within it, an error that a full disk under `folder` makes is an `InputError` of one line."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # torch.save's is a RuntimeError
        if not _is_full(folder, error):
            raise
        left = shutil.disk_usage(folder).free / 1e6
        raise InputError(
            f"{folder}: the disk is full ({left:.0f} MB are left). Free some: the same command "
            "with resume_from_checkpoint resumes."
        ) from error


def _is_full(folder: Path, error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return True
    trial = folder / ".room"
    try:
        trial.write_bytes(bytes(_TRIED))
    except OSError as tried:
        return tried.errno in DISK_FULL
    finally:
        with suppress(OSError):
            trial.unlink()
    return False


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# ---- the Trainer's ----


class CheckpointingTrainer(Trainer):
    """transformers' `Trainer`, whose checkpoints are written aside and renamed when complete."""

    _aside: Path | None = None  # where a checkpoint is being written

    def train(self, resume_from_checkpoint: str | None = None, **kwargs: Any):
        best = resume_from_checkpoint and best_checkpoint(Path(resume_from_checkpoint))
        log = logging.getLogger("transformers.trainer")
        if best:
            self.add_callback(_FindBestCallback(best))
            log.addFilter(_is_not_of_best)
        try:
            return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        finally:
            log.removeFilter(_is_not_of_best)

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._aside is None else str(self._aside)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        weights = self.model.state_dict() if state_dict is None else state_dict
        super()._save(output_dir, without_sharing(weights))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write it aside and rename it when it is whole; only then may an older one go."""
        run = Path(self._get_output_dir(trial))
        aside, name = run / ASIDE, f"checkpoint-{self.state.global_step}"
        on_each_machine(lambda: shutil.rmtree(aside, ignore_errors=True))

        def put() -> None:
            with translate_disk_errors(run):
                publish(aside / name, run / name)

        try:
            with translate_disk_errors(run):
                self._aside = aside
                super()._save_checkpoint(model, trial)
                if self.state.best_model_checkpoint == str(aside / name):
                    self.state.best_model_checkpoint = str(run / name)
                if self.args.should_save:
                    self.state.save_to_json(str(aside / name / STATE))
            self.accelerator.wait_for_everyone()
            on_main_process(put)
        finally:
            self._aside = None
            if self.args.should_save:
                shutil.rmtree(aside, ignore_errors=True)
        if self.args.should_save:
            best = self.state.best_model_checkpoint
            kept = {run / name} | ({Path(best)} if best else set())
            delete_old(run / name, keep=kept, limit=self.args.save_total_limit)


class _FindBestCallback(TrainerCallback):
    """Finds the best checkpoint of a resumed run where it is now: the folder may have moved."""

    def __init__(self, best: Path):
        self.best = best

    def on_train_begin(self, args, state, control, **kwargs):
        state.best_model_checkpoint = str(self.best)


def _is_not_of_best(record: logging.LogRecord) -> bool:
    """False for the warning that a best checkpoint is gone: `_FindBestCallback` knows better."""
    return not record.getMessage().startswith("The best checkpoint ")
