"""A stream is scanned in one pass: the records of all images, the pixels of a few."""

import io

import numpy as np
import pytest
from datasets import Dataset, IterableDataset
from PIL import Image

from hffruits.core.errors import InputError
from hffruits.data.readers.column_mapping import ROW
from hffruits.data.sources import RawRows
from hffruits.exploration.stream_scan import KEPT_SIZE, check_stream


def jpeg(seed: int, size: tuple[int, int] = (400, 300)) -> bytes:
    rng = np.random.default_rng(seed)
    noise = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
    file = io.BytesIO()
    noise.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


def stream(contents: list[bytes], labels: list[str | None]) -> IterableDataset:
    rows = {
        "image": [{"path": None, "bytes": content} for content in contents],
        "label": labels,
        "path": [f"{number}.jpg" for number in range(len(contents))],
    }
    return Dataset.from_dict(rows, features=ROW).to_iterable_dataset(num_shards=2)


def test_every_image_is_recorded_and_a_few_are_kept_small():
    contents = [jpeg(seed) for seed in range(20)]
    checked = check_stream(RawRows({"train": stream(contents, ["Apple"] * 20)}), keep=5)
    part = checked.parts["train"]
    assert part.records["bytes"].tolist() == [len(content) for content in contents]
    assert part.records["width"].tolist() == [400] * 20
    kept = [image["bytes"] for image in part.rows["image"] if image["bytes"]]
    assert len(kept) == 5
    assert all(min(Image.open(io.BytesIO(content)).size) == KEPT_SIZE for content in kept)


def test_which_images_are_kept_is_even_and_follows_the_seed():
    contents, counts = [jpeg(seed, (40, 30)) for seed in range(12)], np.zeros(12)
    for seed in range(60):
        raw = RawRows({"train": stream(contents, ["A"] * 12)})
        part = check_stream(raw, keep=4, seed=seed).parts["train"]
        counts += [bool(image["bytes"]) for image in part.rows["image"]]
    assert counts.sum() == 240
    assert counts.min() >= 8  # of 20 on average


def test_near_duplicates_are_known_across_splits_and_unreadable_rows_are_reported():
    same = jpeg(1)
    splits = {
        "train": stream([same, jpeg(2), b"junk"], ["Apple", "Lime", "Lime"]),
        "test": stream([same, jpeg(3)], ["Apple", None]),
    }
    checked = check_stream(RawRows(splits), keep=10)
    train, test = checked.parts["train"], checked.parts["test"]
    assert train.groups[0] == test.groups[0] != train.groups[1]
    assert len(train.rows) == 2 and len(test.rows) == 1
    assert [skipped.reason for skipped in checked.skipped] == [
        "not an image, or an unknown format",
        "no label",
    ]


def test_a_class_of_a_stream_without_a_usable_image_is_known():
    rows = stream([jpeg(1), jpeg(2), b"junk", b"junk"], ["Apple", "Lime", "Lime", "Fig"])
    checked = check_stream(RawRows({"train": rows}), keep=10)
    reason = "its 1 photo can't be read (not an image, or an unknown format)"
    assert checked.lost == {"Fig": reason}


def test_a_stream_without_a_usable_image_is_an_error():
    with pytest.raises(InputError, match="no photo of the stream can be used"):
        check_stream(RawRows({"train": stream([b"", b"x"], ["A", "B"])}), keep=2)
