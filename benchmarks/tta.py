"""Test-time augmentation (TTA): accuracy, calibration and speed of several sets of views.

    python benchmarks/tta.py runs/balanced --data_dir produce --split test

Evaluates a trained model with each set of views on the same photos.
"""

import argparse
import time
from pathlib import Path

from hffruits.data.arguments import DataArguments
from hffruits.evaluation.comparison import McNemar
from hffruits.evaluation.dataset import choose_photos
from hffruits.evaluation.predictions import predict_samples
from hffruits.evaluation.results import measure
from hffruits.evaluation.run_data import data_of_run
from hffruits.inference.classifier import FruitClassifier

SETS = ("", "flip", "zoom", "whole", "flip,zoom", "flip,whole", "flip,zoom,whole", "flip,corners")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data_dir", type=Path, help="default: the run's own")
    parser.add_argument("--split", default="validation")
    args = parser.parse_args()
    named = DataArguments(data_dir=args.data_dir and str(args.data_dir))
    data = data_of_run(args.model, named).data_args
    print("| TTA views | passes | accuracy | gain (p) | calibration error | relative images/s |")
    print("|---|---|---|---|---|---|")
    base, base_seconds = None, 0.0
    for names in SETS:
        fruits = FruitClassifier.from_pretrained(
            args.model, tta=list(filter(None, names.split(",")))
        )
        photos = choose_photos(data, fruits.labels, args.split)
        started = time.perf_counter()
        predictions = predict_samples(fruits, photos.samples(), total=photos.total)
        seconds = time.perf_counter() - started
        found = measure(predictions, fruits)
        base, base_seconds = (base, base_seconds) if base else (predictions, seconds)
        test = McNemar.of(base.hits, predictions.hits, base.groups)
        gain = (test.only_b - test.only_a) / len(predictions)
        passes = 1 + sum(4 if name == "corners" else 1 for name in fruits.tta)
        print(
            f"| {names or 'none'} | {passes} | {found['accuracy']:.1%} | {gain:+.1%} "
            f"({test.p_value:.2f}) | {found['ece']:.1%} | {base_seconds / seconds:.2f} |"
        )


if __name__ == "__main__":
    main()
