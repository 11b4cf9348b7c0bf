"""The metrics equal scikit-learn's, without any network."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, top_k_accuracy_score

from hffruits.evaluation.metrics import MacroF1, TopKAccuracy, classification_metrics, rank


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_metrics_equal_scikit_learns(classes, samples, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(samples, classes)).astype(np.float32)
    labels = rng.integers(0, classes, samples)
    measured = classification_metrics(rank(torch.from_numpy(logits)).numpy(), labels)
    guesses = logits.argmax(1)
    assert measured["accuracy"] == pytest.approx(accuracy_score(labels, guesses))
    f1 = f1_score(labels, guesses, average="macro", zero_division=0)
    assert measured["macro_f1"] == pytest.approx(f1)
    top5 = 1.0
    if classes > 5:
        top5 = top_k_accuracy_score(labels, logits, k=5, labels=range(classes))
    assert measured["top5_accuracy"] == pytest.approx(top5)


def test_metrics_add_up_over_batches_as_in_evaluate():
    guesses, labels = [[0, 1], [1, 0], [1, 0], [0, 1]], [0, 1, 0, 1]
    for metric in (TopKAccuracy(keep_in_memory=True), MacroF1(keep_in_memory=True)):
        whole = metric.compute(predictions=guesses, references=labels)
        for rows in (slice(0, 1), slice(1, 4)):
            metric.add_batch(predictions=guesses[rows], references=labels[rows])
        assert metric.compute() == whole
