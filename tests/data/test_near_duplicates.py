"""Near-duplicates are found, other photos are not, and the groups are deterministic."""

import io
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from support.drawing import FRUITS, draw_fruit

from hffruits.data.near_duplicates import (
    ALIKE,
    Fingerprints,
    compare,
    fingerprint,
    group_duplicates,
)


def recompress(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=40)
    return Image.open(file).convert("RGB")


def crop(image: Image.Image, left: float, top: float, right: float, bottom: float) -> Image.Image:
    (width, height), r = image.size, round
    return image.crop((r(left * width), r(top * height), r(right * width), r(bottom * height)))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "recompressed": recompress,
    "resized": lambda image: image.resize((70, 50)),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "cropped on one side": lambda image: crop(image, 0, 0, 0.95, 1),
    "cropped all round": lambda image: crop(image, 0.025, 0.025, 0.975, 0.975),
    "mirrored, cropped and recompressed": lambda image: recompress(
        crop(image, 0.05, 0.02, 1, 0.97).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    ),
}


def prints_of(images: list[Image.Image]) -> Fingerprints:
    grey, colour = zip(*map(fingerprint, images), strict=True)
    return Fingerprints(np.stack(grey), np.stack(colour))


def group(prints: Fingerprints, digests: list[bytes] | None = None) -> np.ndarray:
    digests = digests or [b"%d" % i for i in range(len(prints.grey))]
    return group_duplicates(prints, digests, progress=False)


def partition(groups: np.ndarray, names: np.ndarray | None = None) -> set[frozenset[int]]:
    members = defaultdict(list)
    for name, number in zip(range(len(groups)) if names is None else names, groups, strict=True):
        members[number].append(int(name))
    return {frozenset(some) for some in members.values()}


def select(prints: Fingerprints, rows: np.ndarray) -> Fingerprints:
    return Fingerprints(prints.grey[rows], prints.colour[rows])


@pytest.fixture(scope="module")
def drawings() -> list[Image.Image]:
    """Six of each fruit, each another image."""
    return [draw_fruit(name, seed=seed, size=96) for name in FRUITS for seed in range(6)]


@pytest.fixture(scope="module")
def drawn(drawings) -> Fingerprints:
    return prints_of(drawings)


# ---- what is a copy ----


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_duplicate_is_found_among_other_images(drawings, drawn, change):
    copies = prints_of([CHANGES[change](image) for image in drawings])
    both = Fingerprints(
        np.concatenate([drawn.grey, copies.grey]), np.concatenate([drawn.colour, copies.colour])
    )
    groups = group(both)
    count = len(drawings)
    found = np.mean(groups[:count] == groups[count:])
    assert found >= 0.97  # a crop of a fruit on a plain ground can slip through
    assert len(set(groups)) == count + round((1 - found) * count)  # each only with its duplicate


def test_other_drawings_of_a_fruit_are_no_copies(drawn):
    assert len(partition(group(drawn))) == len(drawn.grey)


def test_other_fruits_on_white_are_no_copies():
    """Discs on white, as in product photos: the outline is the same, the rest is not."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:64j, -1:1:64j]
    images = []
    for _ in range(60):
        inside = (x**2 + y**2 < 0.8)[..., None]
        spots = rng.normal(0, 24, (16, 16)).repeat(4, 0).repeat(4, 1)[..., None]
        skin = np.array([200, 60, 40]) * (1 - 0.3 * (x**2 + y**2)[..., None]) + spots
        images.append(Image.fromarray(np.where(inside, skin, 250).clip(0, 255).astype(np.uint8)))
    copies = [recompress(image) for image in images]
    groups = group(prints_of(images + copies))
    assert partition(groups) == {frozenset({i, i + 60}) for i in range(60)}


def test_images_with_nothing_on_them_are_duplicates_only_by_their_bytes():
    slopes = [np.tile(np.linspace(a, b, 64), (64, 1)) for a, b in [(90, 140), (60, 200), (99, 120)]]
    noise = np.random.default_rng(0).normal(0, 0.5, (3, 64, 64))
    empty = [
        Image.new("RGB", (64, 64), colour) for colour in ("white", "white", "#fefefe", "black")
    ]
    smooth = [
        Image.fromarray((slope + grain).round().astype(np.uint8)).convert("RGB")
        for slope, grain in zip(slopes, noise, strict=True)
    ]
    prints = prints_of([*empty, *smooth])
    assert len(partition(group(prints))) == 7
    digests = [b"a", b"a", b"b", b"c", b"d", b"e", b"f"]
    assert partition(group(prints, digests)) == {
        frozenset({0, 1}),
        *map(frozenset, [[2], [3], [4], [5], [6]]),
    }


def test_equal_digests_are_duplicates_whatever_the_thumbnails(drawn):
    few = select(drawn, np.arange(4))
    assert partition(group(few, [b"a", b"b", b"a", b"c"])) == {
        frozenset({0, 2}), frozenset({1}), frozenset({3}),
    }  # fmt: skip


def test_equal_thumbnails_are_duplicates_also_many_of_them(drawn):
    rows = np.repeat(np.arange(3), 500)
    assert partition(group(select(drawn, rows))) == {
        frozenset(np.flatnonzero(rows == row).tolist()) for row in range(3)
    }


def test_near_duplicates_of_near_duplicates_are_in_one_group(drawings):
    """Frames of a pan: the first and the last share too little, but each is like the next."""
    frames = [crop(drawings[0], 0.03 * i, 0, 0.7 + 0.03 * i, 1) for i in range(10)]
    prints = prints_of(frames)
    ends = compare(prints.grey, np.array([[0, 9]]), np.array([False]))
    assert ends[0] < ALIKE
    assert len(partition(group(prints))) == 1


# ---- always the same ----


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_images_work(drawn, count):
    assert group(select(drawn, np.arange(count))).tolist() == list(range(count))


def test_the_groups_do_not_depend_on_the_order_of_the_images(drawings, drawn):
    copies = prints_of([recompress(image) for image in drawings[::2]])
    both = Fingerprints(
        np.concatenate([drawn.grey, copies.grey]), np.concatenate([drawn.colour, copies.colour])
    )
    expected = partition(group(both))
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(len(both.grey))
        assert partition(group(select(both, order)), order) == expected


def test_the_groups_are_the_same_each_time_also_of_frames_in_order(drawn):
    """Of 16 turntables: in the order of the files, the index by itself would miss one in ten."""
    rng = np.random.default_rng(0)
    rows = np.repeat(np.arange(0, 96, 6), 25)
    grey = drawn.grey[rows] + rng.normal(0, 1, (len(rows), 32, 32))
    colour = drawn.colour[rows] + rng.normal(0, 1, (len(rows), 8, 8, 3))
    frames = Fingerprints(*(x.clip(0, 255).astype(np.uint8) for x in (grey, colour)))
    first = group(frames)
    assert np.array_equal(first, group(frames))
    assert partition(first) == partition(rows)


# ---- compare ----


def test_compare_gives_the_best_correlation_over_all_windows():
    """Against windows that are made one by one, and correlated by NumPy."""
    from hffruits.data.near_duplicates import _WINDOWS, _detail

    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (6, 32, 32), dtype=np.uint8)
    pairs = np.array([(a, b) for a in range(6) for b in range(a)])
    mirrored = rng.random(len(pairs)) < 0.5
    details, windows = _detail(grey).numpy(), _WINDOWS.numpy()

    def best(whole, part):
        shown = [rows @ whole @ columns.T for rows in windows for columns in windows]
        return max(np.corrcoef(window.ravel(), part.ravel())[0, 1] for window in shown)

    expected = []
    for (a, b), flip in zip(pairs, mirrored, strict=True):
        a, b = details[a][:, ::-1] if flip else details[a], details[b]
        expected.append(max(best(a, b), best(b, a)))
    assert compare(grey, pairs, mirrored) == pytest.approx(expected, abs=2e-3)  # kept in 16 bits


def test_compare_takes_no_pairs_too(drawn):
    assert compare(drawn.grey, np.zeros((0, 2), int), np.zeros(0, bool)).shape == (0,)
