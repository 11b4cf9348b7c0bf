"""Classification metrics as `evaluate` modules that need no network.

`evaluate.load` fetches its modules from the Hub; these are classes of our own. Only numbers here:
no models, no plots.
"""

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np
import torch
from sklearn.metrics import f1_score

METRIC_NAMES = ("accuracy", "top5_accuracy", "macro_f1")

_RANKED = """
Args:
    predictions: class indices of each sample, best guess first, (N, R) integers.
    references: true class indices, (N,) integers.
"""


class _RankedMetric(evaluate.Metric):
    """An `evaluate` metric of ranked guesses: all that is kept of the logits, whatever K is."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features(
            {
                "predictions": datasets.List(datasets.Value("int64")),
                "references": datasets.Value("int64"),
            }
        )
        return evaluate.MetricInfo(
            description=type(self).__doc__,
            citation="",
            inputs_description=_RANKED,
            features=features,
        )


class TopKAccuracy(_RankedMetric):
    """Share of samples whose class is among the first k guesses: `{"accuracy": ...}` in [0, 1]."""

    def _compute(
        self, predictions: list[list[int]], references: list[int], k: int = 1
    ) -> dict[str, float]:
        guesses = np.asarray(predictions)[:, :k]  # (N, R) -> (N, k)
        hits = (guesses == np.asarray(references)[:, None]).any(axis=1)  # (N,)
        return {"accuracy": float(hits.mean())}


class MacroF1(_RankedMetric):
    """Mean of the classes' F1, each class counting the same: `{"f1": ...}` in [0, 1].

    Over the classes that occur in references or first guesses, as in scikit-learn.
    """

    def _compute(self, predictions: list[list[int]], references: list[int]) -> dict[str, float]:
        first = np.asarray(predictions)[:, 0]
        return {"f1": float(f1_score(references, first, average="macro", zero_division=0))}


def rank(logits: torch.Tensor) -> torch.Tensor:
    """(B, K) -> the best guesses first, at most five: (B, R). Equal ones by their number."""
    return logits.sort(dim=1, descending=True, stable=True).indices[:, :5]


def classification_metrics(
    ranked: np.ndarray, labels: np.ndarray, *, coarse: Sequence[int] | None = None
) -> dict[str, float]:
    """`METRIC_NAMES`, in [0, 1], of guesses (N, R), best first, against (N,) labels.

    With `coarse`, the coarse class of each of the K classes, also `coarse_accuracy`: how often the
    best guess is at least of the right kind.
    """
    inputs = {"predictions": ranked, "references": labels}
    top_k = TopKAccuracy(keep_in_memory=True)
    metrics = {
        "accuracy": top_k.compute(**inputs)["accuracy"],
        "top5_accuracy": top_k.compute(**inputs, k=5)["accuracy"],
        "macro_f1": MacroF1(keep_in_memory=True).compute(**inputs)["f1"],
    }
    if coarse is not None:
        kinds = np.asarray(coarse)
        inputs = {"predictions": kinds[ranked[:, :1]], "references": kinds[labels]}
        metrics["coarse_accuracy"] = top_k.compute(**inputs)["accuracy"]
    return metrics
