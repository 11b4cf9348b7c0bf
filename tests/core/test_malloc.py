"""Freed memory is reused without asking the system for it."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from hffruits.core.malloc import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory() and keep_freed_memory()
def block(): torch.zeros(20_000_000)  # 80 MB
for _ in range(15): block()  # until a hole fits, with the alignment that PyTorch wants
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10): block()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another one")
@pytest.mark.slow
def test_freed_memory_is_not_asked_for_again():
    faults = {}
    for how in ("keep", "leave"):
        command = [sys.executable, "-c", FAULTS, how]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        faults[how] = int(done.stdout)
    assert faults["keep"] < faults["leave"] / 10
