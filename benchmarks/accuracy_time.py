"""Draw the chart of README, accuracy against time, from results/train.csv.

    python benchmarks/accuracy_time.py

Times are from the start of the process to the last step; of several seeds, the mean.
"""

import csv
from pathlib import Path

from matplotlib.figure import Figure

HERE = Path(__file__).parent
CHART = HERE.parent / "docs/accuracy_time.png"
COLOURS = {"hffruits": "#a83f0b"}
OTHERS = "#6b6470"
INK = "#2b2530"
BACKGROUND = "#fffcf4"


def main() -> None:
    draw(read(HERE / "results/train.csv"), CHART)


def read(file: Path) -> dict[str, tuple[float, list[float]]]:
    """Recipe -> minutes, and the test accuracy of each seed in percent."""
    with file.open(encoding="utf-8", newline="") as stream:
        return {
            row["recipe"].replace("`", ""): (
                float(row["seconds"].replace(",", "")) / 60,
                [float(figure) for figure in row["test top-1 by seed"].split(",")],
            )
            for row in csv.DictReader(stream)
        }


def draw(points: dict[str, tuple[float, list[float]]], output: Path) -> None:
    figure = Figure(figsize=(8, 2.9), layout="constrained", facecolor=BACKGROUND)
    axes = figure.add_subplot(facecolor=BACKGROUND)
    for recipe, (minutes, accuracies) in points.items():
        colour = COLOURS.get(recipe.split()[0], OTHERS)
        axes.scatter(
            [minutes] * len(accuracies), accuracies, s=70, color=colour, alpha=0.8, linewidths=0
        )
        mean = sum(accuracies) / len(accuracies)
        left = minutes > 15
        axes.annotate(
            f"{recipe}\n{mean:.0f} % in {minutes:.1f} min",
            (minutes, mean),
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
