"""The environment of a run, for its records: package versions, machine, git commit."""

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from hffruits import __version__

PACKAGES = ("torch", "torchvision", "transformers", "timm", "datasets", "accelerate")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Of this package and of others, by default of those that decide what a run computes."""
    return {"hffruits": __version__} | {name: version(name) for name in packages}


def environment(device: torch.device, folder: Path | None = None) -> dict[str, Any]:
    """The versions, the machine, and the state of the git repository that `folder` is in."""
    accelerator = None if device.type == "cpu" else device.type
    if device.type == "cuda":
        accelerator = torch.cuda.get_device_name(device)
    return {
        "versions": versions(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
        "accelerator": accelerator,
        "git": git_state(folder or Path.cwd()),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """The `commit` that is checked out and whether files were `changed` since; None without one."""
    git = shutil.which("git")
    if git is None:
        return None
    commit = _ask(git, folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    return {"commit": commit, "changed": bool(_ask(git, folder, "status", "--porcelain", "-uno"))}


def _ask(git: str, folder: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            [git, "-C", str(folder), *words], capture_output=True, text=True, timeout=10
        )
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
