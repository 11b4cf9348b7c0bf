"""Scanning a stream in one pass: the records of all images, and the pixels of a few."""

import io
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from hffruits.core.errors import InputError
from hffruits.core.escaping import shorten
from hffruits.data.images import MAX_PIXELS, VIDEO, open_small
from hffruits.data.near_duplicates import find_groups
from hffruits.data.readers.column_mapping import ROW
from hffruits.data.scan import NamedImage, reason_of, scan_images
from hffruits.data.sources import RawRows
from hffruits.data.validation import Checked, Part, Skipped, lost_classes

KEPT_SIZE = 256  # pixels of a kept image's shorter side


def check_stream(
    raw: RawRows, *, keep: int, max_pixels: int = MAX_PIXELS, seed: int = 42
) -> Checked:
    """As `check_images`, of rows that come once: `keep` images stay, drawn evenly, shrunk.

    The rows of the others have no bytes. About 1.5 kB an image are kept, and 15 kB of the drawn.
    """
    names: list[str] = []
    labels: list[tuple[str, str | None]] = []  # with their splits
    kept = _Drawn(keep, max_pixels, seed)

    def images() -> Iterator[NamedImage]:
        for split, stream in raw.splits.items():
            for row in stream:
                image = row["image"]
                source = image["bytes"] or Path(image["path"] or "")
                names.append(row["path"])
                labels.append((split, row["label"]))
                kept.offer(source)
                yield NamedImage(row["path"], source)

    records = scan_images(images(), max_pixels=max_pixels)
    reasons = [
        reason_of(record) or ("" if label else "no label")
        for record, (_, label) in zip(records, labels, strict=True)
    ]
    skipped = [
        Skipped(Path(n), why, photo=why != VIDEO)
        for n, why in zip(names, reasons, strict=True)
        if why
    ]
    good = np.array([place for place, why in enumerate(reasons) if not why], dtype=int)
    if not len(good):
        first = f"{skipped[0].path}: {skipped[0].reason}" if skipped else "no rows"
        raise InputError(
            f"no photo of the stream can be used ({shorten(first)}). Check its columns."
        )
    counts = {split: Counter() for split in raw.splits}
    for split, label in labels:
        counts[split].update([label] if label else [])
    unified = raw.name_classes(counts)
    groups = find_groups(records[good])
    parts = {}
    for split in raw.splits:
        rows = [i for i, place in enumerate(good.tolist()) if labels[place][0] == split]
        places = good[rows]
        columns: dict[str, Any] = {
            "image": [
                {"path": None, "bytes": kept.drawn.get(place, b"")} for place in places.tolist()
            ],
            "label": [unified[labels[place][1]] for place in places],
            "path": [names[place] for place in places],
        }
        if rows:
            table = Dataset.from_dict(columns, features=ROW)
            parts[split] = Part(table, records[places], groups[rows])
    lost = lost_classes([unified.get(label) for _, label in labels], reasons)
    return Checked(parts, skipped, lost)


class _Drawn:
    """Some of the images that go by, each with the same chance (algorithm R, Vitter, 1985)."""

    def __init__(self, count: int, max_pixels: int, seed: int):
        self.count, self.seen, self.random = count, 0, random.Random(seed)
        self.max_pixels = max_pixels
        self.drawn: dict[int, bytes] = {}  # place in the stream -> JPEG
        self.places: list[int] = []

    def offer(self, source: Path | bytes) -> None:
        place, self.seen = self.seen, self.seen + 1
        if len(self.places) < self.count:
            self.places.append(place)
        elif (slot := self.random.randrange(self.seen)) < self.count:
            del self.drawn[self.places[slot]]
            self.places[slot] = place
        else:
            return
        self.drawn[place] = _shrink(source, self.max_pixels)


def _shrink(source: Path | bytes, max_pixels: int) -> bytes:
    try:
        image, *_ = open_small(source, KEPT_SIZE, max_pixels=max_pixels)
    except OSError:
        return b""
    scale = min(1.0, KEPT_SIZE / min(image.size))
    image = image.resize([max(1, round(scale * side)) for side in image.size], reducing_gap=2.0)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()
