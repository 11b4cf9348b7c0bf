"""Each metric equals scikit-learn's or its paper's; intervals equal those of resampled images."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
    top_k_accuracy_score,
)

from hffruits.evaluation import report
from hffruits.evaluation.metrics import (
    FruitMetrics,
    PredictionCounts,
    auroc,
    class_metrics,
    classification_metrics,
    cluster_order,
    compute_metrics,
    coverage_curve,
    false_positive_rate,
    rank_classes,
    reliability,
    roc_points,
)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_metrics_of_training_equal_scikit_learns(classes, samples, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(samples, classes)).astype(np.float32)
    labels = rng.integers(0, classes, samples)
    measured = classification_metrics(rank_classes(torch.from_numpy(logits)).numpy(), labels)
    predicted = logits.argmax(1)
    assert measured["accuracy"] == accuracy_score(labels, predicted)
    f1 = f1_score(labels, predicted, average="macro", zero_division=0)
    assert measured["macro_f1"] == f1  # to the last bit, for epochs are chosen by it
    top5 = 1.0
    if classes > 5:
        top5 = top_k_accuracy_score(labels, logits, k=5, labels=range(classes))
    assert measured["top5_accuracy"] == pytest.approx(top5)


def test_metrics_add_up_over_batches_as_in_evaluate():
    predicted, labels = [[0, 1], [1, 0], [1, 0], [0, 1]], [0, 1, 0, 1]
    metric = FruitMetrics(keep_in_memory=True)
    whole = metric.compute(predictions=predicted, references=labels)
    for rows in (slice(0, 1), slice(1, 4)):
        metric.add_batch(predictions=predicted[rows], references=labels[rows])
    assert metric.compute() == whole
    by_coarse = metric.compute(predictions=predicted, references=labels, coarse=[7, 7])
    assert by_coarse == whole | {"coarse_accuracy": 1.0}


@st.composite
def predictions(draw) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels (N,), logits (N, K) and K; classes may be missing among labels or predictions."""
    classes, count = draw(st.integers(2, 9)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    labels = rng.integers(0, draw(st.integers(1, classes)), count)
    logits = rng.normal(size=(count, classes))
    logits[np.arange(count), labels] += draw(st.floats(0, 4))
    return labels, logits, classes


def count(labels: np.ndarray, logits: np.ndarray, classes: int, coarse=None) -> PredictionCounts:
    ranked = np.argsort(-logits, axis=1)
    return PredictionCounts.of(labels, ranked, classes=classes, coarse=coarse)


@given(predictions())
@settings(max_examples=60, deadline=None)
def test_every_figure_is_scikit_learns(case):
    labels, logits, classes = case
    predicted = logits.argmax(1)
    coarse = np.arange(classes) // 2
    found = {k: v[0] for k, v in compute_metrics(count(labels, logits, classes, coarse)).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that are only predicted
        wanted = {
            "accuracy": accuracy_score(labels, predicted),
            "balanced_accuracy": balanced_accuracy_score(labels, predicted),
            "macro_f1": f1_score(labels, predicted, average="macro", zero_division=0),
            "weighted_f1": f1_score(labels, predicted, average="weighted", zero_division=0),
            "coarse_accuracy": accuracy_score(coarse[labels], coarse[predicted]),
        }
        if classes > 5:
            wanted["top5_accuracy"] = top_k_accuracy_score(
                labels, logits, k=5, labels=np.arange(classes)
            )
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value), name
    ranked = np.argsort(-logits, axis=1)
    in_training = classification_metrics(ranked, labels, coarse=coarse)
    assert in_training == {name: found[name] for name in in_training}


@given(predictions())
@settings(max_examples=40, deadline=None)
def test_the_figures_of_each_class_are_scikit_learns(case):
    labels, logits, classes = case
    counted = count(labels, logits, classes)
    own = class_metrics(counted)
    theirs = precision_recall_fscore_support(
        labels, logits.argmax(1), labels=np.arange(classes), zero_division=0
    )
    for mine, wanted in zip(own, theirs, strict=True):
        np.testing.assert_allclose(np.nan_to_num(mine[0]), wanted)
    np.testing.assert_array_equal(
        counted.confusion.toarray(),
        confusion_matrix(labels, logits.argmax(1), labels=np.arange(classes)),
    )


def test_several_models_share_their_cells():
    rng = np.random.default_rng(0)
    labels, a, b = rng.integers(0, 5, (3, 200))
    models = [a[:, None], b[:, None]]
    first, second = PredictionCounts.of_many(labels, models, classes=5, coarse=None)
    assert compute_metrics(first)["accuracy"][0] == (labels == a).mean()
    assert compute_metrics(second)["accuracy"][0] == (labels == b).mean()
    np.testing.assert_array_equal(first.counts, second.counts)


def test_confused_classes_come_side_by_side():
    confusion = np.diag([20] * 6)
    for one, other in ((0, 3), (1, 4), (2, 5)):
        confusion[one, other] = confusion[other, one] = 9
    order = cluster_order(confusion).tolist()
    assert sorted(order) == list(range(6))
    for one, other in ((0, 3), (1, 4), (2, 5)):
        assert abs(order.index(one) - order.index(other)) == 1
    assert cluster_order(np.eye(2)).tolist() == [0, 1]


def test_of_very_many_classes_those_that_are_confused_most_are_shown(monkeypatch):
    monkeypatch.setattr(report, "MOST_CLASSES", 3)
    labels = np.array([0, 0, 1, 2, 2, 3, 3, 5])
    predicted = np.array([0, 1, 1, 4, 4, 3, 3, 5])  # 2 and 4 twice, 0 and 1 once
    counted = PredictionCounts.of(labels, predicted[:, None], classes=7, coarse=None)
    predictions = SimpleNamespace(count=lambda classes: counted)
    shown = report.confusion_shown(predictions, [*"abcdefg"])
    assert set(shown["order"]) == {"a", "c", "e"} and shown["classes"] == 6
    cells = {(shown["order"][row], shown["order"][col]): n for row, col, n in shown["cells"]}
    assert cells == {("a", "a"): 1, ("c", "e"): 2}


@given(st.integers(1, 300), st.integers(1, 20), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_expected_calibration_error_is_that_of_the_paper(count: int, bins: int, seed: int):
    rng = np.random.default_rng(seed)
    confidence = rng.random(count)
    hits = rng.random(count) < confidence
    wanted = 0.0  # arXiv:1706.04599, equations 2 to 5, bin by bin
    for m in range(1, bins + 1):
        inside = (confidence > (m - 1) / bins) & (confidence <= m / bins)
        if m == 1:
            inside |= confidence == 0
        if inside.any():
            gap = abs(hits[inside].mean() - confidence[inside].mean())
            wanted += inside.sum() / count * gap
    diagram = reliability(confidence, hits, bins=bins)
    assert diagram.counts.sum() == count
    assert diagram.ece == pytest.approx(wanted)


def test_an_edge_belongs_to_the_bin_below():
    diagram = reliability(np.array([0.0, 0.25, 0.5, 0.51, 1.0]), np.ones(5, bool), bins=4)
    assert diagram.counts.tolist() == [2, 1, 1, 1]


def test_the_accuracy_of_the_most_confident_is_shown_by_coverage():
    confidence = np.array([0.9, 0.2, 0.6, 0.8])
    hits = np.array([True, False, True, False])
    coverage, accuracy = coverage_curve(confidence, hits)
    np.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(accuracy, [1, 1 / 2, 2 / 3, 1 / 2])


@given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_ood_figures_are_scikit_learns(known_count: int, unknown_count: int, seed: int):
    rng = np.random.default_rng(seed)
    known, unknown = (
        rng.normal(0, 1, known_count).round(1),
        rng.normal(1, 1, unknown_count).round(1),
    )
    truth = np.r_[np.ones(known_count), np.zeros(unknown_count)]
    values = -np.r_[known, unknown]  # known is what is positive
    assert auroc(known, unknown) == pytest.approx(roc_auc_score(truth, values))
    fpr, tpr, _ = roc_curve(truth, values, drop_intermediate=False)
    assert false_positive_rate(known, unknown) == pytest.approx(fpr[np.argmax(tpr >= 0.95)])
    points = roc_points(known, unknown)
    assert points.shape == (101, 2)
    assert (np.diff(points[:, 0]) <= 1e-9).all()  # fewer are taken for known as the threshold falls
