"""What can't be trained with sharded weights (FSDP, DeepSpeed) is rejected beforehand."""

from pathlib import Path

import pytest
import torch
from support.runs import tiny_arguments
from transformers import ConvNextConfig, ConvNextForImageClassification, ConvNextImageProcessor

from hffruits.core.errors import InputError
from hffruits.training.argument_checks import check_arguments
from hffruits.training.arguments import ModelArguments
from hffruits.training.setup import prepare_model

LABELS = ["Apple", "Kiwi"]


@pytest.fixture(autouse=True)
def fsdp(monkeypatch):
    """As `accelerate launch --use_fsdp` says it."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")


def arguments(**model: object) -> tuple:
    plain = {"pretrained": False, "image_size": 32, "freeze": "none"}
    return tiny_arguments(Path("photos"), Path("run"), model=ModelArguments(**plain | model))


@pytest.mark.parametrize(
    "option", [{"lora_rank": 4}, {"freeze": "gradual"}, {"freeze": "lp_ft"}], ids=str
)
def test_what_needs_whole_weights_is_refused(option):
    with pytest.raises(InputError, match="need whole weights, which FSDP and DeepSpeed shard"):
        check_arguments(*arguments(model_name_or_path="test_vit", **option))


def test_averages_are_off_by_default():
    check_arguments(*arguments(model_name_or_path="test_vit"))
    assert arguments()[2].ema_decay == 0


def test_nets_that_fsdp_cannot_divide_are_refused(tmp_path):
    with pytest.raises(InputError, match="has batch norm, which doesn't go with FSDP"):
        prepare_model(*arguments(model_name_or_path="test_efficientnet")[1:], LABELS)
    config = ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 2], num_stages=2, num_labels=2)
    ConvNextForImageClassification(config).save_pretrained(tmp_path)
    ConvNextImageProcessor(size={"shortest_edge": 32}).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="accelerate can't shard this model's weights"):
        prepare_model(*arguments(model_name_or_path=str(tmp_path), image_size=None)[1:], LABELS)


@pytest.mark.parametrize("name", ["test_convnext", "test_vit"])
def test_other_nets_keep_the_layout_that_fsdp_takes(name):
    model = prepare_model(*arguments(model_name_or_path=name, image_size=None)[1:], LABELS).model
    assert all(parameter.is_contiguous() for parameter in model.parameters())
    assert model(pixel_values=torch.rand(1, 3, 160, 160)).logits.shape == (1, 2)
