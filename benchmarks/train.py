"""Accuracy against time: plain Hugging Face, a timm-style loop, fastai, and hffruits' recipes.

    pip install fastai       # for this benchmark only; 2.8.12 runs with torch 2.14
    python benchmarks/train.py --data_dir produce --output_dir runs/benchmark

The same photos, read and validated by hffruits for all recipes, and the bundled backbone with the
same weights; each run is a separate process, and the recipes alternate, seed after seed. Times are
from the start of the process to the last step, including validation after each epoch but not the
evaluation on the test split. Finished runs in `--output_dir` are not repeated. "Peak MB" is of the
main process, without DataLoader workers, which fastai starts by default. Prints a table and plots
`train.png`.
"""

import argparse
import importlib.util
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from hffruits.data.images import list_images

STARTED = time.time()
EPOCHS, BATCH = 10, 32
LEVELS = (0.75, 0.80, 0.85)  # of validation accuracy


def plain_recipe(data: Path, folder: Path, seed: int) -> dict[str, Any]:
    """As in transformers' image classification guide: Trainer, set_transform, AdamW, fp32."""
    from torchvision.transforms import v2
    from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

    set_seed(seed)
    model, rows, plain = _start(data)
    augment = v2.Compose([v2.RandomResizedCrop(plain.size), v2.RandomHorizontalFlip(), plain.end])
    rows["train"].set_transform(lambda batch: _pixels(batch, augment))
    rows["validation"].set_transform(lambda batch: _pixels(batch, plain))
    curve: list[tuple[float, float]] = []

    class ClockCallback(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics, **kwargs):
            curve.append((_seconds(), metrics["eval_accuracy"]))

    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder),
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            per_device_eval_batch_size=BATCH,
            learning_rate=1e-3,
            eval_strategy="epoch",
            save_strategy="no",
            remove_unused_columns=False,
            report_to="none",
            seed=seed,
        ),
        data_collator=_collate,
        train_dataset=rows["train"],
        eval_dataset=rows["validation"],
        compute_metrics=lambda found: {
            "accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())
        },
        callbacks=[ClockCallback()],
    )
    trainer.train()
    return {"curve": curve} | _test(model, rows, plain)


def timm_loop(data: Path, folder: Path, seed: int) -> dict[str, Any]:
    """Like timm's train.py: its transform, optimizer, schedule and loss, channels last."""
    import torch
    from timm.data import create_transform
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler
    from torch.utils.data import DataLoader
    from tqdm import tqdm

    torch.manual_seed(seed)
    model, rows, plain = _start(data)
    model = model.to(memory_format=torch.channels_last)
    options = {"mean": plain.mean, "std": plain.std, "interpolation": "bicubic"}
    augment = create_transform(
        plain.size, is_training=True, scale=(0.35, 1.0), color_jitter=None, **options
    )
    rows["train"].set_transform(lambda batch: _pixels(batch, augment))
    rows["validation"].set_transform(lambda batch: _pixels(batch, plain))
    loader = DataLoader(rows["train"], BATCH, shuffle=True, collate_fn=_collate)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    steps = EPOCHS * len(loader)
    schedule = CosineLRScheduler(
        optimizer, steps, warmup_t=steps // 20, warmup_lr_init=1e-5, t_in_epochs=False
    )
    loss = LabelSmoothingCrossEntropy(0.1)
    curve, step = [], 0
    for epoch in range(EPOCHS):
        model.train()
        for batch in tqdm(loader, desc=f"Epoch {epoch + 1}"):
            pixels = batch["pixel_values"].contiguous(memory_format=torch.channels_last)
            loss(model(pixel_values=pixels).logits, batch["labels"]).backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            schedule.step_update(step)
        curve.append((_seconds(), _accuracy(model, rows["validation"])))
    return {"curve": curve} | _test(model, rows, plain)


def fastai_recipe(data: Path, folder: Path, seed: int) -> dict[str, Any]:
    """As in fastai's vision tutorial: Resize(460), aug_transforms(size=224), fine_tune.

    Batches are of `BATCH` photos, as in the other recipes, not of 64; all else is its default.
    In the epoch with a frozen body its batch norms are trained.
    """
    import pandas as pd
    from fastai.vision.all import (
        Callback,
        ImageDataLoaders,
        Resize,
        accuracy,
        aug_transforms,
        set_seed,
        vision_learner,
    )

    set_seed(seed)
    model, rows, _ = _start(data)
    tables = {split: part.remove_columns("image").to_pandas() for split, part in rows.items()}
    seen = [tables[split].assign(valid=split != "train") for split in ("train", "validation")]
    loaders = ImageDataLoaders.from_df(
        pd.concat(seen, ignore_index=True),
        path=data,
        fn_col="path",
        label_col="label",
        valid_col="valid",
        item_tfms=Resize(460),
        batch_tfms=aug_transforms(size=224),
        bs=BATCH,
    )
    learner = vision_learner(
        loaders,
        model.config.architecture,
        metrics=accuracy,
        # reaches timm.create_model, which takes these weights instead of downloading the same
        pretrained_cfg_overlay={"state_dict": model.timm_model.state_dict()},
    )
    curve: list[tuple[float, float]] = []

    class ClockCallback(Callback):
        order = 51  # after Recorder

        def after_epoch(self):
            curve.append((_seconds(), self.recorder.values[-1][-1]))

    learner.fine_tune(EPOCHS - 1, cbs=ClockCallback())  # after one with a frozen body
    seconds = _seconds()
    test = loaders.test_dl(tables["test"], with_labels=True)
    with learner.no_bar():  # whose last line does not end, so that the table would follow on it
        found = learner.validate(dl=test)
    return {"curve": curve, "seconds": seconds, "test_accuracy": found[-1]}


def hffruits_recipe(name: str):
    """A recipe of hffruits."""

    def run(data: Path, folder: Path, seed: int) -> dict[str, Any]:
        from hffruits.core.malloc import keep_freed_memory
        from hffruits.training import setup as preparation
        from hffruits.training import trainer
        from hffruits.training.parser import parse_train_arguments
        from hffruits.training.run import train

        keep_freed_memory()  # as the command line does
        curve: list[tuple[float, float]] = []
        ends: list[float] = []

        class Timed(trainer.FruitTrainer):
            def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
                if "eval_accuracy" in logs:
                    curve.append((_seconds(), logs["eval_accuracy"]))
                super().log(logs, *args, **kwargs)

            def train(self, *args: Any, **kwargs: Any):
                output = super().train(*args, **kwargs)
                ends.append(_seconds())
                return output

        preparation.FruitTrainer = Timed
        flags = [str(data), f"--recipe={name}", f"--seed={seed}", f"--output_dir={folder / 'run'}"]
        metrics = train(*parse_train_arguments([*flags, "--overwrite_output_dir=true"]))
        return {
            "curve": curve,
            "seconds": ends[0],
            "test_accuracy": metrics["test"]["accuracy"],
        }

    return run


PLAIN, FASTAI = "plain Hugging Face recipe", "fastai fine_tune"
RECIPES = {
    PLAIN: plain_recipe,
    "timm-style loop": timm_loop,
    FASTAI: fastai_recipe,
    "hffruits fast": hffruits_recipe("fast"),
    "hffruits balanced": hffruits_recipe("balanced"),
}


# ---- shared by the recipes of other libraries ----


class _Plain:
    """The backbone's validation preprocessing: resize the shorter side, center crop."""

    def __init__(self, processor):
        import torch
        from torchvision.transforms import v2

        from hffruits.data.transforms import preprocessing_of

        steps = preprocessing_of(processor)
        self.size, self.mean, self.std = steps.crop, steps.mean, steps.std
        self.end = v2.Compose(
            [
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(steps.mean, steps.std),
            ]
        )
        resize = v2.Resize(steps.resize[0], interpolation=steps.interpolation)
        self.whole = v2.Compose([resize, v2.CenterCrop(steps.crop), self.end])

    def __call__(self, image):
        return self.whole(image)


def _start(data: Path):
    from datasets import Image

    from hffruits.data.load import load_fruits
    from hffruits.models.loading import build_model

    rows = load_fruits(data)
    model, processor = build_model(labels=rows["train"].features["label"].names)
    plain_rows = {  # decoded by `datasets`, as in the guide
        split: part.with_format(None).cast_column("image", Image()) for split, part in rows.items()
    }
    return model, plain_rows, _Plain(processor)


def _pixels(batch: dict[str, list], transform) -> dict[str, list]:
    return {
        "pixel_values": [transform(image.convert("RGB")) for image in batch["image"]],
        "labels": batch["label"],
    }


def _collate(rows: list[dict[str, Any]]):
    import torch

    return {
        "pixel_values": torch.stack([row["pixel_values"] for row in rows]),
        "labels": torch.tensor([row["labels"] for row in rows]),
    }


def _accuracy(model, rows) -> float:
    import torch
    from torch.utils.data import DataLoader

    model.eval()
    correct = 0
    with torch.inference_mode():
        for batch in DataLoader(rows, BATCH, collate_fn=_collate):
            found = model(pixel_values=batch["pixel_values"]).logits.argmax(-1)
            correct += int((found == batch["labels"]).sum())
    return correct / len(rows)


def _test(model, rows, plain) -> dict[str, float]:
    seconds = _seconds()
    rows["test"].set_transform(lambda batch: _pixels(batch, plain))
    return {"seconds": seconds, "test_accuracy": _accuracy(model, rows["test"])}


def _seconds() -> float:
    """Seconds since the process was started, including imports."""
    return time.time() - STARTED


# ---- all runs ----


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="with train, val and test")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--seeds", type=int, default=3, help="[%(default)s]")
    parser.add_argument(
        "--recipes", nargs="+", choices=RECIPES, default=list(RECIPES), metavar="NAME"
    )
    parser.add_argument("--run", nargs=2, metavar=("NAME", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        name, seed = args.run
        folder = _folder(args.output_dir, name, int(seed))
        found = RECIPES[name](args.data_dir, folder, int(seed))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        (folder / "result.json").write_text(json.dumps(found | {"peak_mb": round(peak)}))
        return
    unfinished = {
        name
        for name in args.recipes
        for seed in range(args.seeds)
        if not (_folder(args.output_dir, name, seed) / "result.json").is_file()
    }
    if FASTAI in unfinished and not importlib.util.find_spec("fastai"):
        parser.error("fastai is missing. Run pip install fastai, or leave it out of --recipes.")
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in args.recipes}
    for seed in range(args.seeds):
        for name, rows in results.items():
            folder = _folder(args.output_dir, name, seed)
            if not (folder / "result.json").is_file():
                folder.mkdir(parents=True, exist_ok=True)
                command = [sys.executable, __file__, "--run", name, str(seed)]
                command += ["--data_dir", str(args.data_dir), "--output_dir", str(args.output_dir)]
                # features cached by an earlier run would make this one faster
                environment = os.environ | {"HFFRUITS_CACHE": str(folder / "cache")}
                subprocess.run(command, check=True, env=environment)
            rows.append(json.loads((folder / "result.json").read_text()))
    print(table(results, photos=len(list_images(args.data_dir / "train"))))
    draw(results, args.output_dir / "train.png")


def _folder(root: Path, name: str, seed: int) -> Path:
    return root / f"{name.replace(' ', '-').lower()}-{seed}"


def table(results: dict[str, list[dict[str, Any]]], *, photos: int) -> str:
    """A Markdown table; times are means over seeds, images/s all epochs' photos by total time."""
    levels = " | ".join(f"to {level:.0%}" for level in LEVELS)
    lines = [
        f"| recipe | test top-1 by seed | mean | seconds | ratio | {levels} | images/s | peak MB |",
        "|" + "---|" * (7 + len(LEVELS)),
    ]
    spent = {
        name: statistics.mean(run["seconds"] for run in runs) for name, runs in results.items()
    }
    for name, runs in results.items():
        scores = [run["test_accuracy"] for run in runs]
        ratio = f"{spent[PLAIN] / spent[name]:.1f}" if PLAIN in spent else ""
        reached = [
            _mean_time([_first_time(run["curve"], level) for run in runs]) for level in LEVELS
        ]
        rate = statistics.mean(len(run["curve"]) for run in runs) * photos / spent[name]
        peak = max(run["peak_mb"] for run in runs)
        lines.append(
            f"| {name} | {', '.join(f'{100 * score:.1f}' for score in scores)} "
            f"| {100 * statistics.mean(scores):.1f} % | {spent[name]:.0f} | {ratio} "
            f"| {' | '.join(reached)} | {rate:.0f} | {peak:,} |"
        )
    return "\n".join(lines)


def _first_time(curve: list[tuple[float, float]], level: float) -> float | None:
    return next((seconds for seconds, score in curve if score >= level), None)


def _mean_time(times: list[float | None]) -> str:
    return "not in all runs" if None in times else f"{statistics.mean(times):.0f} s"


def draw(results: dict[str, list[dict[str, Any]]], file: Path) -> None:
    """Plot validation accuracy after each epoch, and the final test accuracy, against time."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for number, (name, runs) in enumerate(results.items()):
        colour = f"C{number}"
        for run in runs:
            seconds, scores = zip(*run["curve"], strict=True)
            axes.plot(seconds, [100 * score for score in scores], color=colour, lw=1, alpha=0.5)
            axes.plot(run["seconds"], 100 * run["test_accuracy"], "o", color=colour)
        axes.plot([], [], "o-", color=colour, label=name)
    axes.set_xscale("log")
    longest = max(run["seconds"] for runs in results.values() for run in runs)
    ticks = [30 * 2**power for power in range(math.ceil(math.log2(longest / 30)) + 1)]
    axes.set_xticks(ticks, [f"{tick} s" if tick < 120 else f"{tick // 60} min" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="time from the start of the process", ylabel="accuracy, %", ylim=(50, 95))
    axes.set_title("Lines: validation after each epoch. Dots: test, once, at the end.", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    main()
