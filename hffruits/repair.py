"""What is better left out of a data set, why, and a copy without it; originals stay untouched."""

import logging
import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from tqdm.auto import tqdm

from hffruits.checking import Part
from hffruits.errors import InputError

logger = logging.getLogger(__name__)
KEPT_FIRST = ("test", "validation", "train")  # of near-duplicates, the side that stays


def choose_repairs(parts: Mapping[str, Part]) -> dict[str, dict[int, str]]:
    """Split -> row -> why it is better left out.

    A photo in two classes goes with all its copies, for one label is wrong and nobody knows which;
    of near-duplicates in several splits those in the test stay, else those in validation; of exact
    copies in one split the first one stays.
    """
    members: dict[int, list[tuple[str, int]]] = defaultdict(list)
    labels = {split: part.rows["label"][:] for split, part in parts.items()}
    for split in KEPT_FIRST:
        if split in parts:
            for row, group in enumerate(parts[split].groups.tolist()):
                members[group].append((split, row))
    repairs: dict[str, dict[int, str]] = {split: {} for split in parts}
    for group in members.values():
        kept, own = group[0]  # on the side that stays
        classes = sorted({labels[split][row] for split, row in group})
        seen = set()
        for split, row in group:
            digest = parts[split].records["digest"][row]
            if len(classes) > 1:
                repairs[split][row] = f"in several classes: {', '.join(classes)}"
            elif split != kept:
                first = parts[kept].rows[own]["path"]
                repairs[split][row] = f"near-duplicate of {first} in {kept}"
            elif digest in seen:
                repairs[split][row] = "exact copy"
            seen.add(digest)
    return repairs


def without(parts: Mapping[str, Part], repairs: dict[str, dict[int, str]]) -> dict[str, Part]:
    """The parts less what is to be left out. Raises `InputError` where a split would be empty."""
    kept = {}
    for split, part in parts.items():
        rows = [row for row in range(len(part.rows)) if row not in repairs[split]]
        if not rows:
            raise InputError(f"{split}: nothing is left after the repair. Add --resplit.")
        kept[split] = part.take(rows)
    return kept


def write_exclusions(reasons: dict[str, str], file: Path) -> None:
    """A list for `--exclude`: a path a line, and why."""
    lines = [f"{path}\t{reason}" for path, reason in sorted(reasons.items())]
    file.write_text("\n".join(["# path, and why it is left out", *lines]) + "\n", encoding="utf-8")


def write_copy(parts: Mapping[str, Part], coarse: Mapping[str, str], folder: Path) -> int:
    """Copy the photos to `folder`/split/[coarse/]class/name; returns how many.

    Raises `InputError` for a folder that is not empty, and where the disk is full.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: not empty. Name another output_dir.")
    total = sum(len(part.rows) for part in parts.values())
    bar = tqdm(total=total, desc="Copying", unit="img", leave=False)
    try:
        for split, part in parts.items():
            taken: set[Path] = set()
            for row, record in zip(part.rows, part.records, strict=True):
                own = coarse.get(row["label"])
                middle = [own] if own and own != row["label"] else []
                name = _file_name(row["path"], record["format"].decode())
                target = _free(folder.joinpath(split, *middle, row["label"], name), taken)
                target.parent.mkdir(parents=True, exist_ok=True)
                if row["image"]["bytes"] is None:
                    shutil.copy2(row["image"]["path"], target)
                else:
                    target.write_bytes(row["image"]["bytes"])
                bar.update()
    except OSError as error:
        raise InputError(
            f"{folder}: copying stopped ({error.strerror}). Make room, remove it and try again."
        ) from error
    finally:
        bar.close()
    return total


def count_by_reason(reasons: Mapping[str, str]) -> dict[str, int]:
    """How many are left out for each kind of reason."""
    kinds: dict[str, int] = defaultdict(int)
    for reason in reasons.values():
        kinds[reason.split(" of ")[0].split(": ")[0]] += 1
    return dict(kinds)


def _file_name(path: str, form: str) -> str:
    """The last part of a row's name, with a suffix that image folders know."""
    name = path.rpartition("/")[2].replace("\\", "_").replace("\0", "_") or "photo"
    known = Path(name).suffix.lower()[1:] in {"jpg", form.lower(), *_SUFFIXES.values()}
    return name if known else f"{name}.{_SUFFIXES.get(form, form.lower())}"


_SUFFIXES = {"JPEG": "jpg", "TIFF": "tif", "JPEG2000": "jp2", "PNG": "png", "WEBP": "webp",
             "BMP": "bmp", "GIF": "gif", "AVIF": "avif", "PPM": "ppm"}  # fmt: skip


def _free(path: Path, taken: set[Path]) -> Path:
    """The path, or one like it that no other photo has."""
    free, number = path, 1
    while free in taken:
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    taken.add(free)
    return free


def paths_of(parts: Mapping[str, Part], repairs: dict[str, dict[int, str]]) -> dict[str, str]:
    """Path -> reason, over all splits."""
    return {
        part.rows[row]["path"]: reason
        for split, part in parts.items()
        for row, reason in repairs[split].items()
    }
