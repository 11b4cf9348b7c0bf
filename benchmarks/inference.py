"""How quickly photos become labels: `transformers.pipeline` beside `FruitClassifier` and exports.

    python benchmarks/inference.py runs/fruits --data_dir photos

Every way labels the same photos from their files, in batches and one by one, in turns within one
process; the first row is what the others are compared with. Exports are made anew. Cold start is
a process of its own, from its launch to the first answer.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import pipeline
from transformers.utils import logging

from hffruits.config import DataArguments
from hffruits.export import export
from hffruits.labelled import choose_photos
from hffruits.predict import FruitClassifier

EXPORTS = [
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
]
Label = Callable[[list[Path], int], list[str]]  # files, batch size -> labels
COLD = {
    "pipeline": (
        "from transformers import pipeline;"
        "print(pipeline('image-classification', {model!r})({file!r})[0]['label'])"
    ),
    "FruitClassifier": (
        "from hffruits import FruitClassifier;"
        "print(FruitClassifier.from_pretrained({model!r}).predict({file!r}).label)"
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder that training wrote")
    parser.add_argument("--data_dir", required=True, help="labelled photos, not those of the test")
    parser.add_argument("--split", help="of these photos, where they have several")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5, help="over all photos [%(default)s]")
    args = parser.parse_args()
    logging.set_verbosity_error()
    plain = FruitClassifier.from_pretrained(args.model)
    photos = choose_photos(DataArguments(data_dir=args.data_dir), plain.labels, args.split)
    samples = list(photos.samples())
    files, truth = [sample.source for sample in samples], [sample.label for sample in samples]
    print(f"{len(files)} photos, {photos.split}; {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        ways: dict[str, Label] = {"pipeline": by_pipeline(args.model)}
        for precision in ("fp32", "bf16"):
            fruits = FruitClassifier.from_pretrained(args.model, precision=precision)
            ways[f"FruitClassifier {precision}"] = by_classifier(fruits)
        exported = {}
        for format, precision in EXPORTS:
            made = Path(folder, f"{format}-{precision}")
            options = {"format": format, "precision": precision, "output_dir": made, "force": True}
            export(args.model, DataArguments(), **options)
            exported[f"{format} {precision}"] = made
            ways[f"{format} {precision}"] = by_classifier(FruitClassifier.from_pretrained(made))
        measure(ways, files, [plain.labels[label] for label in truth], args)
        cold_starts(args.model, exported["openvino fp32"], files[0])


def by_pipeline(model: str) -> Label:
    pipe = pipeline("image-classification", model)

    def label(files: list[Path], batch_size: int) -> list[str]:
        answers = pipe([str(file) for file in files], batch_size=batch_size, top_k=1)
        return [answer[0]["label"] for answer in answers]

    return label


def by_classifier(fruits: FruitClassifier) -> Label:
    return lambda files, batch_size: [
        prediction.label for prediction in fruits.stream(files, batch_size=batch_size, top_k=1)
    ]


def measure(
    ways: dict[str, Label], files: list[Path], truth: list[str], args: argparse.Namespace
) -> None:
    labels = {name: label(files, args.batch_size) for name, label in ways.items()}  # warms up, too
    rates: dict[str, list[float]] = {name: [] for name in ways}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, label in ways.items():
            started = time.perf_counter()
            label(files, args.batch_size)
            rates[name].append(len(files) / (time.perf_counter() - started))
            for file in files[:40]:
                started = time.perf_counter()
                label([file], 1)
                seconds[name].append(time.perf_counter() - started)
    first = next(iter(ways))
    base_rate = statistics.median(rates[first])
    base_p50 = statistics.median(seconds[first])
    print("| way | images/s | ratio | one: p50 | p95 | ratio | same label | accuracy |")
    print("|---|---|---|---|---|---|---|---|")
    for name in ways:
        rate, p50 = statistics.median(rates[name]), statistics.median(seconds[name])
        p95 = statistics.quantiles(seconds[name], n=20)[-1]
        same = statistics.mean(a == b for a, b in zip(labels[name], labels[first], strict=True))
        right = statistics.mean(a == b for a, b in zip(labels[name], truth, strict=True))
        print(
            f"| {name} | {rate:.0f} | {rate / base_rate:.1f} | {1e3 * p50:.1f} ms | "
            f"{1e3 * p95:.1f} ms | {p50 / base_p50:.2f} | {same:.1%} | {right:.1%} |"
        )


def cold_starts(model: str, exported: Path, file: Path) -> None:
    """From launching Python to the first label on the screen, the best of three."""
    ways = {
        "pipeline": COLD["pipeline"].format(model=model, file=str(file)),
        "FruitClassifier": COLD["FruitClassifier"].format(model=model, file=str(file)),
        "openvino fp32": COLD["FruitClassifier"].format(model=str(exported), file=str(file)),
    }
    best = {name: float("inf") for name in ways}
    for _ in range(3):
        for name, code in ways.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
            best[name] = min(best[name], time.perf_counter() - started)
    print("cold start:", json.dumps({name: f"{value:.1f} s" for name, value in best.items()}))


if __name__ == "__main__":
    main()
