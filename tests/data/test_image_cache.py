"""Cached photos have the pixels of uncached training, and are made once."""

import hashlib
import io
import pickle
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
from datasets import Dataset
from PIL import Image
from support.runs import paint

from hffruits.core.cache import cache_root
from hffruits.core.errors import InputError
from hffruits.data import image_cache
from hffruits.data.image_cache import cache_images
from hffruits.data.images import MAX_PIXELS, open_rgb
from hffruits.data.load import load_fruits
from hffruits.data.readers.column_mapping import ROW

SIDE = 64  # the shorter side of a resized photo


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> Path:
    """An empty cache for each test."""
    monkeypatch.setenv("HFFRUITS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    return tmp_path / "cache"


@pytest.fixture
def photos(tmp_path) -> list[Path]:
    """Large and small, lying on its side, of 16 bits, see-through, and of few colours."""
    folder = tmp_path / "photos"
    large = paint(folder / "large.jpg", "red", size=(400, 300), seed=1)
    paint(folder / "small.jpg", "lime", size=(90, SIDE), seed=2)
    sideways = Image.Exif()
    sideways[0x0112] = 6
    with Image.open(large) as image:
        image.save(folder / "sideways.jpg", exif=sideways)
        clear = image.convert("RGBA")
        clear.putalpha(Image.linear_gradient("L").resize(image.size))
        clear.save(folder / "clear.png")
        image.convert("P").save(folder / "few.gif")
    deep = np.linspace(0, 65535, 200 * 100).reshape(100, 200).astype(np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    return sorted(folder.iterdir())


def as_rows(photos: list[Path], *, in_memory: bool = False) -> Dataset:
    return Dataset.from_dict(
        {
            "image": [
                {"path": None, "bytes": photo.read_bytes()}
                if in_memory
                else {"path": str(photo), "bytes": None}
                for photo in photos
            ],
            "label": ["Apple" for _ in photos],
            "path": [photo.name for photo in photos],
        },
        ROW,
    )


def digests_of(photos: list[Path]) -> np.ndarray:
    return np.array([photo.stem.encode() for photo in photos], "S32")


def cached(photos: list[Path], kind: str, *, size: int = SIDE, in_memory: bool = False) -> Dataset:
    rows = as_rows(photos, in_memory=in_memory)
    return cache_images(rows, digests_of(photos), kind, size=size, max_pixels=MAX_PIXELS)


def contents(rows: Dataset) -> dict[str, bytes]:
    assert all(image["path"] is None for image in rows["image"])
    return dict(zip(rows["path"], (image["bytes"] for image in rows["image"]), strict=True))


def files_in(cache: Path) -> list[Path]:
    return sorted(path for path in cache.rglob("*") if path.is_file())


# ---- pixels ----


@pytest.mark.parametrize("in_memory", [False, True])
def test_decoded_photos_have_every_pixel_as_it_was(photos, in_memory):
    found = contents(cached(photos, "decoded", in_memory=in_memory))
    for photo in photos:
        assert open_rgb(found[photo.name]).tobytes() == open_rgb(photo).tobytes()
        assert open_rgb(found[photo.name]).size == open_rgb(photo).size


@pytest.mark.parametrize("in_memory", [False, True])
def test_resized_photos_are_the_large_ones_shrunk(photos, in_memory):
    found = contents(cached(photos, "resized", in_memory=in_memory))
    for photo in photos:
        whole = open_rgb(photo)
        if min(whole.size) <= SIDE:
            assert found[photo.name] == photo.read_bytes()
            continue
        small = open_rgb(found[photo.name])
        assert min(small.size) == SIDE
        assert max(small.size) == round(max(whole.size) * SIDE / min(whole.size))
        direct = whole.resize(small.size, Image.Resampling.BICUBIC)
        off = np.abs(np.asarray(small, float) - np.asarray(direct, float))
        assert off.mean() < 2.5, photo.name  # of 255: JPEG's loss, and the reduced decoding


def test_no_photo_is_enlarged(photos):
    found = contents(cached(photos, "resized", size=5000))
    assert found == {photo.name: photo.read_bytes() for photo in photos}


def test_the_other_columns_and_the_order_stay(photos):
    rows = as_rows(photos).add_column("group", [str(i) for i in range(len(photos))])
    order = [3, 1, 4, 0]
    digests = digests_of(photos)[order]
    found = cache_images(rows.select(order), digests, "decoded", size=1, max_pixels=MAX_PIXELS)
    assert {**found.features} == {**rows.features}
    for column in ("label", "path", "group"):
        assert found[column][:] == rows.select(order)[column][:]


# ---- made once, and again when something changed ----


def test_another_version_of_a_decoder_is_cached_again(photos, own_cache, request):
    cached(photos, "decoded")
    before = files_in(own_cache)
    request.getfixturevalue("other_decoder")
    cached(photos, "decoded")
    assert len(files_in(own_cache)) == 2 * len(before)


def test_photos_are_read_once(photos, own_cache):
    first = contents(cached(photos, "resized"))
    for photo in photos:
        photo.unlink()
    assert contents(cached(photos, "resized")) == first
    assert [path.name for path in files_in(own_cache)] == ["photos.arrow"]


def test_other_photos_and_settings_make_another_file(photos, own_cache):
    cached(photos, "resized")
    cached(photos, "resized", size=SIDE // 2)
    cached(photos, "decoded")
    cached(photos[1:], "decoded")
    assert len(files_in(own_cache)) == 4
    cached(photos, "decoded", size=7)  # which says nothing to it
    assert len(files_in(own_cache)) == 4


def test_a_new_version_makes_another_file(photos, own_cache, monkeypatch):
    cached(photos, "decoded")
    monkeypatch.setattr(image_cache, "VERSION", 99)
    cached(photos, "decoded")
    assert len(files_in(own_cache)) == 2


def test_a_photo_that_goes_away_meanwhile_is_reported_and_leaves_nothing(photos, own_cache):
    rows = as_rows(photos)
    photos[-1].unlink()
    with pytest.raises(InputError, match=r"small\.jpg: can't be read any more \(No such file") as e:
        cache_images(rows, digests_of(photos), "resized", size=SIDE, max_pixels=MAX_PIXELS)
    assert "\n" not in str(e.value)
    assert not files_in(own_cache)
    assert not list((own_cache / f"photos-v{image_cache.VERSION}").iterdir())


def test_an_interrupted_run_leaves_nothing(photos, own_cache, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setitem(image_cache.CACHES, "decoded", interrupt)
        with pytest.raises(KeyboardInterrupt):
            cached(photos, "decoded")
    assert not files_in(own_cache)
    assert len(cached(photos, "decoded")) == len(photos)


def test_a_full_disk_is_reported(photos, monkeypatch):
    def refuse(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Dataset, "map", refuse)
    with pytest.raises(InputError, match=r"No space left on device\)\. Free space there, or set"):
        cached(photos, "decoded")


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [("shrunk", 1, "must be one of"), ("resized", 0, "image_cache_size=0")],
)
def test_impossible_settings_are_refused(photos, kind, size, message):
    with pytest.raises(InputError, match=message):
        cached(photos, kind, size=size)


# ---- memory and processes ----


def test_only_some_photos_are_in_memory_at_once(tmp_path, monkeypatch):
    counts = []
    plain = image_cache.ThreadPoolExecutor.map

    def count(self, function, sources):
        counts.append(len(sources))
        return plain(self, function, sources)

    monkeypatch.setattr(image_cache.ThreadPoolExecutor, "map", count)
    photos = [paint(tmp_path / f"{seed}.jpg", seed=seed) for seed in range(20)]
    rows = cached(photos, "decoded")
    assert sum(counts) == 20 and max(counts) <= image_cache.BATCH
    assert len(rows.cache_files) == 1  # mapped


def test_rows_go_to_another_process_without_their_pixels(photos):
    rows = cached(photos, "decoded")
    packed = pickle.dumps(rows)
    assert len(packed) < 10_000 < len(contents(rows)["large.jpg"])
    code = (
        "import hashlib, pickle, sys\n"
        "rows = pickle.load(sys.stdin.buffer)\n"
        "print(*[hashlib.md5(image['bytes']).hexdigest() for image in rows['image']])"
    )
    done = subprocess.run([sys.executable, "-c", code], input=packed, capture_output=True)
    made = [hashlib.md5(content).hexdigest() for content in contents(rows).values()]
    assert done.stdout.decode().split() == made, done.stderr


# ---- through load_fruits ----


def pixels(rows: Dataset) -> dict[str, bytes]:
    return {row["path"]: row["image"].tobytes() for row in rows}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Twelve large photos in class folders."""
    for number in range(12):
        name, colour = ("Apple", "red") if number % 2 else ("Lime", "lime")
        paint(tmp_path / "fruits" / name / f"{number}.jpg", colour, size=(160, 120), seed=number)
    return tmp_path / "fruits"


def test_a_cache_of_decoded_photos_changes_no_pixel_of_any_split(folder):
    plain = load_fruits(folder)
    found = load_fruits(folder, image_cache="decoded")
    assert found["train"].features == plain["train"].features
    for split, rows in plain.items():
        assert pixels(found[split]) == pixels(rows)
        assert found[split]["label"][:] == rows["label"][:]


def test_a_resized_cache_is_for_the_training_photos_only(folder, own_cache):
    plain = load_fruits(folder)
    found = load_fruits(folder, image_cache="resized", image_cache_size=SIDE)
    assert {row["image"].size for row in found["train"]} == {(85, SIDE)}
    for split in ("validation", "test"):
        assert pixels(found[split]) == pixels(plain[split])
    assert [path.name for path in files_in(own_cache / "photos-v1")] == ["photos.arrow"]


def test_a_photo_that_changed_is_cached_again(folder):
    first = load_fruits(folder, image_cache="decoded")
    changed = first["train"]["path"][0]
    paint(folder / changed, "blue", size=(160, 120), seed=77)
    again = load_fruits(folder, image_cache="decoded", split_by="class")
    now = {path: made for rows in again.values() for path, made in pixels(rows).items()}
    assert now[changed] == open_rgb(folder / changed).tobytes()


def test_rows_of_bytes_are_cached_too(folder):
    files = sorted(folder.rglob("*.jpg"))
    names = [file.parent.name for file in files]
    rows = {"image": [file.read_bytes() for file in files], "label": names}
    Dataset.from_dict(rows).to_parquet(folder.parent / "a.parquet")
    found = load_fruits(folder.parent / "a.parquet", image_cache="decoded")
    made = {content for rows in found.values() for content in pixels(rows).values()}
    assert made == {open_rgb(file).tobytes() for file in files}
    assert cache_root() == folder.parent / "cache"


def test_ppm_is_read_back_as_it_was_written():
    """What `decoded` relies on, also for one row or column."""
    for size in ((1, 1), (3, 1), (1, 5)):
        image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8))
        file = io.BytesIO()
        image.save(file, "PNG")
        decoded = image_cache.CACHES["decoded"](file.getvalue(), size=9, max_pixels=MAX_PIXELS)
        assert open_rgb(decoded).tobytes() == image.tobytes()
