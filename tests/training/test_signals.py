"""A run stopped by a signal saves a checkpoint first, and resumes to the same weights."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from support.runs import ROOT, TINY_FLAGS, tiny_arguments, trainer_with
from support.warm import WARM_SCRIPT, Warm, start_group, warm_environment
from transformers import TrainerCallback

from hffruits.cli.main import main
from hffruits.core.errors import RunInterruptedError
from hffruits.training.callbacks.signals import IN_EARNEST, StopOnSignalCallback, ends_at_once
from hffruits.training.checkpointing import checkpoints, newest_whole
from hffruits.training.run import train
from hffruits.training.trainer import FruitTrainer

pytestmark = pytest.mark.usefixtures("without_report")
SENT_AT = 3  # of 8 steps: in mid-epoch, where no checkpoint is due


@pytest.fixture(autouse=True)
def at_a_terminal():
    """With the handler that Python sets there; what runs in the background may ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class SignalCallback(TrainerCallback):
    """Sends this process a signal in a step."""

    def __init__(self, number: int):
        self.number = number

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == SENT_AT - 1:
            signal.raise_signal(self.number)


def send_in_training(monkeypatch, number: int) -> None:
    monkeypatch.setattr(FruitTrainer, "__init__", trainer_with(SignalCallback(number)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_work_that_is_saved_as_it_comes_ends_at_once(number):
    before = signal.getsignal(number)
    with pytest.raises(RunInterruptedError) as raised, ends_at_once():
        signal.raise_signal(number)
    assert str(raised.value) == f"ended by {number.name}; the same command resumes it."
    assert raised.value.code == 128 + number
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_run_which_resumes_to_the_same_weights(
    drawn_fruits, tmp_path, monkeypatch, number
):
    handlers = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    uninterrupted, broken = tmp_path / "uninterrupted", tmp_path / "broken"
    train(*tiny_arguments(drawn_fruits, uninterrupted, ema_decay=0.9))
    with monkeypatch.context() as patched, pytest.raises(RunInterruptedError) as raised:
        send_in_training(patched, number)
        train(*tiny_arguments(drawn_fruits, broken, ema_decay=0.9))
    saved = broken / f"checkpoint-{SENT_AT}"
    assert raised.value.code == 128 + number and raised.value.checkpoint == saved
    assert f"{number.name}: {saved} is saved" in str(raised.value)
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert newest_whole(broken) == saved and not (broken / "model.safetensors").exists()
    again = {"ema_decay": 0.9, "resume_from_checkpoint": "last"}
    train(*tiny_arguments(drawn_fruits, broken, **again))
    expected, got = (load_file(run / "model.safetensors") for run in (uninterrupted, broken))
    assert all(torch.equal(value, got[name]) for name, value in expected.items())


def test_a_second_signal_is_answered_at_once(monkeypatch):
    clock = iter([100.0, 100.0 + IN_EARNEST / 2, 100.1 + IN_EARNEST])
    monkeypatch.setattr("hffruits.training.callbacks.signals.monotonic", lambda: next(clock))
    stopping = StopOnSignalCallback()
    with pytest.raises(KeyboardInterrupt), stopping:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # a launcher's, right after the terminal's
        assert stopping.received == signal.SIGINT
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the third signal was not answered")


def test_ctrl_c_stays_ignored_where_it_was():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopOnSignalCallback() as stopping:
        signal.raise_signal(signal.SIGINT)
    assert stopping.received is None


def test_a_signal_that_no_step_answers_any_more_still_ends_the_run():
    with (
        pytest.raises(RunInterruptedError, match="ended by SIGTERM; the same command"),
        StopOnSignalCallback(),
    ):
        signal.raise_signal(signal.SIGTERM)


def test_the_command_exits_with_the_signals_own_code(monkeypatch, capsys):
    def interrupted(*arguments, **options):
        raise RunInterruptedError(signal.SIGTERM, Path("runs/x/checkpoint-7"))

    monkeypatch.setattr("hffruits.training.run.train", interrupted)
    assert main(["train"]) == 143
    line = "hffruits: ended by SIGTERM: runs/x/checkpoint-7 is saved; the same command with"
    assert line in capsys.readouterr().err


def test_the_validation_that_is_due_at_that_step_is_made_first(drawn_fruits, tmp_path, monkeypatch):
    options = {
        "eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True,
        "metric_for_best_model": "loss", "save_total_limit": None,
    }  # fmt: skip
    uninterrupted, broken = tmp_path / "uninterrupted", tmp_path / "broken"
    train(*tiny_arguments(drawn_fruits, uninterrupted, **options))
    with monkeypatch.context() as patched, pytest.raises(RunInterruptedError) as raised:
        patched.setattr(sys.modules[__name__], "SENT_AT", 4)  # an epoch's last step
        send_in_training(patched, signal.SIGTERM)
        train(*tiny_arguments(drawn_fruits, broken, **options))
    assert raised.value.checkpoint == broken / "checkpoint-4"
    broken = broken.rename(tmp_path / "moved")
    train(*tiny_arguments(drawn_fruits, broken, resume_from_checkpoint="last", **options))
    logs = [json.loads((run / "log_history.json").read_text()) for run in (uninterrupted, broken)]
    losses = [[row["eval_loss"] for row in log if "eval_loss" in row] for log in logs]
    assert len(losses[0]) >= 2 and losses[0] == losses[1]
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (uninterrupted, broken)]
    assert metrics[0]["training"]["best_epoch"] == metrics[1]["training"]["best_epoch"]
    assert metrics[0]["validation"]["loss"] == metrics[1]["validation"]["loss"]


@pytest.mark.slow
def test_several_processes_save_when_their_launcher_is_terminated(drawn_fruits, tmp_path):
    folder, log = tmp_path / "run", tmp_path / "log"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    script = [WARM_SCRIPT, ROOT / "scripts" / "train.py", drawn_fruits, *TINY_FLAGS]
    script += ["--output_dir", folder]
    steps = ["--num_train_epochs=100000", "--save_strategy=steps", "--save_steps=20"]
    batch = ["--per_device_train_batch_size=4"]
    with log.open("w") as output:
        words, environment = [*launcher, *script, *steps, *batch], os.environ | warm_environment()
        process = subprocess.Popen(words, stdout=output, stderr=output, env=environment)
    wait_until(lambda: checkpoints(folder) or process.poll() is not None)
    process.terminate()
    process.wait(60)
    wait_until(lambda: "the same command with" in log.read_text())
    saved = newest_whole(folder)
    assert f"ended by SIGTERM: {saved} is saved" in log.read_text()
    assert saved == checkpoints(folder)[-1]


@pytest.mark.slow
def test_a_terminated_group_saves_though_its_loaders_are_terminated_too(drawn_fruits, tmp_path):
    folder = tmp_path / "run"
    words = [ROOT / "scripts" / "train.py", drawn_fruits, f"--output_dir={folder}", *TINY_FLAGS]
    words += ["--num_train_epochs=100000", "--save_strategy=steps", "--save_steps=20"]
    words += ["--per_device_train_batch_size=4", "--dataloader_num_workers=1"]
    words += ["--dataloader_persistent_workers=true"]
    group = start_group(words, processes=2, folder=tmp_path)
    everybody = [process.pid for process in group]
    try:
        wait_until(lambda: checkpoints(folder) or any(p.poll() is not None for p in group))
        for process in group:
            everybody += [child.pid for child in psutil.Process(process.pid).children()]
        for pid in everybody:  # as a cluster and systemd do
            os.kill(pid, signal.SIGTERM)
        for process in group:
            process.wait(60)
    finally:
        for pid in everybody:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert len(everybody) >= 2 + 2
    said = group[0].error.read_text()
    saved = newest_whole(folder)
    assert saved == checkpoints(folder)[-1] and f"ended by SIGTERM: {saved} is saved" in said, said


def wait_until(holds) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_preempted_command_saves_and_says_how_to_resume(drawn_fruits, tmp_path):
    folder = tmp_path / "run"
    steps = ["--num_train_epochs", "100000", "--save_strategy", "steps", "--save_steps", "20"]
    words = ["hffruits", "train", drawn_fruits, *TINY_FLAGS, *steps, "--output_dir", folder]
    process = Warm(words, output=tmp_path / "output.txt")
    wait_until(lambda: checkpoints(folder) or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    error = process.output.read_text()
    assert process.returncode == 143, error
    saved = newest_whole(folder)
    assert saved == checkpoints(folder)[-1] and f"ended by SIGTERM: {saved} is saved" in error
    assert "Traceback" not in error
