"""A run killed in mid-epoch and resumed ends, to the bit, like an uninterrupted one."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.runs import quick_arguments, tiny_arguments, trainer_with
from support.warm import Warm
from transformers import TrainerCallback

from hffruits.core.errors import InputError, RunInterruptedError
from hffruits.training.arguments import ModelArguments
from hffruits.training.checkpointing import step_of
from hffruits.training.lr_schedules import BY_VALIDATION
from hffruits.training.run import train
from hffruits.training.trainer import FruitTrainer

pytestmark = pytest.mark.usefixtures("without_report")

BEST = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
KILLED_AT = 8  # the last checkpoint is of step 6: in mid-epoch


def finish(data_dir: Path, folder: Path, options: dict, *killed_at: int) -> int:
    """One training, in a process that has everything imported and nothing computed."""
    words = ["support.killed_run", data_dir, folder, json.dumps(options), *killed_at]
    return Warm(words, output=folder.with_suffix(".txt")).wait()


def log_of(folder: Path) -> list[dict]:
    timing = ("runtime", "per_second", "total_flos", "train_loss")
    log = json.loads((folder / "log_history.json").read_text())
    return [
        {name: value for name, value in row.items() if not name.endswith(timing)} for row in log
    ]


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["cosine", "one_cycle", *BY_VALIDATION])  # one of each kind
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(drawn_fruits, tmp_path, schedule):
    options = {"lr_scheduler_type": schedule}
    uninterrupted, broken = tmp_path / "uninterrupted", tmp_path / "broken"
    assert finish(drawn_fruits, uninterrupted, options) == 0
    assert finish(drawn_fruits, broken, options, KILLED_AT) == -signal.SIGKILL
    assert not (broken / "model.safetensors").exists()
    resume = options | {"resume_from_checkpoint": "last"}
    assert finish(drawn_fruits, broken, resume) == 0
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
    with pytest.raises(InputError, match=r"this run has finished\. To train .*model_name_or_path="):
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
