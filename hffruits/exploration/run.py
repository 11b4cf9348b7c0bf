"""Exploring a dataset: scan, features, checks; what was found, as records and lists.

The page of it is made by `report`.
"""

import shlex
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from hffruits import __version__
from hffruits.core.claims import claims_output_dir
from hffruits.core.counts import counted
from hffruits.core.errors import InputError, optional_output
from hffruits.core.escaping import list_line, printable
from hffruits.core.files import (
    check_writable,
    translate_write_errors,
    warn_if_replaced,
    write_json,
    write_text,
)
from hffruits.core.results import Result
from hffruits.data.arguments import OF_EPOCHS, DataArguments
from hffruits.data.readers.folders import SPLIT_NAMES
from hffruits.data.sources import open_source
from hffruits.data.validation import Checked, check_images, join_parts
from hffruits.exploration.embeddings import embed_images
from hffruits.exploration.findings import LISTED, Finding, ScannedData, as_record, run_checks
from hffruits.exploration.label_errors import LabelErrors, find_label_errors, find_outliers
from hffruits.exploration.report import MAP_POINTS, write_report
from hffruits.exploration.sampling import draw_evenly, sources_of
from hffruits.exploration.stream_scan import check_stream

PAGE = "explore.html"
RECORD = "explore.json"
MAX_IMAGES = 20_000  # whose features are computed


class Exploration(Result):
    """What `explore` has found, and the folder with `explore.html` and the lists."""

    PAGE = PAGE

    @property
    def findings(self) -> list[dict[str, Any]]:
        """The worst first: `id`, `severity`, `title`, `effect`, `command`, photos or classes."""
        return self.record["findings"]

    @property
    def summary(self) -> str:
        images, count = self.record["summary"]["images"], len(self.findings)
        return f"{counted(count, 'finding')} in {counted(images, 'image')}"


@claims_output_dir
def explore(
    data: DataArguments | str | Path | None = None,
    *,
    output_dir: str | Path = "exploration",
    max_images: int = MAX_IMAGES,
    seed: int = 42,
    command: str | None = None,
    **data_options: Any,
) -> Exploration:
    """Find what is wrong with a dataset: unreadable files, leaks, label errors, small classes, ...

    Writes `explore.json` and `explore.html` to `output_dir`, and lists for `exclude`, one for each
    finding about single photos. The photos stay as they are.

    Args:
        data: labelled photos, as for `load_fruits`; None for the sample set.
        output_dir: a folder for the results, outside the data; made if it is new.
        max_images: how many photos, drawn evenly from the classes, features are computed of, for
            label errors (confident learning, arXiv:1911.00068), outliers and the map; 0 for none.
        seed: random seed.
        command: the command line that asked for this, for the record.
        **data_options: fields of `DataArguments`: `streaming`, `exclude`, ...

    Returns:
        An `Exploration`: `findings`, `report`, `folder`.

    Raises:
        InputError: for data that can't be used.

    >>> import hffruits
    >>> exploration = hffruits.explore("fruits", max_images=0)
    >>> exploration
    Exploration(exploration: ... in 64 images)
    >>> [finding["title"] for finding in exploration.findings if finding["severity"] == "high"]
    [...]
    """
    data_args = DataArguments.of(data, function=explore, **data_options)
    data_args.refuse("split_lists", why="explore reads all photos")
    data_args.refuse(*OF_EPOCHS, why="acts in training only")
    if data_args.streaming:
        data_args.refuse("exclude", why="explore reads all photos of a stream")
    output_dir = Path(output_dir).expanduser()
    started = time.monotonic()
    checked, coarse = _scan_for(output_dir, data_args, max_images, seed)
    in_order = {split: checked.parts[split] for split in SPLIT_NAMES if split in checked.parts}
    checked = replace(checked, parts=in_order)
    part = join_parts(list(checked.parts.values()))
    labels = np.array(part.rows["label"][:])
    kept = np.arange(len(labels))
    if data_args.streaming:  # the others' pixels are gone
        kept = np.flatnonzero([image["bytes"] != b"" for image in part.rows["image"]])
    chosen = kept[draw_evenly(labels[kept], max_images, seed=seed)]
    scanned = ScannedData(
        part,
        np.repeat(list(checked.parts), [len(p.rows) for p in checked.parts.values()]),
        labels,
        checked.skipped,
        shlex.join(data_args.words),
        streaming=data_args.streaming,
        lists=output_dir,
        classes=sorted(set(labels.tolist())),
        lost=checked.lost,
    )
    features = np.zeros((0, 1), np.float32)
    if len(chosen) >= 10:
        sources = sources_of(part.rows.select(chosen))
        options = {"total": len(chosen), "max_pixels": data_args.max_image_pixels}
        features = embed_images(sources, **options)
        scanned = check_features(scanned, features, chosen)
    findings, passed = run_checks(scanned)

    paths = part.rows["path"][:]
    record = {
        "source": data_args.source_name,
        "created": datetime.now().strftime("%Y-%m-%d %H:%M"),
        "version": __version__,
        "command": command,
        "summary": {
            "images": len(labels),
            "classes": len(scanned.classes),
            "splits": {split: len(p.rows) for split, p in checked.parts.items()},
            "bytes": int(part.records["bytes"].sum()),
            "unreadable": len(scanned.unreadable),
            "embedded": scanned.embedded,
            "seconds": round(time.monotonic() - started, 1),
        },
        "findings": [as_record(finding, paths) for finding in findings],
        "passed": passed,
        "classes": count_classes(scanned, coarse),
        "formats": dict(Counter(f.decode() for f in part.records["format"]).most_common()),
    }
    with translate_write_errors(output_dir):
        write_json(output_dir / RECORD, record)
        write_lists(findings, paths, output_dir, earlier=data_args.exclude)
    page = output_dir / PAGE
    with optional_output(page, remedy=f"{RECORD} beside it has the findings."):
        content = record | {"title": data_args.name}
        options = {"kept": kept, "features": features, "embedded": chosen, "seed": seed}
        write_report(page, content, findings, scanned, **options)
    return Exploration(output_dir, record)


def _scan_for(
    output_dir: Path, data_args: DataArguments, max_images: int, seed: int
) -> tuple[Checked, dict[str, str]]:
    """`scan_data`, with the output's folder made before, and removed again without data."""
    data_args.check_outside(output_dir)
    made = not output_dir.exists()
    check_writable(output_dir)
    warn_if_replaced(output_dir / RECORD)
    try:
        return scan_data(data_args, keep=max(max_images, MAP_POINTS), seed=seed)
    except InputError:
        if made:
            with suppress(OSError):  # something else has been put there
                output_dir.rmdir()
        raise


def scan_data(data_args: DataArguments, *, keep: int, seed: int) -> tuple[Checked, dict[str, str]]:
    """Every image read once, and coarse labels; of a stream, `keep` images stay."""
    raw = open_source(data_args)
    if data_args.streaming:
        max_pixels = data_args.max_image_pixels
        return check_stream(raw, keep=keep, max_pixels=max_pixels, seed=seed), raw.coarse
    return check_images(raw, replace(data_args, max_unreadable_fraction=1.0)), raw.coarse


def check_features(data: ScannedData, features: np.ndarray, rows: np.ndarray) -> ScannedData:
    """The data with label errors and outliers among `rows`, whose features (R, D) are given."""
    labels = np.searchsorted(data.classes, data.labels[rows])
    found = find_label_errors(features, labels, data.part.groups[rows])
    return replace(
        data,
        embedded=len(rows),
        label_errors=LabelErrors(rows[found.indices], found.predicted),
        outliers=rows[find_outliers(features, labels)],
    )


def count_classes(data: ScannedData, coarse: dict[str, str]) -> dict[str, dict[str, Any]]:
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


def write_lists(
    findings: list[Finding], paths: list[str], folder: Path, *, earlier: str | None = None
) -> None:
    """A list for `--exclude` for each finding about single photos, with what `earlier` lists."""
    before = _read_list(Path(earlier)) if earlier else []
    found = {finding.id: finding for finding in findings}
    for id in LISTED:
        file = folder / f"{id}.txt"
        if id not in found:
            file.unlink(missing_ok=True)  # of an earlier exploration
            continue
        notes = {paths[row]: found[id].notes[row] for (row,) in found[id].groups}
        lines = [f"{list_line(path)}\t{printable(note)}" for path, note in notes.items()]
        write_text(file, "\n".join(["# path, and why it is here", *lines, *before]) + "\n")


def _read_list(file: Path) -> list[str]:
    lines = file.read_text(encoding="utf-8-sig").split("\n")  # it was read before
    return [line for line in lines if line and not line.startswith("# ")]
