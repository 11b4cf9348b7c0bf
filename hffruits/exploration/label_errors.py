"""Label errors (confident learning), outliers, and the map (t-SNE), by features of a backbone.

Arrays in, indices out.
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

from hffruits.core.progress import progress_bar

DIMENSIONS = 128  # of the features, for the classifier
FOLDS = 5
NEIGHBOURS = 10
DOUBTED = 0.1  # of the top prediction's probability: a label that gets less is doubted
AGREEING = 0.2  # share of the neighbours that may still carry a doubted label
OTHERS = 2  # of its class, without which nothing can be said of an image's label
FAR_OUT = 2.0  # spreads between quartiles beyond the upper one
FAR = 0.85  # and at least this far from a class: images of one class lie at 0.5


@dataclass(frozen=True)
class LabelErrors:
    """Images whose label is probably wrong, the most probable first."""

    indices: np.ndarray  # (S,)
    predicted: np.ndarray  # (S,) the class that each resembles


def find_label_errors(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, seed: int = 0
) -> LabelErrors:
    """Images that a classifier trained without them and their neighbours both give another label.

    `features` (N, D) of unit length, `labels` (N,) integers, `groups` (N,) of near-duplicates,
    which never vouch for one another. The classifier's probabilities are out of sample, as in
    confident learning (arXiv:1911.00068); `benchmarks/exploration.py` measures how well it works.
    Labels with fewer than two other groups of images are never doubted.
    """
    probabilities = predict_out_of_sample(features, labels, groups, seed=seed)
    predicted = probabilities.argmax(1)
    rows = np.arange(len(labels))
    share = probabilities[rows, labels] / probabilities[rows, predicted]
    doubted = (predicted != labels) & (share < DOUBTED) & (_sizes(labels, groups)[labels] > OTHERS)
    indices = np.flatnonzero(doubted)
    if len(indices):
        agreeing = _agreement(features, labels, groups, indices)
        indices = indices[agreeing <= AGREEING]
    indices = indices[np.argsort(share[indices], kind="stable")]
    return LabelErrors(indices, predicted[indices])


def predict_out_of_sample(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, *, seed: int = 0
) -> np.ndarray:
    """Each image's class probabilities (N, K) by a classifier that hasn't seen its group.

    A class that the classifier has not seen has 1e-6 beside the others, which sum to 1. Not
    whitened: with few images, that amplifies noise. Not by `cross_val_predict`, which gives such
    classes 0, so that their order is lost, and stops at a fold whose other folds have one class.
    """
    few = _reduce(features, DIMENSIONS, seed)
    few /= few.std() + 1e-9
    probabilities = np.full((len(labels), labels.max() + 1), 1e-6)
    folds = min(FOLDS, int(_sizes(labels, groups).max()))
    if folds < 2:
        return probabilities
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classes with fewer images than folds
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough
        splits = list(splitter.split(few, labels, groups))
        for train, test in progress_bar(splits, "Checking labels", unit="fold", leave=False):
            if len(test) and len(set(labels[train])) > 1:
                classifier = LogisticRegression(C=0.3, max_iter=200, tol=1e-3).fit(
                    few[train], labels[train]
                )
                columns = np.ix_(test, classifier.classes_)
                probabilities[columns] = classifier.predict_proba(few[test])
    return probabilities


def find_outliers(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Images far from the mean of every class, the furthest first.

    Unlike the distance to neighbours, this finds outliers that are like one another, and is
    not misled by wrong labels. `features` (N, D) of unit length, `labels` (N,) integers. Far is
    beyond the upper quartile by twice the spread between quartiles (Tukey's fences), and `FAR`.
    """
    distance = _distance_to_classes(features, labels)
    low, high = np.quantile(distance, (0.25, 0.75))
    indices = np.flatnonzero(distance > max(FAR, high + FAR_OUT * (high - low)))
    return indices[np.argsort(-distance[indices], kind="stable")]


def map_features(features: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Features (N, D) as points of the unit square (N, 2), neighbours side by side: t-SNE."""
    few = _reduce(features, 50, seed)
    perplexity = min(30.0, max(1.0, (len(few) - 1) / 3))
    # as its init="pca", which divides by zero, and crashes, where all images are the same
    start = few[:, :2] / (few[:, 0].std() + 1e-9) * 1e-4
    start = start + np.random.default_rng(seed).normal(scale=1e-7, size=start.shape)
    tsne = TSNE(perplexity=perplexity, init=start.astype(np.float32), random_state=seed)
    points = tsne.fit_transform(few)
    return (points - points.min(0)) / np.maximum(np.ptp(points, axis=0), 1e-9)


def _reduce(features: np.ndarray, dimensions: int, seed: int) -> np.ndarray:
    """The principal components of features, (N, at most `dimensions`)."""
    with np.errstate(invalid="ignore"):  # all images may be the same
        return PCA(min(dimensions, *features.shape), random_state=seed).fit_transform(features)


def _sizes(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """How many images each class has, near-duplicates counted once, (K,)."""
    pairs = np.unique(np.stack([labels, groups], axis=1), axis=0)
    return np.bincount(pairs[:, 0])


def _agreement(
    features: np.ndarray, labels: np.ndarray, groups: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """The share of the neighbours of `rows` that carry their label, (R,).

    Neighbours are the nearest ten that are no near-duplicates; of a small class fewer can agree.
    """
    count = min(NEIGHBOURS + 20, len(features) - 1)
    search = NearestNeighbors(n_neighbors=count + 1).fit(features)
    nearest = search.kneighbors(features[rows], return_distance=False)  # themselves first, mostly
    foreign = groups[nearest] != groups[rows][:, None]
    order = np.argsort(~foreign, axis=1, kind="stable")[:, :NEIGHBOURS]  # near-duplicates last
    same = np.take_along_axis((labels[nearest] == labels[rows][:, None]) & foreign, order, axis=1)
    possible = np.minimum(np.bincount(labels)[labels[rows]] - 1, NEIGHBOURS)
    return same.sum(1) / np.maximum(possible, 1)


def _distance_to_classes(features: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The distance of each image from the nearest mean of a class, (N,).

    A mean leaves out the image itself. A mean of n varies as much as an image, by a share of
    1 / n, which is taken off: else small classes would seem further away. Means of one or two
    images count only for themselves.
    """
    classes, ids = np.unique(labels, return_inverse=True)
    counts = np.bincount(ids)
    means = np.zeros((len(classes), features.shape[1]), features.dtype)
    np.add.at(means, ids, features)
    means /= counts[:, None].astype(features.dtype)
    squares = (features**2).sum(1)[:, None] - 2 * features @ means.T + (means**2).sum(1)
    own = np.arange(len(ids)), ids
    other = squares * (counts / (counts + 1))
    other[:, counts < 3] = np.inf
    other[own] = squares[own] * (counts / np.maximum(counts - 1, 1))[ids]  # 0 if it is the only one
    return np.sqrt(np.maximum(other.min(1), 0))
