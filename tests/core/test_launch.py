"""What a launcher tells a process is read in one light place."""

import re
import subprocess
import sys
from pathlib import Path

import hffruits
from hffruits.core.launch import is_main_process, launched_processes, rank


def test_a_process_knows_its_place_in_its_launch(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert is_main_process() and launched_processes() == 1
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not is_main_process() and (rank(), launched_processes()) == (1, 2)


def test_the_rank_and_the_number_of_processes_are_read_in_one_module():
    modules = Path(hffruits.__file__).parent.rglob("*.py")
    readers = re.compile(r"environ.*[\"'](RANK|WORLD_SIZE)[\"']")
    found = [file.name for file in modules if readers.search(file.read_text(encoding="utf-8"))]
    assert found == ["launch.py"]


def test_asking_for_the_first_process_imports_nothing_heavy():
    code = (
        "import sys, hffruits.core.launch\n"
        "assert not {'torch', 'accelerate', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
