"""Decoding of large photos in training: at full size, and reduced as far as the crops allow.

    python benchmarks/large_photos.py

One core; drawn fruits with sensor noise. "Difference" is the mean absolute difference of pixel
values (0 to 255) between the two at the size that the model sees.
"""

import argparse
import io
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from hffruits.data.images import open_rgb
from hffruits.data.transforms import TrainTransform, open_for, train_transform
from hffruits.models.loading import build_model

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.drawing import draw_fruit

INPUT_SIZE = 224  # pixels
SIZES = [(640, 480), (1600, 1200), (4000, 3000), (8000, 6000)]


def photo(width: int, height: int, seed: int) -> bytes:
    """A fruit with sensor noise, as JPEG."""
    image = draw_fruit("Kiwi", seed=seed, size=512).resize((width, height), Image.BICUBIC)
    noise = np.random.default_rng(seed).normal(0, 6, (height, width, 1))
    noisy = (np.asarray(image) + noise).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=90)
    return file.getvalue()


def measure(light: TrainTransform, contents: list[bytes], *, full: bool) -> tuple[float, float]:
    """Milliseconds to decode and augment a photo, and for each further view of it."""
    both = float("inf"), float("inf")
    for _ in range(3):
        spent = [0.0, 0.0]
        for content in contents:
            times = [time.perf_counter()]
            image = open_rgb(content) if full else open_for(light, content)
            for _ in range(2):
                light(image)
                times.append(time.perf_counter())
            spent[0] += times[1] - times[0]
            spent[1] += times[2] - times[1]
        both = min(both[0], spent[0]), min(both[1], spent[1])
    return 1000 * both[0] / len(contents), 1000 * both[1] / len(contents)


def mean_difference(light: TrainTransform, content: bytes) -> float:
    """Mean absolute difference of pixel values between full size and reduced."""
    small = [
        np.asarray(image.resize((INPUT_SIZE, INPUT_SIZE), Image.BICUBIC), float)
        for image in (open_rgb(content), open_for(light, content))
    ]
    return float(np.abs(small[0] - small[1]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=10, help="of each size")
    args = parser.parse_args()
    torch.set_num_threads(1)
    _, processor = build_model("efficientnet_lite0", labels=["a", "b"], pretrained=False)
    light = train_transform(processor, "light", scaled=False)
    lines = [
        "| photo | file | full size | reduced | speed-up | each further view | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for width, height in tqdm(SIZES, leave=False):
        contents = [photo(width, height, seed) for seed in range(args.photos)]
        (one, more), (other, fewer) = (measure(light, contents, full=w) for w in (True, False))
        difference = np.mean([mean_difference(light, content) for content in contents])
        cells = (f"{one:.1f} ms", f"{other:.1f} ms", f"{one / other:.1f}")
        cells += (f"{more:.1f} and {fewer:.1f} ms", f"{difference:.2f}")
        kilobytes = np.mean([len(content) for content in contents]) / 1000
        lines.append(f"| {width} x {height} | {kilobytes:,.0f} kB | {' | '.join(cells)} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
