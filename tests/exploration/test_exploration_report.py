"""The data report: one file, safe from injection, no network, usable everywhere."""

import base64
import colorsys
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pytest
from PIL import Image
from support.pages import HOSTILE, Tags, in_browser, row_ends

from hffruits.core.errors import InputError
from hffruits.core.html import render_page, sprite_uri, thumbnail_uri
from hffruits.exploration.report import TEMPLATE


def dot(hue: float, side: int = 48) -> Image.Image:
    """A shaded ball on a pale ground."""
    y, x = (np.mgrid[:side, :side] + 0.5) * 2 / side - 1
    height = np.sqrt(np.clip(0.7 - x**2 - y**2, 0, None))[..., None]
    ball = height * np.array(colorsys.hsv_to_rgb(hue, 0.8, 1.1))
    return Image.fromarray(np.uint8(np.clip(255 * np.where(height > 0, ball, 0.93), 0, 255)))


def content_of(names: list[str], *, points: int = 400) -> dict[str, Any]:
    """What `hffruits explore` might say of a folder with these classes."""
    rng = np.random.default_rng(0)
    images = [dot(index / len(names)) for index in range(len(names))]
    uris = [thumbnail_uri(image, 48) for image in images]

    def photo(index: int, split: str, note: str = "") -> dict[str, Any]:
        name, thumb = names[index % len(names)], uris[index % len(names)]
        path = f"{split}/{name}/{index}.jpg"
        return {"path": path, "label": name, "split": split, "thumb": thumb, "note": note}

    def finding(name: str, severity: str, count: int, groups: list) -> dict[str, Any]:
        return {
            "id": name,
            "severity": severity,
            "title": f"{count} photos: {names[0]}",
            "effect": f"The accuracy of {names[-1]} looks better than it is.",
            "remedy": "Keep each photo on one side.",
            "command": f"hffruits split '{names[0]}'" if severity == "high" else None,
            "count": count,
            "groups": groups,
        }

    def kind(index: int, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "coarse": None if index % 2 else name,
            "counts": {"train": int(rng.integers(5, 90)), "validation": index % 9},
            "mean_colour": "#b04030",
            "mean_image": uris[index],
            "samples": [uris[index]] * 8,
        }

    pairs = [[photo(i, "train"), photo(i, "validation", f"97 % {names[0]}")] for i in range(9)]
    broken = [[photo(1, "train") | {"thumb": None}]]
    of_class = rng.integers(len(names), size=points)
    where = rng.random((len(names), 2))[of_class] * 0.8 + rng.random((points, 2)) * 0.2
    return {
        "title": f"fruits {names[0]}",
        "source": f"/data/{names[0]}",
        "origin": None,
        "created": "2026-11-22 21:30",
        "version": "0.1.0",
        "command": "hffruits explore fruits --output_dir exploration",
        "summary": {
            "images": 1972,
            "classes": len(names),
            "splits": {"train": 1776, "validation": 196},
            "bytes": 61_000_000,
            "unreadable": 3,
            "seconds": 41.2,
        },
        "findings": [
            finding("small", "info", 4, []),
            finding("broken", "medium", 1, broken),
            finding("leaks", "high", 129, pairs),
        ],
        "passed": [f"No photo is in two classes {names[0]}", "No photo is grey"],
        "classes": [kind(index, name) for index, name in enumerate(names)],
        "histograms": [
            {
                "name": f"Brightness {names[0]}",
                "unit": "0 to 255",
                "edges": list(range(0, 260, 10)),
                "counts": rng.integers(300, size=25).tolist(),
                "help": "Very dark photos show little.",
            }
        ],
        "sizes": [{"width": 300 + i, "height": 348, "count": 90 - i} for i in range(9)],
        "formats": {"JPEG": 1970, "PNG": 2},
        "map": {
            "points": [
                [*xy, int(of), i % 2]
                for i, (xy, of) in enumerate(zip(where, of_class, strict=True))
            ],
            "classes": names,
            "splits": ["train", "validation"],
            "paths": [f"train/{names[of]}/{i}.jpg" for i, of in enumerate(of_class)],
            "label_errors": [3, 17],
            "sprite": sprite_uri([images[of] for of in of_class], 24, 20),
            "tile": 24,
            "columns": 20,
            "note": f"400 of 1,972 photos {names[0]}",
        },
    }


@pytest.fixture
def render(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    def render(content: dict[str, Any]) -> Path:
        render_page(TEMPLATE, content, tmp_path / "new" / "explore.html")
        return tmp_path / "new" / "explore.html"

    return render


def test_hostile_names_are_shown_and_inject_nothing(render: Callable):
    tame = Tags(render(content_of([f"Fruit {i}" for i in range(6)])).read_text("utf-8"))
    page = Tags(render(content_of(HOSTILE)).read_text("utf-8"))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in tame.tags]
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    for name in HOSTILE:
        assert name in page.text


def test_the_page_loads_nothing_from_the_network(render: Callable):
    page = render(content_of(HOSTILE)).read_text("utf-8")
    allowed = re.compile(r"#|data:")
    for tag, attrs in Tags(page).tags:
        for name in {"src", "href", "srcset", "poster", "action"} & set(attrs):
            assert allowed.match(attrs[name]), (tag, attrs[name])
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert styles and not re.search(r"url\(|@import", "".join(styles))
    assert "default-src 'none'; img-src data:;" in page


def test_the_most_severe_finding_comes_first_and_the_rest_is_counted(render: Callable):
    page = render(content_of(["Apple", "Pear"])).read_text("utf-8")
    assert re.findall(r'id="finding-(\w+)"', page) == ["leaks", "broken", "small"]
    assert "Show 3 more" in page and "and 120 more, in explore.json" in page
    assert page.count(">No photo<") == 1


def test_empty_parts_are_left_out(render: Callable):
    empty: dict[str, Any] = {"findings": [], "passed": [], "classes": [], "histograms": []}
    page = render(content_of(["Apple"]) | empty | {"sizes": [], "formats": {}, "map": None})
    text = page.read_text("utf-8")
    assert re.findall(r'<section id="(\w+)"', text) == ["findings"]
    assert "Nothing was found" in text and "explore.json" not in text


def test_a_file_name_that_is_not_unicode_is_written(render: Callable):
    content = content_of(["Apple"]) | {"source": b"/data/\xff".decode("utf-8", "surrogateescape")}
    assert "/data/?" in render(content).read_text("utf-8")


def test_a_missing_value_raises(render: Callable):
    content = content_of(["Apple"])
    del content["summary"]["images"]
    with pytest.raises(jinja2.UndefinedError, match="images"):
        render(content)


def test_a_page_that_cannot_be_written_is_the_users_error(tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    file = tmp_path / "file" / "explore.html"
    with pytest.raises(InputError, match="can't be written"):
        render_page(TEMPLATE, content_of(["Apple"]), file)


def picture_of(uri: str) -> Image.Image:
    assert uri.startswith("data:image/jpeg;base64,")
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK"])
def test_a_thumbnail_keeps_its_shape(mode: str):
    assert picture_of(thumbnail_uri(Image.new(mode, (300, 150)), 64)).size == (64, 32)
    assert picture_of(thumbnail_uri(Image.new(mode, (3000, 2)), 64)).size == (64, 1)


def test_a_sprite_holds_its_tiles_row_by_row():
    colours = [(220, 30, 30), (30, 200, 30), (30, 30, 220)]
    images = [Image.new("RGB", (30, 60), colour) for colour in colours]
    sheet = picture_of(sprite_uri([*images[:2], np.asarray(images[2])], 16, 2))
    assert sheet.size == (32, 32)
    for corner, colour in zip([(8, 8), (24, 8), (8, 24)], colours, strict=True):
        assert np.abs(np.subtract(sheet.getpixel(corner), colour)).max() < 12
    assert picture_of(sprite_uri([], 16, 2)).size == (32, 16)


# ---- In a real browser

VIEWS = [(1280, "light"), (390, "dark"), (1280, "dark"), (390, "light")]  # width, colour scheme


def colourful(image: np.ndarray) -> int:
    """How many pixels are far from grey."""
    return int((np.ptp(image[..., :3].astype(int), axis=-1) > 60).sum())


def pixels(page) -> np.ndarray:
    page.wait_for_timeout(100)  # the map draws in the next frame
    return np.asarray(Image.open(io.BytesIO(page.locator("#map canvas").screenshot())))


@in_browser(VIEWS)
def test_the_page_fits_and_its_text_stands_out(render, open_page, width, scheme):
    names = ["A" + "very" * 40 + "long name", *(f"Fruit-{i}" for i in range(49))]
    page = open_page(render(content_of(names)), width, scheme)
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    title = Image.open(io.BytesIO(page.locator("h1").screenshot())).convert("L")
    darkest, lightest = title.getextrema()
    assert title.getpixel((0, 0)) == (darkest if scheme == "dark" else lightest)
    assert darkest < 60 and lightest > 200


@in_browser(VIEWS[:2])
def test_a_point_of_the_map_shows_its_photo(render, open_page, width, scheme):
    content = content_of([f"Fruit-{i}" for i in range(5)])
    page = open_page(render(content), width, scheme)
    tip, canvas = page.locator("#map .tip"), page.locator("#map canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    last = len(content["map"]["points"]) - 1  # drawn on top
    x, y = page.evaluate(f"place({last})")
    page.mouse.move(box["x"] + x, box["y"] + y)
    assert tip.is_visible()
    assert content["map"]["paths"][last] in tip.inner_text()
    tile = page.locator("#map .tile")
    hue = np.asarray(Image.open(io.BytesIO(tile.screenshot())).convert("HSV"))
    middle = hue[hue.shape[0] // 2, hue.shape[1] // 2, 0] / 255
    wanted = content["map"]["points"][last][2] / 5
    assert abs((middle - wanted + 0.5) % 1 - 0.5) < 0.05
    page.mouse.move(5, 5)
    assert tip.is_hidden()


@in_browser([(1280, "light"), (800, "light"), (390, "light")])
@pytest.mark.parametrize("splits", [1, 2, 3])
def test_no_row_of_tiles_has_a_gap(render, open_page, splits, width, scheme):
    content = content_of(["Apple", "Pear"])
    names = ["train", "validation", "test"][:splits]
    content["summary"]["splits"] = dict.fromkeys(names, 100)
    assert row_ends(open_page(render(content), width, scheme), ".tiles") == {0}


@in_browser(VIEWS[:2])
def test_the_legend_of_the_map_has_the_colours_of_its_dots(render, open_page, width, scheme):
    content = content_of([f"Fruit-{i}" for i in range(5)])
    page = open_page(render(content), width, scheme)
    legend = page.locator(".map-legend")
    assert [one.strip() for one in legend.locator("li").all_inner_texts()] == [
        *(f"Fruit-{i}" for i in range(5)),
        "Probable label error",
    ]
    for index in range(5):
        item = legend.locator(".key").nth(index)
        own = item.evaluate("(item) => getComputedStyle(item, '::before').backgroundColor")
        painted = page.evaluate(
            "(index) => { const at = document.createElement('i'); at.style.color = colour(index); "
            "document.body.append(at); return getComputedStyle(at).color; }",
            index,
        )
        assert own == painted


@in_browser(VIEWS[:2])
def test_a_class_can_be_picked_out(render, open_page, width, scheme):
    content = content_of([f"Fruit-{i}" for i in range(5)])
    page = open_page(render(content), width, scheme)
    before = pixels(page)
    page.locator("#map-class").select_option("Fruit-3")
    mine = sum(point[2] == 3 for point in content["map"]["points"])
    assert page.locator("#map-count").inner_text() == f"{mine} chosen"
    assert colourful(pixels(page)) < 0.5 * colourful(before)  # most dots are grey now
    page.get_by_label("Label errors only").check()
    page.locator("#map-class").select_option("All classes")
    assert page.locator("#map-count").inner_text() == "2 chosen"


@in_browser(VIEWS[:2])
def test_the_keyboard_reaches_everything(render, open_page, width, scheme):
    page = open_page(render(content_of(HOSTILE)), width, scheme)
    reached = []
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.hash || document.activeElement.tagName")
        )
        if reached[-1] == "CANVAS":
            break
    sections = ["#findings", "#classes", "#samples", "#measurements", "#map"]
    assert reached[:6] == ["#main", *sections]
    assert {"SUMMARY", "INPUT", "BUTTON", "SELECT", "CANVAS"} <= set(reached)
    tip = page.locator("#map .tip")
    first = tip.inner_text()
    page.keyboard.press("ArrowRight")
    assert tip.is_visible() and tip.inner_text() != first
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    page.locator(".passed summary").focus()
    page.keyboard.press("Enter")
    assert page.locator(".passed li").first.is_visible()
    assert page.evaluate("typeof hacked") == "undefined"


@in_browser(VIEWS[:2])
def test_rows_are_found_and_sorted_and_commands_copied(render, open_page, width, scheme):
    content = content_of(["Apple", "Pêche", "Plum", "Fig"])
    page = open_page(render(content), width, scheme)
    rows = page.locator("#class-counts tbody th")
    page.locator("#class-counts").get_by_role("button", name="Photos").click()
    ordered = sorted(content["classes"], key=lambda item: -sum(item["counts"].values()))
    assert rows.all_inner_texts() == [item["name"] for item in ordered]
    page.locator("#classes").get_by_label("Find a class").fill("peche")
    assert [row.inner_text() for row in rows.all() if row.is_visible()] == ["Pêche"]
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#finding-leaks").get_by_role("button", name="Copy").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "hffruits split 'Apple'"
