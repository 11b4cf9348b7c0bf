"""Data-loader workers outlive a signal to their group, and end when their process does."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from torch.utils.data import DataLoader

from hffruits.loader_workers import leave_signals

LEFT = """
from torch.utils.data import DataLoader
from hffruits.loader_workers import leave_signals

loader = DataLoader(
    list(range(8)), num_workers=2, persistent_workers=True, worker_init_fn=leave_signals
)
rows = iter(loader)
next(rows)
"""
linux = pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="nobody can tell who sent it")


@linux
def test_a_worker_outlives_a_signal_of_others_and_obeys_its_process():
    loader = DataLoader(list(range(99)), num_workers=1, worker_init_fn=leave_signals)
    rows = iter(loader)
    next(rows)
    pid = rows._workers[0].pid
    for name in ("TERM", "INT"):
        subprocess.run(["kill", "-s", name, str(pid)], check=True)
    time.sleep(0.5)
    assert len(list(rows)) == 98
    rows = iter(loader)
    next(rows)
    pid = rows._workers[0].pid
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_ends_in_silence_though_its_workers_live():
    command = [sys.executable, "-c", LEFT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
