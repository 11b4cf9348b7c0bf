"""The pages of `evaluate` and `compare`: complete, safe from injection, usable everywhere."""

import base64
import functools
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pytest
from PIL import Image
from support.drawing import FRUITS, draw_fruit
from support.pages import HOSTILE, Tags, in_browser, row_ends

from hffruits.core.html import render_page, thumbnail_uri
from hffruits.data.arguments import SAMPLE
from hffruits.data.samples import origin_of
from hffruits.evaluation.comparison import TEMPLATE as COMPARE
from hffruits.evaluation.report import TEMPLATE as EVALUATE
from hffruits.evaluation.report import advice, exceeds_rate, short_name

VIEWS = [(1280, "light"), (390, "dark"), (1280, "dark"), (390, "light")]
KINDS = [*FRUITS, *(f"{kind} {name}" for kind in ("Golden", "Red", "Wild") for name in FRUITS)]


def fruits(count: int) -> list[str]:
    """Names as of real data; beyond some dozens they only count."""
    return [KINDS[i] if i < len(KINDS) else f"Fruit {i}" for i in range(count)]


def hostile(count: int) -> list[str]:
    names = [*HOSTILE, "A" + "very" * 30 + "long name", "Clementine from the south of Spain"]
    return (names + fruits(count))[:count]


@functools.cache
def thumb(index: int, seed: int = 0) -> str:
    name = [*FRUITS][index % len(FRUITS)]
    return thumbnail_uri(draw_fruit(name, seed=seed, size=128), 128)


@functools.cache
def heat(index: int, seed: int = 0) -> str:
    """A photo under a red spot with yellow around it."""
    image = np.asarray(
        Image.open(io.BytesIO(base64.b64decode(thumb(index, seed).partition(",")[2])))
    )
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    spot = np.exp(-((x - 0.2) ** 2 + y**2) / 0.2)[..., None]
    glow = np.concatenate([np.full_like(spot, 255), 200 * (1 - spot), 0 * spot], axis=-1)
    return thumbnail_uri(Image.fromarray(np.uint8(image * 0.4 + glow * spot * 0.6)), 128)


def photo(
    names: list[str], truth: int, predicted: int, score: float, seed: int = 0
) -> dict[str, Any]:
    return {
        "path": f"test/{names[truth]}/{seed:04d}.jpg",
        "thumb": None if seed == 3 else thumb(truth, seed % 2),
        "heat": heat(truth, seed % 2),
        "truth": names[truth],
        "predicted": names[predicted],
        "score": score,
        "known": seed != 2,
    }


def picture_of(counts: np.ndarray) -> str:
    """Green where right, orange where wrong, the clearer the more of the row: (K, K) as a PNG."""
    share = np.sqrt(counts / np.maximum(counts.sum(1, keepdims=True), 1))
    pixels = np.zeros((*counts.shape, 4), np.uint8)
    pixels[..., :3] = (232, 100, 26)
    pixels[np.eye(len(counts), dtype=bool), :3] = (79, 143, 60)
    pixels[..., 3] = 255 * share
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def evaluation(names: list[str]) -> dict[str, Any]:
    """What `hffruits evaluate` might say of a model with these classes."""
    rng = np.random.default_rng(0)
    kinds = len(names)
    support = rng.integers(5, 60, kinds)
    counts = np.diag(support - support // 8)
    for row in range(kinds):
        counts[row, (row + rng.integers(1, min(4, kinds))) % kinds] += support[row] // 8
    right = np.diag(counts) / counts.sum(1)
    cells = [[int(r), int(c), int(counts[r, c])] for r, c in np.argwhere(counts)]
    wrong = sorted((cell for cell in cells if cell[0] != cell[1]), key=lambda cell: -cell[2])
    edges = np.linspace(0.2, 1, 41)
    epochs = list(range(1, 13))

    def bins(shift: float) -> list[dict[str, Any]]:
        rows = []
        for index in range(10):
            middle = index / 10 + 0.05
            some = index > 1
            rows.append({"low": index / 10, "high": index / 10 + 0.1, "count": index**3 * some})
            rows[-1]["confidence"] = middle if some else None
            rows[-1]["accuracy"] = min(1, max(0, middle + shift * (1 - middle))) if some else None
        return rows

    def hist(middle: float) -> list[int]:
        return (900 * np.exp(-(((edges[:-1] - middle) / 0.09) ** 2))).astype(int).tolist()

    def unknown(name: str, power: float, middle: float) -> dict[str, Any]:
        known = 1 - np.linspace(0, 1, 101)
        roc = np.stack([known**power, known], axis=1).tolist()
        figures = {"images": 640, "auroc": 0.9412, "fpr95": 0.3127, "rejected": 0.6643}
        figures["intervals"] = {"auroc": [0.93, 0.952], "fpr95": [0.2, 0.4], "rejected": [0.6, 0.7]}
        return {"name": name, **figures, "roc": roc, "hist": hist(middle)}

    metrics = [
        ("Accuracy", 0.866, "How many of all photos were recognised."),
        ("Top-5 accuracy", 0.974, "The right class was among the first five."),
        ("Balanced accuracy", 0.842, "Every class counts the same, however few its photos."),
        ("Macro F1", 0.838, "Precision and recall of each class, then their mean."),
        ("Weighted F1", 0.864, "The same, weighted by photos."),
        ("Coarse accuracy", 0.931, "At least the group was right."),
    ]
    return {
        "title": f"runs/fruits on {names[0]}",
        "source": f"/data/{names[0]}",
        "origin": None,
        "created": "2026-11-22 21:30",
        "version": "0.1.0",
        "command": f"hffruits evaluate runs/best --data '{names[0]}'",
        "split": "test",
        "model": {
            "name": f"runs/{names[0]}",
            "classes": kinds,
            "parameters": 27_634_000,
            "megabytes": 110.5,
            "input_size": "224 x 224",
            "backbone": "timm/convnextv2_tiny",
        },
        "summary": {
            "images": int(support.sum()),
            "group_count": 1388,
            "skipped": 2,
            "seconds": 41.3,
            "images_per_second": 47.8,
            "device": "cpu",
            "tta": ["flip", "zoom"],
        },
        "metrics": [
            {
                "name": name,
                "value": value,
                "low": value - (1.02 - value) / 8,
                "high": min(1, value + (1.02 - value) / 9),
                "help": help,
            }
            for name, value, help in metrics
        ],
        "classes": [
            {
                "name": name,
                "coarse": None if index % 5 == 4 else ["Citrus", "Stone fruit", "Berry"][index % 3],
                "support": int(support[index]),
                "precision": None if index == 1 else 0.9 - index % 7 / 20,
                "recall": float(right[index]),
                "recall_low": max(0.0, float(right[index]) - 0.8 / support[index] ** 0.5),
                "recall_high": min(1.0, float(right[index]) + 0.5 / support[index] ** 0.5),
                "f1": float(right[index]) - 0.01,
            }
            for index, name in enumerate(names)
        ],
        "confusion": {
            "order": names,
            "classes": len(names),
            "image": picture_of(counts),
            "cells": cells,
        },
        "pairs": [
            {
                "truth": names[row],
                "predicted": names[column],
                "count": count,
                "share": count / int(support[row]),
                "mistaken": [
                    photo(names, row, column, 0.91, seed) for seed in range(min(8, count))
                ],
                "truth_sample": photo(names, row, row, 0.99, 1) if place != 1 else None,
                "predicted_sample": photo(names, column, column, 0.98, 1),
            }
            for place, (row, column, count) in enumerate(wrong[:9])
        ],
        "mistakes": [
            photo(names, i % kinds, (i + 1) % kinds, 0.99 - i / 100, i) for i in range(30)
        ],
        "doubtful": [photo(names, i % kinds, i % kinds, 0.21 + i / 100, i) for i in range(12)],
        "history": {
            "epochs": epochs,
            "train_loss": [2.9 * 0.78**epoch + 0.3 for epoch in epochs],
            "val_loss": [None, *(2.4 * 0.75**epoch + 0.5 for epoch in epochs[1:])],
            "val_accuracy": [None, *(0.91 - 0.5 * 0.7**epoch for epoch in epochs[1:])],
            "rates": [[i / 10, 5e-4 * min(i / 10, (1 + np.cos(i / 39)) / 2)] for i in range(121)],
            "best_epoch": 10,
        },
        "calibration": {
            "temperature": 1.31,
            "images": 388,
            "ece_before": 0.0734,
            "ece_after": 0.0192,
            "interval_before": [0.0611, 0.0857],
            "interval_after": [0.0133, 0.0287],
            "before": bins(-0.5),
            "after": bins(0.1),
        },
        "coverage": {
            "points": [[i / 150, 1 - 0.134 * (i / 150) ** 2] for i in range(1, 151)],
            "readings": [
                {"share": share, "accuracy": 1 - 0.134 * share**2, "low": 0.8, "high": 1.0}
                for share in (1.0, 0.9, 0.8, 0.5)
            ],
        },
        "unknowns": {
            "rate": 0.05,
            "exceeds": True,
            "threshold": 0.6123,
            "rejected": 0.0512,
            "rejected_interval": [0.0444, 0.0588],
            "sets": [
                unknown("vegetables", 12, 0.45),
                unknown(f"flowers {names[0]}", 40, 0.36),
            ],
            "known_hist": hist(0.8),
            "edges": edges.tolist(),
        },
        "corruptions": {
            "clean": 0.866,
            "mean": 0.7013,
            "rows": [
                {"name": name, "accuracies": [0.866 - drop * s / 5 for s in range(1, 6)]}
                for name, drop in [
                    ("blur", 0.31),
                    ("noise", 0.42),
                    ("darkness", 0.12),
                    ("JPEG", 0.08),
                    ("rotation", 0.27),
                    (f"fog {names[0]}", 0.19),
                ]
            ],
        },
        "notes": [
            "12 classes have fewer than 10 photos here: their metrics are unreliable.",
            f"{names[-1]} was never predicted.",
        ],
    }


BARE: dict[str, Any] = {
    **{"pairs": [], "mistakes": [], "doubtful": [], "notes": []},
    **{"history": None, "unknowns": None, "corruptions": None},
}


def comparison(names: list[str]) -> dict[str, Any]:
    """What `hffruits compare` might say of two models with these classes."""
    rng = np.random.default_rng(1)
    differences = np.sort(rng.normal(0.03, 0.12, len(names)).clip(-0.4, 0.4))[::-1].tolist()
    kinds = len(names)

    def shot(index: int, gained: bool) -> dict[str, Any]:
        truth, other = names[index % kinds], names[(index + 1) % kinds]
        return {
            "path": f"test/{truth}/{index:04d}.jpg",
            "thumb": None if index == 3 else thumb(index % kinds),
            "truth": truth,
            "predicted_a": other if gained else truth,
            "score_a": 0.61,
            "predicted_b": truth if gained else other,
            "score_b": 0.87,
        }

    return {
        "title": f"runs/fruits on {names[0]}",
        "source": f"/data/{names[0]}",
        "origin": None,
        "created": "2026-11-22 21:30",
        "version": "0.1.0",
        "command": f"hffruits compare runs/a runs/b --data '{names[0]}'",
        "split": "test",
        "images": 1963,
        "a": {"name": f"runs/small {names[0]}", "seconds": 21.7, "megabytes": 22.1},
        "b": {"name": "runs/convnext", "seconds": 63.4, "megabytes": 110.5},
        "metrics": [
            {"name": name, "a": a, "b": a + d, "difference": d, "low": d - 0.011, "high": d + 0.012}
            for name, a, d in [
                ("Accuracy", 0.841, 0.025),
                ("Top-5 accuracy", 0.972, 0.004),
                ("Balanced accuracy", 0.825, 0.017),
                ("Macro F1", 0.822, 0.016),
                ("Coarse accuracy", 0.944, -0.0137),
            ]
        ],
        "mcnemar": {
            "both_right": 1588,
            "only_a": 63,
            "only_b": 112,
            "both_wrong": 200,
            "groups_a": 63,
            "groups_b": 112,
            "p_value": 0.00026,
        },
        "verdict": f"B is better than A by 2.5 points of accuracy, and not by chance. {names[-1]}",
        "classes": [
            {
                "name": name,
                "support": 5 + 3 * index % 41,
                "recall_a": None if index == 1 else 0.7,
                "recall_b": None if index == 1 else 0.7 + differences[index],
                "difference": None if index == 1 else differences[index],
                "p_value": None if index == 1 else float(np.exp(-60 * differences[index] ** 2)),
            }
            for index, name in enumerate(names)
        ],
        "gained": [shot(index, True) for index in range(24)],
        "lost": [shot(index, False) for index in range(7)],
    }


@pytest.fixture
def evaluated(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    def render(content: dict[str, Any]) -> Path:
        render_page(EVALUATE, content, tmp_path / "evaluate.html")
        return tmp_path / "evaluate.html"

    return render


@pytest.fixture
def compared(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    def render(content: dict[str, Any]) -> Path:
        render_page(COMPARE, content, tmp_path / "compare.html")
        return tmp_path / "compare.html"

    return render


def sections(file: Path) -> list[str]:
    return re.findall(r'<section id="(\w+)"', file.read_text("utf-8"))


def words(value: Any) -> Iterator[str]:
    """All texts in plain values; images aside."""
    if isinstance(value, str) and not value.startswith("data:"):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from words(part)
    elif isinstance(value, list):
        for part in value:
            yield from words(part)


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("names", [hostile(50), fruits(2), fruits(300)], ids=len)
def test_every_value_of_an_evaluation_is_on_its_page(evaluated: Callable, names: list[str]):
    content = evaluation(names)
    file = evaluated(content)
    page = Tags(file.read_text("utf-8"))
    text = flat(page.text)
    for word in words(content):
        assert flat(word) in text
    for value in [
        "86.6 %",
        "97.4 %",
        "27.6 million",
        "110",
        "47.8",
        "1.31",
        "388",
        "7.3 %",
        "1.9 %",
    ]:
        assert value in text
    assert "80.0 % to 100.0 % if 90 % are left to the model" in text
    for value in ["0.941", "31.3 %", "66.4 %", "5.1 %", "70.1 %", "Best: 10", "Threshold 0.612"]:
        assert value in text
    sources = {attrs["src"] for tag, attrs in page.tags if tag == "img"}
    for item in content["mistakes"] + content["doubtful"]:
        assert item["heat"] in sources and (item["thumb"] or item["heat"]) in sources
    assert (content["confusion"]["image"] in sources) == (len(names) > 12)
    assert len(sections(file)) == 8


@pytest.mark.parametrize("names", [hostile(50), fruits(2), fruits(300)], ids=len)
def test_every_value_of_a_comparison_is_on_its_page(compared: Callable, names: list[str]):
    content = comparison(names)
    text = flat(Tags(compared(content).read_text("utf-8")).text)
    for word in words(content):
        assert flat(word) in text
    for value in ["84.1 %", "86.6 %", "+2.5", "+1.4 to +3.7, clear", "\u22121.4", "unclear"]:
        assert value in text
    for value in ["1,588", "63", "112", "200", "80.9 %", "< 0.001", "1,963", "22.1", "63.4"]:
        assert value in text


def first_screen(file: Path) -> str:
    return flat(Tags(file.read_text("utf-8").split("<nav")[0]).text)


def test_the_first_screen_says_how_many_known_photos_are_not_recognised(evaluated: Callable):
    content = evaluation(fruits(4))
    file = evaluated(content)
    said = "Known, but not recognised5.1 %reported as unknown; 5 % was asked for"
    assert said in first_screen(file)
    assert '<div class="exceeds">' in file.read_text("utf-8")
    content["unknowns"]["exceeds"] = False
    assert '<div class="exceeds">' not in evaluated(content).read_text("utf-8")
    assert "not recognised" not in first_screen(evaluated(content | {"unknowns": None}))


@pytest.mark.parametrize(
    ("rejected", "interval", "rate", "exceeds"),
    [
        (0.08, (0.06, 0.1), 0.05, True),
        (0.082, (0.04, 0.13), 0.05, False),  # of few photos: it may be 5 %
        (0.0051, (0.002, 0.01), 0.005, False),
        (0.02, (0.01, 0.03), 0.05, False),
        (0.02, (0.01, 0.03), 0.0, False),  # none was asked for: the model has no threshold
    ],
)
def test_more_than_was_asked_for_is_more_by_the_whole_interval(rejected, interval, rate, exceeds):
    measured = {"rejected": rejected, "intervals": {"rejected": interval}, "reject_rate": rate}
    assert exceeds_rate(measured) is exceeds


def test_more_unknowns_than_were_asked_for_are_a_note_that_claims_no_certainty():
    measured = {
        "classes": {"Apple": {"support": 200}},
        "dropped_classes": {},
        "images": 200,
        "rejected": 0.04,
        "reject_rate": 0.005,
        "intervals": {"rejected": (0.02, 0.08), "accuracy": (0.95, 0.99)},
    }
    (note,) = advice(measured, "test", ["Apple"])
    assert note.startswith("4.0% of these photos are reported as unknown")
    assert "0.5% was asked for: they probably differ from those" in note
    measured["intervals"]["rejected"] = (0.004, 0.1)
    assert not advice(measured, "test", ["Apple"])


@pytest.mark.parametrize(
    ("model", "title"),
    [
        ("runs/fruits", "runs/fruits"),
        ("work/runs/fruits", "runs/fruits"),
        ("fruits", "fruits"),
        ("user/produce", "user/produce"),
        ("/home/alice/fruits", "fruits"),
        ("~/fruits", "fruits"),
        ("/fruits", "fruits"),
        ("../alice/fruits", "fruits"),
        ("runs/x/../fruits", "fruits"),
    ],
)
def test_a_title_names_a_model_without_saying_where_it_lies(model: str, title: str):
    assert short_name(model) == title


def test_the_interval_of_the_accuracy_is_said_in_words_and_explained_once(evaluated: Callable):
    file = evaluated(evaluation(fruits(4)))
    assert "86.6 %with 95 % confidence between 84.7 % and 88.3 %" in first_screen(file)
    text = flat(Tags(file.read_text("utf-8")).text)
    assert text.count("95 % interval: for all photos of the same kind") == 1


def test_terms_are_explained_where_they_are_used(evaluated: Callable):
    text = flat(Tags(evaluated(evaluation(fruits(4))).read_text("utf-8")).text)
    assert "off on average is the expected calibration error (ECE)" in text
    assert "divides the scores of the net by one number, its temperature: 1.31" in text
    assert text.count("temperature") == 1


def test_the_columns_of_a_comparison_have_a_header(compared: Callable):
    text = flat(Tags(compared(comparison(fruits(4))).read_text("utf-8")).text)
    head = "Metric, by A and by B ← A is betterB is better → B minus A, in points 95 % interval"
    assert head in text


@pytest.mark.parametrize("names", [fruits(2), fruits(50)], ids=len)
def test_parts_of_an_evaluation_that_are_missing_are_left_out(evaluated: Callable, names):
    content = evaluation(names) | BARE
    content["model"]["backbone"] = None
    content["summary"]["tta"] = []
    for item in content["classes"]:
        item |= {"coarse": None, "precision": None, "recall": None, "f1": None}
        item |= {"recall_low": None, "recall_high": None}
    file = evaluated(content)
    assert sections(file) == ["metrics", "classes", "confusion", "confidence"]
    text = Tags(file.read_text("utf-8")).text
    assert "None" not in text and "Backbone" not in text and "Group" not in text
    assert "Most frequent mistakes" not in text


def test_parts_of_parts_may_be_missing(evaluated: Callable):
    content = evaluation(fruits(5))
    content["unknowns"]["sets"] = []
    content["history"] |= {"val_loss": [None] * 12, "val_accuracy": [None] * 12, "rates": []}
    content["history"]["best_epoch"] = None
    for item in content["mistakes"] + content["doubtful"]:
        item |= {"thumb": None, "heat": None}
    content["calibration"] |= {"temperature": 1, "images": None}
    page = evaluated(content).read_text("utf-8")
    text = Tags(page).text
    assert "None" not in text and "ROC curve" not in text and "Best:" not in text
    assert "those of the model as trained" in text and 'id="heat"' not in page
    assert len(re.findall(r"<h3>Loss", page)) == 1 and "<h3>Accuracy" not in page


def test_one_epoch_and_no_mistake_are_drawn(evaluated: Callable):
    content = evaluation(fruits(2)) | BARE
    content["confusion"]["cells"] = [[0, 0, 7], [1, 1, 9]]
    content["history"] = {
        **{"epochs": [1], "train_loss": [0.4], "val_loss": [None], "val_accuracy": [1.0]},
        **{"rates": [[1, 0.0]], "best_epoch": 1},
    }
    assert 'd="M0.0 0.0h0"' in evaluated(content).read_text("utf-8")


def test_the_origin_and_license_of_the_sample_photos_are_named(evaluated: Callable):
    page = evaluated({**evaluation(fruits(16)), "origin": origin_of(SAMPLE)}).read_text()
    assert 'href="https://github.com/marcusklasson/GroceryStoreDataset"' in page
    assert "WACV 2019; MIT license" in page
    assert "GroceryStoreDataset" not in evaluated(evaluation(fruits(16))).read_text()
    assert origin_of("fruits") is None


def test_groups_are_named_where_they_are_not_the_photos(compared: Callable):
    content = comparison(fruits(5))
    assert "of one group" not in Tags(compared(content).read_text("utf-8")).text
    content["mcnemar"] |= {"groups_a": 1, "groups_b": 40}
    text = flat(Tags(compared(content).read_text("utf-8")).text)
    assert "count as one there: A is better on 1 group, B on 40." in text


def test_a_metric_that_no_photo_changes_has_no_certain_interval(compared: Callable):
    content = comparison(fruits(5))
    content["metrics"][0] |= {"difference": 0.0, "low": 0.0, "high": 0.0}
    text = flat(Tags(compared(content).read_text("utf-8")).text)
    assert text.count("equal on every photo") == 1 and "0.0 to" not in text


def test_parts_of_a_comparison_that_are_missing_are_left_out(compared: Callable):
    file = compared(comparison(fruits(2)) | {"gained": [], "lost": [], "classes": []})
    assert sections(file) == ["metrics", "predictions"]
    content = comparison(fruits(2)) | {"gained": []}
    content["mcnemar"] = dict.fromkeys(content["mcnemar"], 0) | {"p_value": 1.0}
    content["metrics"] = [content["metrics"][0] | {"difference": 0.0, "low": 0.0, "high": 0.0}]
    text = Tags(compared(content).read_text("utf-8")).text
    assert "Gained" not in text and "Lost" in text and "1.000" in text


@pytest.mark.parametrize(
    "template, make",
    [(EVALUATE, evaluation), (COMPARE, comparison)],
    ids=lambda part: str(part)[:8],
)
def test_hostile_names_inject_nothing_and_nothing_is_fetched(
    tmp_path: Path, template: Path, make: Callable
):
    pages = []
    for names in (hostile(50), [f"Fruit {i}" for i in range(50)]):
        render_page(template, make(names), tmp_path / "page.html")
        pages.append((tmp_path / "page.html").read_text("utf-8"))
    nasty, tame = Tags(pages[0]), Tags(pages[1])
    assert [tag for tag, _ in nasty.tags] == [tag for tag, _ in tame.tags]
    for tag, attrs in nasty.tags:
        assert not [name for name in attrs if name.startswith("on")]
        for name in {"src", "href", "srcset", "poster", "action"} & set(attrs):
            assert attrs[name].startswith(("#", "data:")), (tag, attrs[name])


def test_a_missing_value_raises(evaluated: Callable, compared: Callable):
    content = evaluation(fruits(2))
    del content["summary"]["device"]
    with pytest.raises(jinja2.UndefinedError, match="device"):
        evaluated(content)
    content = comparison(fruits(2))
    del content["verdict"]
    with pytest.raises(jinja2.UndefinedError, match="verdict"):
        compared(content)


# ---- In a real browser


@in_browser(VIEWS)
def test_the_pages_fit(evaluated, compared, open_page, width, scheme):
    for file in (
        evaluated(evaluation(hostile(50))),
        compared(comparison(hostile(50))),
        evaluated(evaluation(hostile(8))),
    ):
        page = open_page(file, width, scheme)
        page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("typeof hacked") == "undefined"


@in_browser([(1280, "light"), (800, "light"), (390, "light")])
@pytest.mark.parametrize("rejects", [True, False])
def test_no_row_of_tiles_has_a_gap(evaluated, open_page, rejects, width, scheme):
    content = evaluation(fruits(4)) | ({} if rejects else {"unknowns": None})
    assert row_ends(open_page(evaluated(content), width, scheme), ".tiles") == {0}


@in_browser(VIEWS[:2])
def test_classes_are_sorted_and_found(evaluated, compared, open_page, width, scheme):
    content = evaluation(["Apple", "Pêche", "Plum", "Fig"])
    page = open_page(evaluated(content), width, scheme)
    rows = page.locator("#class-metrics tbody th")
    recall = page.locator("#class-metrics").get_by_role("button", name="Recall")
    for sign in (-1, 1):
        recall.click()
        ordered = sorted(content["classes"], key=lambda item: sign * item["recall"])
        assert rows.all_inner_texts() == [item["name"] for item in ordered]
    page.locator("#classes").get_by_label("Find a class").fill("peche")
    assert [row.inner_text() for row in rows.all() if row.is_visible()] == ["Pêche"]

    content = comparison(fruits(9))
    page = open_page(compared(content), width, scheme)
    page.locator("#class-differences").get_by_role("button", name="B minus A").dblclick()
    unclear = [item for item in content["classes"] if item["difference"] is None]
    clear = [item for item in content["classes"] if item["difference"] is not None]
    ordered = unclear + sorted(clear, key=lambda item: item["difference"])
    rows = page.locator("#class-differences tbody th")
    assert rows.all_inner_texts() == [item["name"] for item in ordered]


@in_browser(VIEWS[:2])
@pytest.mark.parametrize("kinds", [2, 50, 1000])
def test_a_spot_of_the_confusion_says_what_it_is(evaluated, open_page, width, scheme, kinds: int):
    content = evaluation(fruits(kinds)) | BARE
    order, cells = content["confusion"]["order"], content["confusion"]["cells"]
    page = open_page(evaluated(content), width, scheme)
    sheet, cell = page.locator(".sheet"), page.locator("#confusion-cell")
    sums = {row: sum(cell[2] for cell in cells if cell[0] == row) for row in range(kinds)}

    def sentence(row: int, column: int) -> str:
        count = sum(cell[2] for cell in cells if cell[:2] == [row, column])
        what = "recognised" if row == column else f"predicted as {order[column]}"
        return f"{order[row]} {what}: {count} of {sums[row]}"

    sheet.scroll_into_view_if_needed()
    if kinds == 1000:  # whose spots are smaller than a pixel at first
        for _ in range(4):
            page.get_by_role("button", name="Zoom in").click()
        page.evaluate("pane.scrollTo(0, 0)")
    box = sheet.bounding_box()
    row, column = 1, min(kinds - 1, 20)
    side = box["width"] / kinds
    page.mouse.move(box["x"] + (column + 0.5) * side, box["y"] + (row + 0.5) * side)
    assert cell.inner_text() == sentence(row, column)
    sheet.focus()
    page.keyboard.press("ArrowLeft")
    assert cell.inner_text() == sentence(row, column - 1)
    page.keyboard.press("ArrowUp")
    assert cell.inner_text() == sentence(row - 1, column - 1)
    page.locator("#confusion-class").select_option(index=1)
    assert cell.inner_text().startswith(f"{order[1]} predicted as")
    wrong = sorted((cell for cell in cells if cell[0] != cell[1]), key=lambda cell: -cell[2])
    page.get_by_role("button", name="Next mistake").click()
    assert cell.inner_text() == sentence(*wrong[1][:2])
    if kinds == 50:
        page.get_by_role("button", name="Zoom in").click()
        assert sheet.bounding_box()["width"] == pytest.approx(2 * box["width"], abs=40)
    if kinds > 30:
        page.get_by_role("button", name="Next mistake").click()
        inside, around = page.locator(".sheet .cell"), page.locator(".window")
        place, pane = inside.bounding_box(), around.bounding_box()
        assert pane["x"] - 1 <= place["x"] <= pane["x"] + pane["width"]
        assert pane["y"] - 1 <= place["y"] <= pane["y"] + pane["height"]


@in_browser(VIEWS[:2])
def test_the_switch_shows_the_heatmaps(evaluated, open_page, width, scheme):
    page = open_page(evaluated(evaluation(fruits(5))), width, scheme)
    photos = page.locator("#mistakes .photo")
    plain, seen = photos.first.locator("img").first, photos.first.locator(".heat")
    assert plain.is_visible() and seen.is_hidden()
    switch = page.get_by_role("switch")
    switch.focus()
    page.keyboard.press("Space")
    assert plain.is_hidden() and seen.is_visible()
    assert photos.nth(3).locator(".heat").is_visible()  # has no plain photo
    assert photos.nth(3).locator(".no-photo").is_hidden()
    seen.click()
    assert plain.is_visible() and photos.nth(1).locator(".heat").is_visible()


@in_browser(VIEWS[:2])
def test_the_keyboard_reaches_everything(evaluated, compared, open_page, width, scheme):
    for file, wanted in [
        (evaluated(evaluation(hostile(50))), {"SUMMARY", "INPUT", "BUTTON", "SELECT", "sheet"}),
        (compared(comparison(hostile(50))), {"SUMMARY", "INPUT", "BUTTON"}),
    ]:
        page = open_page(file, width, scheme)
        reached = set()
        for _ in range(60):
            page.keyboard.press("Tab")
            reached.add(
                page.evaluate("document.activeElement.className || document.activeElement.tagName")
            )
        assert wanted <= {name.split()[0] for name in reached}
