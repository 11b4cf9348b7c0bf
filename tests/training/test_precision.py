"""The default precision is the faster one, and timing it leaves no trace."""

import pytest
import torch
from support.runs import tiny_arguments
from transformers import TrainingArguments

from hffruits.core.environment import environment
from hffruits.core.hardware import has_bf16
from hffruits.models.loading import build_model
from hffruits.training import arguments as config
from hffruits.training import run as train
from hffruits.training import setup as preparation
from hffruits.training.arguments import FruitTrainingArguments
from hffruits.training.precision import bf16_is_faster

pytestmark = pytest.mark.usefixtures("without_report")


def test_trying_leaves_the_model_as_it_was():
    model, _ = build_model("resnet10t", labels=["a", "b"], pretrained=False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert bf16_is_faster(model.eval(), (32, 32), batch_size=2) in (True, False)
    assert not model.training
    assert all(weight.grad is None for weight in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("has_amx", [True, False])
@pytest.mark.parametrize(
    ("options", "tries", "bf16"),
    [({}, True, False), ({"bf16": True}, False, True), ({"bf16": False}, False, False)],
)
def test_bf16_is_tried_only_where_the_cpu_has_it_and_nobody_chose(
    monkeypatch, has_amx, options, tries, bf16
):
    monkeypatch.setattr(config, "cpu_has_bf16", lambda: has_amx)
    monkeypatch.setattr(config, "gpu_has_bf16", lambda: False)
    args = FruitTrainingArguments(**options)
    assert args.try_bf16 is (tries and has_amx) and args.bf16 is bf16


def test_the_launchers_choice_of_precision_stands(monkeypatch):
    monkeypatch.setattr(config, "cpu_has_bf16", lambda: True)
    for precision in ("fp16", "bf16"):
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", precision)
        args = FruitTrainingArguments()
        assert not args.try_bf16
        assert (args.fp16, args.bf16) == (precision == "fp16", precision == "bf16")


@pytest.mark.parametrize("launched", [True, False])
def test_a_gpu_that_is_not_used_decides_nothing(monkeypatch, launched):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(config, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(config, "gpu_has_bf16", lambda: True)
    if launched:
        monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    args = FruitTrainingArguments(use_cpu=not launched)
    assert args.use_cpu and not args.bf16 and args.try_bf16
    assert not args.dataloader_num_workers and not args.dataloader_pin_memory


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_memory_is_pinned_only_for_cuda(monkeypatch, name):
    """Apple's GPUs can't, and a copy that nothing waits for would then be of changing memory."""
    monkeypatch.setattr(config, "may_use_gpu", lambda: True)
    monkeypatch.setattr(config, "gpu_has_bf16", lambda: False)
    accelerator = torch.device(name)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: accelerator)
    monkeypatch.setattr(TrainingArguments, "__post_init__", lambda self: None)
    args = FruitTrainingArguments()
    assert args.dataloader_num_workers > 0 and not args.use_cpu
    assert args.dataloader_pin_memory is (name == "cuda")
    assert args.accelerator_config == ({"non_blocking": True} if name == "cuda" else None)


@pytest.mark.parametrize("name", ["mps", "xpu"])
def test_other_accelerators_than_cuda_are_not_taken_for_it(monkeypatch, name):
    device = torch.device(name)
    assert not has_bf16(device)
    assert environment(device)["accelerator"] == name


@pytest.mark.parametrize("faster", [True, False])
def test_a_run_uses_the_faster_precision(drawn_fruits, tmp_path, monkeypatch, faster):
    monkeypatch.setattr(config, "cpu_has_bf16", lambda: True)
    monkeypatch.setattr(preparation, "bf16_is_faster", lambda *args, **options: faster)
    options = {"max_steps": 1, "eval_strategy": "no", "bf16": None}
    arguments = tiny_arguments(drawn_fruits, tmp_path, **options)
    assert train.train(*arguments)["training"]["bf16"] is faster
