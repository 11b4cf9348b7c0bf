"""A finished run on one screen, for the terminal."""

import shlex
import sys
from pathlib import Path
from typing import Any


def format_summary(metrics: dict[str, Any]) -> str:
    """What was trained on what, how good it is, what to do next; from what `metrics.json` holds."""
    data, training, folder = metrics["data"], metrics["training"], metrics["output_dir"]
    minutes, seconds = divmod(round(training["seconds"]), 60)
    sizes = ", ".join(f"{split} {count:,}" for split, count in data["images"].items())
    best = f", best epoch {training['best_epoch']:.4g}" if training["best_epoch"] else ""
    lines = [
        "",
        f"Data      {data['data_dir']}: {data['classes']} classes; {sizes} images; "
        f"{len(data['skipped'])} left out",
        f"Model     {metrics['model']['name_or_path']}, "
        f"{metrics['model']['parameters'] / 1e6:.1f} M parameters",
        f"Training  {training['epochs']:.4g} epochs in {minutes} min {seconds} s{best} "
        f"({training['images_per_second']:.1f} images/s with validation)",
    ]
    for split, title in (("validation", "Validated"), ("test", "Tested")):
        if split in metrics:
            m = metrics[split]
            coarse = f"coarse {m['coarse_accuracy']:.1%}, " if "coarse_accuracy" in m else ""
            lines.append(
                f"{title:10}accuracy {m['accuracy']:.1%}, {coarse}top-5 {m['top5_accuracy']:.1%}, "
                f"macro-F1 {m['macro_f1']:.1%} ({m['images']:,} images)"
            )
            if leaks := data["near_duplicates_in_train"].get(split):
                lines.append(f"          {leaks} of these images have a near-duplicate in train")
    command = f"{program_path()} demo {shlex.quote(folder)}"
    return "\n".join([*lines, "", f"Saved     {folder}", f"Try it    {command}"])


def program_path() -> str:
    """`hffruits` as it can be typed here: it lies beside the interpreter, on the PATH or not."""
    beside = Path(sys.executable).with_name("hffruits")
    if not beside.exists():
        return "hffruits"
    try:
        return str(beside.relative_to(Path.cwd()))
    except ValueError:
        return str(beside)
