"""The memory limit is the container's, not the machine's."""

import psutil
import pytest

from hffruits.core import hardware
from hffruits.core.hardware import total_memory

MACHINE = psutil.virtual_memory().total
OF_VERSION_1 = "9:name=systemd:/\n4:cpu,memory:/job/step\n0::/\n"


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """Write which groups this process is in, and their limits."""
    monkeypatch.setattr(hardware, "CGROUPS", tmp_path)
    monkeypatch.setattr(hardware, "OWN_CGROUPS", tmp_path / "own")

    def write(own: str, limits: dict[str, str]) -> None:
        (tmp_path / "own").write_text(own)
        for name, limit in limits.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(limit)

    return write


def test_without_groups_it_is_the_machine(groups):
    assert total_memory() == MACHINE
    groups("0::/\n", {"memory.max": "max\n"})
    assert total_memory() == MACHINE


def test_the_smallest_limit_of_a_group_and_those_around_it_counts(groups):
    groups("0::/job/step\n", {"job/step/memory.max": "5000\n", "job/memory.max": "4000\n"})
    assert total_memory() == 4000


def test_groups_of_version_1_count_too(groups):
    groups(OF_VERSION_1, {"memory/job/memory.limit_in_bytes": "3000\n"})
    assert total_memory() == 3000
