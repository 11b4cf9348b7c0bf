"""A run killed in mid-epoch and resumed ends, to the bit, like an uninterrupted one."""

import json
import multiprocessing
import os
import shutil
import signal
import traceback
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.runs import quick_arguments, tiny_arguments, trainer_with
from transformers import TrainerCallback

from hffruits.core.errors import InputError, RunInterruptedError
from hffruits.training.arguments import ModelArguments
from hffruits.training.checkpointing import step_of
from hffruits.training.lr_schedules import SCHEDULE_NAMES
from hffruits.training.run import train
from hffruits.training.trainer import FruitTrainer

EVERYTHING = {  # 32 photos: 4 steps an epoch, 12 in all, validation and a checkpoint every 3
    "num_train_epochs": 3, "save_strategy": "steps", "save_steps": 3, "eval_strategy": "steps",
    "eval_steps": 3, "logging_steps": 1, "ema_decay": 0.9, "mixup_alpha": 0.2, "cutmix_alpha": 1.0,
    "mix_probability": 0.7, "balanced_sampler": True, "save_total_limit": None,
}  # fmt: skip
BEST = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
KILLED_AT = 8  # the last checkpoint is of step 6: in mid-epoch


class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == KILLED_AT:
            os.kill(os.getpid(), signal.SIGKILL)


def run(data_dir: Path, folder: Path, options: dict, *, kill: bool = False) -> None:
    """One training, in a process of its own."""
    torch.set_num_threads(1)
    if kill:
        FruitTrainer.__init__ = trainer_with(Kill())
    try:
        arguments = tiny_arguments(data_dir, folder, **EVERYTHING | options)
        arguments[0].augment = "medium"
        train(*arguments)
    except Exception:
        traceback.print_exc()
        raise


@pytest.fixture(scope="module")
def processes():
    """Processes that begin with everything imported and nothing computed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hffruits.training.run", "support.runs", "test_resume"])
    return context


def finish(processes, *arguments, **keywords) -> int:
    process = processes.Process(target=run, args=arguments, kwargs=keywords)
    process.start()
    process.join(120)
    return process.exitcode


def log_of(folder: Path) -> list[dict]:
    timing = ("runtime", "per_second", "total_flos", "train_loss")
    log = json.loads((folder / "log_history.json").read_text())
    return [
        {name: value for name, value in row.items() if not name.endswith(timing)} for row in log
    ]


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULE_NAMES)
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(
    processes, drawn_fruits, tmp_path, schedule
):
    options = {"lr_scheduler_type": schedule}
    uninterrupted, broken = tmp_path / "uninterrupted", tmp_path / "broken"
    assert finish(processes, drawn_fruits, uninterrupted, options) == 0
    assert finish(processes, drawn_fruits, broken, options, kill=True) == -signal.SIGKILL
    assert not (broken / "model.safetensors").exists()
    resume = options | {"resume_from_checkpoint": "last"}
    assert finish(processes, drawn_fruits, broken, resume) == 0
    expected, got = (load_file(folder / "model.safetensors") for folder in (uninterrupted, broken))
    for name, value in expected.items():
        assert torch.equal(value, got[name]), name
    assert log_of(broken) == log_of(uninterrupted)
    metrics = [
        json.loads((folder / "metrics.json").read_text()) for folder in (uninterrupted, broken)
    ]
    for split in ("validation", "test"):
        for measured in metrics:
            del measured[split]["images_per_second"]
        assert metrics[0][split] == metrics[1][split]


def test_a_run_is_not_resumed_with_other_options(trained, drawn_fruits):
    for options, message in [
        ({"weight_decay": 0.2}, r"weight_decay=0.2: the run began with 0.05. Resume with "
                                r"weight_decay=0.05"),
        ({"lr_scheduler_type": "step"}, "lr_scheduler_type=step: the run began with cosine"),
        ({"ema_decay": 0.9}, "ema_decay=0.9: the run began with 0.995"),
    ]:  # fmt: skip
        options |= {"resume_from_checkpoint": "last"}
        with pytest.raises(InputError, match=message):
            train(*quick_arguments(drawn_fruits, trained, **options))


def test_a_finished_run_is_not_changed(trained, drawn_fruits):
    before = (trained / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(
        InputError, match=r"this run has finished\. To train .*--model_name_or_path"
    ):
        train(*quick_arguments(drawn_fruits, trained, resume_from_checkpoint="last"))
    assert (trained / "model.safetensors").stat().st_mtime_ns == before


def test_a_job_that_is_started_again_when_it_is_done_ends_well(trained, drawn_fruits):
    before = (trained / "model.safetensors").stat().st_mtime_ns
    metrics = train(*quick_arguments(drawn_fruits, trained, resume_from_checkpoint="auto"))
    assert metrics == json.loads((trained / "metrics.json").read_text())
    assert (trained / "model.safetensors").stat().st_mtime_ns == before


def test_a_run_that_stopped_early_is_not_changed_either(drawn_fruits, tmp_path):
    folder = tmp_path / "run"
    arguments = {"num_train_epochs": 6, "early_stopping_patience": 1, "learning_rate": 1e-9}
    metrics = train(*tiny_arguments(drawn_fruits, folder, **arguments, **BEST))
    assert metrics["training"]["epochs"] < 6
    before = (folder / "model.safetensors").stat().st_mtime_ns
    arguments |= {"resume_from_checkpoint": "auto"}
    assert train(*tiny_arguments(drawn_fruits, folder, **arguments, **BEST)) == metrics
    assert (folder / "model.safetensors").stat().st_mtime_ns == before


def test_a_run_that_resumes_from_an_older_checkpoint_has_not_finished(drawn_fruits, tmp_path):
    folder = tmp_path / "run"
    options = {"num_train_epochs": 2, "save_strategy": "epoch", "save_total_limit": 9}
    train(*tiny_arguments(drawn_fruits, folder, **options))
    (folder / "diverged.json").write_text("{}")
    first = min(folder.glob("checkpoint-*"), key=step_of)
    with pytest.raises(RunInterruptedError), pytest.MonkeyPatch.context() as patched:
        patched.setattr(FruitTrainer, "__init__", trainer_with(EndedAtTheNextStep()))
        train(*tiny_arguments(drawn_fruits, folder, resume_from_checkpoint=str(first), **options))
    left = {path.name for path in folder.iterdir()}
    assert not left & {"metrics.json", "diverged.json"}
    options |= {"resume_from_checkpoint": "auto"}
    assert train(*tiny_arguments(drawn_fruits, folder, **options))["training"]["epochs"] == 2


class EndedAtTheNextStep(TrainerCallback):
    """SIGTERM comes at once."""

    def on_step_begin(self, args, state, control, **kwargs):
        signal.raise_signal(signal.SIGTERM)


def test_a_refused_run_leaves_no_folder(drawn_fruits, tmp_path):
    folder = tmp_path / "new" / "run"
    arguments = quick_arguments(drawn_fruits, folder, model=ModelArguments(freeze="stages:99"))
    with pytest.raises(InputError, match="there are 7 stages"):
        train(*arguments)
    assert not folder.parent.exists()


def test_the_precision_of_a_resumed_run_is_not_tried_again(
    trained, drawn_fruits, tmp_path, monkeypatch
):
    def fail(*args, **kwargs):
        raise AssertionError("tried")

    monkeypatch.setattr("hffruits.training.setup.bf16_is_faster", fail)
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    (folder / "metrics.json").unlink()  # not yet finished
    arguments = quick_arguments(drawn_fruits, folder, resume_from_checkpoint="last")
    arguments[2].try_bf16 = True
    train(*arguments)
    assert json.loads((folder / "training_args.json").read_text())["training"]["bf16"] is False
