"""Plots and grids of images as PNG files. Takes plain values, knows no models.

Every text is drawn as it is: `$` begins no formula, here and in nothing else that uses matplotlib.
Names in any script are drawn with the installed fonts that have it; where none has, `drawable`
gives their numbers.
"""

import logging
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib import font_manager, rc_context, rcParams
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from hffruits.core.counts import counted
from hffruits.core.errors import InputError
from hffruits.core.escaping import printable
from hffruits.core.files import write_aside

logger = logging.getLogger(__name__)
MOST_NAMED = 80  # classes that a confusion matrix has room to name
LONGEST = 40  # characters of a name, beyond which it would leave no room for the plot
_PLAIN = {"text.parse_math": False, "text.usetex": False}  # read by each text when it is made


_OWN = "DejaVu Sans"  # comes with matplotlib
_PLACEHOLDERS = ("lastresort", "last resort", "adobe blank")  # fonts that draw boxes, or nothing
_INVISIBLE = dict.fromkeys([0x200C, 0x200D, *range(0xFE00, 0xFE10)])  # joiners, variants of emoji


def drawable(names: Sequence[str]) -> list[str]:
    """The names as they are drawn: one without a font here as `#` and its place, counted from 0.

    A warning says which these are.
    """
    missing = _missing({letter for name in names for letter in _label(name)})
    drawn = [
        f"#{place}" if missing & set(_label(name)) else name for place, name in enumerate(names)
    ]
    numbered = [f"{new} {name}" for new, name in zip(drawn, names, strict=True) if new != name]
    if numbered:
        logger.warning(
            "no installed font has the letters of %s; plots show numbers instead: %s. "
            "Install one, such as Noto Sans, for their names.",
            *(counted(len(numbered), "class", "classes"), ", ".join(numbered[:20])),
        )
    return drawn


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
    count, names = len(columns), [name for name, _ in rows]
    with _figure(1.5 * count + 0.6, 1.55 * len(rows) + 0.5, file, names) as figure:
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
    with _figure(height + 5.5, height, file, names) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(height, 4.5))
        left.imshow(matrix, interpolation="nearest")
        left.set(xlabel="predicted class", ylabel="true class", title=title)
        if len(names) <= MOST_NAMED:
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
def _figure(width: float, height: float, file: Path, names: Iterable[str] = ()) -> Iterator[Figure]:
    """A figure of so many inches, written to the file in the end. Raises `InputError` if it can't.

    `names` are drawn with the fonts that they need. The settings of matplotlib are the user's again
    after it.
    """
    families = [*rcParams["font.family"], *_fallbacks({c for name in names for c in _label(name)})]
    with rc_context(_PLAIN | {"font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        try:
            with write_aside(file) as aside:
                figure.savefig(aside, dpi=130, format=file.suffix[1:] or "png")
        except (OSError, ValueError) as error:  # ValueError: a suffix that matplotlib can't write
            raise InputError(f"{file}: can't be written ({error}). Name a .png file.") from error


def _label(name: str) -> str:
    """A name as a label: in one line, and not too long."""
    line = printable(" ".join(name.split())).translate(_INVISIBLE)
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}\u2026"


# ---- fonts ----


def _fallbacks(letters: set[str]) -> list[str]:
    """Installed fonts that have what matplotlib's own lacks of these letters."""
    missing, chosen = _lacking(_OWN, letters), []
    for family in _families() if missing else ():
        left = _lacking(family, missing)
        if left != missing:
            chosen.append(family)
            missing = left
        if not missing:
            break
    return chosen


def _missing(letters: set[str]) -> set[str]:
    """Letters that no installed font has."""
    for family in (_OWN, *_fallbacks(letters)):
        letters = _lacking(family, letters)
    return letters


def _lacking(family: str, letters: set[str]) -> set[str]:
    return {letter for letter in letters if ord(letter) not in _charmap(family)}


@cache
def _families() -> list[str]:
    """Installed fonts of plain weight; those without serifs, as matplotlib's own is, first."""
    plain = {
        entry.name
        for entry in font_manager.fontManager.ttflist
        if (entry.style, entry.weight, entry.stretch) == ("normal", 400, "normal")
    }
    real = (name for name in plain if not name.lower().lstrip(".").startswith(_PLACEHOLDERS))
    return sorted(real, key=lambda name: ("Sans" not in name, "Mono" in name, name))


@cache
def _charmap(family: str) -> frozenset[int]:
    properties = font_manager.FontProperties(family=[family])
    try:
        return frozenset(font_manager.get_font(font_manager.findfont(properties)).get_charmap())
    except (OSError, RuntimeError):  # a font that is damaged, or gone since it was listed
        return frozenset()
