"""A run never overwrites another run's folder, and resumes where it stopped."""

import json
import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.runs import tiny_arguments, trainer_with
from transformers import TrainerCallback

from hffruits.core.claims import InUseError, claim
from hffruits.core.errors import InputError
from hffruits.data.arguments import DataArguments
from hffruits.training.arguments import Arguments, FruitTrainingArguments, ModelArguments
from hffruits.training.checkpointing import seal
from hffruits.training.run import choose_run, start_folder, train
from hffruits.training.run_dir import RunDir, choose_run_dir, clear_run
from hffruits.training.trainer import FruitTrainer


def make_run(folder: Path, *steps: int) -> Path:
    (folder / "splits").mkdir(parents=True)
    (folder / "splits" / "train.txt").write_text("a.jpg\n")
    (folder / "config.json").write_text("{}")
    for step in steps:
        (folder / f"checkpoint-{step}").mkdir()
        (folder / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
        seal(folder / f"checkpoint-{step}")
    return folder


def test_without_output_dir_each_run_gets_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("fruits", "fruits-2", "fruits-3"):
        os.utime(tmp_path, (0, 0))
        run = choose_run_dir(None, name="fruits")
        assert run.folder == Path("runs", name) and not run.folder.exists()
        assert tmp_path.stat().st_mtime == 0  # not even for a moment: another run may be there
        run.folder.mkdir(parents=True)
        assert run.checkpoint is None and not run.replaces


def test_a_folder_with_a_run_is_refused_unless_it_may_be_overwritten(tmp_path):
    folder = make_run(tmp_path / "run", 5)
    with pytest.raises(InputError, match="already holds a run"):
        choose_run_dir(str(folder), name="x")
    run = choose_run_dir(str(folder), name="x", overwrite=True)
    assert run.replaces
    assert (folder / "checkpoint-5").is_dir()  # nothing is removed before the run can start


@pytest.mark.parametrize("name", ["README.md", "examples/demo.py", "splits/train.txt"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_files_that_no_run_wrote_are_left_alone(tmp_path, name, overwrite):
    own = tmp_path / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("mine")
    with pytest.raises(InputError, match=r"has \S+ that no run wrote.* Choose another"):
        choose_run_dir(str(tmp_path), name="fruits", overwrite=overwrite)
    assert own.read_text() == "mine"


def test_a_folder_that_a_run_is_writing_is_refused_before_any_photo_is_read(
    tmp_path, monkeypatch, make_folder
):
    monkeypatch.setattr("hffruits.training.run.load_datasets", None)
    folder, data = make_run(tmp_path / "run", 5), make_folder({"A": 3, "B": 3})
    before = sorted(folder.rglob("*"))
    with claim(folder):
        for options in ({}, {"overwrite_output_dir": True}, {"resume_from_checkpoint": "auto"}):
            who = rf"run: process {os.getpid()} on .*is writing"
            with pytest.raises(InUseError, match=who) as caught:
                train(*tiny_arguments(data, folder, **options))
            assert "overwrite" not in str(caught.value)
    assert sorted(folder.rglob("*")) == before


def test_two_runs_that_start_together_get_a_folder_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = Arguments(DataArguments(data_dir="fruits"), ModelArguments(), FruitTrainingArguments())
    with ExitStack() as first, ExitStack() as second:
        folders = [choose_run(asked, claims).folder for claims in (first, second)]
        assert folders == [Path("runs", "fruits"), Path("runs", "fruits-2")]
        monkeypatch.setattr("hffruits.training.run.choose_run_dir", lags(choose_run_dir))
        with ExitStack() as third:  # whose name was free a moment ago
            assert choose_run(asked, third).folder == Path("runs", "fruits-3")
    assert not any(tmp_path.iterdir())  # what has written nothing leaves nothing


def lags(choose):
    """The first answer is a folder that another run has claimed meanwhile."""
    late = iter([RunDir(Path("runs", "fruits"))])
    return lambda *args, **options: next(late, None) or choose(*args, **options)


def test_resuming_takes_the_newest_checkpoint_that_is_complete(tmp_path):
    folder = make_run(tmp_path / "run", 9, 10, 100)
    (folder / "checkpoint-200").mkdir()  # killed while saving
    (folder / "checkpoint-notes").mkdir()
    run = choose_run_dir(str(folder), name="x", resume="last")
    assert run.checkpoint == folder / "checkpoint-100" and not run.replaces
    assert run.lists_to_repeat == folder / "splits"


@pytest.mark.parametrize(("resume", "step", "ended"), [
    ("auto", 10, True), ("auto", 20, True), ("last", 10, False), ("last", 20, True),
])  # fmt: skip
def test_a_run_that_stopped_early_has_finished_but_can_be_extended(tmp_path, resume, step, ended):
    folder = make_run(tmp_path / "run", step)
    state = folder / f"checkpoint-{step}" / "trainer_state.json"
    state.write_text(json.dumps({"global_step": step, "max_steps": 20}))
    seal(state.parent)
    assert not choose_run_dir(str(folder), name="x", resume=resume).is_finished
    for name in ("metrics.json", "README.md"):
        (folder / name).write_text("{}")
    assert choose_run_dir(str(folder), name="x", resume=resume).is_finished == ended


def test_a_checkpoint_may_have_another_name(tmp_path):
    best = make_run(tmp_path / "run", 9) / "checkpoint-9"
    best = best.rename(tmp_path / "best")
    run = choose_run_dir(str(tmp_path / "new"), name="x", resume=str(best))
    assert run.checkpoint == best and not run.is_finished


def test_a_job_that_is_restarted_resumes_or_begins(tmp_path):
    assert choose_run_dir(str(tmp_path / "new"), name="x", resume="auto").checkpoint is None
    folder = make_run(tmp_path / "run", 9, 10)
    run = choose_run_dir(str(folder), name="x", resume="auto")
    assert run.checkpoint == folder / "checkpoint-10"
    for checkpoint in folder.glob("checkpoint-*"):
        (checkpoint / "trainer_state.json").write_text("{")
    with pytest.raises(InputError, match="no checkpoint is complete"):
        choose_run_dir(str(folder), name="x", resume="auto")


def test_resuming_from_a_named_checkpoint_stays_in_its_run_with_its_split(tmp_path):
    folder = make_run(tmp_path / "run", 9, 10)
    run = choose_run_dir(None, name="x", resume=str(folder / "checkpoint-9"))
    assert run.folder == folder and run.lists_to_repeat == folder / "splits"
    elsewhere = choose_run_dir(str(tmp_path / "new"), name="x", resume=str(folder / "checkpoint-9"))
    assert elsewhere.folder == tmp_path / "new" and elsewhere.lists_to_repeat == folder / "splits"
    other = make_run(tmp_path / "other")
    with pytest.raises(InputError, match="already holds a run"):
        choose_run_dir(str(other), name="x", resume=str(folder / "checkpoint-9"))


@pytest.mark.parametrize(
    ("resume", "output_dir", "message"),
    [
        ("last", None, "set output_dir to the run"),
        ("last", "run", "no checkpoint to resume from"),
        ("nowhere", "run", "no such folder"),
        (__file__, "run", "a file, not a checkpoint's folder. Name a checkpoint, like"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_explained(tmp_path, resume, output_dir, message):
    output_dir = output_dir and str(tmp_path / output_dir)
    with pytest.raises(InputError, match=message):
        choose_run_dir(output_dir, name="x", resume=resume)


def test_a_folder_that_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "file").touch()
    for folder in ("file", "file/below"):
        asked = FruitTrainingArguments(str(tmp_path / folder))
        with pytest.raises(InputError, match=r"can't be written .* Give another output_dir"):
            choose_run(Arguments(DataArguments(), ModelArguments(), asked), ExitStack())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_explained(tmp_path):
    tmp_path.chmod(0o500)
    asked = FruitTrainingArguments(str(tmp_path / "run"))
    with pytest.raises(InputError, match=r"can't be written .* Give another output_dir"):
        choose_run(Arguments(DataArguments(), ModelArguments(), asked), ExitStack())


def test_a_list_that_another_program_has_open_is_named(tmp_path):
    def write_lists(folder):
        raise PermissionError(13, "The file is used by a process", str(folder / "train.txt"))

    run = SimpleNamespace(folder=tmp_path, run_dir=RunDir(tmp_path))
    run.datasets = SimpleNamespace(write_lists=write_lists)
    with pytest.raises(InputError, match=r"splits/train.txt: can't be replaced .* Close it if"):
        start_folder(run)


def test_clearing_removes_what_a_run_wrote_and_nothing_else(tmp_path):
    folder = make_run(tmp_path / "run", 5)
    (folder / "checkpoint-notes").mkdir()
    (folder / "notes.txt").touch()
    clear_run(folder)
    assert {path.name for path in folder.iterdir()} == {"checkpoint-notes", "notes.txt"}


def test_a_run_whose_folder_is_removed_meanwhile_is_saved_whole(
    drawn_fruits, tmp_path, monkeypatch
):
    run = tmp_path / "run"

    class Remove(TrainerCallback):
        def on_train_end(self, *_, **__):
            shutil.rmtree(run)

    monkeypatch.setattr(FruitTrainer, "__init__", trainer_with(Remove()))
    train(*tiny_arguments(drawn_fruits, run, max_steps=1))
    written = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert {"training_args.json", "splits/train.txt", "splits/test.txt", "metrics.json"} <= written
