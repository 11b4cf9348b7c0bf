"""What a large photo costs in training: decoded whole, and at the fraction that its crops need.

    python benchmarks/large_photos.py

One core; drawn fruits with a camera's noise. "Off by" is how far the two ways lie apart once both
are made as small as the model sees them, on a scale of 0 to 255.
"""

import argparse
import io
import time

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from hffruits.data.images import open_rgb
from hffruits.data.synthetic.drawing import draw_fruit
from hffruits.data.transforms import TrainTransform, open_for, train_transform
from hffruits.models.loading import build_model

SEEN = 224  # pixels
SIZES = [(640, 480), (1600, 1200), (4000, 3000), (8000, 6000)]


def photo(width: int, height: int, seed: int) -> bytes:
    """A fruit with a camera's noise, as JPEG."""
    picture = draw_fruit("Kiwi", seed=seed, size=512).resize((width, height), Image.BICUBIC)
    noise = np.random.default_rng(seed).normal(0, 6, (height, width, 1))
    noisy = (np.asarray(picture) + noise).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=90)
    return file.getvalue()


def measure(light: TrainTransform, contents: list[bytes], *, whole: bool) -> tuple[float, float]:
    """Milliseconds a photo: decoded and augmented, and for each more view of it."""
    both = float("inf"), float("inf")
    for _ in range(3):
        spent = [0.0, 0.0]
        for content in contents:
            times = [time.perf_counter()]
            picture = open_rgb(content) if whole else open_for(light, content)
            for _ in range(2):
                light(picture)
                times.append(time.perf_counter())
            spent[0] += times[1] - times[0]
            spent[1] += times[2] - times[1]
        both = min(both[0], spent[0]), min(both[1], spent[1])
    return 1000 * both[0] / len(contents), 1000 * both[1] / len(contents)


def distance(light: TrainTransform, content: bytes) -> float:
    """Mean difference of the two ways' values."""
    small = [
        np.asarray(picture.resize((SEEN, SEEN), Image.BICUBIC), float)
        for picture in (open_rgb(content), open_for(light, content))
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
        "| photo | file | whole | as its crops need | times as quick | each more view | off by |",
        "|---|---|---|---|---|---|---|",
    ]
    for width, height in tqdm(SIZES, leave=False):
        contents = [photo(width, height, seed) for seed in range(args.photos)]
        (one, more), (other, fewer) = (measure(light, contents, whole=w) for w in (True, False))
        off = np.mean([distance(light, content) for content in contents])
        cells = (f"{one:.1f} ms", f"{other:.1f} ms", f"{one / other:.1f}")
        cells += (f"{more:.1f} against {fewer:.1f} ms", f"{off:.2f}")
        kilobytes = np.mean([len(content) for content in contents]) / 1000
        lines.append(f"| {width} x {height} | {kilobytes:,.0f} kB | {' | '.join(cells)} |")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
