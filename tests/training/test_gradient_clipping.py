"""Each clipping mode does what it says, and a run reports how often it was active."""

import json
import math

import pytest
import torch
from support.runs import tiny_arguments
from timm.utils import adaptive_clip_grad

from hffruits.models.heads import head_names
from hffruits.models.loading import build_model
from hffruits.training.callbacks.gradient_clipping import GradientClippingCallback
from hffruits.training.run import train

pytestmark = pytest.mark.usefixtures("without_report")


def model_with_gradients(scale: float) -> torch.nn.Module:
    torch.manual_seed(0)
    model, _ = build_model("test_efficientnet", labels=["a", "b", "c"], pretrained=False)
    for parameter in model.parameters():
        parameter.grad = scale * torch.randn_like(parameter)
    return model


def clip(model: torch.nn.Module, mode: str, limit: float) -> GradientClippingCallback:
    clipping = GradientClippingCallback(mode, limit, head=head_names(model))
    clipping.norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters()])
    clipping.on_pre_optimizer_step(None, None, None, model=model)
    return clipping


def test_agc_equals_timms_on_all_but_the_head():
    ours, theirs = model_with_gradients(1.0), model_with_gradients(1.0)
    assert clip(ours, "agc", 0.02).share_since_last() == 1.0
    head = head_names(theirs)
    adaptive_clip_grad(
        [p for name, p in theirs.named_parameters() if not name.startswith(head)], 0.02
    )
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine.grad, other.grad), name
    untouched = model_with_gradients(1.0).get_parameter("timm_model.classifier.weight")
    assert torch.equal(ours.get_parameter("timm_model.classifier.weight").grad, untouched.grad)


def test_clipping_by_value_bounds_every_entry():
    model = model_with_gradients(1.0)
    assert clip(model, "value", 0.5).share_since_last() == 1.0
    assert max(p.grad.abs().max() for p in model.parameters()) == 0.5


@pytest.mark.parametrize(("mode", "limit"), [("value", 10.0), ("agc", 1e6), ("norm", 1e6)])
def test_gradients_within_the_limit_stay_as_they_are(mode, limit):
    model, same = model_with_gradients(0.01), model_with_gradients(0.01)
    assert clip(model, mode, limit).share_since_last() == 0.0
    for mine, other in zip(model.parameters(), same.parameters(), strict=True):
        assert torch.equal(mine.grad, other.grad)


def test_the_share_counts_the_steps_since_the_last_report():
    clipping = GradientClippingCallback("norm", 1.0, head=())
    for norm in (0.5, 2.0, 3.0, 0.9):
        clipping.norm = torch.tensor(norm)
        clipping.on_pre_optimizer_step(None, None, None)
    assert clipping.share_since_last() == 0.5
    assert clipping.share_since_last() == 0.0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_grad_norm": 1e-3}, 1.0),
        ({"max_grad_norm": 1e6}, 0.0),
        ({"max_grad_norm": 0.0}, 0.0),  # off
        ({"clip_mode": "value", "max_grad_value": 1e-6}, 1.0),
        ({"clip_mode": "agc", "agc_clip_factor": 1e-6}, 1.0),
    ],
)
def test_a_run_logs_the_norm_before_clipping_and_the_share_of_clipped_steps(
    drawn_fruits, tmp_path, options, expected
):
    train(*tiny_arguments(drawn_fruits, tmp_path, max_steps=2, logging_steps=1, **options))
    log = json.loads((tmp_path / "log_history.json").read_text())
    rows = [row for row in log if "grad_norm" in row]
    assert len(rows) == 2
    assert [row["clipped_steps"] for row in rows] == [expected] * 2
    assert all(0.1 < row["grad_norm"] < math.inf for row in rows)
