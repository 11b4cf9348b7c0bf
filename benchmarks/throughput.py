"""Training throughput from JPEG files, against ready-made tensors and the plain recipe.

    python benchmarks/throughput.py --data_dir fruits --models convnext_tiny vit_base_patch16_224

Images/s on the available device, in steps after a warmup. "Ready-made tensors" is a bare loop over
one batch that is already on the device, with the same model, precision, memory format and
optimizer: an upper bound for training from files. The pipelines alternate, round after round, and
the best round of each counts. Weights are random, which doesn't affect speed.
"""

import argparse
import tempfile
import time
from collections.abc import Callable

import torch
from datasets import Image
from torchvision.transforms import v2
from tqdm import tqdm
from transformers import Trainer, TrainerCallback, TrainingArguments

from hffruits.data.arguments import DataArguments
from hffruits.data.load import FruitDatasets, load_fruits
from hffruits.data.transforms import input_size
from hffruits.models.loading import build_model
from hffruits.training.arguments import FruitTrainingArguments, ModelArguments
from hffruits.training.run_state import TrainingRun
from hffruits.training.setup import make_trainer, prepare_model, resolve_arguments


class ClockCallback(TrainerCallback):
    """Images/s from the end of the last warmup step to the end of the last step."""

    def __init__(self, warmup: int, batch_size: int):
        self.warmup, self.batch_size = warmup, batch_size
        self.times: list[float] = []

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step in (self.warmup, state.max_steps):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.times.append(time.perf_counter())
            self.steps = state.global_step - self.warmup

    @property
    def rate(self) -> float:
        return self.steps * self.batch_size / (self.times[1] - self.times[0])


def ready_made(name: str, datasets: FruitDatasets, args: argparse.Namespace) -> float:
    """Train repeatedly on one batch on the device: forward, backward, fused AdamW."""
    run = training_arguments(args)
    prepared = prepare_model(model_arguments(name), run, labels_of(datasets))
    run = resolve_arguments(run, prepared)
    device = run.device
    model = prepared.model.to(device).train()
    forward = torch.compile(model) if args.compile else model
    size = input_size(prepared.processor)
    pixels = torch.randn(args.batch_size, 3, *size, device=device)
    labels = torch.zeros(args.batch_size, dtype=torch.long, device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    clock = ClockCallback(args.warmup, args.batch_size)
    for step in range(args.warmup + args.steps):
        with torch.autocast(device.type, torch.bfloat16, enabled=run.bf16):
            logits = forward(pixel_values=pixels).logits
            loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        state = argparse.Namespace(global_step=step + 1, max_steps=args.warmup + args.steps)
        clock.on_step_end(None, state, None)
    return clock.rate


def ours(name: str, datasets: FruitDatasets, args: argparse.Namespace) -> float:
    """Train from files as `hffruits train` does, with all weights trainable."""
    settings = training_arguments(args, torch_compile=args.compile)
    run = TrainingRun(DataArguments(), model_arguments(name), settings, datasets=datasets)
    run.prepared = prepare_model(run.model_args, run.args, run.labels)
    run.args = resolve_arguments(run.args, run.prepared)
    clock = ClockCallback(args.warmup, args.batch_size)
    make_trainer(run, callbacks=[clock]).train()
    return clock.rate


def plain(name: str, datasets: FruitDatasets, args: argparse.Namespace, workers: int = 0) -> float:
    """As in transformers' image classification guide: Trainer and set_transform, in fp32."""
    model, processor = build_model(name, labels=labels_of(datasets), pretrained=False)
    steps = [v2.RandomResizedCrop(input_size(processor)), v2.RandomHorizontalFlip()]
    steps += [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    augment = v2.Compose([*steps, v2.Normalize([0.5] * 3, [0.5] * 3)])
    rows = datasets["train"].with_format(None).cast_column("image", Image())
    rows.set_transform(
        lambda batch: {
            "pixel_values": [augment(image.convert("RGB")) for image in batch["image"]],
            "labels": batch["label"],
        }
    )
    clock = ClockCallback(args.warmup, args.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingArguments(
            folder,
            max_steps=args.warmup + args.steps,
            per_device_train_batch_size=args.batch_size,
            dataloader_num_workers=workers,
            remove_unused_columns=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        Trainer(model, options, train_dataset=rows, callbacks=[clock]).train()
    return clock.rate


def plain_with_workers(name: str, datasets: FruitDatasets, args: argparse.Namespace) -> float:
    """The plain recipe with as many workers as `hffruits train`."""
    return plain(name, datasets, args, training_arguments(args).dataloader_num_workers)


PIPELINES: dict[str, Callable[[str, FruitDatasets, argparse.Namespace], float]] = {
    "ready-made tensors": ready_made,
    "hffruits": ours,
    "plain recipe": plain,
    "plain recipe, workers": plain_with_workers,
}


def labels_of(datasets: FruitDatasets) -> list[str]:
    return datasets["train"].features["label"].names


def model_arguments(name: str) -> ModelArguments:
    return ModelArguments(name, pretrained=False, freeze="none", feature_cache_views=0)


def training_arguments(args: argparse.Namespace, **options: object) -> FruitTrainingArguments:
    return FruitTrainingArguments(
        tempfile.gettempdir(),
        max_steps=args.warmup + args.steps,
        per_device_train_batch_size=args.batch_size,
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
        disable_tqdm=True,
        ema_decay=0.0,
        **options,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True, help="folder of JPEG files")
    parser.add_argument("--models", nargs="+", default=["convnext_tiny", "vit_base_patch16_224"])
    parser.add_argument(
        "--pipelines", nargs="+", choices=PIPELINES, default=list(PIPELINES), metavar="NAME"
    )
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=100, help="timed steps")
    parser.add_argument("--warmup", type=int, default=20, help="steps before the timed ones")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--compile", action="store_true", help="use torch.compile, except in the plain recipe"
    )
    args = parser.parse_args()
    datasets = load_fruits(args.data_dir)
    lines = [f"| model | {' | '.join(args.pipelines)} |", f"|---|{'---|' * len(args.pipelines)}"]
    for name in args.models:
        best = dict.fromkeys(args.pipelines, 0.0)
        for pipeline in tqdm(args.pipelines * args.rounds, desc=name, leave=False):
            best[pipeline] = max(best[pipeline], PIPELINES[pipeline](name, datasets, args))
        lines.append(f"| {name} | {' | '.join(f'{rate:,.1f}' for rate in best.values())} |")
    print("\n".join(lines))  # at the end, because the Trainer prints its own


if __name__ == "__main__":
    main()
