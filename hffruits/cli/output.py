"""A finished run on one screen, for the terminal."""

import shlex
from pathlib import Path
from typing import Any

from hffruits.core.counts import counted
from hffruits.core.durations import format_duration
from hffruits.core.escaping import printable
from hffruits.core.names import list_counts
from hffruits.evaluation.report import METRIC_TITLES
from hffruits.models.artifact import REPORT


def format_summary(metrics: dict[str, Any]) -> str:
    """What was trained on what, how good it is, what to do next; from what `metrics.json` holds."""
    data, training, folder = metrics["data"], metrics["training"], metrics["output_dir"]
    spent = format_duration(training["seconds"])
    if training.get("time_budget"):
        spent += f" of {training['time_budget']}"
    since = "since it was resumed" if training.get("resumed") else "the whole run took"
    sizes = ", ".join(f"{split} {count:,}" for split, count in data["images"].items())
    left_out = f"{len(data['skipped'])} left out"
    if data.get("truncated"):
        left_out += f"; {len(data['truncated'])} truncated"
    best = f", best epoch {training['best_epoch']:.4g}" if training["best_epoch"] else ""
    lines = [
        "",
        f"Data      {printable(data['data_dir'])}: {counted(data['classes'], 'class', 'classes')}; "
        f"{sizes} images; {left_out}",
        *_rare_lines(data),
        f"Model     {metrics['model']['name_or_path']}, "
        f"{metrics['model']['parameters'] / 1e6:.1f} M parameters",
        f"Training  {counted(training['epochs'], 'epoch')}{best}, "
        f"{training['images_per_second']:.1f} images/s; {since} {spent}",
    ]
    for split, title in (("validation", "Validated"), ("test", "Tested")):
        if split in metrics:
            lines += format_figures(title, metrics[split])
            if leaks := data["near_duplicates_in_train"].get(split):
                lines.append(f"          {leaks} of these images have a near-duplicate in train")
    report = Path(folder) / REPORT
    page = [f"Report    {report}"] if report.is_file() else []  # else it was warned of
    demo = shlex.join(["hffruits", "demo", folder])
    return "\n".join([*lines, "", f"Saved     {folder}", *page, f"Demo      {demo}"])


def _rare_lines(data: dict[str, Any]) -> list[str]:
    """The classes that no held-out photo shows, and those that were left out, with their photos."""
    kinds = {"only trained on, measured nowhere": data.get("not_measured")}
    kinds["left out as too rare"] = data.get("dropped_classes")
    return [
        f"          {counted(len(some), 'class', 'classes')} {what}: {printable(list_counts(some))}"
        for what, some in kinds.items()
        if some
    ]


def format_figures(title: str, measured: dict[str, Any]) -> list[str]:
    """The metrics of one split as a row of two lines."""
    low, high = measured["intervals"]["accuracy"]
    more = [f"macro-F1 {measured['macro_f1']:.1%}"]
    if len(measured["classes"]) > 5:  # else that is always right
        more.insert(0, f"in the top 5 {measured['top5_accuracy']:.1%}")
    if "coarse_accuracy" in measured:
        more.insert(0, f"the right group (coarse class) {measured['coarse_accuracy']:.1%}")
    return [
        f"{title:10}accuracy {measured['accuracy']:.1%} on {counted(measured['images'], 'photo')} "
        f"(95% confidence: {low:.1%} to {high:.1%})",
        f"          {', '.join(more)}",
    ]


def _with_interval(measured: dict[str, Any], name: str) -> str:
    low, high = measured["intervals"][name]
    return f"{measured[name]:.1%} ({low:.1%} to {high:.1%})"


_TITLES = {"train": "Trained", "validation": "Validated", "test": "Tested"}


def format_evaluation(record: dict[str, Any]) -> str:
    """An evaluation on one screen, from what its `metrics.json` holds."""
    temperature = record["temperature"]
    lines = [
        *format_figures(_TITLES.get(record["split"], "Measured"), record),
        f"Scores    confidence is off by {_with_interval(record, 'ece')} on average (ECE); by "
        f"{_with_interval(record, 'ece_uncalibrated')} before calibration (temperature "
        f"{temperature:.2f})",
    ]
    if asked := record["reject_rate"]:
        lines.append(
            f"Rejected  {_with_interval(record, 'rejected')} of these photos are reported as "
            f"unknown, though the model has their classes; {100 * asked:g}% was asked for"
        )
    for name, some in record["unknown"].items():
        lines.append(
            f"Unknown   {printable(name)}: {_with_interval(some, 'rejected')} of "
            f"{counted(some['images'], 'photo')} not recognised (all is best); AUROC "
            f"(1 is best) {some['auroc']:.3f} "
            f"({' to '.join(f'{end:.3f}' for end in some['intervals']['auroc'])}), "
            f"FPR@95 {_with_interval(some, 'fpr95')}"
        )
    for pair in record["most_confused"][:3]:
        lines.append(
            f"Confused  {printable(pair['class'])} predicted as {printable(pair['predicted'])}: "
            f"{counted(pair['images'], 'photo')} ({pair['share']:.0%} of the class)"
        )
    if "corruptions" in record:
        r = record["corruptions"]
        lines.append(f"Corrupted {r['mean']:.1%} on average, {r['clean']:.1%} on clean photos")
    return "\n".join(lines)


def format_comparison(record: dict[str, Any]) -> str:
    """A table of two models' metrics and their differences, and the verdict."""
    lines = [
        f"A         {printable(record['a'])}",
        f"B         {printable(record['b'])}",
        "",
        f"{'Metric, %':17}{'A':>7}{'B':>7}  B - A (95 % interval)",
    ]
    for name, row in record["metrics"].items():
        a, b, difference, low, high = (
            100 * row[key] for key in ("a", "b", "difference", "low", "high")
        )
        lines.append(
            f"{METRIC_TITLES[name][0]:17}{a:>7.1f}{b:>7.1f}  {difference:+.1f} "
            f"({low:+.1f} to {high:+.1f})"
        )
    return "\n".join([*lines, "", printable(record["verdict"])])


def format_export(folder: Path, record: dict[str, Any]) -> str:
    """What an export predicts beside the model it was made from, and how to use it."""
    check = record["check"]
    accuracy = (
        f"; accuracy {check['accuracy_before']:.1%} before, {check['accuracy']:.1%} now"
        if "accuracy" in check
        else ""
    )
    lines = [
        f"Checked   {check['images']:,} {check['data']}: {check['agreement']:.1%} the same "
        f"predictions, scores differ by up to {check['largest_difference']:.2g}{accuracy}",
        f"Saved     {folder} ({record['megabytes']:.1f} MB)",
    ]
    if record["format"] in ("onnx", "openvino"):
        words = ["hffruits", "predict", str(folder), "FOLDER", "--output", "predictions.csv"]
        lines.append(f"Use       {shlex.join(words)}")
    return "\n".join(lines)
