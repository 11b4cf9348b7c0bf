"""Example photos of a model: a few that it was not trained on, small, beside the model.

The demo shows them, and `hffruits push` publishes them with the report. A run chooses classes and
photos without regard to what the model predicts for them. Those that `teach` adds are the
exception: of a class that was taught, a photo is kept that it was taught from.
"""

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from PIL import Image

from hffruits.core.escaping import is_unicode
from hffruits.core.files import file_below, write_aside, write_json
from hffruits.data.images import MAX_PIXELS, open_small
from hffruits.models.artifact import EXAMPLE_LABELS, EXAMPLES

if TYPE_CHECKING:  # it imports datasets, which prediction needn't
    from hffruits.data.split_protocol import Split

COUNT = 10  # classes, of each one photo
TRIED = 3  # photos of a class, of which the first that can be read is taken
SHORT_SIDE = 320  # pixels
MAX_PHOTOS = 40  # of a folder, whoever filled it
MAX_LABELS = 100_000  # bytes of the list of their classes
MAX_LABEL = 300  # characters of a class
MAX_BYTES = 2_000_000  # of a photo
MAX_SHOWN_PIXELS = 25_000_000  # of one that is shown or published; ours are far smaller
PHOTO_NAMES = [f"{number}.jpg" for number in range(1, MAX_PHOTOS + 1)]
Value = TypeVar("Value")


class Example(NamedTuple):
    """A photo, as a file or as the bytes of a JPEG, and its true class."""

    label: str
    photo: Path | bytes


def choose_examples(split: "Split", *, max_pixels: int = MAX_PIXELS) -> list[Example]:
    """Up to `COUNT` photos of different classes, spread over all classes; the same ones each time.

    Of a stream, among the first photos of its shards. Classes of which none can be read are left
    out.
    """
    present = [label for label, count in enumerate(split.label_counts) if count]
    missing, found = set(spread(present, COUNT)), {}
    for sample in split.some_of_each_class(TRIED) if missing else ():
        if sample.label not in missing:
            continue
        with suppress(OSError):
            content = small_jpeg(sample.source, max_pixels=max_pixels)
            found[sample.label] = Example(split.names[sample.label], content)
            missing.remove(sample.label)
        if not missing:  # the rest of a stream isn't read
            break
    return [found[label] for label in sorted(found)]


def small_jpeg(source: Path | bytes | Image.Image, *, max_pixels: int = MAX_PIXELS) -> bytes:
    """A photo as a JPEG whose shorter side has at most `SHORT_SIDE` pixels, without metadata.

    Raises `OSError` for what can't be read.
    """
    if isinstance(source, Image.Image):
        image = source.convert("RGB")
    else:
        image, _, _ = open_small(source, SHORT_SIDE, max_pixels=max_pixels)
    scale = min(1.0, SHORT_SIDE / min(image.size))
    image = image.resize([max(1, round(side * scale)) for side in image.size])
    image.info.clear()  # comments and profiles, which Pillow would write
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85, optimize=True)
    return buffer.getvalue()


def save_examples(examples: Sequence[Example], model: Path) -> None:
    """Write them to the model's folder, in place of those there: the last `MAX_PHOTOS` of them.

    The list of classes comes last.
    """
    examples = examples[-MAX_PHOTOS:]
    photos = [one.photo for one in examples]
    contents = [photo if isinstance(photo, bytes) else photo.read_bytes() for photo in photos]
    remove_examples(model)
    labels = {}
    for number, content in enumerate(contents, 1):
        name = f"{number}.jpg"
        with write_aside(model / EXAMPLES / name) as aside:
            aside.write_bytes(content)
        labels[name] = examples[number - 1].label
    if labels:
        write_json(model / EXAMPLES / EXAMPLE_LABELS, labels)


def remove_examples(model: Path) -> None:
    """Delete a model's examples, and nothing else that may lie in their folder, or where it links.

    The list of classes goes first: what is left, should this be interrupted, is not shown.
    """
    folder = model / EXAMPLES
    if folder.is_symlink():
        folder.unlink()
        return
    for name in (EXAMPLE_LABELS, *PHOTO_NAMES):
        (folder / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def load_examples(model: Path | None) -> list[Example]:
    """The examples in a model's folder, which a stranger may have filled.

    Only files named `1.jpg`, `2.jpg`, ... that lie there, at most `MAX_PHOTOS`; none where
    there is no list of their classes.
    """
    labels = _read_labels(model) if model else {}
    return [
        Example(label, photo)
        for name, label in labels.items()
        if (photo := file_below(model, f"{EXAMPLES}/{name}")) and photo.stat().st_size < MAX_BYTES
    ]


def _read_labels(model: Path) -> dict[str, str]:
    file = file_below(model, f"{EXAMPLES}/{EXAMPLE_LABELS}")
    if file is None or file.stat().st_size > MAX_LABELS:
        return {}
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    record = record if isinstance(record, dict) else {}
    record = {name: label for name, label in record.items() if _is_label(label)}
    return {name: record[name] for name in PHOTO_NAMES if name in record}


def _is_label(value: Any) -> bool:
    """Whether a page can show it: no lone surrogates, and not a whole text."""
    return isinstance(value, str) and len(value) <= MAX_LABEL and is_unicode(value)


def spread(values: Sequence[Value], count: int) -> Iterator[Value]:
    """Up to `count` of the values, at equal distances."""
    most = min(count, len(values))
    return (values[number * len(values) // most] for number in range(most))
