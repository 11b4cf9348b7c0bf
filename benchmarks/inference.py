"""Inference speed: `transformers.pipeline` against `FruitClassifier` and its exports.

    python benchmarks/inference.py runs/fruits --data_dir photos

Every engine classifies the same photos from their files, in batches and one by one. Each runs in a
separate process, alternating; exports are made from scratch. Ratios are to `pipeline`. Cold start
is from starting Python to the first label.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PIPELINE = "pipeline"
EXPORTS = [
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
]
COLD = {
    PIPELINE: (
        "from transformers import pipeline;"
        "print(pipeline('image-classification', {model!r})({file!r})[0]['label'])"
    ),
    "FruitClassifier": (
        "from hffruits import FruitClassifier;"
        "print(FruitClassifier.from_pretrained({model!r}).predict({file!r}).label)"
    ),
}
Label = Callable[[list[str], int], list[str]]  # files, batch size -> labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder that training wrote")
    parser.add_argument("--data_dir", help="labelled photos, not the test split")
    parser.add_argument("--split", help="split of the data, if it has several")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3, help="[%(default)s]")
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.engine:
        print(json.dumps(measure(args.engine, args.model, args.batch_size)))
        return
    with tempfile.TemporaryDirectory() as folder:
        files, truth = list_photos(args)
        print(f"{len(files)} photos in batches of {args.batch_size}")
        models = dict(make_models(args.model, Path(folder)))
        compare(models, files, truth, args)
        cold_starts(args.model, models["openvino fp32"], files[0])


def list_photos(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Files and their labels."""
    from hffruits.data.arguments import DataArguments
    from hffruits.evaluation.dataset import choose_photos
    from hffruits.models.loading import load_config

    names = load_config(Path(args.model))[0].id2label
    labels = [names[index] for index in range(len(names))]
    photos = choose_photos(DataArguments(data_dir=args.data_dir), labels, args.split)
    samples = list(photos.samples())
    return [str(sample.source) for sample in samples], [labels[s.label] for s in samples]


def make_models(model: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Engines, and the model folder of each."""
    yield from ((engine, model) for engine in (PIPELINE, "torch fp32", "torch bf16"))
    for format, precision in EXPORTS:
        made = folder / f"{format}-{precision}"
        flags = ["--format", format, "--precision", precision, "--output_dir", str(made), "--force"]
        command = [sys.executable, "-m", "hffruits", "export", model, *flags]
        subprocess.run(command, check=True, capture_output=True)
        yield f"{format} {precision}", str(made)


def compare(
    models: dict[str, str], files: list[str], truth: list[str], args: argparse.Namespace
) -> None:
    found: dict[str, list[dict]] = {engine: [] for engine in models}
    for _ in range(args.rounds):
        for engine, model in models.items():
            command = [sys.executable, __file__, model, "--engine", engine]
            done = subprocess.run(
                [*command, "--batch_size", str(args.batch_size)],
                input=json.dumps(files),
                check=True,
                capture_output=True,
                text=True,
            )
            found[engine].append(json.loads(done.stdout.splitlines()[-1]))
    base = found[PIPELINE]
    base_rate = statistics.median(rate for run in base for rate in run["rates"])
    base_p50 = statistics.median(s for run in base for s in run["seconds"])
    print("| engine | images/s | ratio | single photo: p50 | p95 | ratio | same label | accuracy |")
    print("|---|---|---|---|---|---|---|---|")
    for engine, runs in found.items():
        rate = statistics.median(rate for run in runs for rate in run["rates"])
        seconds = [s for run in runs for s in run["seconds"]]
        p50, p95 = statistics.median(seconds), statistics.quantiles(seconds, n=20)[-1]
        labels = runs[0]["labels"]
        same = statistics.mean(a == b for a, b in zip(labels, base[0]["labels"], strict=True))
        accuracy = statistics.mean(a == b for a, b in zip(labels, truth, strict=True))
        print(
            f"| {engine} | {rate:.0f} | {rate / base_rate:.1f} | {1e3 * p50:.1f} ms | "
            f"{1e3 * p95:.1f} ms | {p50 / base_p50:.2f} | {same:.1%} | {accuracy:.1%} |"
        )


def measure(engine: str, model: str, batch_size: int) -> dict[str, list]:
    """One engine in this process: labels, images/s of two passes, seconds of single photos."""
    files = json.load(sys.stdin)
    label = by_pipeline(model) if engine == PIPELINE else by_classifier(engine, model)
    labels = label(files, batch_size)  # also warms up
    rates, seconds = [], []
    for _ in range(2):
        started = time.perf_counter()
        label(files, batch_size)
        rates.append(len(files) / (time.perf_counter() - started))
    label(files[:3], 1)
    for file in files[:60]:
        started = time.perf_counter()
        label([file], 1)
        seconds.append(time.perf_counter() - started)
    return {"labels": labels, "rates": rates, "seconds": seconds}


def by_pipeline(model: str) -> Label:
    from transformers import pipeline

    pipe = pipeline("image-classification", model)

    def label(files: list[str], batch_size: int) -> list[str]:
        predictions = pipe(files, batch_size=batch_size, top_k=1)
        return [found[0]["label"] for found in predictions]

    return label


def by_classifier(engine: str, model: str) -> Label:
    from hffruits import FruitClassifier
    from hffruits.core.malloc import keep_freed_memory

    keep_freed_memory()  # as `hffruits` itself does
    precision = engine.removeprefix("torch ") if engine.startswith("torch") else "fp32"
    fruits = FruitClassifier.from_pretrained(model, precision=precision)
    return lambda files, batch_size: [
        prediction.label for prediction in fruits.stream(files, batch_size=batch_size, top_k=1)
    ]


def cold_starts(model: str, exported: str, file: str) -> None:
    """Print the seconds to the first label, the best of three."""
    programs = {
        PIPELINE: COLD[PIPELINE].format(model=model, file=file),
        "torch": COLD["FruitClassifier"].format(model=model, file=file),
        "openvino": COLD["FruitClassifier"].format(model=exported, file=file),
    }
    best = {name: float("inf") for name in programs}
    for _ in range(3):
        for name, code in programs.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
            best[name] = min(best[name], time.perf_counter() - started)
    print("cold start:", ", ".join(f"{name} {value:.1f} s" for name, value in best.items()))


if __name__ == "__main__":
    main()
