"""Parameter groups: weight decay, learning rate of each layer, and optimizers."""

import copy

import pytest
import torch
from support.runs import tiny_arguments
from timm.optim import create_optimizer_v2
from transformers import ConvNextConfig, ConvNextForImageClassification, ViTConfig
from transformers import ViTForImageClassification as ViT
from transformers.training_args import OptimizerNames

from hffruits.core.errors import InputError
from hffruits.models.batch_norm import set_policy
from hffruits.models.heads import head_names
from hffruits.models.layers import has_layer_groups, layer_groups
from hffruits.models.loading import build_model, load_model
from hffruits.training.arguments import ModelArguments
from hffruits.training.optimizers import (
    check_optimizer,
    decayed_parameters,
    default_learning_rate,
    format_groups,
    layer_scales,
    parse_options,
)
from hffruits.training.run import train
from hffruits.training.trainer import FruitTrainer

pytestmark = pytest.mark.usefixtures("without_report")


def trainer_for(model, folder, **options) -> FruitTrainer:
    args = tiny_arguments("unused", folder, learning_rate=1e-3, **options)[2]
    return FruitTrainer(model=model, args=args, head=head_names(model))


def test_weight_decay_leaves_out_norms_biases_and_position_embeddings():
    model, _ = build_model("test_vit", labels=["a", "b"], pretrained=False)
    decayed = set(decayed_parameters(model))
    for name, weight in model.named_parameters():
        left_out = weight.ndim < 2 or "pos_embed" in name or "cls_token" in name
        assert (name in decayed) != left_out, name


def test_weight_decay_reaches_the_optimizers_groups(tmp_path):
    model, _ = build_model("test_efficientnet", labels=["a", "b"], pretrained=False)
    groups = trainer_for(model, tmp_path, weight_decay=0.3).create_optimizer().param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert all(weight.ndim > 1 for weight in groups[0]["params"])
    assert all(weight.ndim < 2 for weight in groups[1]["params"])


def test_nets_with_batch_norm_learn_faster():
    cnn = build_model(labels=["a", "b"])[0]
    assert default_learning_rate(cnn, random_head=True) == 1e-3
    assert default_learning_rate(cnn, random_head=False) == 3e-4
    assert default_learning_rate(set_policy(cnn, "sync")[0], random_head=True) == 1e-3
    vit, _ = build_model("test_vit", labels=["a", "b"], pretrained=False)
    assert {default_learning_rate(vit, random_head=it) for it in (True, False)} == {1e-4}


# ---- layer-wise decay ----


@pytest.mark.parametrize(("name", "layers"), [("test_efficientnet", 7), ("test_vit", 8)])
def test_layer_decay_falls_from_the_head_to_the_stem(tmp_path, name, layers):
    model, _ = build_model(name, labels=["a", "b"], pretrained=False)
    groups = layer_groups(model, head=head_names(model))
    optimizer = trainer_for(model, tmp_path, layer_decay=0.5).create_optimizer()
    rate_of = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rate_of) == len(list(model.parameters()))
    for depth, names in enumerate(groups):
        expected = 1e-3 * 0.5 ** (len(groups) - 1 - depth)
        rates = [rate_of[model.get_parameter(name)] for name in names]
        assert rates == pytest.approx([expected] * len(names))
    assert len({group["lr"] for group in optimizer.param_groups}) == len(groups) == layers
    assert optimizer.param_groups[0]["lr"] == 1e-3  # the one that the Trainer logs


def test_the_schedule_moves_every_layers_rate(tmp_path):
    model, _ = build_model("test_efficientnet", labels=["a", "b"], pretrained=False)
    options = {"layer_decay": 0.5, "warmup_steps": 0, "lr_scheduler_type": "exponential"}
    trainer = trainer_for(model, tmp_path, **options)
    optimizer, scheduler = trainer.create_optimizer(), trainer.create_scheduler(10)
    before = [group["lr"] for group in optimizer.param_groups]
    optimizer.step()
    scheduler.step()
    after = [group["lr"] for group in optimizer.param_groups]
    factor = 0.01 ** (1 / 10)
    assert after == pytest.approx([rate * factor for rate in before])


def test_transformers_encoders_have_layers_too():
    vit = ViT(ViTConfig(hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
                        intermediate_size=16, image_size=32, patch_size=16))  # fmt: skip
    convnext = ConvNextForImageClassification(
        ConvNextConfig(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1])
    )
    for model, stages in ((vit, 3), (convnext, 4)):
        groups = layer_groups(model, head=head_names(model))
        assert sorted(name for group in groups for name in group) == sorted(
            name for name, _ in model.named_parameters()
        )
        assert len(groups) == 1 + stages + 1
        assert all("embeddings" in name for name in groups[0])
        assert {name.split(".")[0] for name in groups[-1]} == {"classifier"}
        assert not [name for name in decayed_parameters(model) if name.endswith("embeddings")]
        assert not [name for name in decayed_parameters(model) if name.endswith("token")]
        scales = layer_scales(model, 0.5, head=head_names(model))
        assert scales["classifier.weight"] == 1 and min(scales.values()) == 0.5 ** (stages + 1)


@pytest.mark.parametrize("name", ["poolformer_s12", "rdnet_tiny"])
def test_nets_whose_stages_timm_does_not_list_have_none(name):
    model, _ = build_model(name, labels=["a"], pretrained=False)
    assert not has_layer_groups(model)
    with pytest.raises(InputError, match="its stages are not known"):
        layer_groups(model, head=head_names(model))


def test_the_parameter_groups_are_printed_as_a_table(tmp_path):
    model, _ = build_model("test_efficientnet", labels=["a", "b"], pretrained=False)
    table = format_groups(trainer_for(model, tmp_path, weight_decay=0.3).create_optimizer())
    header, *rows = table.splitlines()
    assert header.split() == ["peak", "lr", "weight", "decay", "tensors", "parameters"]
    counts = [int(row.split()[-1].replace(",", "")) for row in rows]
    assert sum(counts) == model.num_parameters()
    assert [row.split()[:2] for row in rows] == [["1.00e-03", "0.3"], ["1.00e-03", "0"]]


# ---- optimizers ----


@pytest.mark.parametrize("name", ["lamb", "lion", "sgd", "nadamw", "adan", "adopt", "novograd"])
def test_timms_optimizers_are_timms(tmp_path, name):
    torch.manual_seed(0)
    ours, _ = build_model("test_efficientnet", labels=["a", "b"], pretrained=False)
    theirs = copy.deepcopy(ours)
    ours_moves = trainer_for(ours, tmp_path, optim=f"timm:{name}", weight_decay=0.1)
    ours_moves = ours_moves.create_optimizer()
    theirs_moves = create_optimizer_v2(theirs, opt=name, lr=1e-3, weight_decay=0.1)
    pixels = torch.randn(2, 3, 32, 32)
    for _ in range(3):
        for model, optimizer in ((ours, ours_moves), (theirs, theirs_moves)):
            optimizer.zero_grad()
            model(pixel_values=pixels).logits[:, 0].sum().backward()
            optimizer.step()
    for (key, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(mine, other, atol=1e-7), key


def test_a_beta_of_the_users_reaches_timms_optimizer(tmp_path):
    model, _ = build_model("test_efficientnet", labels=["a", "b"], pretrained=False)
    trainer = trainer_for(model, tmp_path, optim="timm:lion", adam_beta2=0.95)
    assert trainer.create_optimizer().defaults["betas"] == (0.9, 0.95)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optim": "timm:sgd", "optim_args": "foo=1"}, r"optim=timm:sgd.*foo"),
        ({"optim": "lion_8bit"}, r"optim=lion_8bit.*Install it, or use"),
        ({"lr_scheduler_type": "step", "lr_scheduler_kwargs": {"step_size": -3}}, "step_size"),
        ({"lr_scheduler_type": "exponential", "lr_scheduler_kwargs": {"gamma": -1}}, "gamma"),
        ({"lr_scheduler_type": "one_cycle", "lr_scheduler_kwargs": {"div_factor": 0}}, "div_"),
    ],
)
def test_impossible_outputs_stop_a_run_before_an_earlier_one_is_removed(
    drawn_fruits, tmp_path, options, message
):
    folder = tmp_path / "run"
    train(*tiny_arguments(drawn_fruits, folder, max_steps=1))
    with pytest.raises(InputError, match=message):
        train(*tiny_arguments(drawn_fruits, folder, overwrite_output_dir=True, **options))
    assert (folder / "model.safetensors").exists()


def test_options_reach_timms_optimizer(tmp_path):
    model, _ = build_model("test_efficientnet", labels=["a", "b"], pretrained=False)
    options = {"optim": "timm:sgd", "optim_args": "momentum=0.5,nesterov=false"}
    optimizer = trainer_for(model, tmp_path, **options).create_optimizer()
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["momentum"] == 0.5 and optimizer.defaults["nesterov"] is False
    with pytest.raises(InputError, match="name=value"):
        parse_options("momentum")


PLAIN = ("adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop")


@pytest.mark.parametrize("name", PLAIN)
def test_the_trainers_optimizers_move_the_weights(tmp_path, name):
    torch.manual_seed(0)
    model, _ = build_model("test_efficientnet", labels=["a", "b"], pretrained=False)
    optimizer = trainer_for(model, tmp_path, optim=name).create_optimizer()
    before = model.get_parameter("timm_model.conv_stem.weight").detach().clone()
    model(pixel_values=torch.randn(2, 3, 32, 32)).logits.sum().backward()
    optimizer.step()
    assert not torch.equal(model.get_parameter("timm_model.conv_stem.weight"), before)


def test_unknown_optimizers_list_the_known_ones():
    for optimizer in OptimizerNames:
        check_optimizer(optimizer.value)
    with pytest.raises(InputError, match=r"optim=adamm: unknown. Known: adamw_torch.*timm:NAME"):
        check_optimizer("adamm")
    with pytest.raises(InputError, match=r"optim=timm:x: unknown to timm. Known: .*lamb"):
        check_optimizer("timm:x")


def test_accumulated_gradients_equal_those_of_one_large_batch(drawn_fruits, tmp_path):
    weights = []
    for size, steps in ((16, 1), (4, 4)):
        folder = tmp_path / f"{size}"
        options = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps}
        # layer norm: batch norm sees the size of a batch
        model = ModelArguments("test_vit", pretrained=False, freeze="none")
        arguments = tiny_arguments(
            drawn_fruits, folder, model=model, max_steps=2, optim="sgd", **options
        )
        train(*arguments)
        weights.append(load_model(folder)[0].state_dict())
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], atol=1e-5), name
