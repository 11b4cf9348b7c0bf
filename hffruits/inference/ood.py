"""Out-of-distribution (OOD) score, its threshold, and the file of prototypes that it compares with.

Calibration chooses the threshold (`evaluation/calibration.py`), `FruitClassifier` applies it.

Each class has a few prototypes, the means of clusters of its training images' features; the OOD
score of an image is the part of its features that no combination of the prototypes explains. That
is the residual of ViM (Wang et al. 2022, arXiv:2203.10807, section 4.1), for features of unit
length, with prototypes in place of the training set. `benchmarks/ood.py` compares it with other
scores. Another fruit of the same kind stays hard to detect.
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
RIDGE = 0.1  # in units of one prototype; 0.01 to 1 give the same AUROCs within 0.003


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
        count = min(PROTOTYPES_PER_CLASS, len(np.unique(own, axis=0)))
        means = KMeans(count, n_init=1, random_state=0).fit(own)
        centres.append(means.cluster_centers_)
    saved = torch.from_numpy(np.concatenate(centres)).half()  # as they will be read back
    return normalize(saved.float(), dim=1)


def explain_by(prototypes: torch.Tensor) -> np.ndarray:
    """The directions (R, D) that prototypes (P, D) explain, each as long as it is explained.

    R is the smaller of P and D. For ridge regression on the prototypes, what a direction in which
    their singular value is s leaves unexplained is RIDGE / (s² + RIDGE).
    """
    if len(prototypes) > prototypes.shape[1]:
        prototypes = torch.linalg.qr(prototypes, mode="r").R  # as many rows as columns
    _, size, directions = torch.linalg.svd(prototypes, full_matrices=False)
    return (directions * (size / (size**2 + RIDGE).sqrt())[:, None]).numpy()


def ood_score(features: np.ndarray, explained: np.ndarray) -> np.ndarray:
    """The share, in [0, 1], of the squared length of features (B, D) that isn't explained, (B,).

    `explained` (R, D) is what `explain_by` gives. The higher, the more out-of-distribution.
    """
    lengths = np.linalg.norm(features, axis=1).clip(min=1e-12)
    with _blas().limit(limits=1):  # its threads would go on spinning, and slow the model down
        parts = (features / lengths[:, None]) @ explained.T  # (B, R)
    return (1 - (parts**2).sum(axis=1)).clip(min=0)


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
