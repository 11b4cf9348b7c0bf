"""Near-duplicate detection: recall on changed copies of real photos, time and memory by size.

    python benchmarks/near_duplicates.py --data_dir produce --plot docs/duplicates.png

Plants changed copies of real photos and counts which are found (recall), and lists the groups among
the original photos (to be checked by a person). Then times the scan and the search on drawn images,
in a separate process for each size. Only `train` of the data is read.
"""

import argparse
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import psutil
from matplotlib.figure import Figure
from PIL import Image, ImageEnhance, ImageOps
from tqdm import tqdm

from hffruits.data.near_duplicates import Fingerprints, fingerprint, group_duplicates
from hffruits.data.readers.folders import find_image_files
from hffruits.data.scan import NamedImage, scan_images

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.drawing import FRUITS, draw_fruit

COPIES = 300  # of each change


def recompress(image: Image.Image, quality: int = 30) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def crop(image: Image.Image, share: float, rng: random.Random) -> Image.Image:
    """A random window without this share of the width and of the height."""
    width, height = (round(side * (1 - share)) for side in image.size)
    left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    return image.crop((left, top, left + width, top + height))


CHANGES = {
    "recompressed, quality 30": lambda image, rng: recompress(image),
    "resized to half": lambda image, rng: image.resize([side // 2 for side in image.size]),
    "mirrored": lambda image, rng: ImageOps.mirror(image),
    "brighter by 30 %": lambda image, rng: ImageEnhance.Brightness(image).enhance(1.3),
    "darker by 30 %": lambda image, rng: ImageEnhance.Brightness(image).enhance(0.7),
    "cropped 5 %, at random": lambda image, rng: crop(image, 0.05, rng),
    "cropped 5 %, one edge": lambda image, rng: image.crop(
        (round(0.05 * image.width), 0, image.width, image.height)
    ),
    "cropped 5 %, 200 pixels, brighter, quality 50": lambda image, rng: recompress(
        ImageEnhance.Brightness(crop(image, 0.05, rng).resize((200, 200))).enhance(1.2), 50
    ),
    "cropped 10 %, at random": lambda image, rng: crop(image, 0.1, rng),
}


def measure_recall(root: Path) -> None:
    """Print a row for each change, and the groups among the originals."""
    paths = [root / photo.path for photo in find_image_files(root)["train"]]
    images = [Image.open(path).convert("RGB") for path in tqdm(paths, "Reading", leave=False)]
    prints = [fingerprint(image) for image in images]
    groups = group_all(prints)
    members = defaultdict(list)
    for path, group in zip(paths, groups, strict=True):
        members[group].append(path.relative_to(root).as_posix())
    joined = [names for names in members.values() if len(names) > 1]
    print("| change | planted | found | in a wrong group |\n|---|---|---|---|")
    rng = random.Random(0)
    for name, change in CHANGES.items():
        chosen = rng.sample(range(len(images)), min(COPIES, len(images)))
        copies = [fingerprint(change(images[index], rng)) for index in chosen]
        numbers = group_all([*prints, *copies])
        found = wrong = 0
        for place, index in enumerate(chosen, len(images)):
            found += numbers[place] == numbers[index]
            others = np.flatnonzero(numbers[: len(images)] == numbers[place])
            wrong += bool(set(groups[others]) - {groups[index]})
        print(f"| {name} | {len(chosen)} | {found / len(chosen):.1%} | {wrong} |", flush=True)
    print(f"\n{len(joined)} groups among the {len(images)} originals:")
    for names in joined:
        print("-", ", ".join(names))


def group_all(prints: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    grey, colour = (np.stack(part) for part in zip(*prints, strict=True))
    digests = [str(index).encode() for index in range(len(prints))]
    return group_duplicates(Fingerprints(grey, colour), digests, progress=False)


def write_images(folder: Path, count: int) -> None:
    """Different images of 128 pixels: crops of two drawn fruits blended, and noise."""
    rng = np.random.default_rng(0)
    base = [draw_fruit(name, seed=seed, size=192) for name in FRUITS for seed in range(20)]
    for number in tqdm(range(count), "Drawing", unit="img", leave=False):
        a, b = (base[index] for index in rng.integers(0, len(base), 2))
        crops = []
        for drawn in (a, b):
            side = int(rng.integers(90, 180))
            left, top = (int(rng.integers(0, 192 - side)) for _ in range(2))
            crops.append(drawn.resize((128, 128), box=(left, top, left + side, top + side)))
        noise = Image.fromarray(rng.integers(0, 255, (9, 9, 3), dtype=np.uint8))
        image = Image.blend(*crops, float(rng.uniform(0.3, 0.7)))
        image = Image.blend(image, noise.resize((128, 128), Image.Resampling.BICUBIC), 0.25)
        place = folder / f"{number // 1000:03d}"
        place.mkdir(exist_ok=True)
        image.save(place / f"{number:06d}.jpg", quality=85)


class Memory:
    """Peak memory of this process between construction and `stop`, in bytes above the start."""

    def __init__(self):
        self.process = psutil.Process()
        self.before = self.peak = self.process.memory_info().rss
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _watch(self) -> None:
        while not self.done.wait(0.02):
            self.peak = max(self.peak, self.process.memory_info().rss)

    def stop(self) -> int:
        self.done.set()
        self.thread.join()
        return self.peak - self.before


def time_one(folder: Path, count: int) -> None:
    """Scan and search once; print seconds and memory as JSON."""
    paths = sorted(folder.rglob("*.jpg"))[:count]
    memory = Memory()
    started = time.perf_counter()
    images = (NamedImage(path.name, path) for path in paths)
    records = scan_images(images, total=count, cache_name=str(folder))
    scanned = time.perf_counter()
    prints = Fingerprints(records["grey"], records["colour"])
    groups = group_duplicates(prints, records["digest"].tolist())
    ended = time.perf_counter()
    peak = memory.stop()
    started_again = time.perf_counter()
    images = (NamedImage(path.name, path) for path in paths)
    scan_images(images, total=count, cache_name=str(folder))
    row = {
        "images": count,
        "scan": scanned - started,
        "search": ended - scanned,
        "second scan": time.perf_counter() - started_again,
        "memory": peak / 1e6,
        "groups": len(set(groups.tolist())),
    }
    print(json.dumps(row))


def measure_scaling(sizes: list[int], plot: Path | None) -> None:
    """Print a row for each size."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "images"
        folder.mkdir()
        write_images(folder, max(sizes))
        print("\n| images | scan | search | both | second scan | memory | groups |")
        print("|---|---|---|---|---|---|---|")
        for size in sizes:
            environment = {**os.environ, "HFFRUITS_CACHE": str(Path(name) / f"cache-{size}")}
            command = [sys.executable, __file__, "--time_one", str(folder), str(size)]
            done = subprocess.run(
                command, env=environment, stdout=subprocess.PIPE, text=True, check=True
            )
            row = json.loads(done.stdout)
            rows.append(row)
            print(
                f"| {size:,} | {row['scan']:.1f} s | {row['search']:.1f} s "
                f"| {row['scan'] + row['search']:.1f} s | {row['second scan']:.1f} s "
                f"| {row['memory']:.0f} MB | {row['groups']:,} |",
                flush=True,
            )
    if plot:
        draw(rows, plot)


def draw(rows: list[dict], file: Path) -> None:
    """Seconds against number of images, both logarithmic, with a line of linear growth."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    sizes = [row["images"] for row in rows]
    for part, label in (("scan", "scan (cached per file)"), ("search", "near-duplicate search")):
        axes.plot(sizes, [row[part] for row in rows], "o-", label=label)
    first = rows[0]["scan"]
    linear = [first * size / sizes[0] for size in sizes]
    axes.plot(sizes, linear, color="0.7", linestyle="--", label="linear")
    axes.set(xscale="log", yscale="log", xlabel="images", ylabel="seconds")
    axes.grid(color="0.93")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(file, dpi=120)


def main() -> None:
    if sys.argv[1:2] == ["--time_one"]:
        return time_one(Path(sys.argv[2]), int(sys.argv[3]))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, help="photos to plant copies of")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1000, 10_000, 100_000])
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    if args.data_dir:
        measure_recall(args.data_dir)
    if args.sizes:
        measure_scaling(args.sizes, args.plot)


if __name__ == "__main__":
    main()
