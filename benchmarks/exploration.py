"""Recall and precision of `hffruits explore` on planted faults: label errors, leaks, conflicts.

    python benchmarks/exploration.py --data_dir produce

Copies `train` and `val` into a temporary folder, explores the copy, plants faults in another,
explores that, and prints a table. Findings of the first exploration are not counted, because
their truth is unknown. Label errors are planted once among all classes, and once among those of one
parent folder. `test` is not read.
"""

import argparse
import random
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

from PIL import Image

from hffruits.data.arguments import DataArguments
from hffruits.data.readers.folders import ImageFile, find_image_files
from hffruits.exploration.run import explore

LEAKS, CONFLICTS, UNREADABLE = 30, 30, 20
LABEL_ERRORS = 0.05


class Copy:
    """A copy of the data in `folder`, in which faults are planted."""

    def __init__(self, root: Path, folder: Path):
        self.folder = folder
        self.photos: dict[str, list[ImageFile]] = {}
        for split, photos in find_image_files(root).items():
            if split != "test":
                self.photos[split] = photos
                for photo in photos:
                    (folder / photo.path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(root / photo.path, folder / photo.path)
        self.folders: dict[str, dict[str, Path]] = {  # split -> class -> folder
            split: {photo.label: photo.path.parent for photo in photos}
            for split, photos in self.photos.items()
        }

    def plant_leaks(self, rng: random.Random) -> list[set[str]]:
        """Add changed copies of training photos to validation; returns the pairs."""
        pairs = []
        both = [p for p in self.photos["train"] if p.label in self.folders["validation"]]
        for number, photo in enumerate(rng.sample(both, LEAKS)):
            image = Image.open(self.folder / photo.path).convert("RGB")
            width, height = image.size
            changed = [
                lambda image=image: image,
                lambda image=image: image.resize((image.width // 2, image.height // 2)),
                lambda image=image, w=width, h=height: image.crop((w // 20, h // 20, w, h)),
            ][number % 3]()
            place = self.folders["validation"][photo.label] / f"leak{number}.jpg"
            changed.save(self.folder / place, quality=60)
            pairs.append({photo.path.as_posix(), place.as_posix()})
        return pairs

    def plant_conflicts(self, rng: random.Random) -> list[set[str]]:
        """Add recompressed copies to another class of train; returns the pairs."""
        pairs = []
        for number, photo in enumerate(rng.sample(self.photos["train"], CONFLICTS)):
            others = sorted(set(self.folders["train"]) - {photo.label})
            place = self.folders["train"][rng.choice(others)] / f"conflict{number}.jpg"
            Image.open(self.folder / photo.path).save(self.folder / place, quality=70)
            pairs.append({photo.path.as_posix(), place.as_posix()})
        return pairs

    def plant_unreadable(self, rng: random.Random) -> set[str]:
        """Add truncated, empty and non-image files; returns their paths."""
        paths = set()
        for number, photo in enumerate(rng.sample(self.photos["train"], UNREADABLE)):
            content = (self.folder / photo.path).read_bytes()
            broken = [content[: len(content) // 2], b"", b"no image"][number % 3]
            place = photo.path.with_name(f"corrupt{number}.jpg")
            (self.folder / place).write_bytes(broken)
            paths.add(place.as_posix())
        return paths

    def plant_label_errors(self, rng: random.Random, *, similar: bool) -> set[str]:
        """Move training photos into another class, or into another one of the same folder."""
        folders = self.folders["train"]
        near = defaultdict(list)
        for label, folder in folders.items():
            near[folder.parent].append(label)
        choices = {
            label: sorted(set(near[folder.parent] if similar else folders) - {label})
            for label, folder in folders.items()
        }
        movable = [photo for photo in self.photos["train"] if choices[photo.label]]
        count = round(LABEL_ERRORS * len(self.photos["train"]))
        moved = set()
        for number, photo in enumerate(rng.sample(movable, count)):
            place = folders[rng.choice(choices[photo.label])] / f"moved{number}.jpg"
            (self.folder / photo.path).rename(self.folder / place)
            moved.add(place.as_posix())
        left = [p for p in self.photos["train"] if (self.folder / p.path).exists()]
        self.photos["train"] = left
        return moved


def find(folder: Path, output: Path) -> dict[str, list]:
    """The findings of `explore`: id -> files, or groups of files."""
    record = explore(DataArguments(data_dir=str(folder)), output_dir=output).record
    return {f["id"]: f.get("groups") or f.get("files") or [] for f in record["findings"]}


def row(name: str, planted: list, reported: list, before: list, neutral: set[str]) -> str:
    """A table row with recall and precision.

    A pair is found if both are in one group; a group is correct if it holds a planted pair.
    `neutral` are photos with another fault, which don't count as false positives.
    """
    old = [set(entry) if isinstance(entry, list) else {entry} for entry in before]
    new = [set(entry) if isinstance(entry, list) else {entry} for entry in reported]
    new = [entry for entry in new if entry not in old and not entry <= neutral]
    wanted = [entry if isinstance(entry, set) else {entry} for entry in planted]
    found = sum(any(want <= entry for entry in new) for want in wanted)
    correct = sum(any(want <= entry for want in wanted) for entry in new)
    precision = f"{correct / len(new):.0%}" if new else "-"
    return (
        f"| {name} | {len(wanted)} | {found / len(wanted):.0%} | {len(new)} | {precision} "
        f"| {len(old)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="folder with train and val")
    args = parser.parse_args()
    print("| fault | planted | recall | reported | precision | reported before |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        clean = Copy(args.data_dir, work / "clean")
        before = find(clean.folder, work / "report-clean")
        for similar in (False, True):
            rng = random.Random(0)
            copy = Copy(args.data_dir, work / f"planted-{similar}")
            moved = copy.plant_label_errors(rng, similar=similar)
            planted = {"label_errors": sorted(moved)}
            if not similar:
                planted |= {
                    "leaks": copy.plant_leaks(rng),
                    "conflicts": copy.plant_conflicts(rng),
                    "unreadable": sorted(copy.plant_unreadable(rng)),
                }
            found = find(copy.folder, work / f"report-{similar}")
            for id, faults in planted.items():
                title = id
                if id == "label_errors":
                    title += f", {'similar' if similar else 'any'} classes"
                others = [v for k, v in planted.items() if k == "conflicts" and k != id]
                neutral = {path for pairs in others for pair in pairs for path in pair}
                print(row(title, faults, found.get(id, []), before.get(id, []), neutral))


if __name__ == "__main__":
    main()
