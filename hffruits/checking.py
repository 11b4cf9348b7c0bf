"""Every picture of a source looked at once: what can't be used is left out and told.

What is left comes with what the scan saw, and with the groups of near-duplicates.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset, concatenate_datasets

from hffruits.duplicates import known_groups
from hffruits.errors import InputError
from hffruits.images import MAX_PIXELS
from hffruits.inputs import RawRows
from hffruits.scan import Picture, reason_of, scan_pictures

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """Some pictures, one a row in all three."""

    rows: Dataset  # image (undecoded), label (text), path, maybe group
    records: np.ndarray  # (N,) of `scan_pictures`
    groups: np.ndarray  # (N,) numbers, equal for near-duplicates, also in other parts

    def take(self, indices: Sequence[int]) -> "Part":
        """These rows, in this order."""
        return Part(self.rows.select(indices), self.records[indices], self.groups[indices])


def join_parts(parts: Sequence[Part]) -> Part:
    """All rows of several parts."""
    return Part(
        concatenate_datasets([part.rows for part in parts]),
        np.concatenate([part.records for part in parts]),
        np.concatenate([part.groups for part in parts]),
    )


@dataclass(frozen=True)
class Skipped:
    """One picture that was left out, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Checked:
    """The usable pictures of a source by split, and those left out."""

    parts: dict[str, Part]
    skipped: list[Skipped]


def check_pictures(
    raw: RawRows,
    *,
    name: str,
    exclude: str | Path | None = None,
    max_bad_fraction: float = 1.0,
    max_pixels: int = MAX_PIXELS,
    num_workers: int | None = None,
) -> Checked:
    """Look at every picture once, and drop what is excluded, has no label or can't be read.

    `name` is under what the scan is kept. Raises `InputError` where more than `max_bad_fraction`
    are bad, and where a split has none left.
    """
    if max_pixels > 2 * MAX_PIXELS:
        raise InputError(
            f"max_pixels={max_pixels}: Pillow refuses more than {2 * MAX_PIXELS:,}. Shrink the "
            "pictures first."
        )
    splits = {split: _with_own_names(rows) for split, rows in raw.splits.items()}
    if exclude is not None:
        splits = _exclude(splits, Path(exclude))
    total = sum(map(len, splits.values()))
    records = scan_pictures(
        (picture for rows in splits.values() for picture in _pictures(rows)),
        total=total,
        max_pixels=max_pixels,
        kept_as=str(raw.root.resolve()) if raw.root else name,
        num_workers=num_workers,
    )
    skipped, good, start = [], {}, 0
    for split, rows in splits.items():
        own = records[start : start + len(rows)]
        reasons = [
            reason_of(record) or ("" if label else "no label")
            for record, label in zip(own, rows["label"], strict=True)
        ]
        good[split] = [i for i, reason in enumerate(reasons) if not reason]
        bad = [i for i, reason in enumerate(reasons) if reason]
        paths = rows.select(bad)["path"]
        skipped += [Skipped(Path(path), reasons[i]) for path, i in zip(paths, bad, strict=True)]
        if bad:
            splits[split] = rows.select(good[split])
        good[split] = [start + i for i in good[split]]
        start += len(rows)
    for picture in skipped:
        logger.warning("left out %s: %s", picture.path, picture.reason)
    _check_bad_files(splits, skipped, max_bad_fraction)
    usable = records[np.concatenate([np.array(own, int) for own in good.values()])]
    groups = np.split(known_groups(usable), np.cumsum([len(own) for own in good.values()])[:-1])
    parts = {
        split: Part(splits[split], records[own], numbers)
        for (split, own), numbers in zip(good.items(), groups, strict=True)
    }
    return Checked(parts, skipped)


def _with_own_names(rows: Dataset) -> Dataset:
    """Rows whose `path` nothing else has: what names a row in a list must mean that row."""
    paths = rows["path"][:]
    if len(set(paths)) == len(paths):
        return rows
    seen: Counter[str] = Counter()
    unique = []
    for path in paths:
        seen[path] += 1
        unique.append(path if seen[path] == 1 else f"{path}#{seen[path]}")
    return rows.remove_columns("path").add_column("path", unique)


def _exclude(splits: dict[str, Dataset], file: Path) -> dict[str, Dataset]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: can't be read ({error}). Give a list of paths.") from error
    names = {line.split("\t")[0] for line in lines if line and not line.startswith("#")}
    known = {path for rows in splits.values() for path in rows["path"]}
    if names and not names & known:
        raise InputError(
            f"{file}: none of its {len(names)} paths is in the data (first: {min(names)}). Use the "
            "data that the list was made for."
        )
    return {
        split: rows.select([i for i, path in enumerate(rows["path"]) if path not in names])
        for split, rows in splits.items()
    }


def _pictures(rows: Dataset) -> Iterator[Picture]:
    for batch in rows.select_columns(["image", "path"]).iter(256):
        for image, path in zip(batch["image"], batch["path"], strict=True):
            missing = image["bytes"] is None and image["path"]
            yield Picture(path, Path(image["path"]) if missing else image["bytes"] or b"")


def _check_bad_files(
    splits: dict[str, Dataset], skipped: list[Skipped], max_bad_fraction: float
) -> None:
    total = sum(map(len, splits.values())) + len(skipped)
    first = "; ".join(f"{bad.path}: {bad.reason}" for bad in skipped[:3])
    if len(skipped) > max_bad_fraction * total:
        raise InputError(
            f"{len(skipped)} of {total} images can't be read, over max_bad_fraction="
            f"{max_bad_fraction:g} ({first}). Mend or remove them, or raise max_bad_fraction."
        )
    for split, rows in splits.items():
        if not len(rows):
            raise InputError(f"{split}: none of its images can be read ({first}). Replace them.")
