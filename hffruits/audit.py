"""What is wrong with the data, as findings: each with its weight, what it does, and what mends it.

Works on what the scan and the backbone saw; opens no file. A check is a row in `CHECKS`.
"""

import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hffruits.checking import Part, Skipped
from hffruits.label_errors import Suspects

SMALL_SIDE = 96  # pixels: less is enlarged more than twice for a net of 224
FEW = 20  # training photos of a class
LARGE = 2_000_000  # pixels: decoding takes longer than training on them
SEVERITIES = ("high", "medium", "low", "info")


@dataclass(frozen=True)
class Audited:
    """What there is to judge. Rows are numbered over all splits."""

    part: Part  # of all splits
    splits: np.ndarray  # (N,) names
    labels: np.ndarray  # (N,) names
    skipped: list[Skipped]
    name: str  # of the data, as the user gave it
    suspects: Suspects | None = None  # of label errors; None where they weren't looked for
    classes: Sequence[str] = ()  # names of the classes that suspects.guesses mean
    outliers: np.ndarray | None = None  # (O,) rows

    def groups(self, rows: np.ndarray | None = None) -> list[np.ndarray]:
        """Near-duplicates: arrays of two rows or more."""
        members: dict[int, list[int]] = defaultdict(list)
        for row in range(len(self.labels)) if rows is None else rows:
            members[self.part.groups[row]].append(row)
        return [np.array(own) for own in members.values() if len(own) > 1]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing."""

    id: str
    severity: str  # of SEVERITIES
    title: str
    effect: str  # on the result, one sentence
    remedy: str  # one sentence
    command: str | None = None  # that mends it
    groups: list[list[int]] = field(default_factory=list)  # rows; one each for single photos
    notes: dict[int, str] = field(default_factory=dict)  # row -> what to say of it
    files: list[tuple[str, str]] = field(default_factory=list)  # path, reason: of no row


def audit(data: Audited) -> tuple[list[Finding], list[str]]:
    """The findings, the worst first, and in words the checks that found nothing."""
    findings, passed = [], []
    for check, nothing in CHECKS.items():
        finding = check(data)
        if finding:
            findings.append(finding)
        elif nothing:
            passed.append(nothing)
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)), passed


def find_unreadable(data: Audited) -> Finding | None:
    """Files that can't be used."""
    if not data.skipped:
        return None
    share = len(data.skipped) / (len(data.skipped) + len(data.labels))
    return Finding(
        "unreadable",
        "high" if share > 0.05 else "medium",
        f"{_count(len(data.skipped), 'file')} can't be used",
        "Training leaves them out, so their classes have fewer photos than it seems.",
        "Replace them, or have them left out for good.",
        _command("split", data, "--output_dir clean --repair list"),
        files=[(picture.path.as_posix(), picture.reason) for picture in data.skipped],
    )


def find_leaks(data: Audited) -> Finding | None:
    """Near-duplicates across splits."""
    crossing = [rows for rows in data.groups() if len(set(data.splits[rows])) > 1]
    if not crossing:
        return None
    held_out = sum(int((data.splits[rows] != "train").sum()) for rows in crossing)
    return Finding(
        "leaks",
        "high",
        f"{_count(held_out, 'photo')} held out for validation or test "
        f"{'has' if held_out == 1 else 'have'} a near-duplicate in another split",
        "The model is tested on what it was trained on, so its figures are too good.",
        "Leave out the copies in train, or split anew with near-duplicates on one side.",
        _command("split", data, "--output_dir clean --repair copy"),
        groups=[rows.tolist() for rows in crossing],
    )


def find_conflicts(data: Audited) -> Finding | None:
    """Near-duplicates across classes."""
    crossing = [rows for rows in data.groups() if len(set(data.labels[rows])) > 1]
    if not crossing:
        return None
    return Finding(
        "conflicts",
        "high",
        f"{_count(len(crossing), 'photo')} {'lies' if len(crossing) == 1 else 'lie'} in more than "
        "one class",
        "One of the labels is wrong; the model is taught both, and one counts as its mistake.",
        "Keep each photo where it belongs, or have all its copies left out.",
        _command("split", data, "--output_dir clean --repair copy"),
        groups=[rows.tolist() for rows in crossing],
    )


def find_label_errors(data: Audited) -> Finding | None:
    """Labels that a classifier and the neighbours both doubt."""
    if data.suspects is None or not len(data.suspects.indices):
        return None
    rows, guesses = data.suspects.indices.tolist(), data.suspects.guesses.tolist()
    share = len(rows) / len(data.labels)
    return Finding(
        "label_errors",
        "high" if share > 0.03 else "medium",
        f"{_count(len(rows), 'photo')} may have the wrong label",
        "Wrong labels teach mistakes, and in the test split they count against a model that is "
        "right.",
        "Look at each and move it, or train without them all; some are right and only unusual.",
        _command("train", data, "--exclude label_errors.txt"),
        groups=[[row] for row in rows],
        notes={
            row: f"looks like {data.classes[guess]}"
            for row, guess in zip(rows, guesses, strict=True)
        },
    )


def find_exact_copies(data: Audited) -> Finding | None:
    """The same bytes twice in one class and split."""
    same = defaultdict(list)
    keys = zip(data.part.records["digest"], data.splits, data.labels, strict=True)
    for row, key in enumerate(keys):
        same[key].append(row)
    groups = [rows for rows in same.values() if len(rows) > 1]
    if not groups:
        return None
    extra = sum(map(len, groups)) - len(groups)
    return Finding(
        "exact_duplicates",
        "medium" if extra > 0.05 * len(data.labels) else "low",
        f"{_count(extra, 'file')} {'is an exact copy' if extra == 1 else 'are exact copies'}",
        "Copies weigh more than other photos, and there are fewer different ones than it seems.",
        "Keep one of each.",
        _command("split", data, "--output_dir clean --repair copy"),
        groups=groups,
    )


def find_near_copies(data: Audited) -> Finding | None:
    """Near-duplicates within one class and split that are no exact copies."""
    groups = []
    for rows in data.groups():
        inside = len(set(data.splits[rows])) == 1 and len(set(data.labels[rows])) == 1
        if inside and len(set(data.part.records["digest"][rows])) > 1:
            groups.append(rows.tolist())
    if not groups:
        return None
    return Finding(
        "near_duplicates",
        "info",
        f"{_count(len(groups), 'group')} of near-duplicates within a class",
        "Harmless inside one split. Where a split is made, they stay on one side by default.",
        "Nothing to do.",
        groups=sorted(groups, key=len, reverse=True),
    )


def find_one_scene_classes(data: Audited) -> Finding | None:
    """Classes most of whose photos are near-duplicates of one another."""
    groups, notes = [], {}
    for label in sorted(set(data.labels)):
        rows = np.flatnonzero(data.labels == label)
        largest = max(data.groups(rows), key=len, default=np.zeros(0, int))
        if len(rows) >= 4 and len(largest) > len(rows) / 2:
            groups.append(largest.tolist())
            notes[int(largest[0])] = f"{len(largest)} of {label}'s {len(rows)} photos"
    if not groups:
        return None
    return Finding(
        "one_scene",
        "high",
        f"{_count(len(groups), 'class', 'classes')} with mostly one scene or object",
        "The model learns that scene, not the fruit, and no split can show it.",
        "Add photos of other objects in other places; where the files' names tell the objects, "
        "give the pattern as group_by.",
        None,
        groups=groups,
        notes=notes,
    )


def find_small_classes(data: Audited) -> Finding | None:
    """Classes with few photos to learn from."""
    few = {k: n for k, n in sorted(_train_counts(data).items(), key=lambda c: c[1]) if n < FEW}
    if not few:
        return None
    named = ", ".join(f"{label} ({count})" for label, count in list(few.items())[:8])
    return Finding(
        "small_classes",
        "medium",
        f"{_count(len(few), 'class', 'classes')} with fewer than {FEW} training photos",
        f"They are learned badly, and figures for them say little: {named}"
        f"{', ...' if len(few) > 8 else ''}.",
        "Add photos, or merge classes.",
    )


def find_imbalance(data: Audited) -> Finding | None:
    """A class with many times another's photos."""
    counts = _train_counts(data).most_common()
    (most, many), (least, few) = counts[0], counts[-1]
    if many < 5 * few:
        return None
    return Finding(
        "imbalance",
        "medium" if many >= 10 * few else "low",
        f"{most} has {many:,} training photos, {least} {few:,}",
        "The model leans towards large classes; accuracy hides how it does on small ones.",
        "Look at macro-F1, or weight the classes.",
        _command("train", data, "--class_weights effective"),
    )


def find_missing_classes(data: Audited) -> Finding | None:
    """Classes that a split held out lacks."""
    known = set(data.labels[data.splits == "train"])
    missing = {
        split: sorted(known - set(data.labels[data.splits == split]))
        for split in sorted(set(data.splits) - {"train"})
    }
    missing = {split: labels for split, labels in missing.items() if labels}
    if not missing:
        return None
    told = "; ".join(
        f"{split} lacks {', '.join(labels[:6])}{', ...' if len(labels) > 6 else ''}"
        for split, labels in missing.items()
    )
    return Finding(
        "missing_classes",
        "medium",
        f"{' and '.join(missing)}: not every class is there",
        f"Nothing measures these classes: {told}.",
        "Split anew, every class into every split.",
        _command("split", data, "--output_dir clean --resplit"),
    )


def find_small_photos(data: Audited) -> Finding | None:
    """Thumbnails."""
    side = np.minimum(data.part.records["width"], data.part.records["height"])
    rows = np.flatnonzero(side < SMALL_SIDE)
    return _singles(
        data,
        rows[np.argsort(side[rows], kind="stable")],
        "small_photos",
        "medium" if len(rows) > 0.05 * len(side) else "low",
        f"shorter than {SMALL_SIDE} pixels on one side",
        "They are enlarged for the model, which sees a blur where other photos have detail.",
        lambda row: f"{side[row]} pixels",
    )


def find_blurred_photos(data: Audited) -> Finding | None:
    """Hardly an edge in them."""
    sharpness = data.part.records["sharpness"]
    rows = np.flatnonzero(sharpness < 10)
    return _singles(
        data,
        rows[np.argsort(sharpness[rows], kind="stable")],
        "blurred",
        "low",
        "blurred, or nearly empty",
        "Fine if users will send such photos; else they teach little.",
        lambda row: f"sharpness {sharpness[row]:.0f}",
    )


def find_dark_and_bright_photos(data: Audited) -> Finding | None:
    """Too little or too much light to tell a fruit by its colour."""
    level, contrast = data.part.records["brightness"], data.part.records["contrast"]
    rows = np.flatnonzero((level < 25) | ((level > 235) & (contrast < 25)) | (contrast < 8))
    return _singles(
        data,
        rows,
        "light",
        "low",
        "very dark, very bright or almost without contrast",
        "Colour is lost, and with it what tells ripe from unripe.",
        lambda row: f"brightness {level[row]:.0f}, contrast {contrast[row]:.0f}",
    )


def find_odd_shapes(data: Audited) -> Finding | None:
    """Very long or very high pictures."""
    width = data.part.records["width"].astype(float)
    shape = np.maximum(width, data.part.records["height"]) / np.maximum(
        np.minimum(width, data.part.records["height"]), 1
    )
    rows = np.flatnonzero(shape > 3)
    return _singles(
        data,
        rows[np.argsort(-shape[rows], kind="stable")],
        "odd_shapes",
        "low",
        "more than three times as long as wide",
        "The model sees the middle square alone.",
        lambda row: f"{shape[row]:.1f} to 1",
    )


def find_outliers(data: Audited) -> Finding | None:
    """Photos unlike any other."""
    rows = np.zeros(0, int) if data.outliers is None else data.outliers
    return _singles(
        data,
        rows,
        "outliers",
        "low",
        "unlike any other",
        "Often no photo of fruit at all: a logo, a screenshot, a label.",
        lambda row: "",
    )


def find_large_photos(data: Audited) -> Finding | None:
    """Photos that take longer to decode than to learn from."""
    pixels = data.part.records["width"].astype(np.int64) * data.part.records["height"]
    if np.median(pixels) < LARGE:
        return None
    return Finding(
        "large_photos",
        "info",
        f"Half of the photos have {np.median(pixels) / 1e6:.0f} megapixels or more",
        "Each epoch decodes them anew, which takes longer than training.",
        "Have them decoded and shrunk once.",
        _command("train", data, "--cache resized"),
    )


# check -> what to say where it finds nothing
CHECKS: dict[Callable[[Audited], Finding | None], str] = {
    find_leaks: "No near-duplicates across splits",
    find_conflicts: "No photo in two classes",
    find_unreadable: "Every file can be read",
    find_one_scene_classes: "No class shows one scene alone",
    find_label_errors: "",
    find_missing_classes: "",
    find_small_classes: f"{FEW} training photos or more in every class",
    find_imbalance: "Classes of similar size",
    find_exact_copies: "No exact copies within a class",
    find_small_photos: "No thumbnails",
    find_outliers: "",
    find_blurred_photos: "No blurred photos",
    find_dark_and_bright_photos: "No photos without light or contrast",
    find_odd_shapes: "No odd shapes",
    find_large_photos: "",
    find_near_copies: "",
}


def _singles(
    data: Audited,
    rows: np.ndarray,
    id: str,
    severity: str,
    what: str,
    effect: str,
    note: Callable[[int], str],
) -> Finding | None:
    """A finding about photos one by one; None without any."""
    if not len(rows):
        return None
    return Finding(
        id,
        severity,
        f"{_count(len(rows), 'photo')} {what}",
        effect,
        "Look at them, and list in a file those to leave out.",
        _command("train", data, "--exclude list.txt"),
        groups=[[int(row)] for row in rows],
        notes={int(row): note(row) for row in rows},
    )


def _train_counts(data: Audited) -> Counter[str]:
    return Counter(data.labels[data.splits == "train"].tolist())


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _command(command: str, data: Audited, rest: str) -> str:
    return f"hffruits {command} {shlex.quote(data.name)} {rest}"


def as_record(finding: Finding, paths: Sequence[str]) -> dict[str, Any]:
    """A finding for `explore.json`: files as lists of paths, groups as one list each."""
    single = all(len(group) == 1 for group in finding.groups)
    record: dict[str, Any] = {
        "id": finding.id,
        "severity": finding.severity,
        "title": finding.title,
        "effect": finding.effect,
        "remedy": finding.remedy,
        "command": finding.command,
    }
    if single:
        record["files"] = [path for path, _ in finding.files]
        record["files"] += [paths[row] for (row,) in finding.groups]
    else:
        record["groups"] = [[paths[row] for row in group] for group in finding.groups]
    notes = dict(finding.files) | {paths[row]: note for row, note in finding.notes.items() if note}
    return record | ({"notes": notes} if notes else {})
