"""Out-of-distribution detection: AUROC and FPR@95 of several scores.

    python benchmarks/ood.py --data_dir produce --far_dir photos_of_other_things

Leaves every fifth class out of training (chosen by `--fold`), trains a recipe on the others, and
compares scores on the validation photos of known classes with those of all photos of the classes
left out (near OOD) and of anything but produce (far OOD): drawn patterns and scenes, and the
photos of a folder. The test split is not read.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from scipy.special import log_softmax, logsumexp, softmax
from sklearn.covariance import LedoitWolf
from tqdm import tqdm

from hffruits.data.images import list_images
from hffruits.data.readers.folders import find_image_files
from hffruits.evaluation.metrics import auroc, false_positive_rate
from hffruits.inference.classifier import FruitClassifier
from hffruits.inference.ood import IMAGES_PER_CLASS, explain_by, find_prototypes, ood_score
from hffruits.training.parser import parse_train_arguments
from hffruits.training.run import train


def link_classes(root: Path, folder: Path, fold: int) -> tuple[list[Path], list[Path], list[str]]:
    """Link the known classes; returns known validation photos, unknown photos, unknown classes."""
    photos = {split: some for split, some in find_image_files(root).items() if split != "test"}
    names = sorted({photo.label for photo in photos["train"]})
    unknown = names[fold::5]
    near, known = [], []
    for split, some in photos.items():
        for photo in some:
            file = root / photo.path
            if photo.label in unknown:
                near.append(file)
                continue
            place = folder / split / photo.label / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file.resolve())
            if split == "validation":
                known.append(file)
    return known, near, unknown


def draw_far(count: int, seed: int = 0) -> list[Image.Image]:
    """Noise, patterns, pages of lines, landscapes and coloured shapes, (256, 256)."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(count):
        kind, size = number % 6, 256
        colours = [tuple(rng.integers(0, 256, 3).tolist()) for _ in range(4)]
        if kind == 0:
            grain = int(rng.choice([4, 16, 64, 256]))
            noise = Image.fromarray(rng.integers(0, 256, (grain, grain, 3), dtype=np.uint8))
            image = noise.resize((size, size), Image.Resampling.BICUBIC)
        else:
            image = Image.new("RGB", (size, size), colours[0])
            draw = ImageDraw.Draw(image)
            if kind == 1:  # stripes
                step = int(rng.integers(4, 40))
                for x in range(-size, 2 * size, 2 * step):
                    draw.line([(x, 0), (x + int(rng.integers(-90, 90)), size)], colours[1], step)
            elif kind == 2:  # a page
                image.paste((250, 250, 245), (0, 0, size, size))
                for y in range(20, size - 20, 12):
                    draw.rectangle([20, y, int(rng.integers(90, size - 15)), y + 5], (40, 40, 40))
            elif kind == 3:  # a landscape
                horizon = int(rng.integers(80, 180))
                draw.rectangle([0, horizon, size, size], colours[1])
                top = [(int(x), horizon - int(rng.integers(0, 70))) for x in range(0, size + 1, 32)]
                draw.polygon([(0, horizon), *top, (size, horizon)], colours[2])
            elif kind == 4:  # boxes
                for _ in range(12):
                    x, y = rng.integers(0, size, 2).tolist()
                    w, h = rng.integers(10, 120, 2).tolist()
                    draw.rectangle([x, y, x + w, y + h], colours[int(rng.integers(4))], outline=0)
            else:  # discs, the most similar to fruit
                for _ in range(5):
                    x, y, r = rng.integers(20, 120, 3).tolist()
                    draw.ellipse([x, y, x + r, y + r], colours[int(rng.integers(4))])
        images.append(image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1.5)))))
    return images


def embed(fruits: FruitClassifier, sources: list, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, K) and features (N, D) of images or files."""
    outputs = list(fruits.infer(tqdm(sources, name, leave=False)))
    logits, features = zip(*((some.logits, some.features) for some in outputs), strict=True)
    return torch.cat(logits).numpy(), torch.cat(features).numpy()


def unit(features: np.ndarray) -> np.ndarray:
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def make_scores(
    features: np.ndarray, labels: np.ndarray
) -> dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
    """Functions of (logits, features), higher for known images, fitted to training features."""
    middles = np.stack([features[labels == label].mean(0) for label in np.unique(labels)])
    precision = np.linalg.inv(LedoitWolf().fit(features - middles[labels]).covariance_)
    train = unit(features)
    few = np.concatenate(
        [np.flatnonzero(labels == k)[:IMAGES_PER_CLASS] for k in np.unique(labels)]
    )
    prototypes = find_prototypes(features[few], labels[few])
    explained = explain_by(prototypes)

    def mahalanobis(logits: np.ndarray, own: np.ndarray) -> np.ndarray:
        off = [((own - m) @ precision * (own - m)).sum(1) for m in middles]
        return -np.min(off, axis=0)

    return {
        "highest softmax (arXiv:1610.02136)": lambda logits, own: softmax(logits, 1).max(1),
        "highest logit (arXiv:1911.11132)": lambda logits, own: logits.max(1),
        "energy (arXiv:2010.03759)": lambda logits, own: logsumexp(logits, 1),
        "entropy": lambda logits, own: (softmax(logits, 1) * log_softmax(logits, 1)).sum(1),
        "highest logit minus the mean": lambda logits, own: logits.max(1) - logits.mean(1),
        "Mahalanobis distance (arXiv:1807.03888)": mahalanobis,
        "nearest training image (arXiv:2204.06507)": lambda logits, own: (unit(own) @ train.T).max(
            1
        ),
        "nearest of 3 prototypes per class": lambda logits, own: (
            unit(own) @ prototypes.numpy().T
        ).max(1),
        "explained by those prototypes (after arXiv:2203.10807; used)": lambda logits, own: (
            -ood_score(own, explained)
        ),
    }


def report(scores: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]]) -> None:
    kinds = list(next(iter(scores.values()))[1])
    print("| score |" + "".join(f" {kind} AUROC | FPR@95 |" for kind in kinds))
    print("|---|" + "---|---|" * len(kinds))
    for name, (known, others) in scores.items():
        cells = []
        for other in others.values():
            scored = -known, -other  # OOD scores are higher for unknown images
            cells += [f"{auroc(*scored):.3f}", f"{false_positive_rate(*scored):.2f}"]
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="folder with train and val")
    parser.add_argument("--far_dir", type=Path, help="photos of anything but produce")
    parser.add_argument("--recipe", default="fast", help="[%(default)s]")
    parser.add_argument("--fold", type=int, default=0, help="0 to 4")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        known, near, left_out = link_classes(args.data_dir, work / "data", args.fold)
        print(f"Left out: {', '.join(left_out)}")
        run = work / "run"
        command = [str(work / "data"), f"--recipe={args.recipe}", f"--output_dir={run}"]
        train(*parse_train_arguments([*command, "--disable_tqdm=true"]))
        fruits = FruitClassifier.from_pretrained(run)
        train_files = list_images(work / "data" / "train")
        labels = np.array([fruits.labels.index(path.parent.name) for path in train_files])
        _, features = embed(fruits, train_files, "train")
        others = {"near": near, "far, drawn": draw_far(180)}
        if args.far_dir:
            others["far, photos"] = list_images(args.far_dir)
        own = embed(fruits, known, "known")
        seen = {kind: embed(fruits, sources, kind) for kind, sources in others.items()}
        sizes = ", ".join(f"{kind} {len(sources)}" for kind, sources in others.items())
        print(f"Photos: known {len(known)}, {sizes}\n")
        scores = make_scores(features, labels)
        report({
            name: (score(*own), {kind: score(*some) for kind, some in seen.items()})
            for name, score in scores.items()
        })  # fmt: skip


if __name__ == "__main__":
    main()
