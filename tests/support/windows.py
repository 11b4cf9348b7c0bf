"""What Windows refuses, here: what is open or mapped can't be replaced, renamed or removed."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Within the test, `os.replace` and its like raise PermissionError as there.

    Gives what was refused, for what ignores the error.
    """
    refused: list[str] = []

    def guard(module: Any, name: str) -> None:
        real = getattr(module, name)

        def guarded(*args: Any, **options: Any) -> Any:
            for path in _touched(name, args, options):
                if held := _held(path):
                    refused.append(f"{name} {path}: {held}")
                    raise PermissionError(13, "The file is used by a process", str(path))
            return real(*args, **options)

        monkeypatch.setattr(module, name, guarded)

    for name in ("replace", "rename", "unlink", "remove", "rmdir"):
        guard(os, name)
    guard(safetensors.torch, "serialize_file")
    monkeypatch.setattr("hffruits.core.files.WINDOWS", True)
    yield refused


def _touched(name: str, args: tuple, options: dict[str, Any]) -> list[Path]:
    """The paths that must not be in use."""
    if name == "serialize_file":
        return [Path(args[1])]
    count = 2 if name in ("replace", "rename") else 1
    folder = options.get("dir_fd")
    base = Path(f"/proc/self/fd/{folder}").readlink() if folder is not None else Path.cwd()
    return [base / os.fsdecode(path) for path in args[:count]]


def _held(path: Path) -> str | None:
    """Which file at or below a path this process has open or mapped."""
    below = f"{path}/"
    return next((held for held in _in_use() if held == str(path) or held.startswith(below)), None)


def _in_use() -> Iterator[str]:
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing's own
            target = descriptor.readlink()
            if not target.is_dir():  # shutil.rmtree holds folders, as it doesn't there
                yield str(target)
    for line in Path("/proc/self/maps").read_text().splitlines():
        parts = line.split(maxsplit=5)
        if len(parts) == 6:
            yield parts[5]
