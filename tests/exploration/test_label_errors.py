"""Label errors and outliers planted into synthetic features are found and distinguished."""

import warnings

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from hffruits.exploration.label_errors import (
    find_label_errors,
    find_outliers,
    map_features,
    predict_out_of_sample,
)


def make_classes(
    count: int, size: int, *, noise: float = 1.0, dimensions: int = 96, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, D) of unit length around a centre each class, and labels (N,)."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), size)
    features = rng.normal(size=(count, dimensions))[labels]
    features += noise * rng.normal(size=features.shape)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features.astype(np.float32), labels


def mislabel(labels: np.ndarray, share: float, seed: int = 0) -> tuple[np.ndarray, set[int]]:
    """Labels with a share of wrong ones, and where these are."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(labels), max(1, round(share * len(labels))), replace=False)
    wrong, count = labels.copy(), labels.max() + 1
    wrong[rows] = (labels[rows] + rng.integers(1, count, len(rows))) % count
    return wrong, set(rows.tolist())


def no_duplicates(labels: np.ndarray) -> np.ndarray:
    """No near-duplicates."""
    return np.arange(len(labels))


@pytest.mark.parametrize(("count", "size"), [(2, 40), (5, 12), (12, 30), (60, 6)])
def test_label_errors_are_found_with_the_likely_class(count: int, size: int):
    features, labels = make_classes(count, size)
    wrong, rows = mislabel(labels, 0.05)
    found = find_label_errors(features, wrong, no_duplicates(labels))
    reported = set(found.indices.tolist())
    assert len(reported & rows) >= 0.75 * len(rows)
    assert len(reported - rows) <= 0.1 * len(rows)
    np.testing.assert_array_equal(found.predicted, labels[found.indices])


def test_correct_labels_are_not_reported():
    features, labels = make_classes(12, 30, noise=1.5)
    assert not len(find_label_errors(features, labels, no_duplicates(labels)).indices)


def test_the_most_probable_comes_first():
    features, labels = make_classes(3, 30)
    wrong = labels.copy()
    wrong[[0, 1]] = 1
    halfway = features[0] + 0.75 * features[labels == 1].mean(0)
    features[0] = halfway / np.linalg.norm(halfway)  # not quite sure
    found = find_label_errors(features, wrong, no_duplicates(labels))
    assert found.indices.tolist() in ([1, 0], [1])


def test_near_duplicates_with_the_same_wrong_label_do_not_vouch_for_one_another():
    features, labels = make_classes(4, 20)
    copies = np.repeat(features[:1], 12, axis=0)
    all_features = np.concatenate([features, copies])
    wrong = np.concatenate([labels, np.full(12, 3)])
    wrong[0] = 3
    groups = np.concatenate([no_duplicates(labels), np.zeros(12, int)])
    found = find_label_errors(all_features, wrong, groups)
    assert set(found.indices.tolist()) == {0, *range(80, 92)}
    assert not len(find_label_errors(all_features, wrong, np.arange(92)).indices)


def test_probabilities_are_of_classifiers_that_have_not_seen_a_near_duplicate():
    rng = np.random.default_rng(0)
    features = np.repeat(rng.normal(size=(150, 40)), 2, axis=0).astype(np.float32)
    labels = np.repeat(rng.integers(0, 5, 150), 2)  # by chance, but the same for both
    groups = np.repeat(np.arange(150), 2)
    blind = predict_out_of_sample(features, labels, groups).argmax(1)
    cheating = predict_out_of_sample(features, labels, no_duplicates(labels)).argmax(1)
    assert (blind == labels).mean() < 0.3
    assert (cheating == labels).mean() > 0.4


@pytest.mark.parametrize(("count", "size"), [(1, 5), (1, 30), (2, 2), (2, 3), (20, 1), (20, 2)])
def test_too_little_to_judge_is_not_doubted(count: int, size: int):
    features, labels = make_classes(count, size)
    wrong, _ = mislabel(labels, 0.1) if count > 1 and size > 2 else (labels, set())
    found = find_label_errors(features, wrong, no_duplicates(labels))
    assert len(found.indices) == len(found.predicted) == 0


def test_a_class_of_one_photo_is_not_a_label_error():
    features, labels = make_classes(6, 20)
    labels[0] = 6  # looks like the first class, but who knows
    labels[20:22] = 7
    assert not len(find_label_errors(features, labels, no_duplicates(labels)).indices)


def test_classes_without_photos_do_no_harm():
    features, labels = make_classes(5, 20)
    wrong, rows = mislabel(labels, 0.05)
    found = find_label_errors(features, 3 * wrong, no_duplicates(labels))
    assert rows <= set(found.indices.tolist())
    np.testing.assert_array_equal(found.predicted, 3 * labels[found.indices])


def test_the_same_seed_gives_the_same_label_errors_without_warnings():
    features, labels = make_classes(6, 9)
    wrong, _ = mislabel(labels, 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, other = (find_label_errors(features, wrong, no_duplicates(labels)) for _ in range(2))
    np.testing.assert_array_equal(one.indices, other.indices)


@pytest.mark.slow
def test_a_thousand_classes_with_three_images_each_are_split():
    features, labels = make_classes(1000, 3, noise=0.6, dimensions=256)
    wrong, rows = mislabel(labels, 0.05)
    reported = set(find_label_errors(features, wrong, no_duplicates(labels)).indices.tolist())
    assert len(reported & rows) >= 0.8 * len(rows)
    assert len(reported - rows) <= 0.1 * len(rows)


# ---- outliers ----


def strangers(count: int, *, alike: bool, seed: int = 9) -> np.ndarray:
    """Features of another direction than all classes."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 96)) * (0.1 if alike else 1)
    features += 1.5 * rng.normal(size=96) if alike else 0
    return (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("alike", [False, True])
def test_outliers_are_found_even_if_they_are_alike(alike: bool):
    features, labels = make_classes(12, 30, noise=0.5)
    wrong, _ = mislabel(labels, 0.05)  # these are strange in their class, but like another one
    rng = np.random.default_rng(1)
    planted = np.concatenate([features, strangers(8, alike=alike)])
    found = find_outliers(planted, np.concatenate([wrong, rng.integers(0, 12, 8)]))
    assert set(found.tolist()) == set(range(360, 368))


def test_the_furthest_comes_first():
    features, labels = make_classes(4, 30, noise=0.5)
    near = features[0] + 1.2 * strangers(1, alike=False)[0]
    planted = [near / np.linalg.norm(near), -features[:30].mean(0)]
    found = find_outliers(np.vstack([features, *planted]), np.concatenate([labels, [0, 0]]))
    assert found.tolist() == [121, 120]


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.5])
def test_photos_that_are_all_alike_are_no_outliers(noise: float):
    features, labels = make_classes(5, 20, noise=noise)
    assert not len(find_outliers(features, labels))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_small_classes_are_not_strange_for_being_small(size: int):
    features, labels = make_classes(30, 20, noise=0.6)
    few, own = make_classes(5, size, noise=0.6, seed=3)
    assert not len(
        find_outliers(np.concatenate([features, few]), np.concatenate([labels, 30 + own]))
    )


# ---- the map ----


def test_the_map_keeps_neighbours_together_in_the_unit_square():
    features, _ = make_classes(6, 25, noise=0.5)
    points = map_features(features)
    assert points.shape == (150, 2)
    np.testing.assert_allclose([points.min(0), points.max(0)], [[0, 0], [1, 1]], atol=1e-6)
    assert trustworthiness(features, points, n_neighbors=10) > 0.9
    np.testing.assert_array_equal(points, map_features(features))


def test_identical_photos_have_a_map_too():
    points = map_features(np.ones((12, 40), np.float32) / np.sqrt(40))
    assert points.shape == (12, 2) and np.isfinite(points).all()
