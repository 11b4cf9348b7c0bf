"""Several CPU processes from `accelerate launch --cpu --num_processes N`.

accelerate starts one process then, unless MPI starts the others, and says nothing. We see that we
are alone where N were asked for, and start the N with torch's own launcher.
"""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import yaml

_STARTED = ("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK")


def missing_processes() -> int:
    """The N that was asked for, where accelerate has started a single process; else 0."""
    asked = os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_ADDR" in os.environ
    parent = psutil.Process().parent()
    if not asked or parent is None or any(name in os.environ for name in _STARTED):
        return 0
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--num_processes", "--num-processes", type=int, default=0)
    parser.add_argument("--num_machines", "--num-machines", type=int, default=1)
    parser.add_argument("--config_file", "--config-file", type=Path)
    words = parent.cmdline()
    known, _ = parser.parse_known_args(words)
    if known.config_file:  # flags go before it
        parser.set_defaults(**yaml.safe_load(known.config_file.read_text(encoding="utf-8")))
        known, _ = parser.parse_known_args(words)
    alone = known.num_processes > 1 and known.num_machines == 1
    return known.num_processes if alone else 0


def start_processes(count: int, argv: list[str]) -> int:
    """Run `hffruits` with `argv` in `count` processes on this machine; returns the exit code.

    SIGTERM, and the end of the launcher that started us, are passed on to them; of Ctrl-C the
    terminal tells them itself.
    """
    launcher = ["torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    command = [sys.executable, "-m", *launcher, "--module", "hffruits", *argv]
    process, parent, received = subprocess.Popen(command), os.getppid(), []

    def pass_on(number: int, frame: object) -> None:
        received.append(number)
        if number == signal.SIGTERM:
            process.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    while True:
        try:
            code = process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            if os.getppid() != parent:
                parent = os.getppid()
                pass_on(signal.SIGTERM, None)
        else:
            return 128 + received[0] if received and code else code
