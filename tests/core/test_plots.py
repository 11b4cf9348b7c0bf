"""Names in any script are drawn, with the fonts that are installed or as numbers."""

import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.font_manager import FontEntry, fontManager
from PIL import Image

from hffruits.core import plots
from hffruits.core.errors import InputError
from hffruits.core.plots import draw_bars, draw_evaluation, draw_grid, drawable

NAMES = [
    "Jalapeño", "Яблоко", "苹果", "りんご", "사과", "सेब", "تفاح", "แอปเปิ้ล", "🍎", "🍋\u200d🟩", "❤️",
]  # fmt: skip


@pytest.fixture
def fonts(monkeypatch):
    """Pretend that only these are installed: font -> what it has beside ASCII."""

    def install(**letters: str) -> None:
        ascii_letters = frozenset(range(128))
        have = {name: ascii_letters | set(map(ord, own)) for name, own in letters.items()}
        monkeypatch.setattr(plots, "_families", lambda: [name for name in have if name != "own"])
        monkeypatch.setattr(plots, "_OWN", "own")
        monkeypatch.setattr(plots, "_charmap", have.__getitem__)

    return install


def test_a_name_without_a_font_is_its_number_and_a_warning_says_so_once(fonts, caplog):
    fonts(own="é", Han="苹果", Hangul="사과")
    with caplog.at_level(logging.WARNING):
        assert drawable(["Café", "苹果", "사과", "सेब", "Kiwi", "🍎"]) == [
            "Café", "苹果", "사과", "#3", "Kiwi", "#5",
        ]  # fmt: skip
    (record,) = caplog.records
    assert "letters of 2 classes; plots show numbers instead: #3 सेब, #5 🍎." in record.getMessage()


def test_only_the_fonts_that_names_need_are_used(fonts):
    fonts(own="é", Other="x", Han="苹果", Both="苹果사과")
    assert plots._fallbacks(set("Café")) == []
    assert plots._fallbacks(set("苹果")) == ["Han"]
    assert plots._fallbacks(set("苹果사")) == ["Han", "Both"]
    assert plots._fallbacks(set("सेब")) == []


def test_every_script_and_emoji_is_drawn_without_a_word_from_matplotlib(tmp_path, caplog, capfd):
    with warnings.catch_warnings(), caplog.at_level(logging.DEBUG):
        warnings.simplefilter("error")
        logging.getLogger("matplotlib").setLevel(logging.WARNING)
        names = drawable(NAMES)
        draw_names(names, tmp_path)
    written = caplog.text + "".join(capfd.readouterr())
    assert "Glyph" not in written and "findfont" not in written
    for file in tmp_path.iterdir():
        with Image.open(file) as image:
            assert len(set(image.convert("L").tobytes())) > 20


def draw_names(names: list[str], folder: Path) -> None:
    count = len(names)
    draw_grid([(name, [np.zeros((8, 8, 3))]) for name in names], ["one"], folder / "grid.png")
    matrix, diagram = np.zeros((count, count, 4), np.uint8), (np.ones(3),) * 3
    draw_evaluation(matrix, names, {"one": diagram}, title="test", file=folder / "evaluation.png")


def test_a_file_without_a_suffix_is_a_png_and_an_unknown_one_leaves_nothing(tmp_path):
    draw_bars({"a": 1.0}, title="test", file=tmp_path / "bars")
    with Image.open(tmp_path / "bars") as image:
        assert image.format == "PNG"
    with pytest.raises(InputError, match=r"bars.xyz: can't be written .* Name a .png file"):
        draw_bars({"a": 1.0}, title="test", file=tmp_path / "bars.xyz")
    assert [path.name for path in tmp_path.iterdir()] == ["bars"]


def test_a_damaged_font_is_one_that_has_no_letter(tmp_path, monkeypatch):
    (tmp_path / "bad.ttf").write_bytes(b"no font")
    bad = FontEntry(fname=str(tmp_path / "bad.ttf"), name="Aaa Sans", weight=400)
    monkeypatch.setattr(fontManager, "ttflist", [*fontManager.ttflist, bad])
    plots._families.cache_clear()
    try:
        assert "Aaa Sans" in plots._families()
        assert drawable(["\U0010fffd"]) == ["#0"]  # looked for in every font
    finally:
        plots._families.cache_clear()
        plots._charmap.cache_clear()


def test_installed_fonts_are_known_by_their_letters():
    assert ord("A") in plots._charmap(plots._OWN)
    assert set(plots._families()) >= {plots._OWN}
    assert drawable(["Apple", "Jalapeño"]) == ["Apple", "Jalapeño"]
