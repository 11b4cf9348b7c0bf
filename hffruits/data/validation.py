"""Which rows are used: those that `exclude` leaves, with a label, and readable; the rest is listed.

They come with the measurements of `scan`, and with their groups of near-duplicates.
"""

import logging
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np
from datasets import Dataset, concatenate_datasets

from hffruits.core.counts import counted
from hffruits.core.errors import FewWarnings, InputError
from hffruits.core.escaping import name_in_line, shorten
from hffruits.core.names import list_names, path_key
from hffruits.data.arguments import DataArguments
from hffruits.data.images import (
    RAW,
    TRUNCATED_REMEDY,
    VIDEO,
    complete_jpeg,
    is_over_limit,
    is_truncated,
)
from hffruits.data.near_duplicates import find_groups
from hffruits.data.scan import NamedImage, reason_of, scan_images
from hffruits.data.sources import RawRows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """Some images, one a row in all three."""

    rows: Dataset  # image (undecoded), label (text), path, maybe group
    records: np.ndarray  # (N,) of `scan_images`
    groups: np.ndarray  # (N,) numbers, equal for near-duplicates, also in other parts

    @property
    def digests(self) -> list[str]:
        """Of the images' bytes, (N,), hexadecimal; "" of those that can't be read."""
        return self.records["digest"].astype(str).tolist()

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
    """One file that was left out, and why."""

    path: Path
    reason: str
    photo: bool = True  # False for videos and raws beside photos: they count for nothing


@dataclass(frozen=True)
class Checked:
    """The usable images of a source by split, and those left out."""

    parts: dict[str, Part]
    skipped: list[Skipped]
    lost: dict[str, str] = field(default_factory=dict)  # class without any photo -> why
    conflicts: dict[str, list[str]] = field(default_factory=dict)  # file -> its several labels
    truncated: list[str] = field(default_factory=list)  # images that lack their end, but are used

    def check_classes(self) -> None:
        """Raise `InputError` where a class would be gone."""
        if self.lost:
            listed = "; ".join(f"{label}: {why}" for label, why in list(self.lost.items())[:5])
            raise InputError(
                f"{counted(len(self.lost), 'class', 'classes')} without any photo that can be "
                f"used: {listed}. Add photos, or remove what names the class."
            )

    def check_labels(self) -> None:
        """Raise `InputError` where rows give one file several labels."""
        if self.conflicts:
            named = self.conflicts.items()
            listed = list_names(f"{path} as {' and '.join(own)}" for path, own in named)
            raise InputError(
                f"{counted(len(named), 'file')} with more than one label ({listed}). A photo needs "
                "one: correct the table, or leave them out by `hffruits split --repair list` and "
                "exclude=THAT_FILE."
            )


def check_images(raw: RawRows, data: DataArguments, *, num_workers: int | None = None) -> Checked:
    """Read every image once, and drop what is excluded, has no label or can't be read.

    Raises `InputError` where more than `max_unreadable_fraction` can't, and where a split has none
    left.
    """
    splits = _prepare(raw, data.exclude)
    splits, records, truncated = _scan(raw, splits, data, num_workers=num_workers)
    skipped: list[Skipped] = []
    all_reasons: list[str] = []
    usable: dict[str, tuple[Dataset, np.ndarray]] = {}
    ends = np.cumsum([len(rows) for rows in splits.values()])
    for (split, rows), own in zip(splits.items(), np.split(records, ends[:-1]), strict=True):
        reasons = [
            reason_of(record) or ("" if label else "no label")
            for record, label in zip(own, rows["label"][:], strict=True)
        ]
        all_reasons += reasons
        bad = [(path, why) for path, why in zip(rows["path"][:], reasons, strict=True) if why]
        skipped += [Skipped(Path(path), why, photo=why != VIDEO) for path, why in bad]
        good = [i for i, why in enumerate(reasons) if not why]
        usable[split] = (rows.select(good) if bad else rows, own[good])
    skipped = _without_raw_pairs(skipped, [rows for rows, _ in usable.values()])
    warn_of_skipped(skipped)
    counts = {split: len(own) for split, (_, own) in usable.items()}
    _check_unreadable(counts, skipped, data.max_unreadable_fraction)
    groups = find_groups(np.concatenate([own for _, own in usable.values()]))
    parts, start = {}, 0
    for split, (rows, own) in usable.items():
        parts[split] = Part(rows, own, groups[start : start + len(own)])
        start += len(own)
    labels = chain.from_iterable(rows["label"][:] for rows in splits.values())
    lost = raw.empty | lost_classes(labels, all_reasons)
    conflicts = _find_conflicts(usable.values())
    return Checked(parts, skipped + _list_videos(raw), lost, conflicts, truncated)


def warn_of_skipped(skipped: Sequence[Skipped]) -> None:
    """A line for each file that is left out; of many, one for each reason, with examples."""
    if len(skipped) <= FewWarnings.MOST:
        for bad in skipped:
            logger.warning("left out %s: %s", shorten(bad.path), bad.reason)
        return
    paths: dict[str, list[Path]] = defaultdict(list)
    for bad in skipped:
        paths[bad.reason].append(bad.path)
    by_count = sorted(paths.items(), key=lambda pair: -len(pair[1]))
    for reason, own in by_count[: FewWarnings.MOST - 1]:
        logger.warning("left out %s: %s (%s)", counted(len(own), "image"), reason, list_names(own))
    if rest := by_count[FewWarnings.MOST - 1 :]:
        count = sum(len(own) for _, own in rest)
        logger.warning(
            "left out %s for %s", counted(count, "image"), counted(len(rest), "other reason")
        )


def _find_conflicts(usable: Iterable[tuple[Dataset, np.ndarray]]) -> dict[str, list[str]]:
    """Files that rows name under several labels -> those; warns of files named again with one.

    Whatever the paths are spelled like; rows that hold their image are of one file where they have
    the same name and bytes.
    """
    labels: dict[tuple[str, bytes], list[str]] = defaultdict(list)
    names: dict[tuple[str, bytes], str] = {}
    of_bytes: dict[bytes, dict[str, str]] = defaultdict(dict)  # digest -> label -> path
    for own, records in usable:
        texts = own["path"][:], own["label"][:]
        rows = zip(*texts, files_of(own), records["digest"], strict=True)
        for path, label, file, digest in rows:
            name = _NUMBER.sub("", path)
            key = (_real(file), b"") if file else (name, digest)
            names.setdefault(key, name)
            labels[key].append(label)
            of_bytes[digest].setdefault(label, name)
    repeated = {key: len(own) - len(set(own)) for key, own in labels.items()}
    if count := sum(repeated.values()):
        logger.warning(
            "%s a file again, with the same label (such as %s), so it counts more than "
            "once. `hffruits split --repair list` lists them for exclude=FILE",
            *(
                counted(count, "row names", "rows name"),
                shorten(names[max(repeated, key=repeated.get)]),
            ),
        )
    conflicts = {names[key]: sorted(set(own)) for key, own in labels.items() if len(set(own)) > 1}
    several = [own for own in of_bytes.values() if len(own) > 1]
    if several and not conflicts:
        listed = list_names(" and ".join(own.values()) for own in several)
        logger.warning(
            "%s in several classes, the same byte for byte (%s): one class is wrong. "
            "`hffruits explore` shows them, `hffruits split --repair` fixes them",
            *(counted(len(several), "photo"), listed),
        )
    return conflicts


def files_of(rows: Dataset) -> list[str | None]:
    """The file that each row's image lies in; None of those that the row holds."""
    chunks = rows.data.column("image").chunks
    if not any(chunk.field("bytes").null_count for chunk in chunks):
        return [None] * len(rows)
    batches = rows.select_columns("image").iter(1000)
    images = chain.from_iterable(batch["image"] for batch in batches)
    return [image["path"] if image["bytes"] is None else None for image in images]


def _real(file: str) -> str:
    """A file's path as it is however it was written: without `..` and links."""
    if Path(file).is_symlink():
        return os.path.realpath(file)
    folder, name = os.path.split(file)
    return f"{_real_folder(folder)}/{name}"


@lru_cache(2**12)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


_NUMBER = re.compile(r"#\d+$")  # as `_with_own_names` tells rows of one file apart


def _scan(
    raw: RawRows, splits: dict[str, Dataset], data: DataArguments, *, num_workers: int | None = None
) -> tuple[dict[str, Dataset], np.ndarray, list[str]]:
    """The rows, the records of all splits, and the paths of truncated images, now completed."""
    max_pixels = data.max_image_pixels
    records = scan_images(
        (named for rows in splits.values() for named in _named_images(rows)),
        total=sum(map(len, splits.values())),
        max_pixels=max_pixels,
        cache_name=_cache_name(raw, data),
        num_workers=num_workers,
    )
    if not data.allow_truncated_images:
        return splits, records, []
    return _complete(splits, records, max_pixels)


def _complete(
    splits: dict[str, Dataset], records: np.ndarray, max_pixels: int
) -> tuple[dict[str, Dataset], np.ndarray, list[str]]:
    """Truncated JPEGs replaced by bytes that every reader takes, and their paths."""
    completed, truncated, start = {}, [], 0
    for split, rows in splits.items():
        own = records[start : start + len(rows)]
        places = [i for i, record in enumerate(own) if is_truncated(reason_of(record))]
        contents = {place: _completed(rows[place]["image"], max_pixels) for place in places}
        contents = {place: content for place, content in contents.items() if content}
        completed[split], start = rows, start + len(rows)
        if contents:
            paths = [rows[place]["path"] for place in contents]
            images = map(NamedImage, paths, contents.values())
            own[list(contents)] = scan_images(images, total=len(paths), max_pixels=max_pixels)
            completed[split] = _with_images(rows, contents)
            truncated += paths
    if truncated:
        logger.warning(
            "%s truncated, and used as far as possible: %s",
            *(counted(len(truncated), "photo is", "photos are"), list_names(truncated)),
        )
    return completed, records, truncated


def _completed(image: dict, max_pixels: int) -> bytes | None:
    try:
        return complete_jpeg(image["bytes"] or image["path"], max_pixels=max_pixels)
    except OSError:  # too much of it is missing, or it is no JPEG
        return None


def _with_images(rows: Dataset, contents: dict[int, bytes]) -> Dataset:
    """The same rows, those at some places with other bytes."""
    order = np.arange(len(rows))
    order[list(contents)] = len(rows) + np.arange(len(contents))
    images = [{"bytes": content, "path": None} for content in contents.values()]
    changed = rows.select(list(contents)).to_dict() | {"image": images}
    return concatenate_datasets([rows, Dataset.from_dict(changed, rows.features)]).select(order)


def _without_raw_pairs(skipped: list[Skipped], usable: list[Dataset]) -> list[Skipped]:
    """The same, where camera raws beside a photo of their name count for nothing."""
    if all(bad.reason != RAW for bad in skipped):
        return skipped
    paths = chain.from_iterable(rows["path"][:] for rows in usable)
    read = {Path(path).with_suffix("") for path in paths}
    return [
        replace(bad, photo=False) if bad.reason == RAW and bad.path.with_suffix("") in read else bad
        for bad in skipped
    ]


def lost_classes(labels: Iterable[str | None], reasons: Iterable[str]) -> dict[str, str]:
    """Classes of which no photo can be used -> why; `reasons` has "" for those that can."""
    good: set[str | None] = set()
    bad: dict[str | None, list[str]] = defaultdict(list)
    for label, why in zip(labels, reasons, strict=True):
        if why:
            bad[label].append(why)
        else:
            good.add(label)
    return {
        label: f"its {counted(len(own), 'photo')} can't be read ({own[0]})"
        for label, own in bad.items()
        if label and label not in good
    }


def _list_videos(raw: RawRows) -> list[Skipped]:
    if raw.videos:
        logger.warning("left out %s, such as %s", counted(len(raw.videos), "video"), raw.videos[0])
    return [Skipped(Path(path), VIDEO, photo=False) for path in raw.videos]


def labelled_rows(raw: RawRows, data: DataArguments) -> dict[str, Part]:
    """The rows with a label: for what reads each image itself; here only truncated ones are.

    Every row is a group of its own, and its record is empty.
    """
    splits = _prepare(raw, data.exclude)
    if data.allow_truncated_images:
        splits, *_ = _scan(raw, splits, data)
    warnings = FewWarnings(logger)
    for folder, what in raw.empty.items():
        warnings.warn("%s: holds %s, so it is no class", folder, what)
    parts = {}
    for split, rows in splits.items():
        labelled = [i for i, label in enumerate(rows["label"][:]) if label]
        if len(labelled) < len(rows):
            logger.warning(
                "%s: %s without a label", split, counted(len(rows) - len(labelled), "row")
            )
            rows = rows.select(labelled)
        parts[split] = Part(rows, np.zeros(len(rows)), np.arange(len(rows)))
    return parts


def find_duplicates(part: Part, raw: RawRows, data: DataArguments) -> Part:
    """Some rows of `labelled_rows` with their near-duplicates, for which each image is read once.

    Where training or `hffruits explore` read it before, its record is cached.
    """
    records = scan_images(
        _named_images(part.rows),
        total=len(part.rows),
        max_pixels=data.max_image_pixels,
        cache_name=_cache_name(raw, data),
        whole=False,
    )
    return Part(part.rows, records, find_groups(records))


def _cache_name(raw: RawRows, data: DataArguments) -> str:
    place = raw.root or Path(data.source_name)
    return str(place.resolve()) if place.exists() else data.source_name


def _prepare(raw: RawRows, exclude: str | None) -> dict[str, Dataset]:
    """The rows by split that are meant, each class and each row with one name."""
    splits = _with_own_names(_with_one_name_a_class(raw))
    return splits if exclude is None else _exclude(splits, Path(exclude))


def _with_one_name_a_class(raw: RawRows) -> dict[str, Dataset]:
    labels = {split: rows["label"][:] for split, rows in raw.splits.items()}
    counts = {split: Counter(filter(None, own)) for split, own in labels.items()}
    unified = raw.name_classes(counts)
    if all(name == label for label, name in unified.items()):
        return raw.splits
    return {
        split: _with_column(rows, "label", [unified.get(label) for label in labels[split]])
        for split, rows in raw.splits.items()
    }


def _with_column(rows: Dataset, name: str, values: list[str | None]) -> Dataset:
    """The rows with other values in a column, in the same order of columns."""
    others = rows.remove_columns(name).add_column(name, values, feature=rows.features[name])
    return others.select_columns(rows.column_names)


def _with_own_names(splits: dict[str, Dataset]) -> dict[str, Dataset]:
    """Rows whose `path` no other one has: what names a row in a list must mean that row."""
    seen: Counter[str] = Counter()
    taken: set[str] = set()
    named = {}
    for split, rows in splits.items():
        paths = rows["path"][:]
        names = []
        for path in paths:
            name = path = PurePosixPath(path).as_posix()
            while name in taken:
                seen[path] += 1
                name = f"{path}#{seen[path] + 1}"
            taken.add(name)
            names.append(name)
        named[split] = _with_column(rows, "path", names) if names != paths else rows
    return named


def _exclude(splits: dict[str, Dataset], file: Path) -> dict[str, Dataset]:
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: can't be read ({error}). Give a list of paths.") from error
    known = {path for rows in splits.values() for path in rows["path"][:]}
    named = {name_in_line(line.split("\t")[0]) for line in lines if line}
    named = {name for name in named if name in known or not name.startswith("#")}  # no comments
    loose = {path_key(name) for name in named - known}  # lists of another Unicode form
    left = {
        split: rows.select(
            [
                index
                for index, path in enumerate(rows["path"][:])
                if path not in named and path_key(path) not in loose
            ]
        )
        for split, rows in splits.items()
    }
    gone = sum(map(len, splits.values())) - sum(map(len, left.values()))
    logger.info("%s: %s excluded", file, counted(gone, "photo"))
    if named and not gone:
        raise InputError(
            f"{file}: none of its {counted(len(named), 'path')} is in the data (first: "
            f"{min(named)}). Use the data that the list was made for."
        )
    for split, rows in left.items():
        if not len(rows):
            raise InputError(f"{file}: leaves nothing of {split}. Shorten the list.")
    if lost := sorted(_labels_of(splits) - _labels_of(left)):
        logger.warning("%s: leaves no photo of %s", file, ", ".join(lost))
    return left


def _labels_of(splits: dict[str, Dataset]) -> set[str]:
    return {label for rows in splits.values() for label in rows["label"][:] if label}


def _named_images(rows: Dataset) -> Iterator[NamedImage]:
    for batch in rows.select_columns(["image", "path"]).iter(64):
        for image, path in zip(batch["image"], batch["path"], strict=True):
            missing = image["bytes"] is None and image["path"]
            yield NamedImage(path, Path(image["path"]) if missing else image["bytes"] or b"")


def _check_unreadable(usable: dict[str, int], skipped: list[Skipped], most: float) -> None:
    skipped = [bad for bad in skipped if bad.photo]
    total = sum(usable.values()) + len(skipped)
    first = "; ".join(f"{shorten(bad.path)}: {bad.reason}" for bad in skipped[:3])
    reasons = Counter(bad.reason for bad in skipped)
    usual, most_alike = reasons.most_common(1)[0] if reasons else ("", 0)
    if most_alike * 2 > total:  # one cause, not many faults
        first = f"{usual}: {list_names(bad.path for bad in skipped if bad.reason == usual)}"
    too_large = sum(is_over_limit(bad.reason) for bad in skipped)
    other = "Raise max_image_pixels" if too_large * 2 > len(skipped) else "Fix or remove them"
    remedy = _REMEDIES.get(usual, other)
    truncated = any(is_truncated(bad.reason) for bad in skipped)
    hint = f" {TRUNCATED_REMEDY}" if truncated else ""
    if skipped and len(skipped) == total:
        images = counted(total, "image")
        raise InputError(f"none of the {images} can be read ({first}). {remedy}.{hint}")
    if len(skipped) > most * total:
        raise InputError(
            f"{len(skipped)} of {counted(total, 'image')} can't be read, over "
            f"max_unreadable_fraction={most:g} ({first}). {remedy}, or raise "
            f"max_unreadable_fraction.{hint}"
        )
    for split, count in usable.items():
        if not count:
            raise InputError(f"{split}: none of its images can be read ({first}). Replace them.")


_REMEDIES = {
    "No such file or directory": "Check the paths and the folder that they start from",
    "no label": "Check the column with the labels",
}
