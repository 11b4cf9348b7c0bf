"""One audit of a data set, top to bottom: scan, features, findings, a page and a JSON file."""

import json
import logging
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from PIL import Image
from tqdm.auto import tqdm

from hffruits import __version__
from hffruits.audit import Audited, Finding, as_record, audit
from hffruits.checking import Checked, check_pictures, join_parts
from hffruits.config import DataArguments
from hffruits.errors import InputError
from hffruits.features import embed_pictures
from hffruits.images import open_small
from hffruits.inputs import open_source
from hffruits.label_errors import find_label_errors, find_outliers, map_features
from hffruits.page import render_page, sprite_uri, thumbnail_uri

logger = logging.getLogger(__name__)
EXAMPLES = 8  # groups of a finding that the page shows
IN_GROUP = 6  # pictures of a group
SAMPLES = 8  # pictures of a class, fewer where there are many classes
THUMB, TILE = 112, 40  # pixels, of examples and of points of the map
MAP_POINTS = 2000
HISTOGRAMS = {  # field -> name, unit, what to look for
    "width": ("Width", "pixels", "A second peak often is a second source."),
    "height": ("Height", "pixels", "Sizes far below the others are thumbnails."),
    "bytes": ("File size", "kB", "Very small files are heavily compressed."),
    "brightness": ("Brightness", "mean grey level, 0 to 255", "Both ends hide the colour."),
    "contrast": ("Contrast", "standard deviation of grey", "Near zero there is nothing to see."),
    "sharpness": ("Sharpness", "variance of the Laplacian", "Low values are blurred or empty."),
}


def explore(
    data_args: DataArguments, *, output_dir: Path, max_features: int = 20_000, seed: int = 42
) -> dict[str, Any]:
    """Audit the data and write `explore.html` and `explore.json`; returns what the latter holds.

    Features (label errors, outliers, the map) are computed for at most `max_features` pictures,
    drawn evenly from the classes; 0 for none. Raises `InputError` for data that can't be used.
    """
    started = time.monotonic()
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output_dir}: can't be made ({error.strerror}).") from error
    source = data_args.source
    raw = open_source(source)
    checked = check_pictures(
        raw, name=source.name, exclude=data_args.exclude, max_pixels=data_args.max_image_pixels
    )
    part = join_parts(list(checked.parts.values()))
    labels = np.array(part.rows["label"][:])
    splits = np.repeat(list(checked.parts), [len(p.rows) for p in checked.parts.values()])
    names = sorted(set(labels))
    chosen = draw_evenly(labels, max_features, seed=seed)
    features = np.zeros((0, 1), np.float32)
    judged: dict[str, Any] = {}
    if len(chosen) >= 10 and len(names) > 1:
        sources = _sources(part.rows.select(chosen))
        features = embed_pictures(sources, total=len(chosen), max_pixels=data_args.max_image_pixels)
        judged = judge(features, labels[chosen], part.groups[chosen], names, chosen)
    data = Audited(part, splits, labels, checked.skipped, source.name, **judged, classes=names)
    findings, passed = audit(data)

    summary = {
        "images": len(labels),
        "classes": len(names),
        "splits": {split: len(p.rows) for split, p in checked.parts.items()},
        "bytes": int(part.records["bytes"].sum()),
        "unreadable": len(checked.skipped),
    }
    head = {
        "source": source.name,
        "created": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "version": __version__,
        "command": f"hffruits explore {shlex.quote(source.name)}",
    }
    content = {
        **head,
        "title": data_args.name,
        "findings": [show_finding(finding, data) for finding in findings],
        "passed": passed,
        "classes": show_classes(checked, raw.coarse, data, seed=seed),
        "histograms": show_histograms(part.records),
        "sizes": show_sizes(part.records),
        "formats": dict(Counter(f.decode() for f in part.records["format"]).most_common()),
        "map": show_map(features, chosen, data, seed=seed),
        "summary": summary | {"seconds": round(time.monotonic() - started, 1)},
    }
    render_page("explore.html.jinja", content, output_dir / "explore.html")
    paths = part.rows["path"][:]
    record = {
        **head,
        "summary": content["summary"],
        "findings": [as_record(finding, paths) for finding in findings],
        "passed": passed,
        "classes": {
            row["name"]: {"coarse": row["coarse"], "counts": row["counts"]}
            for row in content["classes"]
        },
        "formats": content["formats"],
    }
    _write(output_dir / "explore.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    _write_doubtful(findings, paths, output_dir / "label_errors.txt")
    return record


def judge(
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    names: Sequence[str],
    rows: np.ndarray,
) -> dict[str, Any]:
    """Label errors and outliers among `rows`, numbered as all pictures are."""
    ids = np.searchsorted(names, labels)
    suspects = find_label_errors(features, ids, groups)
    outliers = find_outliers(features, groups)
    renumbered = type(suspects)(rows[suspects.indices], suspects.guesses)
    return {"suspects": renumbered, "outliers": rows[outliers]}


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
    rows = [group[:IN_GROUP] for group in finding.groups[:EXAMPLES]]
    if all(len(group) == 1 for group in rows):
        rows = finding.groups[: 3 * EXAMPLES]
    groups = [[show_photo(row, data, finding.notes.get(row, "")) for row in g] for g in rows]
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
    checked: Checked, coarse: dict[str, str], data: Audited, *, seed: int
) -> list[dict[str, Any]]:
    """Counts, samples, mean image and mean colour of each class."""
    names = sorted(set(data.labels))
    samples = min(SAMPLES, max(1, 2000 // len(names)))
    rng = np.random.default_rng(seed)
    classes = []
    for name in tqdm(names, "Drawing classes", unit="class", leave=False):
        rows = np.flatnonzero(data.labels == name)
        counts = Counter(data.splits[rows].tolist())
        records = data.part.records[rows]
        mean = mean_image(records)
        drawn = rng.permutation(rows)[:samples]
        pictures = [_picture(data.part.rows, row, THUMB) for row in sorted(drawn)]
        own = coarse.get(name)
        classes.append(
            {
                "name": str(name),
                "coarse": own if own != name else None,
                "counts": {split: counts[split] for split in checked.parts},
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
    """Counts of each measure in 24 bins, the longest tail in the last one."""
    shown = []
    for key, (name, unit, help) in HISTOGRAMS.items():
        values = records[key].astype(float) / (1000 if key == "bytes" else 1)
        low, high = values.min(), np.quantile(values, 0.99)
        counts, edges = np.histogram(values.clip(None, high), bins=24, range=(low, high + 1e-6))
        shown.append(
            {
                "name": name,
                "unit": unit,
                "edges": edges.round(1).tolist(),
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
    names, splits = sorted(set(data.labels)), list(dict.fromkeys(data.splits.tolist()))
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
        "classes": [str(name) for name in names],
        "splits": splits,
        "paths": data.part.rows.select(chosen)["path"][:],
        "suspects": [i for i, row in enumerate(chosen.tolist()) if row in suspects],
        "sprite": sprite_uri(pictures, TILE, columns),
        "tile": TILE,
        "columns": columns,
        "note": f"{len(few):,} of {len(data.labels):,} photos: t-SNE of the backbone's features",
    }


def _sources(rows: Dataset) -> list[Path | bytes]:
    return [
        Path(image["path"]) if image["bytes"] is None else image["bytes"] for image in rows["image"]
    ]


def _picture(rows: Dataset, row: int, size: int) -> Image.Image | None:
    (source,) = _sources(rows.select([int(row)]))
    try:
        return open_small(source, size)[0]
    except OSError:  # gone, or over the usual limit of pixels
        return None


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file}: can't be written ({error.strerror}).") from error


def _write_doubtful(findings: list[Finding], paths: list[str], file: Path) -> None:
    """The photos with doubtful labels, a list for `--exclude`."""
    doubtful = next((f for f in findings if f.id == "label_errors"), None)
    if doubtful is None:
        file.unlink(missing_ok=True)  # of an earlier audit
        return
    lines = [f"{paths[row]}\t{doubtful.notes[row]}" for (row,) in doubtful.groups]
    _write(file, "\n".join(["# path, and what is doubted", *lines]) + "\n")
