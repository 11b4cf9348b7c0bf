"""DataLoader workers survive a signal to their process group, and exit with their process."""

import os
import re
import signal
import subprocess
import sys
import time
from multiprocessing import resource_sharer

import psutil
import pytest
import torch
from torch.utils.data import DataLoader

from hffruits.core.dataloader_workers import (
    WorkersLostError,
    leave_signals,
    translate_worker_errors,
)
from hffruits.core.errors import InputError
from hffruits.data.load import load_fruits
from hffruits.training.datasets import as_tensors, collate

LEFT = """
from torch.utils.data import DataLoader
from hffruits.core.dataloader_workers import leave_signals

loader = DataLoader(
    list(range(8)), num_workers=2, persistent_workers=True, worker_init_fn=leave_signals
)
rows = iter(loader)
next(rows)
"""
linux = pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="needs sigwaitinfo")


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


def test_a_worker_that_was_killed_before_its_tensors_were_fetched_is_reported(tmp_path):
    said = r"a DataLoader worker was killed, probably out of memory\. Use fewer\."
    with pytest.raises(WorkersLostError, match=said), translate_worker_errors("Use fewer."):
        resource_sharer._resource_sharer.get_connection((str(tmp_path / "nobody"), 1))


def test_other_errors_stay_what_they_are(tmp_path):
    for error in (RuntimeError("no worker's"), FileNotFoundError("photo.jpg"), InputError("bad")):
        with pytest.raises(type(error), match=str(error)), translate_worker_errors(""):
            raise error


@pytest.mark.parametrize("workers", [0, 2])
def test_a_photo_that_is_gone_is_reported_in_one_line(make_folder, tmp_path, workers):
    photos = make_folder({"train/Apple": 4, "train/Lime": 4, "val/Apple": 2, "val/Lime": 2})
    datasets = load_fruits(photos)
    (photos / "train" / "Lime" / "2.jpg").unlink()
    rows = as_tensors(datasets.split("train"), lambda image: torch.zeros(3, 8, 8))
    loader = DataLoader(rows, collate_fn=collate, num_workers=workers)
    with pytest.raises(InputError) as raised, translate_worker_errors(""):
        list(loader)
    said = (
        r".*Lime/2\.jpg: can't be read any more \(No such file or directory\)\. Put it back and .*"
    )
    assert re.fullmatch(said, str(raised.value))
