"""Out-of-distribution (OOD) score, its threshold, and the file of prototypes that it compares with.

Calibration chooses the threshold (`evaluation/calibration.py`), `FruitClassifier` applies it.

Each class has a few prototypes, the means of clusters of its training images' features; the OOD
score of an image is its distance from the nearest of all. Nearest-neighbour detection (Sun et al.
2022, arXiv:2204.06507) with some kilobytes in place of the training set. `benchmarks/ood.py`
compares it with scores of logits. Another fruit of the same kind stays hard to detect.
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

PROTOTYPES_PER_CLASS = 3
IMAGES_PER_CLASS = 30  # that are enough to find them, fewer with many classes


def find_prototypes(features: np.ndarray, labels: np.ndarray) -> torch.Tensor:
    """The prototypes (P, D) of all classes, of unit length, by k-means.

    Features (N, D), labels (N,). Classes with fewer than `PROTOTYPES_PER_CLASS` images have as many
    as images.
    """
    from sklearn.cluster import KMeans  # takes a second to import, and predicting needs none

    unit = normalize(torch.from_numpy(features), dim=1).numpy()
    centres = []
    for label in np.unique(labels):
        own = unit[labels == label]
        means = KMeans(min(PROTOTYPES_PER_CLASS, len(own)), n_init=1, random_state=0).fit(own)
        centres.append(means.cluster_centers_)
    saved = torch.from_numpy(np.concatenate(centres)).half()  # as they will be read back
    return normalize(saved.float(), dim=1)


def ood_score(features: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
    """Cosine distance in [0, 2] of features (B, D) from the nearest prototype (P, D), (B,).

    The higher, the more out-of-distribution. Prototypes are of unit length.
    """
    lengths = np.linalg.norm(features, axis=1).clip(min=1e-12)
    with _blas().limit(limits=1):  # its threads would go on spinning, and slow the model down
        return 1 - (features @ prototypes.T).max(axis=1) / lengths


def choose_threshold(known: np.ndarray, rate: float) -> float:
    """The OOD threshold above which at most `rate` of known images, by their scores (N,), lie."""
    rejected = min(int(rate * len(known) + 1e-9), len(known) - 1)
    return float(-np.sort(-known)[rejected])


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


def save_prototypes(prototypes: torch.Tensor, folder: Path) -> None:
    """Beside the weights, in half precision, which moves no score by more than 0.001."""
    file = folder / PROTOTYPES
    save_file({"prototypes": prototypes.half().cpu().contiguous()}, file)
    # safetensors makes it readable only for its owner
    file.chmod((folder / CONFIG).stat().st_mode)


def load_prototypes(file: Path) -> torch.Tensor:
    """What `save_prototypes` wrote, (P, D). Raises `InputError` for another file."""
    try:
        prototypes = load_file(file)["prototypes"].float()
    except (OSError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{file}: can't be read ({error}). Save the model again.") from error
    if prototypes.ndim != 2 or not len(prototypes) or not prototypes.isfinite().all():
        raise InputError(f"{file}: holds no prototypes. Save the model again.")
    return normalize(prototypes, dim=1)
