"""Few-shot learning: accuracy on taught classes, and its effect on the old classes.

    python benchmarks/teach.py --data_dir produce --output_dir runs/teach

Leaves some classes out of training (the `fast` recipe on the others), then teaches them one after
the other from a few training photos each; seeds draw the photos and the order. Old classes are
measured on their validation photos, new ones on all their photos that weren't taught. The test
split is not read. An existing model in `output_dir` is reused.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from torch.nn.functional import normalize
from tqdm import tqdm

from hffruits.data.readers.folders import ImageFile, find_image_files
from hffruits.inference.classifier import FruitClassifier
from hffruits.inference.few_shot import fit_row, teach
from hffruits.models.heads import last_layers
from hffruits.training.parser import parse_train_arguments
from hffruits.training.run import train

Row = tuple[torch.Tensor, torch.Tensor]


def hold_out(names: list[str], count: int) -> list[str]:
    """Some of the names, evenly spaced."""
    return [names[(2 * i + 1) * len(names) // (2 * count)] for i in range(count)]


def train_without(root: Path, photos: list[ImageFile], held_out: list[str], run: Path) -> None:
    """The `fast` recipe on the photos of the other classes."""
    with tempfile.TemporaryDirectory() as folder:
        for photo in photos:
            if photo.label not in held_out:
                place = Path(folder, photo.path)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to((root / photo.path).resolve())
        command = [folder, "--recipe=fast", f"--output_dir={run}", "--bf16=false"]
        train(*parse_train_arguments([*command, "--disable_tqdm=true"]))


# ---- other methods for the new row ----


def imprint(features: torch.Tensor, others: torch.Tensor, weight: torch.Tensor, bias) -> Row:
    """The mean of the features as a row (arXiv:1712.07136), scaled to the norm of the others."""
    row = normalize(normalize(features, dim=1).mean(0), dim=0) * weight.norm(dim=1).mean()
    return row, bias.mean()


def between(row: torch.Tensor, features, others, weight, bias) -> Row:
    """The bias halfway between the new photos and the nearest 2 % of the prototypes."""
    need, kept = ((some @ weight.T + bias).logsumexp(1) - some @ row for some in (features, others))
    return row, (need.mean() + kept.quantile(0.02)) / 2


def imprint_between(*given: torch.Tensor) -> Row:
    return between(imprint(*given)[0], *given)


def discriminate(features, others, weight, bias) -> Row:
    """Linear discriminant with the covariance of the prototypes, shrunk by a tenth."""
    middle = others.mean(0)
    covariance = (others - middle).T @ (others - middle) / len(others)
    covariance += 0.1 * covariance.diagonal().mean() * torch.eye(len(middle))
    row = torch.linalg.solve(covariance, features.mean(0) - middle)
    row = normalize(row, dim=0) * weight.norm(dim=1).mean()
    return between(row, features, others, weight, bias)


def fit_jittered(features, others, weight, bias) -> Row:
    """The prototypes, and four copies of each, jittered by deviations of the new photos."""
    draws = torch.Generator().manual_seed(0)
    apart = features - features.mean(0)
    moved = others.repeat(4, 1)
    moved = moved + 0.5 * apart[torch.randint(len(apart), (len(moved),), generator=draws)]
    return fit_row(features, torch.cat([others, moved]), weight, bias)


METHODS: dict[str, Callable[..., Row]] = {
    "logistic regression (used)": fit_row,
    "logistic regression, jittered prototypes": fit_jittered,
    "linear discriminant": discriminate,
    "imprinted (arXiv:1712.07136), bias halfway": imprint_between,
    "imprinted, mean bias": imprint,
}


# ---- metrics ----


def embed(fruits: FruitClassifier, files: list[Path]) -> torch.Tensor:
    """Features (N, D), which teaching doesn't change."""
    return torch.cat([outputs.features for outputs in fruits.infer(tqdm(files, leave=False))])


def accuracy(fruits: FruitClassifier, features: torch.Tensor, labels: list[str]) -> float:
    with torch.inference_mode():
        predicted = last_layers(fruits.model)[0](features).argmax(1).tolist()
    return float(
        np.mean([fruits.labels[k] == own for k, own in zip(predicted, labels, strict=True)])
    )


def unknown(fruits: FruitClassifier, features: torch.Tensor) -> float:
    """Fraction of the images that are rejected as unknown."""
    return float((fruits.ood_score(features) > fruits.ood_threshold).mean())


def teach_all(
    fruits: FruitClassifier,
    new: dict[str, dict[Path, torch.Tensor]],
    old: tuple[torch.Tensor, list[str]],
    teachable: set[Path],
    *,
    shots: int,
    seed: int,
) -> tuple[list[float], dict[str, float]]:
    """Teach every class of `new` (file -> features); returns a row of the table, and recalls.

    `old`: features (N, D) and labels of photos of old classes. `teachable`: the training photos.
    """
    rng = np.random.default_rng(seed)
    taught, rest, seconds, gained = fruits, {}, [], []
    for name in rng.permutation(list(new)).tolist():
        files = [file for file in new[name] if file in teachable]
        picked = [files[number] for number in rng.permutation(len(files))[:shots]]
        rest[name] = torch.stack([row for file, row in new[name].items() if file not in picked])
        started = time.monotonic()
        taught = teach(taught, name, picked)
        seconds.append(time.monotonic() - started)
        gained.append(100 * (accuracy(taught, *old) - accuracy(fruits, *old)))
    features, counts = torch.cat(list(rest.values())), {name: len(rest[name]) for name in rest}
    recalls = {name: accuracy(taught, rows, [name] * len(rows)) for name, rows in rest.items()}
    whole = sum(recalls[name] * count for name, count in counts.items()) / len(features)
    rejected = [unknown(one, some) for some in (features, old[0]) for one in (fruits, taught)]
    return [gained[0], gained[-1], whole, *rejected, float(np.median(seconds))], recalls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="folder with train and val")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of the model")
    parser.add_argument("--held_out", type=int, default=8, help="number of classes to teach")
    parser.add_argument("--shots", type=int, nargs="+", default=[3, 5, 10], help="photos per class")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    found = dict(find_image_files(args.data_dir))
    found.pop("test", None)
    photos = [photo for some in found.values() for photo in some]
    held_out = hold_out(sorted({photo.label for photo in found["train"]}), args.held_out)
    if not (args.output_dir / "config.json").is_file():
        train_without(args.data_dir, photos, held_out, args.output_dir)
    fruits = FruitClassifier.from_pretrained(args.output_dir)
    assert not set(held_out) & set(fruits.labels), "the model was trained on those classes"

    kept = [photo for photo in found["validation"] if photo.label not in held_out]
    old = (
        embed(fruits, [args.data_dir / photo.path for photo in kept]),
        [photo.label for photo in kept],
    )
    new = {}
    for name in held_out:
        files = [args.data_dir / photo.path for photo in photos if photo.label == name]
        new[name] = dict(zip(files, embed(fruits, files), strict=True))
    teachable = {args.data_dir / photo.path for photo in found["train"]}
    print(f"Taught: {', '.join(held_out)}: {sum(map(len, new.values()))} photos.")
    print(f"Old classes: {len(kept)} photos, {accuracy(fruits, *old):.1%} correct before.\n")
    columns = ("method", "photos per class", "old after one", "after all", "new accuracy", "worst")
    columns = (*columns, "new rejected", "old rejected", "seconds per class")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for method, fit in METHODS.items():
        for shots in args.shots if fit is fit_row else args.shots[1:2]:
            with patch("hffruits.inference.few_shot.fit_row", fit):
                rows, recalls = zip(
                    *(
                        teach_all(fruits, new, old, teachable, shots=shots, seed=seed)
                        for seed in range(args.seeds)
                    ),
                    strict=True,
                )
            one, every, new_accuracy, *rejected, seconds = np.mean(rows, axis=0)
            worst = {name: float(np.mean([some[name] for some in recalls])) for name in held_out}
            name = min(worst, key=worst.__getitem__)
            print(
                f"| {method} | {shots} | {one:+.1f} | {every:+.1f} | {new_accuracy:.1%} | "
                f"{name} {worst[name]:.0%} | {rejected[0]:.0%} to {rejected[1]:.0%} | "
                f"{rejected[2]:.1%} to {rejected[3]:.1%} | {seconds:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
