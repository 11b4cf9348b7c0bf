"""Telling what a model has learned from what it hasn't, by how far a picture's features lie off.

Each class has a few prototypes, the middles of its training pictures' features; a picture is as
familiar as the nearest of all is similar. Nearest-neighbour detection (Sun et al. 2022,
arXiv:2204.06507) with some kilobytes in place of the training set. `benchmarks/unknowns.py`
compares it with scores of logits. Another fruit of the same kind stays hard to tell.
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from threadpoolctl import ThreadpoolController
from torch.nn.functional import normalize

from hffruits.core.errors import InputError
from hffruits.models.artifact import CONFIG, PROTOTYPES

PER_CLASS = 3
PICTURES = 30  # of a class that are enough to find them, less with many classes


def find_prototypes(features: np.ndarray, labels: np.ndarray) -> torch.Tensor:
    """The prototypes (P, D) of all classes, of unit length, by k-means.

    Features (N, D), labels (N,). Classes with fewer than `PER_CLASS` pictures have as many.
    """
    from sklearn.cluster import KMeans  # takes a second to import, and predicting needs none

    unit = normalize(torch.from_numpy(features), dim=1).numpy()
    middles = []
    for label in np.unique(labels):
        own = unit[labels == label]
        means = KMeans(min(PER_CLASS, len(own)), n_init=1, random_state=0).fit(own)
        middles.append(means.cluster_centers_)
    saved = torch.from_numpy(np.concatenate(middles)).half()  # as they will be read back
    return normalize(saved.float(), dim=1)


def familiarity(features: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
    """Cosine similarity in [-1, 1] of features (B, D) with the nearest prototype (P, D), (B,).

    Prototypes are of unit length.
    """
    lengths = np.linalg.norm(features, axis=1).clip(min=1e-12)
    with _blas().limit(limits=1):  # its threads would go on spinning, and slow the model down
        return (features @ prototypes.T).max(axis=1) / lengths


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


def save_prototypes(prototypes: torch.Tensor, folder: Path) -> None:
    """Beside the weights, in half precision, which moves no score by more than 0.001."""
    file = folder / PROTOTYPES
    save_file({"prototypes": prototypes.half().cpu().contiguous()}, file)
    file.chmod((folder / CONFIG).stat().st_mode)  # safetensors writes for its owner alone


def load_prototypes(file: Path) -> torch.Tensor:
    """What `save_prototypes` wrote, (P, D). Raises `InputError` for another file."""
    try:
        prototypes = load_file(file)["prototypes"].float()
    except (OSError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{file}: can't be read ({error}). Save the model anew.") from error
    if prototypes.ndim != 2 or not len(prototypes) or not prototypes.isfinite().all():
        raise InputError(f"{file}: holds no prototypes. Save the model anew.")
    return normalize(prototypes, dim=1)


# ---- figures ----


def choose_threshold(known: np.ndarray, rate: float) -> float:
    """The score below which at most `rate` of known pictures, by their scores (N,), lie."""
    refused = min(int(rate * len(known) + 1e-9), len(known) - 1)
    return float(np.sort(known)[refused])


def auroc(known: np.ndarray, unknown: np.ndarray) -> float:
    """How often a known picture has a higher score than an unknown one, in [0, 1]."""
    from sklearn.metrics import roc_auc_score

    truth = np.r_[np.ones(len(known)), np.zeros(len(unknown))]
    return float(roc_auc_score(truth, np.r_[known, unknown]))


def false_positive_rate(known: np.ndarray, unknown: np.ndarray, *, kept: float = 0.95) -> float:
    """Share of unknown pictures taken for known where `kept` of the known ones are: FPR@95."""
    return float((unknown >= choose_threshold(known, 1 - kept)).mean())


def roc_points(known: np.ndarray, unknown: np.ndarray, *, points: int = 101) -> np.ndarray:
    """(points, 2): share of unknown taken for known, and share of known kept, by threshold."""
    rates = np.linspace(0, 1, points)
    thresholds = np.quantile(known, rates, method="lower")
    taken = (unknown[:, None] >= thresholds).mean(axis=0)
    return np.stack([taken, 1 - rates], axis=1)
