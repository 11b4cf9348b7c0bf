"""Photos of a model's classes: from below a folder that the user named, or from the sample set.

A stranger's model may name any folder and any file, so the lists of its splits count only for files
that lie below the user's folder after links are followed.
"""

from pathlib import Path

from hffruits.core.escaping import name_in_line
from hffruits.core.files import file_below
from hffruits.core.names import name_key
from hffruits.data.images import PHOTOS, kind_of
from hffruits.data.samples import example_photos
from hffruits.models.artifact import SPLITS

MAX_READ = 5_000_000  # characters of a card, a report or a list


def listed_photos(
    labels: list[str], artifact: Path | None, data_dir: Path | None, split: str
) -> dict[str, Path]:
    """A photo of each class, of those that the model's run had in a split, below `data_dir`."""
    if artifact is None or data_dir is None:
        return {}
    by_folder: dict[tuple[str, ...], Path] = {}  # first file of each folder
    for line in read_text_below(artifact, f"{SPLITS}/{split}.txt").split("\n"):
        path = Path(name_in_line(line))
        by_folder.setdefault(tuple(map(name_key, path.parts[:-1])), path)
    found = {}
    for label in labels:
        parts = tuple(map(name_key, label.split("/")))
        names = [path for folder, path in by_folder.items() if folder[-len(parts) :] == parts]
        path = file_below(data_dir, names[0]) if names else None
        if path and kind_of(path.name) in PHOTOS:
            found[label] = path
    return found


def sample_photos(labels: list[str], *, bundled: bool) -> dict[str, Path]:
    """The sample set's photo of each class, if it has all of them; of the bundled model, of some.

    Else none: photos of a few classes by others than the user would mislead.
    """
    own = {_plain(name): photo for name, photo in example_photos().items()}
    names = {label: _plain(label.rpartition("/")[-1]) for label in labels}
    found = {label: own[name] for label, name in names.items() if name in own}
    return found if bundled or len(found) == len(labels) else {}


def read_text_below(artifact: Path, name: str) -> str:
    """The text of a file of the model's, empty where it is missing or lies elsewhere."""
    file = file_below(artifact, name)
    if file is None:
        return ""
    with file.open(encoding="utf-8", errors="replace") as text:
        return text.read(MAX_READ)


def _plain(name: str) -> str:
    return name_key(name).replace("-", " ").replace("_", " ")
