"""Ablation: the effect of each training technique on validation metrics, against a baseline.

    python benchmarks/ablation.py DATA_DIR --output_dir runs/ablation [--rows NAME ...]

`DATA_DIR` has train and validation folders and no test folder. Finished rows are not run again; the
table is printed and `ablation.png` plotted from all of them.
"""

import argparse
import json
import shutil
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from hffruits.training.parser import parse_train_arguments
from hffruits.training.run import train

BASELINE = [
    "--image_size=128", "--num_train_epochs=6", "--load_best_model_at_end=false",
    "--save_strategy=no", "--eval_strategy=no", "--bf16=false", "--logging_steps=25",
    "--batch_norm=train", "--ema_decay=0",
]  # fmt: skip

# name -> flags added to BASELINE
ROWS: dict[str, list[str]] = {
    "baseline": [],
    "baseline, seed 1": ["--seed=1"],
    "baseline, seed 2": ["--seed=2"],
    "no augmentation": ["--augment=none"],
    "augment medium": ["--augment=medium"],
    "augment strong": ["--augment=strong"],
    "mixup and cutmix": ["--mixup_alpha=0.2", "--cutmix_alpha=1", "--mix_probability=0.5"],
    "EMA 0.995": ["--ema_decay=0.995"],
    "freeze none": ["--freeze=none"],
    "freeze none, layer decay 0.7": ["--freeze=none", "--layer_decay=0.7"],
    "freeze head_only": ["--freeze=head_only"],
    "freeze gradual": ["--freeze=gradual"],
    "freeze lp_ft": ["--freeze=lp_ft"],
    "batch norm freeze": ["--batch_norm=freeze"],
    "batch norm freeze_stats": ["--batch_norm=freeze_stats"],
    "batch norm recalibrate": ["--batch_norm=recalibrate"],
    "schedule constant": ["--lr_scheduler_type=constant_with_warmup"],
    "schedule linear": ["--lr_scheduler_type=linear"],
    "schedule step": ["--lr_scheduler_type=step"],
    "schedule exponential": ["--lr_scheduler_type=exponential"],
    "schedule time_based": ["--lr_scheduler_type=time_based"],
    "schedule one_cycle": ["--lr_scheduler_type=one_cycle"],
    "weight decay 0": ["--weight_decay=0"],
    "no label smoothing": ["--label_smoothing_factor=0"],
    "train size 112, recalibrate": ["--train_image_size=112", "--batch_norm=recalibrate"],
    "batch norm freeze, EMA 0.995": ["--batch_norm=freeze", "--ema_decay=0.995"],
    "no clipping": ["--max_grad_norm=0"],
    "clip agc": ["--clip_mode=agc"],
    "clip value": ["--clip_mode=value"],
    "optimizer sgd, lr 0.02": ["--optim=timm:sgd", "--learning_rate=0.02"],
    "optimizer lamb, lr 5e-3": ["--optim=timm:lamb", "--learning_rate=5e-3"],
    "balanced sampler": ["--balanced_sampler=true"],
    "focal loss": ["--focal_gamma=2"],
}


def run_row(name: str, data_dir: str, folder: Path) -> dict:
    """Train one row, or read its earlier results; its weights are deleted."""
    place = folder / name.replace(" ", "_").replace(",", "")
    if not (place / "metrics.json").exists():
        shutil.rmtree(place, ignore_errors=True)
        train(
            *parse_train_arguments([data_dir, "--output_dir", str(place), *BASELINE, *ROWS[name]])
        )
        (place / "model.safetensors").unlink()
    return json.loads((place / "metrics.json").read_text())


def draw(results: dict[str, dict], file: Path) -> None:
    """Loss and accuracy of each row as dots, over the range of the baseline's seeds."""
    baseline = [name for name in results if name.startswith("baseline")]
    others = [name for name in results if name not in baseline][::-1]
    figure = Figure(figsize=(9, 0.27 * len(others) + 1.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, metric, title in zip(
        panels, ("loss", "accuracy"), ("validation loss", "validation top-1"), strict=True
    ):
        values = {name: metrics["validation"][metric] for name, metrics in results.items()}
        seeds = [values[name] for name in baseline]
        axes.axvspan(min(seeds), max(seeds), color="0.88", label="seeds of the baseline")
        axes.scatter([values[name] for name in others], others, zorder=2)
        axes.set_title(title, fontsize=10)
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", color="0.93")
        axes.spines[["top", "right", "left"]].set_visible(False)
    panels[1].xaxis.set_major_formatter(PercentFormatter(1))
    panels[0].legend(frameon=False, fontsize=8, loc="upper right")
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS), metavar="NAME")
    args = parser.parse_args()
    if (Path(args.data_dir) / "test").exists():
        parser.error(f"{args.data_dir}: has a test folder. Give a folder with only train and val.")
    results = {name: run_row(name, args.data_dir, args.output_dir) for name in args.rows}
    print("| run | val top-1 | val macro-F1 | val loss |\n|---|---|---|---|")
    for name, metrics in results.items():
        val = metrics["validation"]
        print(f"| {name} | {val['accuracy']:.1%} | {val['macro_f1']:.1%} | {val['loss']:.3f} |")
    draw(results, args.output_dir / "ablation.png")


if __name__ == "__main__":
    main()
