"""One audit of a data set, top to bottom: scan, features, findings, a page and a JSON file."""

import logging
import math
import shlex
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from PIL import Image
from tqdm.auto import tqdm

from hffruits import __version__
from hffruits.core.errors import InputError, optional_output
from hffruits.core.escaping import list_line, printable
from hffruits.core.files import translate_write_errors, write_json, write_text
from hffruits.core.html import part_of, render_page, sprite_uri, thumbnail_uri
from hffruits.data.arguments import DataArguments
from hffruits.data.images import open_small
from hffruits.data.readers.folders import SPLIT_NAMES
from hffruits.data.sources import open_source
from hffruits.data.validation import Checked, check_images, join_parts
from hffruits.exploration.embeddings import embed_pictures
from hffruits.exploration.findings import LISTED, Audited, Finding, as_record, audit
from hffruits.exploration.label_errors import (
    Suspects,
    find_label_errors,
    find_outliers,
    map_features,
)
from hffruits.exploration.stream_scan import check_stream

TEMPLATE = Path(__file__).with_name("templates") / "explore.html.jinja"

logger = logging.getLogger(__name__)
MAX_FEATURES = 20_000  # pictures that the backbone looks at
EXAMPLES = 8  # groups of a finding that the page shows
IN_GROUP = 6  # pictures of a group
SAMPLES = 8  # pictures of a class, fewer where there are many classes
THUMB, TILE = 112, 40  # pixels, of examples and of points of the map
MAP_POINTS = 2000
HISTOGRAMS = {  # measure -> name, unit, what to look for
    "width": ("Width", "pixels", "A second peak often is a second source."),
    "height": ("Height", "pixels", "Sizes far below the others are thumbnails."),
    "aspect": ("Aspect ratio", "width by height", "The model sees the middle square alone."),
    "bytes": ("File size", "kB", "Very small files are heavily compressed."),
    "brightness": ("Brightness", "mean grey level, 0 to 255", "Both ends hide the colour."),
    "contrast": ("Contrast", "standard deviation of grey", "Near zero there is nothing to see."),
    "sharpness": ("Sharpness", "variance of the Laplacian", "Low values are blurred or empty."),
}


def explore(
    data_args: DataArguments, *, output_dir: Path, max_features: int = MAX_FEATURES, seed: int = 42
) -> dict[str, Any]:
    """Audit the data and write `explore.html` and `explore.json`; returns what the latter holds.

    Beside them lie lists for `--exclude`, one for each finding about single photos. Features (label
    errors, outliers, the map) are computed for at most `max_features` pictures, drawn evenly from
    the classes; 0 for none. Raises `InputError` for data that can't be used.
    """
    started = time.monotonic()
    data_args.check_outside(output_dir)
    made = not output_dir.exists()
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output_dir}: can't be made ({error.strerror}).") from error
    try:
        checked, coarse = look_at(data_args, keep=max(max_features, MAP_POINTS), seed=seed)
    except InputError:
        if made:
            output_dir.rmdir()
        raise
    in_order = {split: checked.parts[split] for split in SPLIT_NAMES if split in checked.parts}
    checked = replace(checked, parts=in_order)
    part = join_parts(list(checked.parts.values()))
    labels = np.array(part.rows["label"][:])
    names = sorted(set(labels.tolist()))
    at_hand = np.arange(len(labels))
    if data_args.streaming:  # the others' pixels are gone
        at_hand = np.flatnonzero([image["bytes"] != b"" for image in part.rows["image"]])
    chosen = at_hand[draw_evenly(labels[at_hand], max_features, seed=seed)]
    features = np.zeros((0, 1), np.float32)
    judged: dict[str, Any] = {}
    if len(chosen) >= 10:
        features = embed_pictures(
            _sources(part.rows.select(chosen)),
            total=len(chosen),
            max_pixels=data_args.max_image_pixels,
        )
        judged = judge(
            features, np.searchsorted(names, labels[chosen]), part.groups[chosen], chosen
        )
    words = shlex.join(data_args.words)
    data = Audited(
        part,
        np.repeat(list(checked.parts), [len(p.rows) for p in checked.parts.values()]),
        labels,
        checked.skipped,
        words,
        streaming=data_args.streaming,
        lists=output_dir,
        classes=names,
        lost=checked.lost,
        **judged,
    )
    findings, passed = audit(data)

    head = {
        "source": data_args.source_name,
        "created": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "version": __version__,
        "command": _own_command(words, data_args.streaming, output_dir, max_features),
    }
    paths = part.rows["path"][:]
    record = {
        **head,
        "summary": {
            "images": len(labels),
            "classes": len(names),
            "splits": {split: len(p.rows) for split, p in checked.parts.items()},
            "bytes": int(part.records["bytes"].sum()),
            "unreadable": len(data.unreadable),
            "judged": data.judged,
            "seconds": round(time.monotonic() - started, 1),
        },
        "findings": [as_record(finding, paths) for finding in findings],
        "passed": passed,
        "classes": count_classes(data, coarse),
        "formats": dict(Counter(f.decode() for f in part.records["format"]).most_common()),
    }
    with translate_write_errors(output_dir):
        write_json(output_dir / "explore.json", record)
        write_lists(findings, paths, output_dir, earlier=data_args.exclude)
    page = output_dir / "explore.html"

    with optional_output(page, remedy="explore.json beside it has the findings."):
        content = {
            **record,
            "title": data_args.name,
            "findings": [show_finding(finding, data) for finding in findings],
            "classes": show_classes(record["classes"], data, at_hand, seed=seed),
            "histograms": part_of(page, "histograms", lambda: show_histograms(part.records), []),
            "sizes": show_sizes(part.records),
            "map": part_of(page, "map", lambda: show_map(features, chosen, data, seed=seed), None),
        }
        render_page(TEMPLATE, content, page)
    return record


def look_at(data_args: DataArguments, *, keep: int, seed: int) -> tuple[Checked, dict[str, str]]:
    """Every picture looked at once, and coarse labels; of a stream, `keep` pictures stay."""
    raw = open_source(data_args)
    if data_args.streaming:
        max_pixels = data_args.max_image_pixels
        return check_stream(raw.splits, keep=keep, max_pixels=max_pixels, seed=seed), raw.coarse
    return check_images(raw, replace(data_args, max_unreadable_fraction=1.0)), raw.coarse


def judge(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, rows: np.ndarray
) -> dict[str, Any]:
    """Label errors and outliers among `rows`, numbered as all pictures are."""
    suspects = find_label_errors(features, labels, groups)
    return {
        "judged": len(rows),
        "suspects": Suspects(rows[suspects.indices], suspects.guesses),
        "outliers": rows[find_outliers(features, labels)],
    }


def count_classes(data: Audited, coarse: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Coarse label, where that is another name, and photos by split of each class."""
    splits = list(dict.fromkeys(data.splits.tolist()))
    counts = Counter(zip(data.labels.tolist(), data.splits.tolist(), strict=True))
    return {
        name: {
            "coarse": None if coarse.get(name) == name else coarse.get(name),
            "counts": {split: counts[name, split] for split in splits},
        }
        for name in sorted(set(data.labels.tolist()))
    }


def _own_command(words: str, streaming: bool, output_dir: Path, max_features: int) -> str:
    options = ["--streaming"] if streaming else []
    options += ["--output_dir", shlex.quote(str(output_dir))]
    options += ["--max_features", str(max_features)] if max_features != MAX_FEATURES else []
    return " ".join(["hffruits", "explore", *([words] if words else []), *options])


def draw_evenly(labels: np.ndarray, count: int, *, seed: int) -> np.ndarray:
    """Rows in order: all, or `count` of them, as many of each class as it has and its share is."""
    if count >= len(labels):
        return np.arange(len(labels))
    order = np.random.default_rng(seed).permutation(len(labels))
    turns = np.zeros(len(labels), int)  # the how-manieth of its class each is
    seen: Counter[str] = Counter()
    for row in order:
        turns[row] = seen[labels[row]]
        seen[labels[row]] += 1
    return np.sort(order[np.argsort(turns[order], kind="stable")][:count])


# ---- for the page ----


def show_finding(finding: Finding, data: Audited) -> dict[str, Any]:
    """A finding with its first pictures."""
    single = all(len(group) == 1 for group in finding.groups)
    shown = [
        _varied(group, data)[:IN_GROUP]
        for group in finding.groups[: 3 * EXAMPLES if single else EXAMPLES]
    ]
    groups = [[show_photo(row, data, finding.notes.get(row, "")) for row in g] for g in shown]
    groups += [
        [{"path": path, "label": "", "split": "", "thumb": None, "note": reason}]
        for path, reason in finding.files[: 3 * EXAMPLES]
    ]
    return {
        "id": finding.id,
        "severity": finding.severity,
        "title": finding.title,
        "effect": finding.effect,
        "remedy": finding.remedy,
        "command": finding.command,
        "count": len(finding.groups) + len(finding.files),
        "groups": groups,
    }


def _varied(group: list[int], data: Audited) -> list[int]:
    """The rows of a group, one of each split and class first."""
    turns: Counter[tuple[str, str]] = Counter()
    order = {}
    for row in group:
        kind = data.splits[row], data.labels[row]
        order[row] = turns[kind]
        turns[kind] += 1
    return sorted(group, key=order.__getitem__)


def show_photo(row: int, data: Audited, note: str) -> dict[str, Any]:
    """One picture of a finding."""
    picture = _picture(data.part.rows, row, THUMB)
    return {
        "path": data.part.rows[int(row)]["path"],
        "label": str(data.labels[row]),
        "split": str(data.splits[row]),
        "thumb": picture and thumbnail_uri(picture, THUMB),
        "note": note,
    }


def show_classes(
    counted: dict[str, dict[str, Any]], data: Audited, at_hand: np.ndarray, *, seed: int
) -> list[dict[str, Any]]:
    """Samples (of the rows `at_hand`), mean image and mean colour of each class, and its counts."""
    samples = min(SAMPLES, max(1, 2000 // len(counted)))
    rng = np.random.default_rng(seed)
    classes = []
    for name, own in tqdm(counted.items(), "Drawing classes", unit="class", leave=False):
        rows = np.flatnonzero(data.labels == name)
        records = data.part.records[rows]
        mean = mean_image(records)
        drawn = rng.permutation(np.intersect1d(rows, at_hand))[:samples]
        pictures = [_picture(data.part.rows, row, THUMB) for row in sorted(drawn)]
        classes.append(
            {
                "name": name,
                **own,
                "mean_colour": "#" + bytes(mean.resize((1, 1)).getpixel((0, 0))).hex(),
                "mean_image": thumbnail_uri(mean, 64),
                "samples": [thumbnail_uri(picture, THUMB) for picture in pictures if picture],
            }
        )
    return classes


def mean_image(records: np.ndarray) -> Image.Image:
    """The average of pictures, (32, 32): light from the grey thumbnails, colour from the others."""
    colour = Image.fromarray(records["colour"].mean(0).round().astype(np.uint8))
    grey = Image.fromarray(records["grey"].mean(0).round().astype(np.uint8))
    _, *chroma = colour.resize(grey.size, Image.Resampling.BICUBIC).convert("YCbCr").split()
    return Image.merge("YCbCr", (grey, *chroma)).convert("RGB")


def show_histograms(records: np.ndarray) -> list[dict[str, Any]]:
    """Counts of each measure in 24 bins; the longest percent of a tail goes into the last one."""
    aspect = records["width"] / np.maximum(records["height"], 1)
    measures = {"aspect": aspect, "bytes": records["bytes"] / 1000}
    shown = []
    for key, (name, unit, help) in HISTOGRAMS.items():
        values = (measures[key] if key in measures else records[key]).astype(float)
        low, high = values.min(), np.quantile(values, 0.99)
        if high == low:  # then numpy takes half a unit to both sides
            high = values.max()
        counts, edges = np.histogram(values.clip(None, high), bins=24, range=(low, high))
        digits = max(0, math.ceil(1 - math.log10(edges[1] - edges[0])))
        if high < values.max():
            help += " The last bar holds all larger values."
        shown.append(
            {
                "name": name,
                "unit": unit,
                "edges": edges.round(digits).tolist(),
                "counts": counts.tolist(),
                "help": help,
            }
        )
    return shown


def show_sizes(records: np.ndarray) -> list[dict[str, int]]:
    """The most usual sizes."""
    sizes = Counter(zip(records["width"].tolist(), records["height"].tolist(), strict=True))
    return [{"width": w, "height": h, "count": n} for (w, h), n in sizes.most_common(12)]


def show_map(
    features: np.ndarray, rows: np.ndarray, data: Audited, *, seed: int
) -> dict[str, Any] | None:
    """Points in the plane, close where the backbone sees the same; None without features."""
    if len(features) < 10:
        return None
    few = draw_evenly(data.labels[rows], MAP_POINTS, seed=seed)
    logger.info("drawing the map of %d photos", len(few))
    points = map_features(features[few], seed=seed)
    chosen = rows[few]
    names, splits = list(data.classes), list(dict.fromkeys(data.splits.tolist()))
    class_ids = np.searchsorted(names, data.labels[chosen])
    suspects = set() if data.suspects is None else set(data.suspects.indices.tolist())
    pictures = [
        _picture(data.part.rows, row, TILE) or Image.new("RGB", (TILE, TILE))
        for row in tqdm(chosen, "Drawing the map", unit="img", leave=False)
    ]
    columns = 50
    return {
        "points": [
            [round(float(x), 4), round(float(y), 4), int(label), splits.index(split)]
            for (x, y), label, split in zip(points, class_ids, data.splits[chosen], strict=True)
        ],
        "classes": names,
        "splits": splits,
        "paths": data.part.rows.select(chosen)["path"][:],
        "suspects": [i for i, row in enumerate(chosen.tolist()) if row in suspects],
        "sprite": sprite_uri(pictures, TILE, columns),
        "tile": TILE,
        "columns": columns,
        "note": f"{len(few):,} of {len(data.labels):,} photos: t-SNE of the backbone's features",
    }


def _sources(rows: Dataset) -> Iterator[Path | bytes]:
    for batch in rows.select_columns("image").iter(64):
        for image in batch["image"]:
            yield Path(image["path"]) if image["bytes"] is None else image["bytes"]


def _picture(rows: Dataset, row: int, size: int) -> Image.Image | None:
    (source,) = _sources(rows.select([int(row)]))
    try:
        return open_small(source, size)[0]
    except OSError:  # gone, not kept of a stream, or over the usual limit of pixels
        return None


# ---- files beside the page ----


def write_lists(
    findings: list[Finding], paths: list[str], folder: Path, *, earlier: str | None = None
) -> None:
    """A list for `--exclude` for each finding about single photos, with what `earlier` lists."""
    before = _read_list(Path(earlier)) if earlier else []
    found = {finding.id: finding for finding in findings}
    for id in LISTED:
        file = folder / f"{id}.txt"
        if id not in found:
            file.unlink(missing_ok=True)  # of an earlier audit
            continue
        notes = {paths[row]: found[id].notes[row] for (row,) in found[id].groups}
        lines = [f"{list_line(path)}\t{printable(note)}" for path, note in notes.items()]
        write_text(file, "\n".join(["# path, and why it is here", *lines, *before]) + "\n")


def _read_list(file: Path) -> list[str]:
    lines = file.read_text(encoding="utf-8-sig").split("\n")  # it was read before
    return [line for line in lines if line and not line.startswith("# ")]
