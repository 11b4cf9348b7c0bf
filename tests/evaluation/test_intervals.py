"""Confidence intervals, against the truth of simulated data and against scipy."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from hffruits.evaluation import intervals
from hffruits.evaluation.intervals import (
    bootstrap_intervals,
    draw_counts,
    image_intervals,
    wilson_interval,
)
from hffruits.evaluation.metrics import (
    PredictionCounts,
    auroc,
    compute_metrics,
    false_positive_rate,
    reliability,
)


def test_drawn_counts_are_those_of_drawn_images():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, 400)
    logits = rng.normal(size=(400, 6))
    logits[np.arange(400), labels] += 1.5
    ranked = np.argsort(-logits, axis=1)
    counted = PredictionCounts.of(labels, ranked, classes=6, coarse=None)
    drawn = np.concatenate([compute_metrics(counted, c)["macro_f1"] for c in draw_counts(counted)])
    by_hand = []
    for _ in range(600):
        rows = rng.integers(0, 400, 400)
        by_hand.append(f1_score(labels[rows], logits[rows].argmax(1), average="macro"))
    assert len(drawn) == 1000
    assert drawn.mean() == pytest.approx(np.mean(by_hand), abs=0.004)
    assert drawn.std() == pytest.approx(np.std(by_hand), rel=0.15)


def test_an_interval_holds_the_truth_nineteen_times_of_twenty():
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        labels = rng.integers(0, 4, 300)
        predicted = np.where(rng.random(300) < 0.8, labels, (labels + 1) % 4)
        counted = PredictionCounts.of(labels, predicted[:, None], classes=4, coarse=None)
        low, high = bootstrap_intervals(counted)["accuracy"]
        held += low <= 0.8 <= high
    assert 180 <= held <= 198


def test_intervals_of_macro_averages_hold_with_few_images_a_class():
    """Where draws are biased: 12 images of each of 20 classes, recalls of 0.5 to 1."""
    rng, held = np.random.default_rng(2), 0
    recall = np.linspace(0.5, 1, 20)
    labels = np.repeat(np.arange(20), 12)

    def predictions(count: int) -> tuple[np.ndarray, np.ndarray]:
        truth = np.tile(labels, count)
        right = rng.random(len(truth)) < recall[truth]
        return truth, np.where(right, truth, (truth + 1) % 20)

    truth = f1_score(*predictions(400), average="macro")
    for _ in range(100):
        own, predicted = predictions(1)
        low, high = bootstrap_intervals(
            PredictionCounts.of(own, predicted[:, None], classes=20, coarse=None)
        )["macro_f1"]
        held += low <= truth <= high
    assert held >= 86


def test_perfect_predictions_are_not_certain():
    labels = np.arange(20) % 4
    counted = PredictionCounts.of(labels, labels[:, None], classes=4, coarse=None)
    low, high = bootstrap_intervals(counted)["accuracy"]
    assert (low, high) == pytest.approx(wilson_interval(1.0, 20))
    assert low < 0.9 and high == pytest.approx(1.0)


@pytest.mark.parametrize(("hits", "total"), [(0, 5), (3, 7), (90, 100), (5, 5)])
def test_wilson_is_scipys(hits: int, total: int):
    wanted = binomtest(hits, total).proportion_ci(0.95, method="wilson")
    assert wilson_interval(hits / total, total) == pytest.approx((wanted.low, wanted.high))


def test_nothing_may_be_anything():
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_memory_and_time_follow_the_cells_not_the_images():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 1_000_000)
    ranked = np.where(rng.random(1_000_000) < 0.9, labels, 0)[:, None]
    counted = PredictionCounts.of(labels, ranked, classes=10, coarse=None)
    assert len(counted.counts) <= 20 and counted.total == 1_000_000
    low, high = bootstrap_intervals(counted)["accuracy"]
    assert 0 < high - low < 0.002


# ---- groups of images that are not independent ----


def films(rng: np.random.Generator, count: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Hits (N,) and groups (N,): the frames of a film are all right, as 0.8 are, or all wrong."""
    groups = np.repeat(np.arange(count), frames)
    return (rng.random(count) < 0.8)[groups], groups


def accuracy_interval(hits: np.ndarray, groups: np.ndarray | None) -> tuple[float, float]:
    labels = np.zeros(len(hits), int)
    predicted = np.where(hits, 0, 1)[:, None]
    options = {"classes": 2, "coarse": None, "groups": groups}
    return bootstrap_intervals(PredictionCounts.of(labels, predicted, **options))["accuracy"]


def test_an_interval_holds_the_truth_where_images_come_in_groups():
    rng = np.random.default_rng(3)
    held = {"grouped": 0, "alone": 0}
    for _ in range(150):
        hits, groups = films(rng, 60, 6)
        for name, own in {"grouped": groups, "alone": None}.items():
            low, high = accuracy_interval(hits, own)
            held[name] += low <= 0.8 <= high
    assert held["grouped"] >= 132
    assert held["alone"] < 110  # what ignoring the groups would promise


def test_groups_of_one_image_change_nothing():
    hits, _ = films(np.random.default_rng(0), 100, 1)
    assert accuracy_interval(hits, np.arange(100)) == accuracy_interval(hits, None)


def test_drawn_groups_are_whole():
    labels = np.array([0, 0, 0, 1, 1, 1])
    ranked = np.array([0, 0, 1, 1, 0, 0])[:, None]
    groups = np.array([7, 7, 7, 2, 5, 5])
    counted = PredictionCounts.of(labels, ranked, classes=2, coarse=None, groups=groups)
    assert counted.groups == 3
    kinds = np.array([[2, 1, 0, 0], [0, 0, 0, 1], [0, 0, 2, 0]])  # cells (label, predicted) of each
    assert counted.labels.tolist() == [0, 0, 1, 1] and counted.predicted.tolist() == [0, 1, 0, 1]
    ways = [(a, b, 3 - a - b) for a in range(4) for b in range(4 - a)]  # to draw three groups
    possible = {tuple(row) for row in (np.array(ways) @ kinds).tolist()}
    drawn = np.concatenate(list(draw_counts(counted, draws=300)))
    assert {tuple(row) for row in drawn.tolist()} == possible


# ---- metrics of images ----


@pytest.fixture
def few_draws(monkeypatch):
    monkeypatch.setattr(intervals, "FEWEST_DRAWS", 100)
    monkeypatch.setattr(intervals, "DRAWS", 100)


def held_of(draw: Callable, statistic: Callable, truth: float, rounds: int = 40) -> int:
    """How often the interval of simulated data holds the truth."""
    held = 0
    for _ in range(rounds):
        sets = draw()
        groups = [np.arange(len(own)) for own in sets]
        interval = image_intervals(
            lambda *rows, sets=sets: {
                "it": statistic(*(own[rows] for own, rows in zip(sets, rows, strict=True)))
            },
            *groups,
        )
        low, high = interval["it"]
        held += low <= truth <= high
    return held


def test_the_interval_of_auroc_holds_the_truth(few_draws):
    rng = np.random.default_rng(0)
    held = held_of(
        lambda: (rng.normal(0, 1, 80), rng.normal(1, 1, 60)),
        auroc,
        0.7602,  # Phi(1 / sqrt(2))
    )
    assert 34 <= held <= 40


def test_the_interval_of_fpr95_holds_the_truth(few_draws):
    rng = np.random.default_rng(0)
    held = held_of(
        lambda: (rng.normal(0, 1, 200), rng.normal(2, 1, 100)),
        false_positive_rate,
        0.3612,  # Phi(1.645 - 2)
    )
    assert 33 <= held <= 40


def test_perfect_separation_is_not_certain():
    known, unknown = np.linspace(0, 1, 30), np.linspace(2, 3, 10)
    found = image_intervals(
        lambda rows, others: {"auroc": auroc(known[rows], unknown[others])},
        np.arange(30),
        np.arange(10),
    )
    assert found["auroc"] == pytest.approx(wilson_interval(1.0, 10))


def test_the_interval_of_ece_holds_the_figure_and_narrows_with_images():
    rng = np.random.default_rng(0)
    widths = []
    for count in (100, 3000):
        confidence = rng.uniform(0.5, 1, count)
        hits = rng.random(count) < confidence - 0.1  # overconfident by 10 points

        def ece(rows, confidence=confidence, hits=hits) -> dict[str, float]:
            return {"ece": reliability(confidence[rows], hits[rows]).ece}

        low, high = image_intervals(ece, np.arange(count))["ece"]
        widths.append(high - low)
    assert low <= 0.1 <= high
    assert widths[1] < widths[0] / 3
