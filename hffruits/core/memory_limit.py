"""How much memory this process may take, of the machine or of its container."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

import psutil

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


def total_memory() -> int:
    """Bytes of the machine's memory, or of what its container or job is allowed, if that is less.

    Linux alone has such limits: cgroups, of both versions (cgroups(7)).
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
