"""Confidence intervals, against the truth of simulated data and against scipy."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from hffruits.evaluation import intervals
from hffruits.evaluation.intervals import (
    calibration_interval,
    count_intervals,
    draw_counts,
    draw_rows,
    effective_size,
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
        low, high = count_intervals(counted)["accuracy"]
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
        low, high = count_intervals(
            PredictionCounts.of(own, predicted[:, None], classes=20, coarse=None)
        )["macro_f1"]
        held += low <= truth <= high
    assert held >= 86


def test_perfect_predictions_are_not_certain():
    labels = np.arange(20) % 4
    counted = PredictionCounts.of(labels, labels[:, None], classes=4, coarse=None)
    low, high = count_intervals(counted)["accuracy"]
    assert (low, high) == pytest.approx(wilson_interval(1.0, 20))
    assert low < 0.9 and high == pytest.approx(1.0)


@pytest.mark.parametrize("frames", [1, 6])
def test_a_mistake_never_raises_the_lower_end(frames: int):
    """Without one all draws are the same, with one they are nearly so."""
    lows = []
    for mistakes in range(4):
        labels = np.arange(100 * frames) % 4
        predicted = labels.copy()
        predicted[:mistakes] = (labels[:mistakes] + 1) % 4
        options = {"classes": 4, "coarse": None, "groups": np.arange(len(labels)) // frames}
        counted = PredictionCounts.of(labels, predicted[:, None], **options)
        lows.append([low for low, _ in count_intervals(counted).values()])
    assert np.all(np.diff(lows, axis=0) <= 0)
    assert np.all(np.array(lows[0]) < 0.97)


def test_a_rare_class_widens_the_interval_of_macro_averages():
    labels = np.repeat([0, 1], [990, 10])
    counted = PredictionCounts.of(labels, labels[:, None], classes=2, coarse=None)
    found = count_intervals(counted)
    for name in ("accuracy", "weighted_f1"):
        assert found[name] == pytest.approx(wilson_interval(1, 1000))
    of_rare = wilson_interval(1, 10)[0]  # if the other class has no mistake
    assert found["balanced_accuracy"][0] == pytest.approx((1 + of_rare) / 2)
    assert found["macro_f1"][0] == found["balanced_accuracy"][0]


def test_one_group_says_next_to_nothing():
    labels = np.arange(40) % 2
    predicted = np.where(np.arange(40) % 4, labels, 1 - labels)[:, None]
    options = {"classes": 2, "coarse": None, "groups": np.zeros(40, int)}
    found = count_intervals(PredictionCounts.of(labels, predicted, **options))
    assert found["accuracy"] == pytest.approx(wilson_interval(0.75, 1))
    assert found["balanced_accuracy"] == found["macro_f1"] == found["weighted_f1"] == (0, 1)
    some = image_intervals(lambda rows: {"it": rows.mean() / 40}, np.zeros(40, int))
    assert some["it"] == (0, 1)


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
    low, high = count_intervals(counted)["accuracy"]
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
    return count_intervals(PredictionCounts.of(labels, predicted, **options))["accuracy"]


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


def test_an_interval_holds_the_truth_where_groups_differ_in_size():
    rng, held = np.random.default_rng(4), 0
    groups = np.r_[np.arange(300), np.repeat([300, 301, 302], [60, 40, 20])]
    counted = PredictionCounts.of(
        groups * 0, np.zeros((420, 1), int), classes=1, coarse=None, groups=groups
    )
    size = 420**2 / (300 + 60**2 + 40**2 + 20**2)
    assert counted.effective_size == effective_size(groups) == pytest.approx(size)
    for _ in range(400):
        hits = (rng.random(303) < 0.9)[groups]  # a group is right or wrong as a whole
        low, high = wilson_interval(hits.mean(), size)
        held += low <= 0.9 <= high
    assert held >= 340


def test_groups_of_one_size_count_as_many_images_as_they_are():
    labels, groups = np.repeat([0, 1, 1], 5), np.repeat([4, 2, 9], 5)
    counted = PredictionCounts.of(labels, labels[:, None], classes=3, coarse=None, groups=groups)
    assert counted.effective_size == effective_size(groups) == counted.group_count == 3
    assert counted.effective_sizes(counted.labels, 3).tolist() == [1, 2, 0]


def test_groups_of_one_image_change_nothing():
    hits, _ = films(np.random.default_rng(0), 100, 1)
    assert accuracy_interval(hits, np.arange(100)) == accuracy_interval(hits, None)


def test_drawn_groups_are_whole():
    labels = np.array([0, 0, 0, 1, 1, 1])
    ranked = np.array([0, 0, 1, 1, 0, 0])[:, None]
    groups = np.array([7, 7, 7, 2, 5, 5])
    counted = PredictionCounts.of(labels, ranked, classes=2, coarse=None, groups=groups)
    assert counted.group_count == 3
    kinds = np.array([[2, 1, 0, 0], [0, 0, 0, 1], [0, 0, 2, 0]])  # cells (label, predicted) of each
    assert counted.labels.tolist() == [0, 0, 1, 1] and counted.predicted.tolist() == [0, 1, 0, 1]
    ways = [(a, b, 3 - a - b) for a in range(4) for b in range(4 - a)]  # to draw three groups
    possible = {tuple(row) for row in (np.array(ways) @ kinds).tolist()}
    drawn = np.concatenate(list(draw_counts(counted, draws=300)))
    assert {tuple(row) for row in drawn.tolist()} == possible


# ---- metrics of images ----


def test_drawn_rows_are_whole_groups():
    rng, groups = np.random.default_rng(0), np.array([0, 1, 0, 2, 2, 2])
    for _ in range(50):
        rows = draw_rows(groups, rng)
        times = np.bincount(rows, minlength=6)
        assert times[0] == times[2] and times[3] == times[4] == times[5]
        assert times[[0, 1, 3]].sum() == 3


@pytest.fixture
def few_draws(monkeypatch):
    monkeypatch.setattr(intervals, "MIN_DRAWS", 100)
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


@pytest.mark.parametrize("off", [0.0, 0.03, 0.1])
def test_the_interval_of_ece_holds_the_true_one(few_draws, off: float):
    """In a sample of 200 chance alone makes an error of some 4 points."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(60):
        confidence = rng.uniform(0.5, 1, 200)
        hits = rng.random(200) < confidence - off
        low, high = ece_interval(confidence, hits)
        held += low <= off <= high
        assert low <= reliability(confidence, hits).ece <= high
    assert held >= 45


def test_the_interval_of_ece_narrows_with_images():
    rng = np.random.default_rng(0)
    widths = []
    for count in (100, 3000):
        confidence = rng.uniform(0.5, 1, count)
        low, high = ece_interval(confidence, rng.random(count) < confidence - 0.1)
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def ece_interval(confidence: np.ndarray, hits: np.ndarray) -> tuple[float, float]:
    def ece(rows: np.ndarray) -> dict[str, float]:
        return {"ece": reliability(confidence[rows], hits[rows]).ece}

    options = {"interval": calibration_interval}
    return image_intervals(ece, np.arange(len(hits)), **options)["ece"]
