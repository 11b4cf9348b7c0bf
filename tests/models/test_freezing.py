"""Frozen stages don't change, statistics included, and the rest is trained."""

import pytest
import torch
from support.runs import quick_arguments
from transformers import ViTConfig, ViTForImageClassification

from hffruits.core.errors import InputError
from hffruits.models.batch_norm import hold_statistics
from hffruits.models.freezing import describe_freezing, freeze_backbone
from hffruits.models.heads import head_names
from hffruits.models.layers import layer_groups
from hffruits.models.loading import build_model, load_model
from hffruits.training.arguments import ModelArguments
from hffruits.training.run import train

pytestmark = pytest.mark.usefixtures("without_report")


@pytest.mark.parametrize(
    ("name", "stages"),
    [("efficientnet_lite0", 7), ("resnet10t", 4), ("test_vit", 6), ("mobilenetv3_small_100", 7)],
)
def test_groups_run_from_the_stem_to_the_head(name, stages):
    model, _ = build_model(name, labels=["a", "b"], pretrained=False)
    groups = layer_groups(model, head=head_names(model))
    names = [name for group in groups for name in group]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert len(groups) == 1 + stages + 1
    assert {name.split(".")[1] for name in groups[-1]} <= {"classifier", "fc", "head"}


def test_a_plan_freezes_the_first_groups():
    frozen = {}
    for plan in ("none", "half", "three_quarters", "head_only", "stages:0", "stages:3", "stages:5"):
        model, _ = build_model(labels=["a", "b"])
        frozen[plan] = freeze_backbone(model, plan, head=head_names(model))
        still = [name for name, weight in model.named_parameters() if not weight.requires_grad]
        assert sorted(frozen[plan]) == sorted(still)
    assert frozen["none"] == []
    assert frozen["half"] == frozen["stages:3"]  # of seven
    assert frozen["three_quarters"] == frozen["stages:5"]
    assert {name.split(".")[1] for name in frozen["stages:0"]} == {"conv_stem", "bn1"}
    assert not any("classifier" in name for name in frozen["head_only"])
    assert len(frozen["head_only"]) == len(list(model.parameters())) - 2


@pytest.mark.parametrize(
    ("name", "plan", "said"),
    [
        ("efficientnet_lite0", "half", "stem and 3 of 7 stages frozen"),
        ("efficientnet_lite0", "stages:0", "stem frozen"),
        ("efficientnet_lite0", "none", "no stage frozen"),
        ("efficientnet_lite0", "lp_ft", "all but the head frozen at first"),
        ("resnet10t", "stages:2", "stem and 2 of 4 stages frozen"),
        ("test_vit", "stages:2", "embeddings and 2 of 6 blocks frozen"),
        ("test_vit", "head_only", "all but the head frozen"),
    ],
)
def test_what_is_frozen_is_said_in_the_words_of_the_model(name, plan, said):
    model, _ = build_model(name, labels=["a", "b"], pretrained=False)
    assert describe_freezing(model, plan, head=head_names(model)) == said


def test_layers_of_transformers_are_called_so():
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    model = ViTForImageClassification(ViTConfig(num_hidden_layers=12, **sizes))
    said = describe_freezing(model, "stages:6", head=("classifier",))
    assert said == "embeddings and 6 of 12 layers frozen"


def test_norms_behind_the_last_stage_are_not_counted_as_one():
    model, _ = build_model("test_convnext", labels=["a", "b"], pretrained=False)
    said = describe_freezing(model, "stages:2", head=head_names(model))
    assert said == "stem and 2 of 4 stages frozen"


def test_frozen_norms_stay_in_evaluation_mode_and_the_others_do_not():
    model, _ = build_model(labels=["a", "b"])
    freeze_backbone(model, "half", head=head_names(model))
    model.train()
    hold_statistics(model, "train")
    assert not model.timm_model.bn1.training and not model.timm_model.blocks[2][0].bn1.training
    assert model.timm_model.blocks[3][0].bn1.training


@pytest.mark.parametrize("plan", ["stages", "stages:x", "some", "stages:-1"])
def test_an_unknown_plan_lists_the_known_ones(plan):
    model, _ = build_model(labels=["a", "b"])
    with pytest.raises(
        InputError, match="Known: none, half, three_quarters, head_only, gradual, lp_ft, stages:K"
    ):
        freeze_backbone(model, plan, head=head_names(model))


def test_more_stages_than_there_are_is_explained():
    model, _ = build_model(labels=["a", "b"])
    with pytest.raises(InputError, match="there are 7 stages"):
        freeze_backbone(model, "stages:8", head=head_names(model))


def test_training_leaves_frozen_stages_as_they_were_bit_for_bit(drawn_fruits, tmp_path):
    arguments = quick_arguments(
        drawn_fruits, tmp_path, model=ModelArguments(freeze="stages:2"), max_steps=2, bf16=False,
        eval_strategy="no",
    )  # fmt: skip
    train(*arguments)
    tuned, before = load_model(tmp_path)[0].state_dict(), load_model("efficientnet_lite0")[0]
    frozen = (
        "timm_model.conv_stem",
        "timm_model.bn1",
        "timm_model.blocks.0",
        "timm_model.blocks.1",
    )
    for name, old in before.state_dict().items():
        if name.startswith(frozen):
            assert torch.equal(tuned[name], old), name
        elif name.endswith(".weight") and ".bn" not in name:
            assert tuned[name].shape != old.shape or not torch.equal(tuned[name], old), name
