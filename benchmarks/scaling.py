"""Scaling: start-up time, speed and memory of training by number of photos, classes, processes.

    python benchmarks/scaling.py --output_dir runs/scaling

Folders of small JPEGs (96 x 96 pixels of noise, all different) are generated and removed. Each run
is a separate process with its own cache, and is repeated: the second run finds the scan of the
first. Times are from the start of the process. Prints tables and plots `scaling.png`.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from tqdm import tqdm

STEPS = 12  # after the first one, which includes set-up
BATCH = 32
RUN = [
    *("--image_size", "96", "--feature_cache_views", "0", "--bf16", "false", "--max_steps"),
    *(str(STEPS + 1), "--eval_strategy", "no", "--save_strategy", "no"),
    *("--load_best_model_at_end", "false", "--disable_tqdm", "true", "--logging_steps", "1000"),
]


def make_photos(folder: Path, images: int, classes: int) -> Path:
    """`images` JPEGs in `classes` folders, and a tenth as many for validation; all different."""

    def draw(number: int) -> None:
        split, label = ("train", number) if number < images else ("val", number - images)
        noise = np.random.default_rng(number).integers(0, 256, (6, 6, 3), np.uint8)
        image = Image.fromarray(noise).resize((96, 96), Image.Resampling.BICUBIC)
        image.save(folder / split / f"class {label % classes:05d}" / f"{number:06d}.jpg")

    for split in ("train", "val"):
        for label in range(classes):
            (folder / split / f"class {label:05d}").mkdir(parents=True)
    total = images + max(images // 10, classes)
    with ThreadPoolExecutor() as pool:
        list(tqdm(pool.map(draw, range(total)), f"{images:,} photos", total, leave=False))
    return folder


def start(data: str, output_dir: str) -> None:
    """Run up to the last step; print a line of JSON."""
    import hffruits.training.setup
    from hffruits.training import run as training
    from hffruits.training import trainer as trainers
    from hffruits.training.parser import parse_train_arguments

    began = psutil.Process().create_time()
    found: dict[str, float] = {}
    load = training.load_datasets

    def timed_load(*args, **kwargs):
        datasets = load(*args, **kwargs)
        found["photos"] = time.time() - began
        return datasets

    class Timed(trainers.FruitTrainer):
        def training_step(self, *args, **kwargs):
            loss = super().training_step(*args, **kwargs)
            found.setdefault("first", time.time() - began)
            return loss

        def train(self, *args, **kwargs):
            super().train(*args, **kwargs)
            spent = time.time() - began - found["first"]
            found["rate"] = STEPS * BATCH / spent
            found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(json.dumps(found), flush=True)
            os._exit(0)  # what follows training isn't measured

    training.load_datasets = timed_load
    hffruits.training.setup.FruitTrainer = Timed
    training.train(*parse_train_arguments([data, "--output_dir", output_dir, *RUN]))


def measure(data: Path, folder: Path) -> dict[str, float]:
    """One run in a separate process."""
    command = [sys.executable, __file__, "--start", str(data), str(folder / "run")]
    environment = os.environ | {"HFFRUITS_CACHE": str(folder / "cache")}
    environment["HF_DATASETS_CACHE"] = str(folder / "datasets")
    shutil.rmtree(folder / "run", ignore_errors=True)
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def by_size(sizes: list[tuple[int, int]], folder: Path) -> list[dict[str, float]]:
    """The first and the second run for each of (photos, classes)."""
    rows = []
    print(
        "\n| photos | classes | photos scanned, first run | second | first step, first run "
        "| second | images/s | peak memory |\n|---|---|---|---|---|---|---|---|"
    )
    for images, classes in sizes:
        place = folder / f"{images}-{classes}"
        shutil.rmtree(place, ignore_errors=True)
        data = make_photos(place / "photos", images, classes)
        first, second = measure(data, place), measure(data, place)
        rows.append({"images": images, "classes": classes, "first": first, "second": second})
        print(
            f"| {images:,} | {classes:,} | {first['photos']:.0f} s | {second['photos']:.0f} s "
            f"| {first['first']:.0f} s | {second['first']:.0f} s | {second['rate']:.0f} "
            f"| {max(first['peak_mb'], second['peak_mb']):,.0f} MB |",
            flush=True,
        )
        shutil.rmtree(place)
    return rows


def by_processes(counts: list[int], folder: Path) -> None:
    """Images/s by number of processes on this machine; the global batch grows with it."""
    shutil.rmtree(folder / "shared", ignore_errors=True)
    data = make_photos(folder / "shared" / "photos", 2000, 10)
    print("\n| processes | images/s | speed-up |\n|---|---|---|")
    rates: list[float] = []
    for count in counts:
        launch = [str(Path(sys.executable).with_name("accelerate")), "launch", "--cpu"]
        launch += [f"--num_processes={count}", "--num_machines=1", "--mixed_precision=no"]
        launch += ["--dynamo_backend=no", str(Path(__file__).parents[1] / "scripts" / "train.py")]
        run = folder / "shared" / f"run-{count}"
        words = ["--output_dir", str(run), *RUN]
        words[words.index("--max_steps") + 1] = "30"
        environment = os.environ | {"HFFRUITS_CACHE": str(folder / "shared" / "cache")}
        done = subprocess.run(
            [*launch, str(data), *words], env=environment, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(done.stderr)
        metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
        rates.append(metrics["training"]["images_per_second"])
        print(f"| {count} | {rates[-1]:.0f} | {rates[-1] / rates[0]:.2f} |", flush=True)
    shutil.rmtree(folder / "shared")


def draw(rows: list[dict], file: Path) -> None:
    """Plot seconds to the first step against the number of photos."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    counts = [row["images"] for row in rows]
    for run, title in (("first", "first run"), ("second", "second run, cached scan")):
        axes.plot(counts, [row[run]["first"] for row in rows], "o-", label=title)
    axes.set(xscale="log", yscale="log", xlabel="photos", ylabel="seconds to the first step")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.savefig(file, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100, 1_000, 10_000])
    parser.add_argument("--photos_by_class", type=int, default=20_000, help="for --classes")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--start", nargs=2, help=argparse.SUPPRESS)
    if "--start" in sys.argv:
        start(*sys.argv[2:4])
    args = parser.parse_args()
    rows = by_size([(images, 50) for images in args.images], args.output_dir)
    draw(rows, args.output_dir / "scaling.png")
    by_size([(args.photos_by_class, classes) for classes in args.classes], args.output_dir)
    by_processes(args.processes, args.output_dir)


if __name__ == "__main__":
    main()
