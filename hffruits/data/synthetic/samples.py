"""The drawn sample set: the default data of a run.

Drawn once, then read from the cache. Hard enough to learn something from; says nothing about the
accuracy on photographs.
"""

from pathlib import Path

from hffruits.core.cache import cache_root, make_once
from hffruits.core.progress import progress_bar
from hffruits.data.synthetic.drawing import FRUITS, draw_fruit

VERSION = 1  # part of the cached folder's name: raise it when a drawing changes
GROUPS = {"Lemon": "Citrus", "Orange": "Citrus"} | dict.fromkeys(
    ("Blueberry", "Raspberry", "Strawberry"), "Berries"
)  # folders that hold several fruits; the others lie directly under their split


def samples_dir(cache_dir: Path | None = None) -> Path:
    """Return the folder of sample images, drawing it at the first call (15 s on one core).

    It lies in `cache_dir`, else in $HFFRUITS_CACHE, else in ~/.cache/hffruits.
    """
    folder = cache_root(cache_dir) / f"samples-v{VERSION}"
    return write_samples(folder, train=30, validation=8, test=12, size=192, seed=0)


def write_samples(
    folder: Path, *, train: int, validation: int, test: int, size: int, seed: int
) -> Path:
    """Draw so many images per fruit and split into `folder`/split/[group/]fruit/number.jpg.

    The folder appears whole or not at all; one that is there already is kept. Returns `folder`.
    """
    counts = {"train": train, "validation": validation, "test": test}
    jobs = [(split, name, i) for split, n in counts.items() for name in FRUITS for i in range(n)]

    def draw(folder: Path) -> None:
        bar = progress_bar(jobs, "Drawing sample fruits", unit="img")
        for number, (split, name, i) in enumerate(bar):
            path = folder / split / GROUPS.get(name, "") / name / f"{i:03d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw_fruit(name, seed=seed * len(jobs) + number, size=size).save(path, quality=90)

    return make_once(folder, draw)
