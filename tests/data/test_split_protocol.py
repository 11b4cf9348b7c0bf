"""Map-style and streamed splits are read through the same methods."""

import io
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest
from datasets import IterableDataset
from PIL import Image
from pyarrow import parquet
from support.runs import paint

from hffruits.data.arguments import DataArguments
from hffruits.data.load import FruitDatasets, load_fruits
from hffruits.data.readers.column_mapping import ROW
from hffruits.data.split_protocol import UNKNOWN, MapSplit
from hffruits.data.stream_dataset import FruitStreams, StreamSplit, load_streams
from hffruits.evaluation.dataset import UNSPLIT

NAMES = ("Apple", "Lime", "Plum")
COUNTS = {"train": [9, 6, 3], "validation": [2, 2, 2]}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A folder of Parquet files, one a split."""
    folder = tmp_path_factory.mktemp("table")
    for split, counts in COUNTS.items():
        labels = [name for name, count in zip(NAMES, counts, strict=True) for _ in range(count)]
        files = [
            paint(folder / "photos" / f"{split}-{i}.jpg", seed=100 * len(split) + i)
            for i in range(len(labels))
        ]
        images = [{"bytes": file.read_bytes(), "path": None} for file in files]
        names = [f"{split}/{i}" for i in range(len(labels))]
        rows = pa.table({"image": images, "label": labels, "path": names})
        parquet.write_table(rows, folder / f"{split}.parquet", row_group_size=5)
    for file in (folder / "photos").iterdir():
        file.unlink()
    (folder / "photos").rmdir()
    return folder


@pytest.fixture(scope="module", params=["map", "stream"])
def data(request, table) -> FruitDatasets | FruitStreams:
    if request.param == "map":
        return load_fruits(table)
    return load_streams(DataArguments(table, streaming=True))


def bytes_of(source) -> bytes:
    return source if isinstance(source, bytes) else source.read_bytes()


def test_a_split_has_its_length_names_and_counts(data):
    for split, counts in COUNTS.items():
        rows = data.split(split)
        assert (len(rows), tuple(rows.names), rows.label_counts) == (sum(counts), NAMES, counts)
        assert data[split].features["label"].names == list(NAMES)


def test_the_processes_shares_of_a_split_hold_each_image_once(data):
    rows = data.split("train")
    shares = [list(rows.samples(rank, 2)) for rank in range(2)]
    paths = [sample.path for share in shares for sample in share]
    assert len(paths) == len(set(paths)) == 18
    labels = Counter(sample.label for share in shares for sample in share)
    assert [labels[label] for label in range(3)] == COUNTS["train"]
    for sample in shares[0][:2]:
        assert Image.open(io.BytesIO(bytes_of(sample.source))).format == "JPEG"


def test_some_of_each_class_are_at_most_so_many_and_the_same_again(data):
    rows = data.split("train")
    some = list(rows.some_of_each_class(4))
    labels = Counter(sample.label for sample in some)
    assert [labels[label] for label in range(3)] == [4, 4, 3]
    assert [s.path for s in rows.some_of_each_class(4)] == [s.path for s in some]


def test_drawn_samples_are_the_same_again_and_all_of_them_where_more_are_asked_for(data):
    rows = data.split("train")
    paths = [sample.path for sample in rows.draw(8)]
    assert 0 < len(set(paths)) == len(paths) < 18
    assert [sample.path for sample in rows.draw(8)] == paths
    assert len(list(rows.draw(18))) == 18


def test_known_samples_drawn_after_others_are_none_of_them(data):
    rows = replace(data.split("train"), names=("Apple", "Kiwi", "Plum"))
    if isinstance(rows, MapSplit):
        rows = replace(rows, labels=[UNKNOWN if label == 1 else label for label in rows.labels])
    first, rest = list(rows.draw_known(6)), list(rows.draw_known(100, after=6))
    assert Counter(sample.label for sample in first + rest) == {0: 9, 2: 3}
    assert len(first) == 6 and len({sample.path for sample in first + rest}) == 12
    assert [sample.path for sample in rows.draw_known(6)] == [sample.path for sample in first]


def test_known_samples_of_a_stream_are_of_several_shards_whatever_their_number(monkeypatch):
    def rows(shards):
        for shard in shards:
            image = {"path": None, "bytes": b"..."}
            yield from ({"image": image, "label": "Fig", "path": f"{shard}/{i}"} for i in range(3))

    monkeypatch.setattr("hffruits.data.stream_dataset.SPREAD", 2)
    shards = {"shards": list(range(5))}
    stream = IterableDataset.from_generator(rows, gen_kwargs=shards, features=ROW)
    split = StreamSplit(stream, UNSPLIT, "train", ("Fig",))  # its rows were never counted
    assert [sample.path for sample in split.draw_known(4)] == ["0/0", "0/1", "3/0", "3/1"]


def test_images_are_opened_again_unless_they_were_streamed(data):
    rows = data.split("validation")
    opener = rows.opener()
    if isinstance(data, FruitStreams):
        assert opener is None
    else:
        assert all(opener(sample.path).mode == "RGB" for sample in rows.samples())


def test_lists_are_written_of_a_split_that_can_not_be_made_again_by_its_seed(data, tmp_path):
    data.write_lists(tmp_path)
    written = {file.name for file in tmp_path.iterdir()}
    lists = {"train.txt", "validation.txt"}
    assert written == (set() if isinstance(data, FruitStreams) else lists)
    assert (data.fingerprint is None) == isinstance(data, FruitStreams)


def test_unknown_classes_have_no_label_and_a_missing_image_opens_as_none(tmp_path):
    rows = load_fruits_of_two(tmp_path)["train"]
    split = MapSplit(rows, [UNKNOWN] * (len(rows) - 1) + [1], ("Kiwi", "Fig"))
    assert split.label_counts == [0, 1]
    assert [s.label for s in split.select([0, len(rows) - 1]).samples()] == [UNKNOWN, 1]
    path = rows["path"][0]
    (tmp_path / "two" / path).unlink()
    assert split.opener()(path) is None


def load_fruits_of_two(tmp_path) -> FruitDatasets:
    for number in range(10):
        paint(tmp_path / "two" / "AB"[number % 2] / f"{number}.jpg", seed=number)
    return load_fruits(tmp_path / "two")
