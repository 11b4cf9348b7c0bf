"""The data report: findings, classes, histograms and a map as values for `explore.html.jinja`.

What is to be shown is chosen here, its appearance by the template.
"""

import logging
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from PIL import Image

from hffruits.core.counts import counted
from hffruits.core.html import part_of, render_page, sprite_uri, thumbnail_uri
from hffruits.core.progress import progress_bar
from hffruits.data.images import open_small
from hffruits.data.samples import origin_of
from hffruits.exploration.findings import Finding, ScannedData
from hffruits.exploration.label_errors import map_features
from hffruits.exploration.sampling import draw_evenly, sources_of

TEMPLATE = Path(__file__).with_name("templates") / "explore.html.jinja"

logger = logging.getLogger(__name__)
EXAMPLES = 8  # groups of a finding that the page shows
IN_GROUP = 6  # photos of a group
SAMPLES = 8  # photos of a class, fewer where there are many classes
THUMB, TILE = 112, 40  # pixels, of examples and of points of the map
MAP_POINTS = 2000
HISTOGRAMS = {  # measure -> name, unit, what it may show
    "width": ("Width", "pixels", "A second peak often is a second source."),
    "height": ("Height", "pixels", "Sizes far below the others are thumbnails."),
    "aspect": ("Aspect ratio", "width by height", "The model sees only the middle square."),
    "bytes": ("File size", "kB", "Very small files are heavily compressed."),
    "brightness": ("Brightness", "mean grey level, 0 to 255", "Both ends hide the colour."),
    "contrast": ("Contrast", "standard deviation of grey", "Near zero there is nothing to see."),
    "sharpness": ("Sharpness", "variance of the Laplacian", "Low values are blurred or empty."),
}


def write_report(
    file: Path,
    record: dict[str, Any],
    findings: list[Finding],
    data: ScannedData,
    *,
    kept: np.ndarray,
    features: np.ndarray,
    embedded: np.ndarray,
    seed: int,
) -> None:
    """The page: `record` is what `explore.json` holds, with a title.

    `kept` are the rows whose images can be shown, `embedded` those whose `features` (R, D) are
    given.
    """
    records = data.part.records
    content = {
        **record,
        "origin": origin_of(record["source"]),
        "findings": [show_finding(finding, data) for finding in findings],
        "classes": show_classes(record["classes"], data, kept, seed=seed),
        "histograms": part_of(file, "histograms", lambda: show_histograms(records), []),
        "sizes": show_sizes(records),
        "map": part_of(file, "map", lambda: show_map(features, embedded, data, seed=seed), None),
    }
    render_page(TEMPLATE, content, file)


def show_finding(finding: Finding, data: ScannedData) -> dict[str, Any]:
    """A finding with its first photos."""
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
        **finding.texts,
        "count": len(finding.groups) + len(finding.files),
        "groups": groups,
    }


def _varied(group: list[int], data: ScannedData) -> list[int]:
    """The rows of a group, one of each split and class first."""
    turns: Counter[tuple[str, str]] = Counter()
    order = {}
    for row in group:
        kind = data.splits[row], data.labels[row]
        order[row] = turns[kind]
        turns[kind] += 1
    return sorted(group, key=order.__getitem__)


def show_photo(row: int, data: ScannedData, note: str) -> dict[str, Any]:
    """One photo of a finding."""
    image = _open_image(data.part.rows, row, THUMB)
    return {
        "path": data.part.rows[int(row)]["path"],
        "label": str(data.labels[row]),
        "split": str(data.splits[row]),
        "thumb": image and thumbnail_uri(image, THUMB),
        "note": note,
    }


def show_classes(
    by_class: dict[str, dict[str, Any]], data: ScannedData, kept: np.ndarray, *, seed: int
) -> list[dict[str, Any]]:
    """Samples (of the rows `kept`), mean image and mean colour of each class, and its counts."""
    samples = min(SAMPLES, max(1, 2000 // len(by_class)))
    rng = np.random.default_rng(seed)
    classes = []
    for name, own in progress_bar(by_class.items(), "Drawing classes", unit="class", leave=False):
        rows = np.flatnonzero(data.labels == name)
        records = data.part.records[rows]
        mean = mean_image(records)
        drawn = rng.permutation(np.intersect1d(rows, kept))[:samples]
        images = [_open_image(data.part.rows, row, THUMB) for row in sorted(drawn)]
        classes.append(
            {
                "name": name,
                **own,
                "mean_colour": "#" + bytes(mean.resize((1, 1)).getpixel((0, 0))).hex(),
                "mean_image": thumbnail_uri(mean, 64),
                "samples": [thumbnail_uri(image, THUMB) for image in images if image],
            }
        )
    return classes


def mean_image(records: np.ndarray) -> Image.Image:
    """The average of images, (32, 32): light from the grey thumbnails, colour from the others."""
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
    features: np.ndarray, rows: np.ndarray, data: ScannedData, *, seed: int
) -> dict[str, Any] | None:
    """Points in the plane, close where features are similar; None without features."""
    if len(features) < 10:
        return None
    few = draw_evenly(data.labels[rows], MAP_POINTS, seed=seed)
    logger.info("drawing the map of %s", counted(len(few), "photo"))
    points = map_features(features[few], seed=seed)
    chosen = rows[few]
    names, splits = list(data.classes), list(dict.fromkeys(data.splits.tolist()))
    class_ids = np.searchsorted(names, data.labels[chosen])
    doubted = set() if data.label_errors is None else set(data.label_errors.indices.tolist())
    images = [
        _open_image(data.part.rows, row, TILE) or Image.new("RGB", (TILE, TILE))
        for row in progress_bar(chosen, "Drawing the map", unit="img", leave=False)
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
        "label_errors": [i for i, row in enumerate(chosen.tolist()) if row in doubted],
        "sprite": sprite_uri(images, TILE, columns),
        "tile": TILE,
        "columns": columns,
        "note": f"{len(few):,} of {len(data.labels):,} photos: t-SNE of the backbone's features",
    }


def _open_image(rows: Dataset, row: int, size: int) -> Image.Image | None:
    (source,) = sources_of(rows.select([int(row)]))
    try:
        return open_small(source, size)[0]
    except OSError:  # gone, not kept of a stream, or over the usual limit of pixels
        return None
