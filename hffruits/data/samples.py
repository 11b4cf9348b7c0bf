"""The sample set: photos of 20 kinds of fruit and vegetables, the default data of a run.

They lie in the package, which is never written to, in class folders without splits. Enough to see
what each command does; too few for a model to be relied on. `benchmarks/make_samples.py` chose and
shrank them.
"""

import shutil
from pathlib import Path

from hffruits.core.errors import InputError
from hffruits.core.files import translate_write_errors
from hffruits.data.arguments import SAMPLE

FOLDER = Path(__file__).with_name("sample_photos")
README = "README.md"  # of the set, with its license and origin
LICENSE = "MIT"
CITATION = (
    "Klasson, Zhang and Kjellström, A Hierarchical Grocery Store Image Dataset with Visual and "
    "Semantic Labels, WACV 2019"
)
URL = "https://github.com/marcusklasson/GroceryStoreDataset"
ASIDE = ".hffruits-samples"  # the folder of a copy in the making


def origin_of(data: str) -> dict[str, str] | None:
    """Where the photos of `DataArguments.source_name` come from, if they are the sample photos.

    A copy of them, as `copy_samples` makes, is known by its README.md.
    """
    copied = Path(data).expanduser() / README
    is_copy = copied.is_file() and copied.read_bytes() == (FOLDER / README).read_bytes()
    if data != SAMPLE and not is_copy:
        return None
    return {"citation": CITATION, "license": LICENSE, "url": URL}


def samples_dir() -> Path:
    """The folder of the sample photos, with their LICENSE and README.md; to be read only."""
    return FOLDER


def sample_files() -> dict[str, list[Path]]:
    """Class -> its sample photos, both sorted."""
    files: dict[str, list[Path]] = {}
    for file in sorted(FOLDER.rglob("*.jpg")):
        files.setdefault(file.parent.name, []).append(file)
    return dict(sorted(files.items()))


def example_photos() -> dict[str, Path]:
    """Class -> one of its sample photos, the same each time."""
    return {label: files[0] for label, files in sample_files().items()}


def copy_samples(folder: Path) -> int:
    """Copy the sample set, its LICENSE and README.md into a folder; returns the number of photos.

    They appear there once all are copied. Raises `InputError` for a folder that holds something,
    or that can't be written.
    """
    folder = folder.expanduser()
    aside = folder / ASIDE  # in it, as the folder may be the current one, or a mount point
    with translate_write_errors(folder):
        if folder.is_dir() and any(path != aside for path in folder.iterdir()):
            raise InputError(f"{folder}: not empty. Name a new folder, or an empty one.")
        shutil.rmtree(aside, ignore_errors=True)  # of a copy that was killed
        try:
            for file in (path for path in FOLDER.rglob("*") if path.is_file()):
                copy = aside / file.relative_to(FOLDER)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)  # writable, wherever the package lies
            for entry in sorted(aside.iterdir()):
                entry.rename(folder / entry.name)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return sum(map(len, sample_files().values()))
