"""Which picture comes when is a function of seed and epoch; so is how it is augmented."""

import pytest
import torch

from hffruits.sampling import EpochSampler, SeededRows, balanced_weights


def indices(sampler: EpochSampler, epoch: int) -> list[int]:
    sampler.set_epoch(epoch)
    pairs = list(sampler)
    assert {first for first, _ in pairs} == {epoch}
    return [index for _, index in pairs]


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

    def __getitem__(self, index: int) -> float:
        return torch.rand(()).item()


def test_a_row_depends_on_seed_epoch_and_index_alone():
    rows = SeededRows(Noise(), seed=1)
    values = {(epoch, index): rows[epoch, index] for epoch in range(3) for index in range(5)}
    assert len(set(values.values())) == 15
    torch.manual_seed(99)
    assert all(rows[key] == value for key, value in reversed(values.items()))
    assert SeededRows(Noise(), seed=2)[0, 0] != values[0, 0]


def test_making_a_row_leaves_the_random_numbers_of_training_alone():
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    first = torch.rand(1)
    SeededRows(Noise(), seed=1)[0, 0]
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)
