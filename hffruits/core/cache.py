"""The cache folder, and folders in it made once: archives unpacked, bundled backbones."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hffruits.core.files import translate_write_errors


def cache_root(cache_dir: Path | None = None) -> Path:
    """`cache_dir`, else $HFFRUITS_CACHE, else ~/.cache/hffruits."""
    return Path(cache_dir or os.environ.get("HFFRUITS_CACHE") or "~/.cache/hffruits").expanduser()


def make_once(
    folder: Path,
    make: Callable[[Path], None],
    *,
    remedy: str = "Set HFFRUITS_CACHE to a folder that can.",
) -> Path:
    """Have `make` fill a new folder, unless it is there already; it appears whole or not at all.

    When several processes are at it, the first one's folder stays.
    """
    if _is_filled(folder):
        return folder
    with translate_write_errors(folder.parent, remedy):
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
        aside.chmod(0o755)  # mkdtemp makes them readable only by their owner
    try:
        make(aside)
        aside.rename(folder)
    except OSError:
        if not _is_filled(folder):  # else another process was first
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _is_filled(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())
