"""Images that a user names: files, folders of them and patterns. Imports nothing heavy."""

import os
from collections.abc import Iterable
from glob import glob
from pathlib import Path

from hffruits.core.errors import InputError, short_reason
from hffruits.core.escaping import shorten
from hffruits.data.images import is_image_file, list_images
from hffruits.data.readers.archives import is_archive


def find_images(sources: Iterable[str | Path]) -> list[Path]:
    """The files among `sources`, and every image in the folders among them, each once.

    Raises `InputError` as `expand_sources` does, and for a folder without images.
    """
    paths = []
    for path in expand_sources(sources):
        found = list_images(path) if path.is_dir() else [path]
        if not found:
            raise InputError(f"{path}: no image files. Give a folder with .jpg, .png, ... files.")
        paths += found
    return list(by_place(paths).values())


def by_place(paths: Iterable[Path]) -> dict[Path, Path]:
    """Each file or folder once, as it is written first, by its absolute path without `..`."""
    places: dict[Path, Path] = {}
    for path in paths:
        places.setdefault(Path(os.path.abspath(path)), path)  # noqa: PTH100
    return places


def expand_sources(sources: Iterable[str | Path]) -> list[Path]:
    """The files and folders that are meant, also by patterns that no shell has expanded.

    Raises `InputError` for a URL, an archive, and what is not there.
    """
    paths = []
    for source in map(str, sources):
        name = shorten(source)
        if "://" in source:
            raise InputError(f"{name}: a URL. Download the photo first.")
        path = Path(source).expanduser()
        try:
            found = [path] if path.exists() else _matching(path)
        except OSError as error:  # a name that is too long, a folder that may not be read
            raise InputError(f"{name}: {short_reason(error)}. Check the path.") from error
        if not found:
            raise InputError(f"{name}: no such file or folder. Check the path.")
        if is_archive(path):
            raise InputError(f"{name}: an archive. Unpack it, and give the folder.")
        paths += found
    return paths


def _matching(pattern: Path) -> list[Path]:
    """The photos and folders that fit a pattern; the other files where it fits nothing else."""
    names = glob(str(pattern), recursive=True)  # noqa: PTH207, which refuses some patterns
    paths = sorted(map(Path, names))
    return [path for path in paths if path.is_dir() or is_image_file(path)] or paths
