"""Profile of training on cached features: time of each part, and its share of the CPU's peak.

    python benchmarks/profiling.py --data_dir produce

The peak is measured as well: a large matrix product in each precision, and a copy. Parts are timed
separately on real photos, the best of some rounds each; those of the workers on one core, as in
training, those of the training step on all.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace

import torch
from datasets import Image
from torch.utils.flop_counter import FlopCounterMode

from hffruits.core.malloc import keep_freed_memory
from hffruits.data.images import open_rgb
from hffruits.data.load import load_fruits
from hffruits.models.frozen_trunk import FrozenTrunk, find_trunk
from hffruits.training.arguments import FruitTrainingArguments, ModelArguments
from hffruits.training.feature_cache.compute import FrozenPart
from hffruits.training.precision import step_seconds
from hffruits.training.run_state import PreparedModel
from hffruits.training.setup import prepare_model, trial_forward

ROUNDS, BATCH = 5, 32


def best(step: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Seconds of the fastest of some rounds, after a warmup round."""
    seconds = float("inf")
    for _ in range(rounds + 1):
        started = time.perf_counter()
        step()
        seconds = min(seconds, time.perf_counter() - started)
    return seconds


def flops_of(step: Callable[[], object]) -> int:
    """Floating-point operations of the convolutions and matrix products of a step."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def measure_peaks() -> dict[str, float]:
    """Operations per second; of a copy, bytes read and written per second."""
    found = {}
    for threads in (1, torch.get_num_threads()):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        for dtype in (torch.float32, torch.bfloat16):
            a = torch.randn(2048, 2048).to(dtype)
            seconds = best(lambda a=a: a @ a)
            found[f"{dtype}".removeprefix("torch.") + f", {threads} cores"] = 2 * 2048**3 / seconds
        large = torch.zeros(2**26)
        target = torch.empty_like(large)
        seconds = best(lambda: target.copy_(large))  # noqa: B023
        found[f"copy, {threads} cores"] = 2 * 4 * 2**26 / seconds
        torch.set_num_threads(before)
    return found


def on_one_core(step: Callable[[], object]) -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return best(step)
    finally:
        torch.set_num_threads(threads)


def train_step(prepared: PreparedModel, trunk: FrozenTrunk, bf16: bool) -> dict[str, float]:
    """Seconds of a batch in forward, backward, and clipping with optimizer; and FLOPs."""
    forward = trial_forward(replace(prepared, views=1), trunk.image_size)
    pixels = torch.zeros(BATCH, 3, *trunk.image_size)
    trainable = [p for p in prepared.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-6, fused=True)
    labels = torch.zeros(BATCH, dtype=torch.long)
    prepared.model.train()
    seconds: dict[str, float] = {}

    def step() -> None:
        times = [time.perf_counter()]
        with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
            logits = forward(pixels)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        times.append(time.perf_counter())
        loss.backward()
        times.append(time.perf_counter())
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter())
        for name, start, end in zip(
            ("forward", "backward", "optimizer"), times, times[1:], strict=False
        ):
            seconds[name] = min(seconds.get(name, float("inf")), end - start)

    for _ in range(ROUNDS + 1):
        step()
    with torch.no_grad():  # the backward pass does each product twice more
        return seconds | {"flops": 3 * flops_of(lambda: forward(pixels))}


def profile(size: int | None, data_dir: str, peak: dict[str, float]) -> None:
    """Print two tables for one input size."""
    args = FruitTrainingArguments(bf16=False)
    rows = load_fruits(data_dir)["train"].shuffle(seed=0).select(range(BATCH))
    labels = rows.features["label"].names
    prepared = prepare_model(ModelArguments(image_size=size), args, labels)
    (high, wide), cores = prepared.train_size, torch.get_num_threads()
    trunk = find_trunk(prepared.model, torch.rand(2, 3, high, wide))
    kilobytes = 2 * trunk.shape.numel() / 1000
    print(f"\n{high} x {wide} pixels; features of one view: {kilobytes:.0f} kB\n")
    images = rows.with_format(None).cast_column("image", Image(decode=False))["image"]
    sources = [image["bytes"] or image["path"] for image in images]
    decoded = [open_rgb(source) for source in sources]
    transform = prepared.train_transform("light")
    views = torch.stack([transform(image) for image in decoded[:8]])
    decode = on_one_core(lambda: [open_rgb(source) for source in sources]) / BATCH
    augment = on_one_core(lambda: [transform(image) for image in decoded]) / BATCH
    print("| computing features, one core | ms | GFLOP/s | share of peak |\n|---|---|---|---|")
    print(f"| decoding a photo | {1000 * decode:.2f} | | |")
    print(f"| augmenting a view | {1000 * augment:.2f} | | |")
    for bf16 in (False, True):
        part = FrozenPart.of(prepared.model.eval(), trunk, bf16=bf16)
        seconds = on_one_core(lambda part=part: part(views)) / len(views)
        rate = flops_of(lambda part=part: part(views)) / len(views) / seconds
        name = "bfloat16" if bf16 else "float32"
        print(
            f"| frozen trunk, {name} | {1000 * seconds:.2f} | {rate / 1e9:.0f} "
            f"| {rate / peak[f'{name}, 1 cores']:.0%} |"
        )
    print(
        f"\n| a training step of {BATCH}, {cores} cores | forward | backward | optimizer "
        "| images/s | GFLOP/s | share of peak |\n|---|---|---|---|---|---|---|"
    )
    for bf16 in (False, True):
        found = train_step(prepared, trunk, bf16)
        flops = found.pop("flops")
        spent, name = sum(found.values()), "bfloat16" if bf16 else "float32"
        parts = " | ".join(f"{1000 * seconds:.0f} ms" for seconds in found.values())
        print(
            f"| {name} | {parts} | {BATCH / spent:.0f} | {flops / spent / 1e9:.0f} "
            f"| {flops / spent / peak[f'{name}, {cores} cores']:.0%} |"
        )
    forward = trial_forward(prepared, (high, wide))
    whole = step_seconds(prepared.model, (high, wide), batch_size=BATCH, forward=forward)
    print(
        f"\nWithout cached features a step takes {1000 * whole[False]:.0f} ms in float32, ", end=""
    )
    print(f"{1000 * whole[True]:.0f} ms in bfloat16, plus decoding and augmenting {BATCH} photos.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 160], help="pixels")
    args = parser.parse_args()
    keep_freed_memory()  # as the command line does
    peak = measure_peaks()
    print("| measured peak | |\n|---|---|")
    for name, rate in peak.items():
        unit = "GB/s" if name.startswith("copy") else "GFLOP/s"
        print(f"| {name} | {rate / 1e9:,.0f} {unit} |")
    for size in args.sizes:
        profile(size, args.data_dir, peak)


if __name__ == "__main__":
    main()
