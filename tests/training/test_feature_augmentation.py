"""Flips and crops of cached feature maps."""

import pytest
import torch

from hffruits.models.freezing import freeze_backbone
from hffruits.models.frozen_trunk import find_trunk
from hffruits.models.heads import head_names
from hffruits.models.loading import build_model
from hffruits.training.feature_cache.augment import MOST_CUT, MapAugmentation, augments_maps


def test_a_step_augments_the_same_way_each_time_and_another_one_differently():
    maps = torch.randn(6, 3, 14, 14)
    first, again, other = (MapAugmentation(7)(maps, step) for step in (3, 3, 4))
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)


def test_the_random_numbers_of_training_stay_as_they_are():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    MapAugmentation(7)(torch.zeros(2, 3, 14, 14), 0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("side", [1, 2, 7, 14, 28])
def test_crops_are_windows_of_the_map_or_of_its_mirror_image(side):
    maps = torch.randn(8, 2, side, side)
    for step in range(20):
        found = MapAugmentation(0)(maps, step)
        size = found.shape[-1]
        assert side * (1 - 2 * MOST_CUT) - 1 <= size <= side and size == found.shape[-2] > 0
        for before, after in zip(maps, found, strict=True):
            windows = before.unfold(1, size, 1).unfold(2, size, 1).flatten(1, 2)
            both = torch.cat([windows, windows.flip(-1)], 1)
            assert any(torch.equal(window, after) for window in both.unbind(1))


def test_about_half_of_the_maps_are_flipped():
    maps = torch.arange(4.0).expand(1000, 1, 4, 4)
    found = MapAugmentation(0)(maps, 1)
    flipped = (found[..., 0] > found[..., -1]).float().mean()
    assert 0.49 < flipped < 0.51
    alone = [MapAugmentation(0)(maps[:1], step) for step in range(200)]
    assert 60 < sum(float(one[0, 0, 0, 0] > one[0, 0, 0, -1]) for one in alone) < 140


@pytest.mark.parametrize(
    ("name", "augmented"),
    [("test_efficientnet", True), ("test_mambaout", False), ("dla46_c", False)],
)
def test_nets_that_can_not_take_cropped_maps_get_whole_ones(name, augmented):
    model, _ = build_model(name, labels=["a", "b"], pretrained=False)
    freeze_backbone(model, "half", head=head_names(model))
    trunk = find_trunk(model, torch.rand(2, 3, 96, 96))
    assert augments_maps(model, trunk, "light") == augmented
    assert not augments_maps(model, trunk, "none")
