"""Accuracy of training on streamed WebDataset shards against the same photos in folders.

    python benchmarks/streaming.py --data_dir produce --seeds 3

Packs `train` and `val` into shards in a temporary folder, trains the `fast` recipe on both with
each seed, and prints a table of validation results. The test split is neither packed nor read.
"""

import argparse
import io
import random
import statistics
import tarfile
import tempfile
import time
from pathlib import Path

from hffruits.data.readers.folders import find_image_files
from hffruits.training.parser import parse_train_arguments
from hffruits.training.run import train

ROWS_PER_SHARD = 200


def pack(root: Path, folder: Path) -> None:
    """Write the photos of train and validation as shuffled shards of jpg and txt members."""
    for split, photos in find_image_files(root).items():
        if split == "test":
            continue
        random.Random(0).shuffle(photos)
        for start in range(0, len(photos), ROWS_PER_SHARD):
            shard = folder / f"{split}-{start // ROWS_PER_SHARD:03d}.tar"
            with tarfile.open(shard, "w") as tar:
                for number, photo in enumerate(photos[start : start + ROWS_PER_SHARD], start):
                    suffix = photo.path.suffix.lower()
                    for ending, content in (
                        (suffix, (root / photo.path).read_bytes()),
                        (".txt", photo.label.encode()),
                    ):
                        member = tarfile.TarInfo(f"{split}{number:06d}{ending}")
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))


def link_without_test(root: Path, folder: Path) -> None:
    """A folder with the same train and validation photos, without the test split."""
    for split, photos in find_image_files(root).items():
        if split != "test":
            top = photos[0].path.parts[0]
            (folder / top).symlink_to((root / top).resolve(), target_is_directory=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="folder with train and val")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipe", default="fast")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        shards, folders = work / "shards", work / "folders"
        shards.mkdir()
        folders.mkdir()
        pack(args.data_dir, shards)
        link_without_test(args.data_dir, folders)
        print("| input | validation top-1 by seed | mean | validation loss | images/s | seconds |")
        print("|---|---|---|---|---|---|")
        for title, data, flags in (
            ("folders", folders, []),
            ("streamed shards", shards, ["--streaming", "--shuffle_buffer=500"]),
        ):
            runs = []
            for seed in range(args.seeds):
                started = time.perf_counter()
                place = work / "runs" / title / str(seed)
                command = [
                    *(str(data), f"--recipe={args.recipe}", f"--seed={seed}", "--bf16=false"),
                    *("--disable_tqdm=true", f"--output_dir={place}", *flags),
                ]
                runs.append((train(*parse_train_arguments(command)), time.perf_counter() - started))
            scores = [metrics["validation"]["accuracy"] for metrics, _ in runs]
            losses = [metrics["validation"]["loss"] for metrics, _ in runs]
            rates = [metrics["training"]["images_per_second"] for metrics, _ in runs]
            seconds = [spent for _, spent in runs]
            print(
                f"| {title} | {', '.join(f'{100 * score:.1f}' for score in scores)} "
                f"| {100 * statistics.mean(scores):.1f} % | {statistics.mean(losses):.3f} "
                f"| {statistics.mean(rates):.1f} | {statistics.mean(seconds):.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
