"""The drawn sample set: deterministic, complete, and neither trivial nor impossible to learn."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from hffruits.data.synthetic import samples
from hffruits.data.synthetic.drawing import FRUITS, draw_fruit
from hffruits.data.synthetic.samples import samples_dir, write_samples


def pixels(name: str, *, seed: int, size: int = 48) -> np.ndarray:
    return np.asarray(draw_fruit(name, seed=seed, size=size), np.float32)


def write_few(folder: Path, *, train: int = 1, test: int = 1) -> Path:
    return write_samples(folder, train=train, validation=0, test=test, size=16, seed=3)


@pytest.mark.parametrize("name", FRUITS)
def test_every_fruit_is_an_rgb_image_of_the_asked_size(name):
    image = draw_fruit(name, seed=1, size=50)
    assert (image.mode, image.size) == ("RGB", (50, 50))
    assert np.asarray(image).std() > 10  # not blank


@pytest.mark.parametrize("name", FRUITS)
def test_same_seed_draws_the_same_and_another_seed_does_not(name):
    assert np.array_equal(pixels(name, seed=5), pixels(name, seed=5))
    assert not np.array_equal(pixels(name, seed=5), pixels(name, seed=6))


def test_another_process_draws_the_same_pixels():
    code = (
        "import hashlib; from hffruits.data.synthetic.drawing import draw_fruit;"
        "print(hashlib.sha256(draw_fruit('Kiwi', seed=7, size=48).tobytes()).hexdigest())"
    )
    env = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    there = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    here = hashlib.sha256(draw_fruit("Kiwi", seed=7, size=48).tobytes()).hexdigest()
    assert there.stdout.decode().strip() == here


def test_an_unknown_fruit_raises_and_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"Stone: .*Apple, .*Watermelon"):
        draw_fruit("Stone", seed=0)


def test_too_small_an_image_raises():
    with pytest.raises(ValueError, match="8: too few pixels"):
        draw_fruit("Apple", seed=0, size=8)


def test_each_split_has_its_number_of_every_fruit_at_uneven_depth(tmp_path):
    folder = write_samples(tmp_path / "set", train=2, validation=0, test=1, size=16, seed=0)
    assert folder == tmp_path / "set"
    for split, count in {"train": 2, "validation": 0, "test": 1}.items():
        parents = [path.parent for path in (folder / split).rglob("*.jpg")]
        assert sorted(p.name for p in parents) == sorted(list(FRUITS) * count)
    assert (folder / "train" / "Banana" / "000.jpg").is_file()
    assert (folder / "train" / "Citrus" / "Orange" / "001.jpg").is_file()


def test_no_image_is_drawn_twice(tmp_path):
    folder = write_few(tmp_path / "set", train=2)
    contents = {path.read_bytes() for path in folder.rglob("*.jpg")}
    assert len(contents) == 3 * len(FRUITS)


def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(name: str, **options):
        if name == "Cherry":
            raise KeyboardInterrupt
        return draw_fruit(name, **options)

    monkeypatch.setattr(samples, "draw_fruit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_few(tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_two_writers_at_once_leave_one_whole_set(tmp_path):
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(write_few, [tmp_path / "set"] * 2))
    assert folders == [tmp_path / "set"] * 2 == list(tmp_path.iterdir()) * 2
    assert len(list(folders[0].rglob("*.jpg"))) == 2 * len(FRUITS)


def test_the_slower_of_two_writers_keeps_what_the_faster_wrote(tmp_path, monkeypatch):
    def overtaken(name: str, **options):
        (tmp_path / "set" / "train").mkdir(parents=True, exist_ok=True)
        return draw_fruit(name, **options)

    monkeypatch.setattr(samples, "draw_fruit", overtaken)
    folder = write_few(tmp_path / "set")
    assert [path.name for path in folder.rglob("*")] == ["train"]
    assert list(tmp_path.iterdir()) == [folder]


def test_the_cache_is_drawn_once_and_found_through_the_environment(tmp_path, monkeypatch):
    drawn = []

    def draw_small(name: str, *, seed: int, size: int):
        drawn.append(name)
        return draw_fruit("Apple", seed=0, size=16)

    monkeypatch.setattr(samples, "draw_fruit", draw_small)
    folder = samples_dir(tmp_path)
    count = len(drawn)
    assert count == 50 * len(FRUITS)
    monkeypatch.setenv("HFFRUITS_CACHE", str(tmp_path))
    assert samples_dir(tmp_path) == samples_dir() == folder
    assert len(drawn) == count
    assert folder.parent == tmp_path and folder.name.endswith(f"v{samples.VERSION}")


def test_mean_colour_tells_fruits_apart_better_than_chance_but_not_well():
    """A mean colour is a poor classifier; the set must neither defeat nor flatter it."""

    def mean_colour(name: str, seed: int) -> np.ndarray:
        return pixels(name, seed=seed)[12:36, 12:36].mean((0, 1))  # (48, 48, 3) -> (3,)

    names = list(FRUITS)
    centres = np.stack([np.mean([mean_colour(n, s) for s in range(8)], 0) for n in names])
    hits = [
        names[np.square(centres - mean_colour(name, seed)).sum(1).argmin()] == name
        for name in names
        for seed in range(100, 106)
    ]
    assert 2 / len(names) < np.mean(hits) < 0.8
