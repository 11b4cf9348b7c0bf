"""Each batch-norm policy changes what it says, and nothing else."""

import copy
import json
import logging

import pytest
import torch
from support.runs import tiny_arguments
from torch import nn

from hffruits.models.batch_norm import (
    POLICIES,
    batch_norms,
    hold_statistics,
    recalibrate,
    set_policy,
)
from hffruits.models.loading import build_model, load_model
from hffruits.training.run import train

WEIGHTS = ("weight", "bias")
STATISTICS = ("running_mean", "running_var")


pytestmark = pytest.mark.usefixtures("without_report")


@pytest.fixture
def start(shared, drawn_fruits):
    """A backbone with statistics of its own, as a folder to start from."""
    return shared("start", lambda folder: train(*tiny_arguments(drawn_fruits, folder, max_steps=6)))


def same(before: nn.Module, after: nn.Module, names: tuple[str, ...]) -> bool:
    return all(torch.equal(getattr(before, name), getattr(after, name)) for name in names)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_holds_what_it_says(start, drawn_fruits, tmp_path, policy):
    weights_stay, statistics_stay = policy == "freeze", policy.startswith("freeze")
    arguments = tiny_arguments(drawn_fruits, tmp_path / "run", max_steps=3, batch_norm=policy)
    arguments[1].model_name_or_path, arguments[1].pretrained = str(start), True
    arguments[1].image_size = None
    arguments[1].freeze = "stages:0"  # the stem's norm is held whatever the policy
    train(*arguments)
    before, after = (batch_norms(load_model(run)[0]) for run in (start, tmp_path / "run"))
    assert len(before) > 5 and after.keys() == before.keys()
    for name, norm in before.items():
        in_stem = name == "timm_model.bn1"
        assert same(norm, after[name], WEIGHTS) == (weights_stay or in_stem), name
        assert same(norm, after[name], STATISTICS) == (statistics_stay or in_stem), name


def test_sync_replaces_every_norm_and_one_process_has_nothing_to_synchronise():
    torch.manual_seed(0)
    model, _ = build_model("test_efficientnet", labels=["a"], pretrained=False)
    synced, _ = set_policy(copy.deepcopy(model), "sync")
    norms = batch_norms(synced)
    assert norms.keys() == batch_norms(model).keys()
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms.values())
    pixels = torch.randn(4, 3, 32, 32)
    for training in (True, False):
        outputs = [net.train(training)(pixel_values=pixels).logits for net in (model, synced)]
        assert torch.allclose(*outputs, atol=1e-6)
    assert synced.state_dict().keys() == model.state_dict().keys()


def test_recalibrated_statistics_are_the_mean_over_the_batches():
    torch.manual_seed(0)
    model, _ = build_model("test_efficientnet", labels=["a", "b"], pretrained=False)
    batches = [torch.randn(8, 3, 64, 64) for _ in range(3)]
    seen = []
    stem = model.timm_model.conv_stem
    handle = stem.register_forward_hook(lambda module, inputs, output: seen.append(output))
    recalibrate(model, batches)
    handle.remove()
    norm = model.timm_model.bn1
    means = torch.stack([output.mean((0, 2, 3)) for output in seen]).mean(0)
    variances = torch.stack([output.var((0, 2, 3)) for output in seen]).mean(0)
    assert torch.allclose(norm.running_mean, means, atol=1e-5)
    assert torch.allclose(norm.running_var, variances, rtol=1e-4)
    assert norm.momentum == 0.1 and not model.training and not norm.training


def test_recalibrating_leaves_frozen_norms_as_they_are():
    model, _ = build_model("test_efficientnet", labels=["a", "b"], pretrained=False)
    model.timm_model.bn1.requires_grad_(False)
    before = model.timm_model.bn1.running_mean.clone()
    recalibrate(model, [torch.randn(4, 3, 64, 64)])
    assert torch.equal(model.timm_model.bn1.running_mean, before)
    assert model.timm_model.blocks[1][0].bn1.running_mean.abs().sum() > 0


def test_held_norms_stay_in_evaluation_mode_through_every_train():
    model, _ = build_model("test_efficientnet", labels=["a"], pretrained=False)
    for _ in range(2):
        model.train()
        hold_statistics(model, "freeze_stats")
        assert not any(norm.training for norm in batch_norms(model).values())
        assert model.timm_model.conv_stem.training


@pytest.mark.parametrize(("pretrained", "stay"), [(True, True), (False, False)])
def test_by_default_norms_stay_where_weights_are_pretrained(
    start, drawn_fruits, tmp_path, pretrained, stay
):
    arguments = tiny_arguments(drawn_fruits, tmp_path / "run", max_steps=2)
    if pretrained:
        arguments[1].model_name_or_path, arguments[1].image_size = str(start), None
    arguments[1].pretrained = pretrained
    train(*arguments)
    before, after = batch_norms(load_model(start)[0]), batch_norms(load_model(tmp_path / "run")[0])
    assert all(same(before[name], after[name], WEIGHTS + STATISTICS) for name in before) == stay
    kept = json.loads((tmp_path / "run" / "training_args.json").read_text())["training"]
    assert kept["batch_norm"] == ("freeze" if stay else "train")


def test_a_net_without_batch_norm_gives_a_warning(drawn_fruits, tmp_path, caplog):
    caplog.set_level(logging.INFO, "hffruits")
    arguments = tiny_arguments(drawn_fruits, tmp_path, max_steps=1, batch_norm="freeze")
    arguments[1].model_name_or_path, arguments[1].image_size = "test_vit", None
    train(*arguments)
    assert "no effect" in caplog.text
