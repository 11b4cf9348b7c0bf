"""Launcher configurations: accelerate's YAML files, and the SLURM script."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from support.runs import ROOT, TINY_FLAGS

CONFIGS = sorted((ROOT / "scripts" / "accelerate").glob("*.yaml"))


@pytest.mark.parametrize("file", CONFIGS, ids=[file.stem for file in CONFIGS])
def test_accelerate_reads_each_configuration(file):
    config = load_config_from_file(str(file))
    several = config.num_processes > 1
    assert several == (file.stem not in ("cpu", "gpu"))
    assert config.use_cpu == (file.stem == "cpu")
    assert config.num_processes % config.num_machines == 0


def test_the_configurations_are_these():
    names = ["cpu", "deepspeed", "fsdp", "gpu", "gpus", "nodes"]
    assert [file.stem for file in CONFIGS] == names


def make_train(*arguments: str | Path) -> subprocess.CompletedProcess:
    """What `make train` runs, with other arguments."""
    rule = (ROOT / "Makefile").read_text().partition("\ntrain: setup\n")[2]
    command = rule.replace("\\\n", " ").splitlines()[0].replace("$(TRAIN_ARGS)", "").split()
    accelerate = Path(sys.executable).with_name("accelerate")
    assert command[0] == "$(BIN)/accelerate" and command[-1] == "scripts/train.py"
    command = [accelerate, *command[1:], *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_a_mistake_in_the_arguments_of_make_train_is_one_line():
    done = make_train("--epochs", "3")
    assert done.returncode == 1
    assert (
        done.stderr
        == "hffruits train: error: unknown: --epochs (did you mean --num_train_epochs?)\n"
    )


@pytest.mark.slow
def test_accelerate_launches_the_script_as_make_train_does(drawn_fruits, tmp_path):
    flags = [*TINY_FLAGS, "--max_steps=2", f"--output_dir={tmp_path / 'run'}"]
    done = make_train(drawn_fruits, *flags)
    assert done.returncode == 0, done.stderr
    assert f"Saved     {tmp_path / 'run'}" in done.stdout
    assert (tmp_path / "run" / "model.safetensors").is_file()


# ---- SLURM ----

STANDINS = {
    # on SIGTERM it kills its children, as SLURM's does
    "srun": """shift; export SLURM_PROCID=1; "$@" & echo $! >"$SAID.step"
        trap "kill -9 $!" TERM; wait $!""",
    "scancel": 'echo "scancel $*" >>"$SAID"; kill -s "${1#--signal=}" "$(cat "$SAID.step")"',
    "scontrol": 'echo "$@" >>"$SAID"; [ "$1" = show ] && printf "node7\\nnode8\\n"; exit 0',
    "accelerate": """echo "accelerate $*" >>"$SAID"
        trap 'echo saved >>"$SAID"; exit 1' TERM; sleep "$SLEEPS" & wait""",
}


@pytest.fixture
def slurm(tmp_path):
    """Starts scripts/slurm.sh as SLURM would, with stand-ins for its commands."""
    for name, script in STANDINS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    said = tmp_path / "said"

    def start(sleeps: int) -> tuple[subprocess.Popen, Path]:
        environment = os.environ | {
            "PATH": f"{tmp_path}:{os.environ['PATH']}", "SAID": str(said), "SLEEPS": str(sleeps),
            "SLURM_JOB_ID": "42", "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_NNODES": "2",
            "SLURM_GPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": "96",
        }  # fmt: skip
        words = ["bash", str(ROOT / "scripts" / "slurm.sh"), "my fruits", "--seed", "7"]
        return subprocess.Popen(words, env=environment), said

    return start


def test_a_slurm_job_starts_each_machine_with_its_rank(slurm):
    process, said = slurm(0)
    assert process.wait(20) == 0
    (line,) = (line for line in said.read_text().splitlines() if line.startswith("accelerate"))
    for part in (
        "--num_machines 2 --num_processes 16 --machine_rank 1 --main_process_ip node7 ",
        "scripts/train.py my fruits --seed 7 --resume_from_checkpoint auto",
        "--config_file scripts/accelerate/nodes.yaml",
    ):
        assert part in line
    assert "requeue" not in said.read_text()


def test_a_slurm_job_that_is_told_to_end_goes_into_the_queue_again(slurm):
    process, said = slurm(60)
    deadline = time.monotonic() + 20
    while not (said.exists() and "accelerate" in said.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert time.monotonic() - began < 15  # the step got the signal, too
    assert said.read_text().splitlines()[-3:] == ["scancel --signal=TERM 42", "saved", "requeue 42"]
