"""Hardware: which devices compute in bfloat16, and how much memory this process may take."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

import psutil
import torch

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def gpu_has_bf16() -> bool:
    """True for GPUs with bfloat16 units: NVIDIA's from Ampere on."""
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def cpu_has_bf16() -> bool:
    """True for processors with AMX."""
    return torch.cpu._is_amx_tile_supported()


def has_bf16(device: torch.device) -> bool:
    """True where a device computes in bfloat16 at full speed."""
    return cpu_has_bf16() if device.type == "cpu" else gpu_has_bf16()


def total_memory() -> int:
    """Bytes of the machine's memory, or of what its container or job is allowed, if that is less.

    Only Linux has such limits: cgroups, of both versions (cgroups(7)).
    """
    total = psutil.virtual_memory().total
    with suppress(OSError):
        for file in _limits(OWN_CGROUPS.read_text(encoding="utf-8")):
            with suppress(OSError, ValueError):  # not there, or "max"
                total = min(total, int(file.read_text(encoding="utf-8")))
    return total


def _limits(own: str) -> Iterator[Path]:
    """The files that may hold a limit: of each group that this process is in, and those around."""
    for line in own.splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            root, name = CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = CGROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        path = PurePosixPath(group)
        for each in (path, *path.parents):
            yield root / each.relative_to("/") / name
