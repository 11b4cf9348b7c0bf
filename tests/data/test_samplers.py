"""The order and augmentation of images depend only on seed, epoch and index."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hffruits.data.samplers import EpochSampler, RowKey, SeededRows, SharedBatches, balanced_weights


def indices(sampler: EpochSampler, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    return list(sampler)


def test_an_epoch_has_every_image_once_in_an_order_of_its_own():
    sampler = EpochSampler(50, seed=3)
    first, second = indices(sampler, 0), indices(sampler, 1)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second and first == indices(EpochSampler(50, seed=3), 0)
    assert first != indices(EpochSampler(50, seed=4), 0)


def test_the_balanced_sampler_draws_every_class_equally_often():
    labels = [0] * 900 + [1] * 90 + [2] * 10
    sampler = EpochSampler(len(labels), seed=0, weights=balanced_weights(labels, 3))
    drawn = torch.bincount(torch.tensor([labels[index] for index in indices(sampler, 0)]))
    assert drawn.sum() == 1000
    assert drawn.tolist() == pytest.approx([1000 / 3] * 3, abs=60)  # 4 standard errors


class Noise:
    """A dataset whose rows are random numbers."""

    def __getitem__(self, index: int) -> dict[str, float]:
        return {"value": torch.rand(()).item()}


def test_a_row_depends_on_seed_epoch_and_index_only():
    rows = SeededRows(Noise(), seed=1)
    keys = [RowKey(epoch, index) for epoch in range(3) for index in range(5)]
    values = {key: rows[key]["value"] for key in keys}
    assert len(set(values.values())) == 15
    torch.manual_seed(99)
    assert all(rows[key]["value"] == value for key, value in reversed(values.items()))
    assert SeededRows(Noise(), seed=2)[keys[0]]["value"] != values[keys[0]]


def test_making_a_row_does_not_change_the_random_numbers_of_training():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first = torch.rand(1)
    SeededRows(Noise(), seed=1)[RowKey(0, 0)]
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)


@given(
    rows=st.integers(1, 60),
    batch_size=st.integers(1, 7),
    world_size=st.integers(1, 9),
    epoch=st.integers(0, 3),
)
def test_processes_share_each_batch_and_its_mean(rows, batch_size, world_size, epoch):
    order = EpochSampler(rows, seed=5)
    order.set_epoch(epoch)
    whole = list(SharedBatches(order, batch_size=batch_size * world_size))
    parts = [
        list(SharedBatches(order, batch_size=batch_size, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert {len(part) for part in parts} == {len(whole)}
    counted = [index for batch in whole for index in dict.fromkeys(key.index for key in batch)]
    assert sorted(counted) == list(range(rows))
    for number, batch in enumerate(whole):
        shared = [part[number] for part in parts]
        assert all(2 <= len(keys) <= max(2, batch_size) for keys in shared)
        counted = [key.index for keys in shared for key in dict.fromkeys(keys) if key.share]
        assert counted == list(dict.fromkeys(key.index for key in batch))
        means = [keys[0].share * sum(key.index for key in keys) / len(keys) for keys in shared]
        wanted = sum(key.index for key in batch) / len(batch)
        assert sum(means) / world_size == pytest.approx(wanted)


@given(rows=st.integers(1, 60), batch_size=st.integers(1, 7), accumulated=st.integers(1, 5))
def test_batches_of_one_step_share_its_mean(rows, batch_size, accumulated):
    options = {"batch_size": batch_size, "accumulated": accumulated}
    batches = list(SharedBatches(EpochSampler(rows, seed=5), **options))
    for first in range(0, len(batches), accumulated):
        step = batches[first : first + accumulated]
        means = [keys[0].share * sum(key.index for key in keys) / len(keys) for keys in step]
        indices = [key.index for keys in step for key in dict.fromkeys(keys)]
        assert sum(means) / len(step) == pytest.approx(sum(indices) / len(indices))


def test_an_incomplete_batch_may_be_dropped():
    order = EpochSampler(10, seed=5)
    options = {"batch_size": 2, "world_size": 2, "rank": 1}
    assert len(SharedBatches(order, **options)) == 3
    kept = SharedBatches(order, **options, drop_last=True)
    assert len(kept) == len(list(kept)) == 2
