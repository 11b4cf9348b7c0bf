"""Speed-up from keeping freed memory on a CPU, in training and inference steps.

    python benchmarks/memory.py

With and without, in alternating processes, because it can't be undone in one; median images/s.
"""

import argparse
import statistics
import subprocess
import sys
import time

import torch

from hffruits.core.malloc import keep_freed_memory
from hffruits.inference.engines.torch import TorchEngine
from hffruits.models.layers import use_channels_last
from hffruits.models.loading import build_model


def measure(*, keep: bool, size: int, steps: int) -> None:
    """Print images/s of training and of inference."""
    if keep:
        assert keep_freed_memory()
    model, _ = build_model(labels=[str(number) for number in range(50)])
    pixels = torch.randn(32, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 50, (32,))
    model = use_channels_last(model, torch.device("cpu")).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def train() -> None:
        logits = model(pixel_values=pixels).logits
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    rates = [rate_of(train, steps)]
    engine = TorchEngine(model, device="cpu")
    rates.append(rate_of(lambda: engine.forward(pixels), steps))
    print(*rates)


def rate_of(step, steps: int) -> float:
    step()
    seconds = []
    for _ in range(steps):
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return 32 / statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=224, help="pixels [%(default)s]")
    parser.add_argument("--steps", type=int, default=8, help="[%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="[%(default)s]")
    parser.add_argument("--keep", choices=["yes", "no"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.keep:
        measure(keep=args.keep == "yes", size=args.size, steps=args.steps)
        return
    command = [sys.executable, __file__, "--size", str(args.size), "--steps", str(args.steps)]
    found: dict[str, list[list[float]]] = {"no": [], "yes": []}
    for _ in range(args.rounds):
        for keep, rows in found.items():
            done = subprocess.run(
                [*command, "--keep", keep], check=True, capture_output=True, text=True
            )
            rows.append([float(number) for number in done.stdout.split()])
    print("| | returned | kept | ratio |")
    print("|---|---|---|---|")
    for place, name in enumerate(("training", "inference")):
        before, after = (statistics.median(row[place] for row in found[k]) for k in ("no", "yes"))
        print(f"| {name} | {before:.1f} | {after:.1f} | {after / before:.2f} |")


if __name__ == "__main__":
    main()
