"""Pictures that look unlike their label, and pictures that look unlike all others.

Judged by features of a trained backbone: arrays in, indices out.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.neighbors import NearestNeighbors
from tqdm.auto import tqdm

DIMENSIONS = 128  # of the features, for the classifier
FOLDS = 5
NEIGHBOURS = 10
DOUBTED = 0.1  # of the best guess's probability: a label that gets less is doubted
AGREEING = 0.2  # share of the neighbours that may still carry a doubted label


@dataclass(frozen=True)
class Suspects:
    """Pictures whose label is probably wrong, the surest first."""

    indices: np.ndarray  # (S,)
    guesses: np.ndarray  # (S,) the class that each looks like


def find_label_errors(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, seed: int = 0
) -> Suspects:
    """Pictures that a classifier trained without them and their neighbours both give another label.

    `features` (N, D) of unit length, `labels` (N,) integers, `groups` (N,) of near-duplicates,
    which never vouch for one another. The classifier's probabilities are out of sample, as in
    confident learning (arXiv:1911.00068); `benchmarks/audit.py` says how well it works.
    """
    probabilities = _out_of_sample(features, labels, groups, seed)
    rows = np.arange(len(labels))
    guesses = probabilities.argmax(1)
    share = probabilities[rows, labels] / probabilities[rows, guesses]
    agreeing = _agreement(features, labels, groups)
    doubted = (guesses != labels) & (share < DOUBTED) & (agreeing <= AGREEING)
    indices = np.flatnonzero(doubted)
    indices = indices[np.argsort(share[indices], kind="stable")]
    return Suspects(indices, guesses[indices])


def find_outliers(features: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Pictures further from their nearest neighbours than nearly all others, furthest first.

    Beyond the upper quartile by three times the spread between quartiles (Tukey's far out).
    """
    distances, _ = _neighbours(features, groups)
    distance = distances[:, :3].mean(axis=1)
    low, high = np.quantile(distance, (0.25, 0.75))
    indices = np.flatnonzero(distance > high + 3 * (high - low))
    return indices[np.argsort(-distance[indices], kind="stable")]


def map_features(features: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Features (N, D) as points of the unit square (N, 2), neighbours side by side: t-SNE."""
    few = PCA(min(50, *features.shape), random_state=seed).fit_transform(features)
    perplexity = min(30.0, max(1.0, (len(few) - 1) / 3))
    points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(few)
    return (points - points.min(0)) / np.maximum(np.ptp(points, axis=0), 1e-9)


def _out_of_sample(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int
) -> np.ndarray:
    """Each picture's class probabilities (N, K) by a classifier that hasn't seen its group."""
    pca = PCA(min(DIMENSIONS, *features.shape), whiten=True, random_state=seed)
    few = pca.fit_transform(features)
    probabilities = np.full((len(labels), labels.max() + 1), 1e-6)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes with fewer pictures than folds
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough
        splits = list(folds.split(few, labels, groups))
        for train, test in tqdm(splits, "Judging labels", unit="fold", leave=False):
            if len(set(labels[train])) < 2:
                continue
            classifier = LogisticRegression(C=0.1, max_iter=200).fit(few[train], labels[train])
            columns = np.ix_(test, classifier.classes_)
            probabilities[columns] = classifier.predict_proba(few[test])
    return probabilities


def _agreement(features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Share of each picture's neighbours (as many as its class has) with its label, (N,)."""
    _, neighbours = _neighbours(features, groups)
    same = (labels[neighbours] == labels[:, None]) & (neighbours >= 0)
    possible = np.minimum(np.bincount(labels)[labels] - 1, NEIGHBOURS)
    return same.sum(1) / np.maximum(possible, 1)


def _neighbours(features: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices (N, 10) of the nearest pictures that are no near-duplicates.

    Where there are fewer, the distance is the last one found, and the index -1.
    """
    count = min(NEIGHBOURS + 20, len(features) - 1)
    search = NearestNeighbors(n_neighbors=count).fit(features)
    distances, indices = search.kneighbors()  # without the pictures themselves
    copies = groups[indices] == groups[:, None]
    order = np.argsort(copies, axis=1, kind="stable")[:, :NEIGHBOURS]  # copies last
    distances, indices, copies = (
        np.take_along_axis(values, order, axis=1) for values in (distances, indices, copies)
    )
    return distances, np.where(copies, -1, indices)
