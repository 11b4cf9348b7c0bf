"""Plots and grids of images as PNG files. Takes plain values, knows no models.

Every text is drawn as it is: `$` begins no formula, here and in nothing else that uses matplotlib.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from hffruits.core.errors import InputError
from hffruits.core.escaping import printable

LONGEST = 40  # characters of a name, beyond which it would leave no room for the plot
_PLAIN = {"text.parse_math": False, "text.usetex": False}  # read by each text when it is made


def draw_schedules(rates: dict[str, list[float]], file: Path) -> None:
    """A panel a schedule: the learning rate over the steps, all on the same axes."""
    across = min(4, len(rates))
    down = math.ceil(len(rates) / across)
    with _figure(2.9 * across + 0.5, 2.1 * down + 0.4, file) as figure:
        panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
        for axes in panels.flat[len(rates) :]:
            axes.set_axis_off()
        for axes, (name, values) in zip(panels.flat, rates.items(), strict=False):
            axes.fill_between(range(len(values)), values, alpha=0.15)
            axes.plot(values)
            axes.set_title(_label(name), fontsize=10)
            axes.set_ylim(0, None)
            axes.spines[["top", "right"]].set_visible(False)
        figure.supxlabel("step", fontsize=9)
        figure.supylabel("learning rate", fontsize=9)


def draw_lr_range(
    rates: list[float], losses: list[float], smooth: list[float], best: float, file: Path
) -> None:
    """The loss against the learning rate of a range test, and the rate that it suggests."""
    with _figure(7, 4.2, file) as figure:
        axes = figure.subplots()
        axes.plot(rates, losses, color="0.8", label="loss of a step")
        axes.plot(rates, smooth, color="tab:blue", label="smoothed")
        axes.axvline(best, color="tab:red", linestyle="--", label=f"suggested: {best:.1e}")
        low, high = np.nanmin(smooth), max(smooth[: int(np.nanargmin(smooth)) + 1])
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        axes.xaxis.set_major_formatter(LogFormatter())  # the usual ones write formulas
        axes.xaxis.set_minor_formatter(LogFormatter())
        axes.set_ylim(low - 0.2 * (high - low), high + 0.5 * (high - low))
        axes.legend(frameon=False)


def draw_grid(rows: list[tuple[str, list[np.ndarray]]], columns: list[str], file: Path) -> None:
    """Rows of images (H, W, 3) in [0, 1], each row with its name, each column with its title."""
    count = len(columns)
    with _figure(1.5 * count + 0.6, 1.55 * len(rows) + 0.5, file) as figure:
        grid = figure.subplots(len(rows), count, squeeze=False)
        for line, (name, images) in zip(grid, rows, strict=True):
            line[0].set_ylabel(_label(name), fontsize=9)
            for axes, image in zip(line, images, strict=True):
                axes.imshow(image, interpolation="nearest")
                axes.set(xticks=[], yticks=[])
                for side in axes.spines.values():
                    side.set_visible(False)
        for axes, title in zip(grid[0], columns, strict=True):
            axes.set_title(title, fontsize=9)


def draw_bars(values: dict[str, float], *, title: str, file: Path) -> None:
    """Horizontal bars, the longest on top."""
    with _figure(7, 0.5 * len(values) + 1.2, file) as figure:
        axes = figure.subplots()
        ordered = sorted(values.items(), key=lambda item: item[1])
        bars = axes.barh([name for name, _ in ordered], [value for _, value in ordered])
        axes.bar_label(bars, fmt="%.2f", padding=3)
        axes.set_title(title)
        axes.spines[["top", "right"]].set_visible(False)


def draw_evaluation(
    matrix: np.ndarray,
    names: list[str],
    trust: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    *,
    title: str,
    file: Path,
) -> None:
    """A confusion matrix as pixels (K, K, 4), and by name confidence, accuracy, counts of bins."""
    height = min(13.0, max(4.5, 1.5 + 0.19 * len(names)))
    with _figure(height + 5.5, height, file) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(height, 4.5))
        left.imshow(matrix, interpolation="nearest")
        left.set(xlabel="predicted class", ylabel="true class", title=title)
        if len(names) <= 80:
            names = [_label(name) for name in names]
            left.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
            left.set_yticks(range(len(names)), names, fontsize=7)
        right.plot([0, 1], [0, 1], color="0.7", linestyle="--", label="perfect calibration")
        for name, (confidence, accuracy, counts) in trust.items():
            (line,) = right.plot(confidence, accuracy, label=name)
            size = 10 + 150 * counts / counts.max()  # a bin of few images says little
            right.scatter(confidence, accuracy, s=size, color=line.get_color(), alpha=0.6)
        right.set(
            xlim=(0, 1.02),
            ylim=(0, 1.05),
            xlabel="confidence",
            ylabel="accuracy",
        )
        right.set_title("Reliability diagram")
        right.set_box_aspect(1)
        right.legend(frameon=False, fontsize=8, loc="lower right")
        right.spines[["top", "right"]].set_visible(False)


@contextmanager
def _figure(width: float, height: float, file: Path) -> Iterator[Figure]:
    """A figure of so many inches, written to the file in the end. Raises `InputError` if it can't.

    The settings of matplotlib are the user's again after it; letters that its font lacks become
    boxes.
    """
    with rc_context(_PLAIN), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(file, dpi=130)
        except (OSError, ValueError) as error:  # ValueError: a suffix that matplotlib can't write
            raise InputError(f"{file}: can't be written ({error}). Name a .png file.") from error


def _label(name: str) -> str:
    """A name as a label: in one line, and not too long."""
    line = printable(" ".join(name.split()))
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}\u2026"
