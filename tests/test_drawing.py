"""The fruits that tests draw: the same for the same seed in every process, and no two alike."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.drawing import FRUITS, draw_fruit

TESTS = Path(__file__).parent


def pixels(name: str, *, seed: int, size: int = 48) -> np.ndarray:
    return np.asarray(draw_fruit(name, seed=seed, size=size), np.float32)


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
        "import hashlib; from support.drawing import draw_fruit;"
        "print(hashlib.sha256(draw_fruit('Kiwi', seed=7, size=48).tobytes()).hexdigest())"
    )
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    env = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": paths}
    there = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    here = hashlib.sha256(draw_fruit("Kiwi", seed=7, size=48).tobytes()).hexdigest()
    assert there.stdout.decode().strip() == here


def test_an_unknown_fruit_raises_and_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"Stone: .*Apple, .*Watermelon"):
        draw_fruit("Stone", seed=0)


def test_too_small_an_image_raises():
    with pytest.raises(ValueError, match="8: too few pixels"):
        draw_fruit("Apple", seed=0, size=8)
