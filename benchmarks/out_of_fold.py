"""Out-of-fold accuracy of training settings, on photos unlike those that were trained on.

    python benchmarks/out_of_fold.py DATA_DIR --output_dir runs/out_of_fold [--rows NAME ...]

`DATA_DIR` has train and validation folders and no test folder. Each class's training photos are
divided into folds of photos that look alike (Ward clusters of a backbone's features), and each fold
is measured by a model that was trained on the others: what carries over to other shops gains here,
where random folds give 98 % whatever is done. The validation photos choose the epoch and the
temperature, as always. Finished runs are not repeated.
"""

import argparse
import json
import math
import shutil
from pathlib import Path

import numpy as np
from sklearn.cluster import AgglomerativeClustering

from hffruits.core.malloc import keep_freed_memory
from hffruits.data.load import load_fruits
from hffruits.exploration.embeddings import embed_images
from hffruits.training.parser import parse_train_arguments
from hffruits.training.run import train

FOLDS = 3
RANDOM = ["--linear_probe=false"]  # and with it the learning rate that suits a random head
SAME_SIZE = ["--image_size=224"]
# name -> flags added to --recipe
ROWS: dict[str, list[str]] = {
    "recipe": [],
    "as many pixels as in training": SAME_SIZE,
    "288 pixels": ["--image_size=288", "--train_image_size=224"],
    "head from random": RANDOM,
    "head from random, as many pixels as in training": [*RANDOM, *SAME_SIZE],
    "head from random, lr 3e-4": [*RANDOM, "--learning_rate=3e-4"],
    "lr 1e-3": ["--learning_rate=1e-3"],
    "lr 1e-4": ["--learning_rate=1e-4"],
    "16 epochs": ["--num_train_epochs=16"],
    "12 views": ["--num_train_epochs=12", "--feature_cache_views=12"],
    "no label smoothing": ["--label_smoothing_factor=0"],
    "freeze half": ["--freeze=half"],
}


def write_folds(data_dir: Path, folder: Path) -> list[Path]:
    """Split lists that each hold out another fold of the training photos as a test split."""
    data = load_fruits(data_dir)
    train_split, paths = data.split("train"), data["train"]["path"]
    features = embed_images([data_dir / path for path in paths], total=len(paths))
    labels, fold = np.array(train_split.labels), np.zeros(len(paths), int)
    rng = np.random.default_rng(0)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        clusters = AgglomerativeClustering(min(FOLDS, len(rows))).fit_predict(features[rows])
        fold[rows] = rng.permutation(FOLDS)[clusters]
    places = [folder / f"fold-{number}" for number in range(FOLDS)]
    for number, place in enumerate(places):
        place.mkdir(parents=True, exist_ok=True)
        lists = {
            "train": [path for path, own in zip(paths, fold, strict=True) if own != number],
            "test": [path for path, own in zip(paths, fold, strict=True) if own == number],
            "validation": data["validation"]["path"],
        }
        for split, listed in lists.items():
            (place / f"{split}.txt").write_text("".join(f"{path}\n" for path in listed))
    return places


def run_fold(flags: list[str], data_dir: Path, lists: Path, folder: Path) -> dict:
    """Train on all folds but one, or read the earlier results; the weights are deleted."""
    if not (folder / "metrics.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        own = [f"--split_lists={lists}", f"--output_dir={folder}", "--save_total_limit=1"]
        train(*parse_train_arguments([str(data_dir), *own, *flags]))
        for file in folder.rglob("*.safetensors"):
            file.unlink()
    return json.loads((folder / "metrics.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--output_dir", type=Path, default=Path("runs/out_of_fold"))
    parser.add_argument("--recipe", default="fast", help="[%(default)s]")
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS), metavar="NAME")
    parser.add_argument("--seeds", nargs="*", type=int, default=[42], help="[%(default)s]")
    args = parser.parse_args()
    if (args.data_dir / "test").exists():
        parser.error(f"{args.data_dir}: has a test folder. Give a folder with only train and val.")
    keep_freed_memory()  # as the command line does
    lists = write_folds(args.data_dir, args.output_dir / "folds")
    print("| run | seeds | out of fold | standard error | validation |\n" + 5 * "|---" + "|")
    for name in args.rows:
        runs = [
            run_fold(
                [f"--recipe={args.recipe}", f"--seed={seed}", *ROWS[name]],
                args.data_dir,
                fold,
                args.output_dir / f"{args.recipe}-{name.replace(' ', '_')}-{seed}-{fold.name}",
            )
            for seed in args.seeds
            for fold in lists
        ]
        images = sum(run["test"]["images"] for run in runs)
        right = sum(run["test"]["accuracy"] * run["test"]["images"] for run in runs) / images
        error = math.sqrt(right * (1 - right) * len(args.seeds) / images)
        validation = np.mean([run["validation"]["accuracy"] for run in runs])
        print(
            f"| {name} | {len(args.seeds)} | {right:.1%} | {error:.1%} | {validation:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
