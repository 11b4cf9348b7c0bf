"""Two machines train one model; a lost one rejoins, and a disconnected one exits with an error."""

import json
import time
from pathlib import Path

import pytest
from support import two_hosts
from support.runs import TINY_FLAGS, losses, tiny_arguments

from hffruits.training.arguments import ModelArguments
from hffruits.training.checkpointing import newest_whole
from hffruits.training.run import train

REASON = two_hosts.missing_requirement()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(REASON), reason=str(REASON))]
STEPS, SAVED_AT = 40, 10
FLAGS = [
    *TINY_FLAGS, f"--max_steps={STEPS}", "--batch_norm=freeze", "--per_device_train_batch_size=4",
    "--save_strategy=steps", "--save_steps=5", "--logging_steps=1", "--resume_from_checkpoint=auto",
]  # fmt: skip


def wait_for(checkpoint: Path, *processes: two_hosts.Started) -> None:
    deadline = time.monotonic() + 120
    while not checkpoint.is_dir():
        for process in processes:
            assert process.poll() is None, process.output()
        assert time.monotonic() < deadline, "no checkpoint in two minutes"
        time.sleep(0.05)


def test_a_lost_machine_rejoins_and_the_run_ends_with_the_accuracy_of_one_machine(
    drawn_fruits, tmp_path
):
    folder = tmp_path / "two"
    words = [drawn_fruits, f"--output_dir={folder}", *FLAGS]
    with two_hosts.two_hosts() as (first, second):
        main = two_hosts.launch_on(first, first, 0, words, restarts=3)
        other = two_hosts.launch_on(second, first, 1, words, restarts=3)
        wait_for(folder / f"checkpoint-{SAVED_AT}", main, other)
        second.kill()
        other.wait()
        other = two_hosts.launch_on(second, first, 1, words, restarts=3)
        output = main.output(timeout=180)
        other.wait(timeout=60)
    assert (main.returncode, other.returncode) == (0, 0), output
    assert "another process of this run has ended" in output and "resuming from" in output
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["training"]["processes"] == 2

    net = ModelArguments("test_efficientnet", pretrained=False, image_size=32, freeze="none")
    options = {"max_steps": STEPS, "batch_norm": "freeze", "logging_steps": 1}
    options |= {"per_device_train_batch_size": 8, "load_best_model_at_end": False}
    single = train(*tiny_arguments(drawn_fruits, tmp_path / "one", model=net, **options))
    assert len(losses(folder)) == STEPS
    assert losses(folder) == pytest.approx(losses(tmp_path / "one"), rel=1e-3)
    for split in ("validation", "test"):
        assert metrics[split]["accuracy"] == single[split]["accuracy"]


def test_a_cut_link_is_told_within_the_timeout_and_nothing_hangs(drawn_fruits, tmp_path):
    folder = tmp_path / "cut"
    words = [drawn_fruits, f"--output_dir={folder}", *FLAGS, "--ddp_timeout=10"]
    with two_hosts.two_hosts() as (first, second):
        main = two_hosts.launch_on(first, first, 0, words)
        other = two_hosts.launch_on(second, first, 1, words)
        wait_for(folder / f"checkpoint-{SAVED_AT}", main, other)
        first.unplug()
        outputs = [process.output(timeout=120) for process in (main, other)]
    for process, output in zip((main, other), outputs, strict=True):
        assert process.returncode not in (0, None)
        assert "its machine has not answered within --ddp_timeout" in output, output
    assert not (folder / "model.safetensors").exists()
    assert newest_whole(folder) is not None


def test_a_folder_that_only_one_machine_sees_is_an_error_at_the_start(drawn_fruits, tmp_path):
    folder = tmp_path / "mine" / "run"
    folder.parent.mkdir()
    words = [drawn_fruits, f"--output_dir={folder}", *FLAGS]
    with two_hosts.two_hosts() as (first, second):
        main = two_hosts.launch_on(first, first, 0, words)
        other = two_hosts.launch_on(second, first, 1, words, without=folder.parent)
        output = main.output(timeout=180)
        other.wait(timeout=60)
    assert main.returncode and other.returncode
    assert (
        f"{folder}: process 1, on another machine, doesn't see it. Give an --output_dir" in output
    )
    assert not any(folder.parent.iterdir())
