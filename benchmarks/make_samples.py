"""Make the sample set in the package from the training split of the Grocery Store Dataset.

    python benchmarks/make_samples.py --data_dir GroceryStoreDataset/dataset/train

Of each kind it takes photos at even steps of their numbers, and the pairs of near-duplicates that
`hffruits explore` found, shrinks them, and writes them without metadata. The same photos are chosen
each time; another version of Pillow may encode them differently. LICENSE and README.md, which lie
beside them, stay as they are.
"""

import argparse
import shutil
from pathlib import Path

from PIL import Image

from hffruits.data.samples import samples_dir

PHOTOS = 27  # of a kind, where there are so many
SIDE = 256  # pixels of the shorter side
QUALITY = 76  # of JPEG
KINDS = (
    "Fruit/Apple/Granny-Smith",
    "Fruit/Apple/Pink-Lady",  # hard to tell from Royal-Gala and Red-Delicious
    "Fruit/Apple/Red-Delicious",
    "Fruit/Apple/Royal-Gala",
    "Fruit/Avocado",
    "Fruit/Banana",
    "Fruit/Lemon",  # from Lime
    "Fruit/Lime",
    "Fruit/Melon/Cantaloupe",  # from Galia-Melon
    "Fruit/Melon/Galia-Melon",
    "Fruit/Nectarine",  # from Peach
    "Fruit/Orange",  # from Satsumas and Red-Grapefruit
    "Fruit/Peach",
    "Fruit/Pear/Conference",
    "Fruit/Red-Grapefruit",
    "Fruit/Satsumas",
    "Vegetables/Brown-Cap-Mushroom",
    "Vegetables/Cucumber",  # from Zucchini
    "Vegetables/Pepper/Yellow-Bell-Pepper",
    "Vegetables/Zucchini",
)
NEAR_DUPLICATES = {
    *("Royal-Gala_005", "Royal-Gala_007"),
    *("Royal-Gala_023", "Royal-Gala_025"),
    *("Avocado_026", "Avocado_040"),
    *("Cantaloupe_016", "Cantaloupe_021"),
    *("Conference_004", "Conference_040"),
    *("Cucumber_004", "Cucumber_005"),
    *("Yellow-Bell-Pepper_012", "Yellow-Bell-Pepper_013"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True, help="its `train` folder")
    parser.add_argument("--output_dir", type=Path, default=samples_dir(), help="[%(default)s]")
    args = parser.parse_args()
    missing = [kind for kind in KINDS if not any((args.data_dir / kind).glob("*.jpg"))]
    if missing:
        parser.error(f"{args.data_dir}: no {', '.join(missing)} in it. Name the `train` folder.")
    for top in {Path(kind).parts[0] for kind in KINDS}:
        shutil.rmtree(args.output_dir / top, ignore_errors=True)
    written = []
    for kind in KINDS:
        photos = choose(sorted((args.data_dir / kind).glob("*.jpg")))
        written += [shrink(photo, args.output_dir / kind / photo.name) for photo in photos]
    size = sum(file.stat().st_size for file in written)
    print(f"{args.output_dir}: {len(written)} photos of {len(KINDS)} kinds, {size / 1e6:.2f} MB")


def choose(photos: list[Path]) -> list[Path]:
    """At most `PHOTOS` of them: the near-duplicates, and others at even steps."""
    kept = [photo for photo in photos if photo.stem in NEAR_DUPLICATES]
    others = [photo for photo in photos if photo.stem not in NEAR_DUPLICATES]
    count = min(PHOTOS - len(kept), len(others))
    return sorted(kept + [others[place * len(others) // count] for place in range(count)])


def shrink(photo: Path, file: Path) -> Path:
    """Write it with a shorter side of `SIDE` pixels, and nothing but its pixels."""
    with Image.open(photo) as image:
        scale = SIDE / min(image.size)
        size = tuple(round(side * scale) for side in image.size)
        small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    pixels = Image.frombytes("RGB", small.size, small.tobytes())  # without metadata
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels.save(file, quality=QUALITY, optimize=True, progressive=True)
    return file


if __name__ == "__main__":
    main()
