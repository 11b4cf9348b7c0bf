"""Every row of a stream comes exactly once per epoch for any reader, and no process hangs."""

import io
import logging
import pickle
import tarfile
import warnings
from collections import Counter
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import skip_first_batches
from datasets import Dataset, Features, Image, IterableDataset, Value, load_dataset
from PIL import Image as PILImage
from torch.utils.data import DataLoader

from hffruits.core.errors import InputError
from hffruits.data import stream_rows
from hffruits.data.images import open_rgb
from hffruits.data.stream_index import StreamIndex, index_stream, split_of
from hffruits.data.stream_rows import StreamRows, deal_shards, stream_loader

LABELS = ["Apple", "Banana"]
HOLDOUT = {"validation": 0.3}
FEATURES = Features(
    {"image": Image(decode=False), "label": Value("string"), "path": Value("string")}
)


def stream_of(rows: int, shards: int, *, broken: frozenset[int] = frozenset()) -> IterableDataset:
    """Rows sorted by class; their images' bytes are their numbers, or nothing if broken."""
    columns = {
        "image": [
            {"bytes": b"" if number in broken else str(number).encode(), "path": None}
            for number in range(rows)
        ],
        "label": [LABELS[number >= rows // 2] for number in range(rows)],
        "path": [f"photos/{number}.jpg" for number in range(rows)],
    }
    return Dataset.from_dict(columns, features=FEATURES).to_iterable_dataset(num_shards=shards)


def note(row: dict) -> dict:
    """In place of decoding: the row's number, and a random one."""
    if not row["image"]["bytes"]:
        raise OSError("truncated")
    return {"pixel_values": torch.rand(2), "labels": row["label"], "path": row["path"]}


def collate(rows: list[dict]) -> dict:
    return {
        "path": [row["path"] for row in rows],
        "labels": torch.tensor([row["labels"] for row in rows]),
        "pixel_values": torch.stack([row["pixel_values"] for row in rows]),
    }


def make_rows(stream: IterableDataset, holdout: dict[str, float] | None = None, **options):
    index = index_stream(stream, holdout=holdout or {}, seed=1)
    usual = {"split": "train", "labels": LABELS, "convert": note, "seed": 5, "batch_size": 4}
    return StreamRows(stream, index, **usual | options)


def paths(batches) -> list[list[str]]:
    return [batch["path"] for batch in batches]


def read_worker(rows: StreamRows, worker: int, monkeypatch) -> list[str]:
    """What one worker of a data loader would give, without starting it."""
    info = SimpleNamespace(id=worker, num_workers=rows.workers) if rows.num_workers else None
    monkeypatch.setattr(stream_rows, "get_worker_info", lambda: info)
    return [row["path"] for row in rows]


# ---- index and splits ----


def test_held_out_rows_are_a_stable_share():
    names = [f"{number}.jpg" for number in range(4000)]
    first = {name: split_of(name, {"validation": 0.2}, 1) for name in names}
    both = {name: split_of(name, {"validation": 0.2, "test": 0.1}, 1) for name in names}
    assert Counter(both.values()) == pytest.approx(
        {"train": 2800, "validation": 800, "test": 400}, abs=120
    )
    assert all(both[name] == "validation" for name in names if first[name] == "validation")
    assert both != {name: split_of(name, {"validation": 0.2, "test": 0.1}, 2) for name in names}
    assert {split_of(name, {}, 1) for name in names} == {"train"}
    some = [split_of(f"{number}.jpg", {"validation": 0.5}, 1)[0] for number in range(8)]
    assert "".join(some) == "vtvvvtvv"  # on every machine


def test_the_splits_are_disjoint_and_complete():
    stream = stream_of(60, 3)
    index = index_stream(stream, holdout=HOLDOUT, seed=1)
    seen = {}
    for split in ("train", "validation"):
        rows = make_rows(stream, HOLDOUT, split=split)
        seen[split] = [row["path"] for row in rows]
        assert len(seen[split]) == len(rows) == index.rows(split)
    assert sorted(seen["train"] + seen["validation"]) == sorted(row["path"] for row in stream)


def test_the_index_counts_shards_and_labels_and_survives_json():
    index = index_stream(stream_of(50, 3), holdout=HOLDOUT, seed=1)
    assert sorted(index.counts["train"]) == LABELS
    assert index.counts["train"] + index.counts["validation"] == {"Apple": 25, "Banana": 25}
    both = zip(index.shards["train"], index.shards["validation"], strict=True)
    assert [a + b for a, b in both] == [17, 17, 16]
    assert StreamIndex.from_json(index.to_json()) == index


def test_what_can_not_be_counted_is_refused():
    row = {"image": {"bytes": b"0", "path": None}, "label": "Apple", "path": "0.jpg"}

    def refuse(rows: list[dict], match: str, holdout: dict[str, float] | None = None) -> None:
        stream = Dataset.from_list(rows, features=FEATURES).to_iterable_dataset()
        with pytest.raises(InputError, match=match):
            index_stream(stream, holdout=holdout or {}, seed=1)

    refuse([row, row], r"0\.jpg: twice")
    refuse([row], "validation=1.5", {"validation": 1.5})


def test_rows_without_a_label_are_left_out_with_a_warning(caplog):
    rows = [
        {"image": {"bytes": b"0", "path": None}, "label": label, "path": f"{number}.jpg"}
        for number, label in enumerate(["Apple", None, "Lime", ""])
    ]
    stream = Dataset.from_list(rows, features=FEATURES).to_iterable_dataset()
    index = index_stream(stream, holdout={}, seed=1)
    assert index.rows("train") == 2 and "2 rows without a label" in caplog.text
    options = {"split": "train", "labels": ["Apple", "Lime"], "seed": 1, "batch_size": 2}
    read = StreamRows(stream, index, convert=lambda row: row, **options)
    assert [row["path"] for row in read] == ["0.jpg", "2.jpg"]


def test_rows_that_do_not_fit_the_index_are_refused():
    stream = stream_of(20, 2)
    index = index_stream(stream, holdout={}, seed=1)
    options = {"labels": LABELS, "convert": note, "seed": 5, "batch_size": 4}
    with pytest.raises(InputError, match=r"test: no rows in the stream\. .*: train\."):
        StreamRows(stream, index, split="test", **options)
    with pytest.raises(InputError, match="3 shards, but 2"):
        StreamRows(stream_of(20, 3), index, split="train", **options)
    with pytest.raises(InputError, match="lacks: Banana"):
        StreamRows(stream, index, split="train", **options | {"labels": ["Apple"]})
    with pytest.raises(InputError, match="shard 0: fewer train rows than the 10 counted"):
        list(StreamRows(stream_of(18, 2), index, split="train", **options))


# ---- who reads what ----


def test_dealing_is_exact_and_cuts_few_shards():
    for sizes, quotas in [([7, 0, 3, 20], [10, 10, 10]), ([9], [4, 0, 5]), ([4] * 6, [8, 8, 8])]:
        pieces = deal_shards(sizes, quotas, range(len(sizes)))
        assert [sum(p.stop - p.start for p in unit) for unit in pieces] == quotas
        taken = Counter((p.shard, row) for unit in pieces for p in unit for row in range(*p[1:]))
        assert taken == {(s, row): 1 for s, size in enumerate(sizes) for row in range(size)}
    assert [len(unit) for unit in deal_shards([4] * 6, [8, 8, 8], range(6))] == [2, 2, 2]


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("shards", [1, 2, 3, 5])
def test_every_row_comes_once_and_every_process_makes_the_same_steps(
    shards, world, workers, monkeypatch
):
    stream = stream_of(47, shards)
    for size in (1, 4, 50):
        options = {"batch_size": size, "world_size": world, "num_workers": workers}
        ranks = [
            make_rows(stream, HOLDOUT, rank=rank, shuffle_buffer=6, **options)
            for rank in range(world)
        ]
        total = ranks[0].index.rows("train")
        units = [[read_worker(r, w, monkeypatch) for w in range(r.workers)] for r in ranks]
        taken = Counter(path for workers in units for unit in workers for path in unit)
        assert len(taken) == total
        assert taken.total() - total == sum(rows.repeats for rows in ranks) < world
        for rows, read in zip(ranks, units, strict=True):
            assert sum(map(len, read)) == len(rows) == len(ranks[0])
            batches = sum(-(-len(unit) // size) for unit in read)
            assert batches == -(-len(rows) // size)


def test_more_processes_than_rows_still_make_the_same_steps(monkeypatch):
    stream = stream_of(5, 2)
    ranks = [make_rows(stream, rank=r, world_size=4, num_workers=2) for r in range(4)]
    units = [[read_worker(rows, worker, monkeypatch) for worker in range(2)] for rows in ranks]
    assert [[len(unit) for unit in read] for read in units] == [[2, 0]] * 4
    assert len({path for read in units for unit in read for path in unit}) == 5


@pytest.mark.parametrize(("shards", "workers"), [(1, 2), (3, 1), (5, 2)])
def test_worker_processes_read_every_row_once(shards, workers):
    stream = stream_of(41, shards)
    seen, sizes = Counter(), []
    for rank in range(2):
        rows = make_rows(
            stream, rank=rank, world_size=2, num_workers=workers, shuffle_buffer=8, batch_size=3
        )
        loader = stream_loader(rows, collate_fn=collate)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch warns when a length is exceeded
            assert len(loader) == 7
            read = paths(loader)
        sizes.append([len(batch) for batch in read])
        seen.update(path for batch in read for path in batch)
    assert sizes == [[3] * 7] * 2
    assert len(seen) == 41 and seen.total() == 42


@pytest.mark.parametrize(("rows", "world", "workers"), [(41, 2, 0), (41, 3, 2), (9, 4, 0)])
def test_evaluation_sees_every_row_once_over_all_processes(rows, world, workers):
    """`gather_for_metrics` joins the processes' batches and cuts the last to `remainder` rows."""
    stream = stream_of(rows, 2)
    steps, remainders = [], set()
    for rank in range(world):
        options = {"rank": rank, "world_size": world, "num_workers": workers}
        loader = stream_loader(make_rows(stream, batch_size=2, **options), collate_fn=collate)
        batches = []
        for batch in loader:
            remainders.add(loader.remainder)
            batches.append(batch["path"])
        steps.append(batches)
    gathered = [list(chain.from_iterable(step)) for step in zip(*steps, strict=True)]
    (remainder,) = remainders
    gathered[-1] = gathered[-1][: remainder or None]
    assert sorted(chain.from_iterable(gathered)) == sorted(row["path"] for row in stream)


# ---- order, augmentation, resuming ----


def test_an_epoch_has_an_order_of_its_own_and_unshuffled_rows_keep_theirs():
    rows = make_rows(stream_of(40, 4), shuffle_buffer=10)
    first = [row["path"] for row in rows]
    rows.set_epoch(1)
    second = [row["path"] for row in rows]
    rows.set_epoch(0)
    assert first == [row["path"] for row in rows] != second
    stream = stream_of(40, 4)
    assert [row["path"] for row in make_rows(stream)] == [row["path"] for row in stream]


def test_shards_sorted_by_class_are_mixed():
    rows = make_rows(stream_of(80, 8), shuffle_buffer=10)
    early = [row["labels"] for row in rows][:40]
    assert 12 <= sum(early) <= 28  # one shard after the other, it would be often 0 or 40


def test_persistent_workers_see_the_epoch():
    stream = stream_of(24, 2)
    rows = make_rows(stream, shuffle_buffer=8, num_workers=2)
    loader = stream_loader(rows, collate_fn=collate, persistent_workers=True)
    epochs = [paths(loader), paths(loader)]  # accelerate counts epochs itself
    loader.set_epoch(0)
    assert paths(loader) == epochs[0] != epochs[1]
    complete = sorted(row["path"] for row in stream)
    assert [sorted(chain.from_iterable(epoch)) for epoch in epochs] == [complete] * 2


def test_augmentation_does_not_depend_on_the_layout():
    stream = stream_of(24, 3)

    def noise(epoch: int, **layout) -> dict[str, list[float]]:
        drawn = {}
        for rank in range(layout.get("world_size", 1)):
            rows = make_rows(stream, rank=rank, shuffle_buffer=4, **layout)
            rows.set_epoch(epoch)
            drawn |= {row["path"]: row["pixel_values"].tolist() for row in rows}
        return drawn

    single = noise(1)
    assert len({tuple(values) for values in single.values()}) == 24
    assert single == noise(1, world_size=3)
    assert single != noise(0)
    loader = stream_loader(make_rows(stream, num_workers=2), collate_fn=collate)
    loader.set_epoch(1)
    batches = list(loader)
    assert single == {
        path: values.tolist()
        for batch in batches
        for path, values in zip(batch["path"], batch["pixel_values"], strict=True)
    }


def test_making_a_row_does_not_change_the_random_numbers_of_training():
    rows = make_rows(stream_of(4, 1), shuffle_buffer=2)
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first = torch.rand(1)
    list(rows)
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_has_the_same_batches(workers):
    stream = stream_of(41, 3, broken=frozenset({7, 30}))
    rows = make_rows(stream, shuffle_buffer=8, num_workers=workers)
    loader = stream_loader(rows, collate_fn=collate)
    loader.set_epoch(1)
    uninterrupted = paths(loader)
    for start in (1, 3, 10):
        rows.start_at(1, start)
        resumed = skip_first_batches(loader, start)
        resumed.set_epoch(1)
        assert paths(resumed) == uninterrupted[start:]
    rows.start_at(0, 3)
    loader.set_epoch(1)
    assert paths(loader) == uninterrupted  # a start is only for its epoch


def test_what_is_thrown_away_is_not_decoded():
    decoded = []
    rows = make_rows(stream_of(40, 2), convert=lambda row: decoded.append(row["path"]) or row)
    rows.start_at(0, 8)
    assert len(list(rows)) == 40
    assert len(decoded) == 1 + 40 - 8 * 4


def test_an_image_that_can_not_be_read_is_replaced_in_its_place(caplog):
    rows = make_rows(stream_of(6, 1, broken=frozenset({2, 5})))
    with caplog.at_level(logging.WARNING):
        read = [row["path"] for row in rows]
    assert read == [f"photos/{number}.jpg" for number in (0, 1, 3, 3, 4, 0)]
    assert rows.skipped == 2
    assert [record.args[0] for record in caplog.records] == ["photos/2.jpg", "photos/5.jpg"]
    with pytest.raises(InputError, match="like all 3 photos"):
        list(make_rows(stream_of(3, 1, broken=frozenset(range(3)))))


def test_of_many_unreadable_photos_ten_are_named_and_all_counted(caplog):
    rows = make_rows(stream_of(40, 1, broken=frozenset(range(30))))
    assert len(list(rows)) == 40 and rows.skipped == 30
    assert len(caplog.messages) == 11
    assert caplog.messages[-1] == "there are more of these, which are not listed"


def test_what_workers_skip_is_counted():
    rows = make_rows(stream_of(12, 1, broken=frozenset({2, 9})), num_workers=2)
    read = paths(stream_loader(rows, collate_fn=collate))
    assert sum(map(len, read)) == 12 and rows.skipped == 2


# ---- WebDataset ----


def read_tar_row(row: dict) -> dict:
    return {"image": row["jpg"], "label": LABELS[row["cls"]], "path": row["__key__"]}


def draw(row: dict) -> dict:
    image = open_rgb(row["image"]["bytes"])
    pixels = torch.tensor(image.getpixel((0, 0))) + torch.rand(3)
    return {"pixel_values": pixels, "labels": row["label"], "path": row["path"]}


@pytest.fixture
def tars(tmp_path: Path) -> IterableDataset:
    """Three tars of 4, 7 and 2 images, read as WebDataset."""
    for shard, count in enumerate([4, 7, 2]):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for number in range(count):
                data = io.BytesIO()
                colour = ("red", "yellow")[number % 2]
                PILImage.new("RGB", (8, 8), colour).save(data, "JPEG")
                files = {"jpg": data.getvalue(), "cls": str(number % 2).encode()}
                for suffix, content in files.items():
                    member = tarfile.TarInfo(f"{shard}-{number}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    files = sorted(str(path) for path in tmp_path.glob("*.tar"))
    stream = load_dataset("webdataset", data_files=files, split="train", streaming=True)
    stream = stream.cast_column("jpg", Image(decode=False))
    return stream.map(read_tar_row, remove_columns=stream.column_names, features=FEATURES)


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (1, 2), (2, 2)])
def test_images_in_tars_come_once_with_their_labels(tars, world, workers):
    index = index_stream(tars, holdout={}, seed=1)
    assert index.shards == {"train": [4, 7, 2]}
    assert index.counts == {"train": {"Apple": 7, "Banana": 6}}
    seen = Counter()
    for rank in range(world):
        layout = {"rank": rank, "world_size": world, "num_workers": workers}
        rows = make_rows(tars, convert=draw, batch_size=3, shuffle_buffer=4, **layout)
        for batch in stream_loader(rows, collate_fn=collate):
            seen.update(batch["path"])
            assert [int(path[2:]) % 2 for path in batch["path"]] == batch["labels"].tolist()
            green = batch["pixel_values"][:, 1] > 128  # yellow bananas
            assert green.tolist() == batch["labels"].bool().tolist()
    assert len(seen) == 13 and seen.total() == 13 + (world - 1)


def test_rows_can_be_sent_to_spawned_workers(tars):
    rows = make_rows(tars, convert=draw, batch_size=3)
    copy = pickle.loads(pickle.dumps(rows))
    assert [row["path"] for row in copy] == [row["path"] for row in rows]
    with pytest.raises(AssertionError, match="num_workers"):
        list(DataLoader(rows, num_workers=2, batch_size=3, collate_fn=collate))
