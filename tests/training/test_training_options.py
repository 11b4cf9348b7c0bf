"""Options that need a whole run to test: plans, LoRA, early stopping, compiling, recipes."""

import json
import shutil
from itertools import pairwise

import pytest
import torch
import yaml
from safetensors.torch import load_file
from support.runs import launch, tiny_arguments

from hffruits.core.errors import InputError
from hffruits.data.transforms import input_size
from hffruits.inference.classifier import FruitClassifier
from hffruits.models.loading import build_model, load_model
from hffruits.training.arguments import ModelArguments
from hffruits.training.parser import RECIPES, parse_train_arguments
from hffruits.training.run import train
from hffruits.training.setup import choose_sizes

pytestmark = pytest.mark.usefixtures("without_report")

TINY_CNN = {"pretrained": False, "image_size": 32}


def log_of(folder) -> list[dict]:
    return json.loads((folder / "log_history.json").read_text())


# ---- unfreezing ----


def changed_layers(folder, step: int, before: int = 0) -> set[str]:
    """The stages that have learned between two checkpoints."""
    now = load_file(folder / f"checkpoint-{step}" / "model.safetensors")
    then = load_file(folder / f"checkpoint-{before}" / "model.safetensors")
    return {
        ".".join(name.split(".")[1:3]) if ".blocks." in name else name.split(".")[1]
        for name in now
        if name.endswith("weight") and not torch.equal(now[name], then[name])
    }


def steps_of_plan(data_dir, folder, plan: str):
    arguments = tiny_arguments(
        data_dir, folder, model=ModelArguments("test_efficientnet", freeze=plan, **TINY_CNN),
        max_steps=10, save_strategy="steps", save_steps=1, save_total_limit=None, warmup_steps=0,
    )  # fmt: skip
    train(*arguments)


def test_the_head_learns_first_and_then_all(drawn_fruits, tmp_path):
    steps_of_plan(drawn_fruits, tmp_path, "lp_ft")
    assert changed_layers(tmp_path, 2, 1) == {"classifier"}
    assert {"conv_stem", "blocks.0", "classifier"} <= changed_layers(tmp_path, 4, 3)


def test_gradual_unfreezing_goes_from_the_head_to_the_stem(drawn_fruits, tmp_path):
    steps_of_plan(drawn_fruits, tmp_path, "gradual")
    learning = [changed_layers(tmp_path, step + 1, step) for step in range(1, 7)]
    assert all(earlier <= later for earlier, later in pairwise(learning))
    assert "conv_stem" not in learning[0] and "classifier" in learning[0]
    assert "conv_stem" in learning[-1]


@pytest.mark.slow
def test_two_processes_unfreeze_in_the_same_way(drawn_fruits, tmp_path):
    options = ["--model_name_or_path=test_efficientnet", "--pretrained=false", "--image_size=32",
               "--freeze=lp_ft", "--max_steps=6", "--per_device_train_batch_size=4",
               "--ema_decay=0.9", "--mixup_alpha=0.2", "--eval_strategy=no", "--save_steps=1",
               "--save_strategy=steps", "--save_total_limit=9", "--warmup_steps=0",
               "--load_best_model_at_end=false"]  # fmt: skip
    done = launch([drawn_fruits, "--output_dir", tmp_path / "two", *options])
    assert done.returncode == 0, done.stderr
    # of 6 steps, only the head learns in the first fifth
    assert changed_layers(tmp_path / "two", 2, 1) == {"classifier"}
    assert {"conv_stem", "blocks.0", "classifier"} <= changed_layers(tmp_path / "two", 4, 3)


def load_labels(folder) -> list[str]:
    return list(load_model(folder)[0].config.id2label.values())


# ---- LoRA ----


def test_lora_is_merged_into_a_plain_checkpoint(drawn_fruits, tmp_path, monkeypatch):
    monkeypatch.setattr("hffruits.evaluation.calibration.fit_temperature", lambda *_: 1.0)
    torch.manual_seed(0)
    vit = ModelArguments("test_vit", pretrained=False, lora_rank=2)
    options = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    options |= {"metric_for_best_model": "loss", "learning_rate": 1e-2}
    train(*tiny_arguments(drawn_fruits, tmp_path, model=vit, ema_decay=0.5, **options))
    plain, _ = build_model("test_vit", labels=["a", "b", "c", "d"], pretrained=False)
    saved = load_file(tmp_path / "model.safetensors")
    assert saved.keys() == plain.state_dict().keys()
    losses = [row["eval_loss"] for row in log_of(tmp_path) if "eval_loss" in row]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    # the merged model is what was validated with the updates beside the weights
    assert metrics["validation"]["loss"] == pytest.approx(min(losses), rel=1e-4)
    measured = metrics["model"]
    assert measured["frozen_parameters"] > 0.8 * measured["parameters"]
    assert FruitClassifier.from_pretrained(tmp_path).labels == load_labels(tmp_path)


def test_lora_needs_a_net_of_linear_layers(drawn_fruits, tmp_path):
    model = ModelArguments("test_efficientnet", pretrained=False, lora_rank=2)
    with pytest.raises(InputError, match="most weights here are in convolutions"):
        train(*tiny_arguments(drawn_fruits, tmp_path, model=model))


# ---- the rest ----


STUCK = {  # by a rate of nearly nothing, so that validation never gains
    "num_train_epochs": 20, "eval_strategy": "epoch", "save_strategy": "epoch",
    "load_best_model_at_end": True, "learning_rate": 1e-12,
}  # fmt: skip


def test_training_stops_early_when_validation_no_longer_gains(drawn_fruits, tmp_path, caplog):
    train(*tiny_arguments(drawn_fruits, tmp_path, early_stopping_patience=2, **STUCK))
    training = json.loads((tmp_path / "metrics.json").read_text())["training"]
    assert training["epochs"] == 3 and training["best_epoch"] == 1
    assert "early stopping" not in caplog.text


def test_patience_counts_on_when_a_run_is_resumed(drawn_fruits, tmp_path):
    options = STUCK | {"early_stopping_patience": 4, "save_total_limit": None}
    train(*tiny_arguments(drawn_fruits, tmp_path, **options))
    shutil.rmtree(tmp_path / "checkpoint-20")
    shutil.rmtree(tmp_path / "checkpoint-16")
    train(*tiny_arguments(drawn_fruits, tmp_path, resume_from_checkpoint="last", **options))
    assert json.loads((tmp_path / "metrics.json").read_text())["training"]["epochs"] == 5


def test_the_plateau_schedule_lowers_the_rate_when_validation_no_longer_gains(
    drawn_fruits, tmp_path
):
    plateau = {"lr_scheduler_type": "reduce_lr_on_plateau", "logging_steps": 1}
    plateau["lr_scheduler_kwargs"] = {"patience": 1, "eps": 0.0}
    options = STUCK | plateau | {"num_train_epochs": 5}
    train(*tiny_arguments(drawn_fruits, tmp_path, **options))
    rates = [row["learning_rate"] for row in log_of(tmp_path) if "learning_rate" in row]
    assert rates[0] == 1e-12 and rates[-1] == pytest.approx(1e-13)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_checkpointed_activations_give_the_same_weights(drawn_fruits, tmp_path, name):
    weights = []
    for checkpointing in (False, True):
        folder = tmp_path / str(checkpointing)
        model = ModelArguments(name, pretrained=False, freeze="none")
        options = {"activation_checkpointing": checkpointing, "optim": "sgd", "max_steps": 2}
        train(*tiny_arguments(drawn_fruits, folder, model=model, **options))
        weights.append(load_file(folder / "model.safetensors"))
    for key, value in weights[0].items():
        if "running" not in key and "num_batches" not in key:  # these see both passes
            assert torch.allclose(value, weights[1][key], atol=1e-4), key
    if name == "test_efficientnet":  # the second pass was really made
        passes = [state["timm_model.blocks.0.0.bn1.num_batches_tracked"] for state in weights]
        assert passes == [2, 4]


def test_another_image_size_is_what_the_artifact_sees(drawn_fruits, tmp_path):
    train(*tiny_arguments(drawn_fruits, tmp_path, max_steps=1))
    _, processor = load_model(tmp_path)
    assert processor(torch.zeros(3, 90, 70), return_tensors="pt")["pixel_values"].shape[2:] == (
        32, 32,
    )  # fmt: skip
    for name in ("image_size", "train_image_size"):
        vit = ModelArguments("test_vit", pretrained=False, **{name: 96})
        with pytest.raises(InputError, match=f"^{name}=96: this model has a fixed size"):
            train(*tiny_arguments(drawn_fruits, tmp_path / "vit", model=vit))


def sizes(augment="light", own=(224, 224), name="test_efficientnet", **options):
    """Pixels that the model sees, and that training sees."""
    model, _ = build_model(name, labels=["a", "b"], pretrained=False)
    return choose_sizes(ModelArguments(**options), model, own, augment=augment)


def test_a_cnn_sees_more_pixels_than_its_training_unless_asked_otherwise():
    assert sizes() == (256, 224)
    assert sizes(train_image_size=192) == (224, 192)
    assert sizes(image_size=224) == (224, None)
    assert sizes(image_size=288, train_image_size=224) == (288, 224)


def test_without_crops_and_for_nets_of_one_size_both_are_the_same():
    assert sizes(augment="none") == (None, None)
    assert sizes(name="test_vit") == (None, None)
    assert sizes(own=(224, 160)) == (None, None)


@pytest.mark.parametrize("seen", [160, 128, 192])
def test_a_model_trained_further_sees_what_it_saw(drawn_fruits, tmp_path, seen):
    options = {"pretrained": False, "freeze": "none"}
    options |= {"train_image_size": 128, "image_size": seen}
    model = ModelArguments("test_efficientnet", **options)
    train(*tiny_arguments(drawn_fruits, tmp_path / "first", model=model, max_steps=1))
    further = ModelArguments(str(tmp_path / "first"), freeze="none")
    train(*tiny_arguments(drawn_fruits, tmp_path / "second", model=further, max_steps=1))
    for folder in ("first", "second"):
        model, processor = load_model(tmp_path / folder)
        assert (model.config.train_image_size, *input_size(processor)) == (128, seen, seen), folder


@pytest.mark.slow
def test_a_compiled_model_learns_and_is_saved_plain(drawn_fruits, tmp_path):
    weights = {}
    for compiled in (False, True):
        folder = tmp_path / str(compiled)
        torch._dynamo.reset()
        options = {"torch_compile": compiled, "ema_decay": 0.9, "max_steps": 3, "optim": "sgd"}
        if compiled:  # traced, but not built by a C++ compiler, which takes a minute
            options["torch_compile_backend"] = "aot_eager"
        train(*tiny_arguments(drawn_fruits, folder, **options))
        weights[compiled] = load_file(folder / "model.safetensors")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert weights[True].keys() == weights[False].keys()
    for name, value in weights[False].items():
        assert torch.allclose(value, weights[True][name], atol=1e-4), name


@pytest.mark.parametrize("name", ["fast", "balanced", "best"])
def test_a_recipe_is_readable_and_any_flag_overrides_it(name):
    text = RECIPES[name].read_text(encoding="utf-8")
    assert "test top-1" in text  # what it gave on real photos
    values = yaml.safe_load(text)
    data, model, training = parse_train_arguments(["--recipe", name])
    for key, value in values.items():
        group = next(group for group in (data, model, training) if key in vars(group))
        assert getattr(group, key) == value, key
    overridden = parse_train_arguments(["--recipe", name, "--num_train_epochs", "1.5"])
    assert overridden[2].num_train_epochs == 1.5


def test_an_unknown_recipe_lists_the_known_ones(capsys):
    with pytest.raises(SystemExit) as stop:
        parse_train_arguments(["--recipe", "quick"])
    assert stop.value.code == 2
    assert "Known: balanced, best, fast" in capsys.readouterr().err
