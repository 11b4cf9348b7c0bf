"""Draw the chart of README, accuracy against time, from accuracy_time.csv.

    python benchmarks/accuracy_time.py

The figures are those of "Against other recipes" in benchmarks/README.md: two CPU cores, 1,704 test
photos of produce, seconds from the start of the process to the last step (the mean of three seeds).
"""

import csv
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

HERE = Path(__file__).parent
CHART = HERE.parent / "docs/accuracy_time.png"
COLOURS = {"hffruits": "#a83f0b"}
OTHERS = "#6b6470"
INK = "#2b2530"
BACKGROUND = "#fffcf4"


def main() -> None:
    draw(read(HERE / "accuracy_time.csv"), CHART)


def read(file: Path) -> dict[str, list[tuple[float, float]]]:
    """Recipe -> minutes and test accuracy in percent, of each seed."""
    points = defaultdict(list)
    with file.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            points[row["recipe"]].append((float(row["seconds"]) / 60, float(row["test_accuracy"])))
    return dict(points)


def draw(points: dict[str, list[tuple[float, float]]], output: Path) -> None:
    figure = Figure(figsize=(8, 2.9), layout="constrained", facecolor=BACKGROUND)
    axes = figure.add_subplot(facecolor=BACKGROUND)
    for recipe, measured in points.items():
        colour = COLOURS.get(recipe.split()[0], OTHERS)
        minutes, accuracies = zip(*measured, strict=True)
        axes.scatter(minutes, accuracies, s=70, color=colour, alpha=0.8, linewidths=0)
        mean = sum(accuracies) / len(accuracies)
        left = max(minutes) > 15
        axes.annotate(
            f"{recipe}\n{mean:.0f} % in {minutes[0]:.1f} min",
            (minutes[0], mean),
            xytext=(-10 if left else 10, 0),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            color=colour,
            fontsize=11,
            fontweight="bold" if colour != OTHERS else "normal",
        )
    axes.set(xlim=(0, 30), ylim=(82, 87.2), xlabel="minutes of training on 2 CPU cores")
    axes.set_title("Test accuracy on 1,704 photos of 50 kinds, %", loc="left", fontsize=12)
    axes.grid(axis="y", alpha=0.3)
    axes.tick_params(colors=INK, length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    main()
