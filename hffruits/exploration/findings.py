"""The checks of a dataset and their findings: each with its severity, effect and remedy.

Works on what the scan and the features give; opens no file. A check is a row of `CHECKS`.
"""

import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hffruits.core.counts import counted
from hffruits.core.html import SEVERITIES
from hffruits.data.validation import Part, Skipped
from hffruits.exploration.label_errors import LabelErrors

SMALL_SIDE = 96  # pixels: less is enlarged more than twice for a net of 224
FEW = 20  # training photos of a class
LARGE = 2_000_000  # pixels: decoding takes longer than training on them
# findings whose photos are a list for `--exclude`
LISTED = ("label_errors", "outliers", "small_photos", "blurred", "light", "odd_shapes")


@dataclass(frozen=True)
class ScannedData:
    """What checks work on. Rows are numbered over all splits."""

    part: Part  # of all splits
    splits: np.ndarray  # (N,) names
    labels: np.ndarray  # (N,) names
    skipped: list[Skipped]
    source: str  # the data as words of a command line, without --streaming
    streaming: bool = False
    lists: Path = Path()  # the folder of the lists for `--exclude`
    embedded: int = 0  # rows whose features were computed
    label_errors: LabelErrors | None = None  # None without features
    classes: Sequence[str] = ()  # names of the classes that label_errors.predicted mean
    outliers: np.ndarray | None = None  # (O,) rows
    lost: dict[str, str] = field(default_factory=dict)  # class without any photo -> why

    @cached_property
    def groups(self) -> list[np.ndarray]:
        """Near-duplicates: arrays of two rows or more."""
        order = np.argsort(self.part.groups, kind="stable")
        _, starts = np.unique(self.part.groups[order], return_index=True)
        return [rows for rows in np.split(order, starts[1:]) if len(rows) > 1]

    @property
    def unreadable(self) -> list[Skipped]:
        """The photos that were left out, without the videos next to them."""
        return [skipped for skipped in self.skipped if skipped.photo]

    @property
    def of_embedded(self) -> str:
        """What to add to a count of photos where features were computed of only some."""
        return f" (of {self.embedded:,} checked)" if self.embedded < len(self.labels) else ""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing."""

    id: str
    severity: str  # of SEVERITIES
    title: str
    effect: str  # on the result, one sentence
    remedy: str  # one sentence
    command: str | None = None  # that fixes it
    groups: list[list[int]] = field(default_factory=list)  # rows; one each for single photos
    notes: dict[int, str] = field(default_factory=dict)  # row -> what to say of it
    files: list[tuple[str, str]] = field(default_factory=list)  # path, reason: of no row
    classes: list[str] = field(default_factory=list)  # that it is about

    @property
    def texts(self) -> dict[str, Any]:
        """What a record and the report both say of it."""
        names = ("id", "severity", "title", "effect", "remedy", "command")
        return {name: getattr(self, name) for name in names}


def run_checks(data: ScannedData) -> tuple[list[Finding], list[str]]:
    """The findings, the most severe first, and the checks that passed."""
    results = [check(data) for check in CHECKS]
    findings = [result for result in results if isinstance(result, Finding)]
    passed = [result for result in results if isinstance(result, str)]
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)), passed


# ---- checks: a finding, or what to say where there is none, or None where it means nothing ----


def find_unreadable(data: ScannedData) -> Finding | str:
    """Unreadable files."""
    skipped = data.unreadable
    if not skipped:
        return "Every file can be read"
    share = len(skipped) / (len(skipped) + len(data.labels))
    return Finding(
        "unreadable",
        "high" if share > 0.05 else "medium",
        f"{counted(len(skipped), 'file')} can't be used",
        "Training leaves them out, so their classes have fewer photos than it seems.",
        "Replace them, or have them left out for good.",
        _command("split", data, "--output_dir clean --repair list"),
        files=[(file.path.as_posix(), file.reason) for file in skipped],
    )


def find_lost_classes(data: ScannedData) -> Finding | str:
    """Classes without any photo that can be used."""
    if not data.lost:
        return "Every class has photos that can be used"
    return Finding(
        "lost_classes",
        "high",
        f"{counted(len(data.lost), 'class has', 'classes have')} no photo that can be used",
        "No model can learn it, so training refuses the data.",
        "Add photos that can be read, or remove the folder or the rows.",
        files=list(data.lost.items()),
        classes=list(data.lost),
    )


def find_one_class(data: ScannedData) -> Finding | None:
    """Nothing to classify."""
    names = sorted(set(data.labels.tolist()))
    if len(names) > 1:
        return None
    return Finding(
        "one_class",
        "high",
        f"{names[0]} is the only class",
        "There is nothing to classify, so training refuses the data.",
        "Put each class in its own folder, or name the column with the classes.",
        classes=names,
    )


def find_unknown_classes(data: ScannedData) -> Finding | None:
    """Classes that are held out but not trained on."""
    known = set(data.labels[data.splits == "train"].tolist())
    unknown = Counter(data.labels[data.splits != "train"].tolist())
    counts = {label: count for label, count in sorted(unknown.items()) if label not in known}
    if not counts:
        return None
    return Finding(
        "unknown_classes",
        "high",
        f"{counted(len(counts), 'class is', 'classes are')} held out, but train lacks "
        f"{'it' if len(counts) == 1 else 'them'}",
        f"No model can know what it was never shown, so training refuses: {_listed(counts)}.",
        "Add photos of it to train, remove it, or split again, every class into every split.",
        _command("split", data, "--output_dir clean --resplit"),
        classes=list(counts),
    )


def find_leaks(data: ScannedData) -> Finding | str | None:
    """Near-duplicates across splits."""
    if len(set(data.splits.tolist())) < 2:
        return None
    crossing = [rows for rows in data.groups if len(set(data.splits[rows])) > 1]
    if not crossing:
        return "No near-duplicates across splits"
    held_out = sum(int((data.splits[rows] != "train").sum()) for rows in crossing)
    return Finding(
        "leaks",
        "high",
        f"{counted(held_out, 'photo')} held out for validation or test "
        f"{'has' if held_out == 1 else 'have'} a near-duplicate in another split",
        "The model is tested on what it was trained on, so its metrics are too optimistic.",
        "Leave out the near-duplicates in train, or split again with near-duplicates on one side.",
        _command("split", data, "--output_dir clean --repair copy"),
        groups=[rows.tolist() for rows in crossing],
    )


def find_conflicts(data: ScannedData) -> Finding | str:
    """Near-duplicates across classes."""
    crossing = [rows for rows in data.groups if len(set(data.labels[rows])) > 1]
    if not crossing:
        return "No photo in two classes"
    return Finding(
        "conflicts",
        "high",
        f"{counted(len(crossing), 'photo')} {'lies' if len(crossing) == 1 else 'lie'} in more than "
        "one class",
        "One of the labels is wrong; the model learns both, and one counts as its mistake.",
        "Keep each photo where it belongs, or have all its near-duplicates left out.",
        _command("split", data, "--output_dir clean --repair copy"),
        groups=[rows.tolist() for rows in crossing],
    )


def find_one_scene_classes(data: ScannedData) -> Finding | str:
    """Classes most of whose photos are near-duplicates of one another."""
    counts = Counter(data.labels.tolist())
    largest: dict[str, list[int]] = {}
    for rows in data.groups:
        for label in set(data.labels[rows].tolist()):
            own = rows[data.labels[rows] == label].tolist()
            largest[label] = max(own, largest.get(label, []), key=len)
    alike = {
        label: rows
        for label, rows in sorted(largest.items())
        if counts[label] >= 4 and len(rows) > counts[label] / 2
    }
    if not alike:
        return "No class shows only one scene"
    return Finding(
        "one_scene",
        "high",
        f"{counted(len(alike), 'class', 'classes')} with mostly one scene or object",
        "The model learns that scene, not the fruit, and no split can show it.",
        "Add photos of other objects in other places; where the files' names identify the objects, "
        "give the pattern as group_by.",
        groups=list(alike.values()),
        notes={
            rows[0]: f"{len(rows)} of {label}'s {counts[label]} photos"
            for label, rows in alike.items()
        },
        classes=list(alike),
    )


def find_label_error_photos(data: ScannedData) -> Finding | str | None:
    """Labels that both a classifier and the neighbours disagree with."""
    if data.label_errors is None:
        return None
    if not len(data.label_errors.indices):
        return f"No doubtful labels{data.of_embedded}"
    rows, predicted = data.label_errors.indices.tolist(), data.label_errors.predicted.tolist()
    return Finding(
        "label_errors",
        "high" if len(rows) > 0.03 * data.embedded else "medium",
        f"{counted(len(rows), 'photo')} may have the wrong label{data.of_embedded}",
        "Wrong labels teach mistakes, and in the test split they count against a model that is "
        "right.",
        "Check each and move it, or train without them all; some are right and only unusual.",
        _without(data, "label_errors"),
        groups=[[row] for row in rows],
        notes={
            row: f"looks like {data.classes[label]}"
            for row, label in zip(rows, predicted, strict=True)
        },
    )


def find_missing_classes(data: ScannedData) -> Finding | str | None:
    """Classes that a split held out lacks."""
    known = set(data.labels[data.splits == "train"].tolist())
    held_out = sorted(set(data.splits.tolist()) - {"train"})
    missing = {
        split: sorted(known - set(data.labels[data.splits == split].tolist())) for split in held_out
    }
    missing = {split: labels for split, labels in missing.items() if labels}
    if not missing:
        return "Every class in every split" if held_out else None
    lacking = "; ".join(f"{split} lacks {_listed(labels)}" for split, labels in missing.items())
    return Finding(
        "missing_classes",
        "medium",
        f"{' and '.join(missing)}: not every class is there",
        f"Nothing measures these classes: {lacking}.",
        "Split again, every class into every split.",
        _command("split", data, "--output_dir clean --resplit"),
        classes=sorted(set().union(*missing.values())),
    )


def find_small_classes(data: ScannedData) -> Finding | str:
    """Classes with few photos to learn from."""
    few = {label: n for label, n in reversed(_train_counts(data).most_common()) if n < FEW}
    if not few:
        return f"{FEW} training photos or more in every class"
    rare = min(few.values()) < 3 and set(data.splits.tolist()) == {"train"}
    return Finding(
        "small_classes",
        "medium",
        f"{counted(len(few), 'class', 'classes')} with fewer than {FEW} training photos",
        f"They are learned badly, and their metrics are unreliable: {_listed(few)}.",
        "Add photos, or merge classes."
        + (" Those with 1 or 2 are an error in training without rare_classes." if rare else ""),
        classes=list(few),
    )


def find_imbalance(data: ScannedData) -> Finding | str:
    """A class with many times another's photos."""
    counts = _train_counts(data).most_common()
    (most, many), (least, few) = counts[0], counts[-1]
    if many < 5 * few:
        return "Classes of similar size"
    streaming = " --streaming" if data.streaming else ""
    return Finding(
        "imbalance",
        "medium" if many >= 10 * few else "low",
        f"{most} has {many:,} training photos, {least} {few:,}",
        "The model leans towards large classes; accuracy hides how it does on small ones.",
        "Compare models by macro-F1, or weight the classes.",
        _command("train", data, f"--class_weights effective{streaming}"),
        classes=[most, least],
    )


def find_exact_duplicates(data: ScannedData) -> Finding | str:
    """The same bytes twice in one class and split."""
    same = defaultdict(list)
    keys = zip(data.part.records["digest"], data.splits, data.labels, strict=True)
    for row, key in enumerate(keys):
        same[key].append(row)
    groups = [rows for rows in same.values() if len(rows) > 1]
    if not groups:
        return "No exact duplicates within a class"
    extra = sum(map(len, groups)) - len(groups)
    return Finding(
        "exact_duplicates",
        "medium" if extra > 0.05 * len(data.labels) else "low",
        f"{counted(extra, 'file is an exact duplicate', 'files are exact duplicates')} of another",
        "They weigh more than other photos, and there are fewer different ones than it seems.",
        "Keep one of each.",
        _command("split", data, "--output_dir clean --repair copy"),
        groups=groups,
    )


def find_near_duplicates(data: ScannedData) -> Finding | None:
    """Near-duplicates within one class and split that are no exact duplicates."""
    groups = []
    for rows in data.groups:
        inside = len(set(data.splits[rows])) == 1 and len(set(data.labels[rows])) == 1
        if inside and len(set(data.part.records["digest"][rows])) > 1:
            groups.append(rows.tolist())
    if not groups:
        return None
    return Finding(
        "near_duplicates",
        "info",
        f"{counted(len(groups), 'group')} of near-duplicates within a class",
        "Harmless inside one split. Where a split is made, they stay on one side by default.",
        "Nothing to do.",
        groups=sorted(groups, key=len, reverse=True),
    )


def find_outlier_photos(data: ScannedData) -> Finding | str | None:
    """Photos unlike those of any class."""
    if data.outliers is None:
        return None
    return _singles(
        data,
        data.outliers,
        "outliers",
        "low",
        f"unlike those of any class{data.of_embedded}",
        "Often no photo of fruit at all, which teaches the model that anything may be one.",
        lambda row: "far from every class",
        nothing=f"No photo unlike all others{data.of_embedded}",
    )


def find_small_photos(data: ScannedData) -> Finding | str:
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
        nothing="No thumbnails",
    )


def find_blurred_photos(data: ScannedData) -> Finding | str:
    """Hardly an edge in them, by themselves and for their contrast.

    A small fruit on a white ground has few edges too, but those are as sharp as any. Of real photos
    blurred by 1 % of their longer side, 99 % are found, by half of that none.
    """
    sharpness = data.part.records["sharpness"]
    edges = sharpness / np.maximum(data.part.records["contrast"], 1) ** 2
    rows = np.flatnonzero((sharpness < 10) & (edges < 0.01))
    return _singles(
        data,
        rows[np.argsort(sharpness[rows], kind="stable")],
        "blurred",
        "low",
        "blurred",
        "Fine if users will send such photos; else they teach little.",
        lambda row: f"sharpness {sharpness[row]:.0f}",
        nothing="No blurred photos",
    )


def find_faint_photos(data: ScannedData) -> Finding | str:
    """Too little light, or too little contrast, to recognise a fruit by its colour.

    Judged by what is brightest and darkest of an 8 x 8 thumbnail: means would take a fruit on white
    or black for a wrong exposure. Photos at a fifth of their light are found, at 40 % none.
    """
    cells = data.part.records["colour"].reshape(len(data.labels), -1, 3).astype(int)  # (N, 64, 3)
    darkest, brightest = cells.min((1, 2)), cells.max((1, 2))
    rows = np.flatnonzero((brightest < 50) | (np.ptp(cells, axis=1).max(1) < 25))
    return _singles(
        data,
        rows,
        "light",
        "low",
        "very dark, or almost without contrast",
        "Colour is lost, and with it the difference between ripe and unripe.",
        lambda row: f"levels {darkest[row]} to {brightest[row]} of 255",
        nothing="No photos without light or contrast",
    )


def find_odd_shapes(data: ScannedData) -> Finding | str:
    """Very long or very high photos."""
    sides = np.stack([data.part.records["width"], data.part.records["height"]])  # (2, N)
    shape = sides.max(0) / np.maximum(sides.min(0), 1)
    rows = np.flatnonzero(shape > 3)
    return _singles(
        data,
        rows[np.argsort(-shape[rows], kind="stable")],
        "odd_shapes",
        "low",
        "more than three times as long as wide",
        "The model sees only the middle square.",
        lambda row: f"{shape[row]:.1f} to 1",
        nothing="No odd shapes",
    )


def find_large_photos(data: ScannedData) -> Finding | None:
    """Photos that take longer to decode than to learn from."""
    pixels = data.part.records["width"].astype(np.int64) * data.part.records["height"]
    if np.median(pixels) < LARGE:
        return None
    return Finding(
        "large_photos",
        "info",
        f"Half of the photos have {np.median(pixels) / 1e6:.0f} megapixels or more",
        "Each epoch decodes them again, which takes longer than training.",
        "Have them decoded and shrunk once.",
        _command("train", data, "--image_cache resized"),
    )


# of findings with the same severity, the first one is shown first
CHECKS: tuple[Callable[[ScannedData], Finding | str | None], ...] = (
    find_one_class,
    find_lost_classes,
    find_unknown_classes,
    find_leaks,
    find_conflicts,
    find_unreadable,
    find_one_scene_classes,
    find_label_error_photos,
    find_missing_classes,
    find_small_classes,
    find_imbalance,
    find_exact_duplicates,
    find_outlier_photos,
    find_small_photos,
    find_blurred_photos,
    find_faint_photos,
    find_odd_shapes,
    find_large_photos,
    find_near_duplicates,
)


def _singles(
    data: ScannedData,
    rows: np.ndarray,
    id: str,
    severity: str,
    what: str,
    effect: str,
    note: Callable[[int], str],
    *,
    nothing: str,
) -> Finding | str:
    """A finding about photos one by one; `nothing` without any."""
    if not len(rows):
        return nothing
    return Finding(
        id,
        severity,
        f"{counted(len(rows), 'photo')} {what}",
        effect,
        "Check them; take those to keep off the list, and train without the others.",
        _without(data, id),
        groups=[[row] for row in rows.tolist()],
        notes={row: note(row) for row in rows.tolist()},
    )


def _train_counts(data: ScannedData) -> Counter[str]:
    return Counter(data.labels[data.splits == "train"].tolist())


def _listed(labels: Sequence[str] | dict[str, int]) -> str:
    """The first names, with their counts where they have some."""
    counts = labels if isinstance(labels, dict) else {}
    named = [f"{label} ({counts[label]})" if counts else label for label in list(labels)[:8]]
    return ", ".join(named) + (", ..." if len(labels) > 8 else "")


def _command(command: str, data: ScannedData, rest: str) -> str:
    return " ".join(["hffruits", command, *([data.source] if data.source else []), rest])


def _without(data: ScannedData, id: str) -> str:
    """Training without the photos of a finding."""
    file = data.lists / f"{id}.txt"
    return _command("train", data, f"--exclude {shlex.quote(file.as_posix())}")


def as_record(finding: Finding, paths: Sequence[str]) -> dict[str, Any]:
    """A finding for `explore.json`: files as lists of paths, groups as one list each."""
    record = finding.texts
    if finding.classes:
        record["classes"] = finding.classes
    if any(len(group) > 1 for group in finding.groups):
        record["groups"] = [[paths[row] for row in group] for group in finding.groups]
    elif finding.groups or finding.files:
        record["files"] = [path for path, _ in finding.files]
        record["files"] += [paths[row] for (row,) in finding.groups]
    notes = dict(finding.files) | {paths[row]: note for row, note in finding.notes.items() if note}
    return record | ({"notes": notes} if notes else {})
