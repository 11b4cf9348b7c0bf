"""One run from folders to an artifact that predicts as the run reports."""

import json
import math
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.runs import launch, quick_arguments, tiny_arguments
from transformers import EvalPrediction

from hffruits.core.errors import InputError
from hffruits.core.files import write_json
from hffruits.data.load import load_fruits
from hffruits.data.transforms import EvalTransform
from hffruits.evaluation.run import evaluate_artifact
from hffruits.inference.classifier import FruitClassifier
from hffruits.models.loading import build_model, load_model
from hffruits.training.argument_checks import check_arguments, check_photos
from hffruits.training.arguments import FruitTrainingArguments, ModelArguments
from hffruits.training.datasets import as_tensors
from hffruits.training.run import finished_metrics, train, warn_of_few_steps
from hffruits.training.trainer import FruitTrainer

pytestmark = pytest.mark.usefixtures("without_report")


def read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def test_a_run_leaves_the_artifact_folder_and_no_pickle(trained):
    names = {path.name for path in trained.iterdir() if path.is_file()}
    assert names == {
        "config.json", "model.safetensors", "README.md", "metrics.json", "training_args.json",
        "log_history.json", "prototypes.safetensors", "report.html",
        "evaluation.png",
    }  # fmt: skip
    metrics = read(trained / "metrics.json")
    assert metrics["data"]["images"] == {"train": 32, "validation": 12, "test": 20}
    assert metrics["training"]["epochs"] == 2
    arguments = read(trained / "training_args.json")
    assert arguments["training"]["learning_rate"] == 1e-4


def test_training_learns(trained):
    assert read(trained / "metrics.json")["test"]["accuracy"] > 0.5  # chance: 0.25


def test_training_changes_the_head_and_the_later_half_of_the_backbone(trained):
    tuned, bundled = load_model(trained)[0], load_model("efficientnet_lite0")[0]
    before = bundled.state_dict()
    for name, weight in tuned.named_parameters():
        frozen = name.startswith(("timm_model.conv_stem", "timm_model.bn1"))
        frozen |= name.startswith(tuple(f"timm_model.blocks.{stage}." for stage in range(3)))
        frozen |= ".bn" in name  # by the default batch-norm policy
        same = weight.shape == before[name].shape and torch.equal(weight, before[name])
        assert same == frozen, name


def test_metrics_are_those_of_the_saved_model_on_every_image_once(trained, drawn_fruits):
    data = load_fruits(drawn_fruits)
    fruits = FruitClassifier.from_pretrained(trained)
    for split in ("validation", "test"):
        measured = read(trained / "metrics.json")[split]
        paths = [drawn_fruits / path for path in data[split]["path"]]
        labels = [fruits.labels[index] for index in data[split]["label"]]
        hits = [p.label == label for p, label in zip(fruits.predict(paths), labels, strict=True)]
        assert measured["images"] == len(hits)
        assert measured["accuracy"] == pytest.approx(np.mean(hits))


def test_predictions_equal_the_trainers(trained, drawn_fruits, tmp_path):
    model, processor = load_model(trained)
    split = load_fruits(drawn_fruits).split("test")
    args = quick_arguments(drawn_fruits, tmp_path, bf16=False, eval_strategy="no")[2]
    trainer = FruitTrainer(model=model, args=args)
    trainer.compute_metrics = trainer.preprocess_logits_for_metrics = None
    logits = trainer.predict(as_tensors(split, EvalTransform(processor))).predictions
    scores = torch.tensor(logits).softmax(-1)
    fruits = FruitClassifier.from_pretrained(trained, device="cpu")
    for sample, expected in zip(split.samples(), scores, strict=True):
        prediction = fruits.predict(sample.source, top_k=4)
        got = torch.tensor([dict(prediction.top)[label] for label in fruits.labels])
        assert torch.allclose(got, expected, atol=1e-5)


def test_plain_transformers_gives_the_same_labels_without_hffruits(trained, drawn_fruits):
    paths = sorted(str(path) for path in (drawn_fruits / "test").rglob("*.png"))
    script = (
        "import json, sys\n"
        "sys.modules['hffruits'] = None\n"
        "from transformers import pipeline\n"
        f"classify = pipeline('image-classification', {str(trained)!r})\n"
        f"print(json.dumps([rows[0] for rows in classify({paths!r})]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=trained
    )
    theirs = json.loads(done.stdout.splitlines()[-1])
    ours = FruitClassifier.from_pretrained(trained).predict(paths)
    assert [row["label"] for row in theirs] == [prediction.label for prediction in ours]
    scores = [prediction.score for prediction in ours]
    assert [row["score"] for row in theirs] == pytest.approx(scores, abs=1e-4)


def test_a_resumed_run_ends_like_an_uninterrupted_one(trained, drawn_fruits, tmp_path):
    first = sorted(trained.glob("checkpoint-*"), key=lambda path: int(path.name[11:]))[0]
    folder = tmp_path / "resumed"
    shutil.copytree(first, folder / first.name)
    train(*quick_arguments(drawn_fruits, folder, resume_from_checkpoint="last"))
    uninterrupted, resumed = (load_model(path)[0].state_dict() for path in (trained, folder))
    for name, weight in uninterrupted.items():
        assert torch.allclose(weight, resumed[name], atol=1e-6), name


def test_a_second_run_never_overwrites_the_first_unasked(trained, drawn_fruits):
    before = (trained / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(InputError, match="already holds a run"):
        train(*quick_arguments(drawn_fruits, trained))
    assert (trained / "model.safetensors").stat().st_mtime_ns == before


def test_overwriting_loses_nothing_when_the_new_run_cannot_start(trained, drawn_fruits, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    for data_dir, model in [(tmp_path / "nowhere", None), (drawn_fruits, "no_such_net")]:
        model = model and ModelArguments(model)
        arguments = quick_arguments(data_dir, folder, model=model, overwrite_output_dir=True)
        with pytest.raises(InputError):
            train(*arguments)
    assert {path.name for path in trained.iterdir()} == {path.name for path in folder.iterdir()}


def test_training_can_continue_in_the_folder_of_its_own_model(trained, drawn_fruits, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    (folder / "notes.txt").write_text("mine")
    options = {"overwrite_output_dir": True, "max_steps": 1, "eval_strategy": "no"}
    train(*quick_arguments(drawn_fruits, folder, model=ModelArguments(str(folder)), **options))
    metrics = read(folder / "metrics.json")
    assert metrics["training"]["steps"] == 1 and metrics["training"]["best_epoch"] is None
    assert not list(folder.glob("checkpoint-*"))
    assert (folder / "notes.txt").read_text() == "mine"


def test_training_does_not_change_the_callers_arguments(drawn_fruits, tmp_path):
    options = {"max_steps": 1, "eval_strategy": "no", "learning_rate": None}
    arguments = quick_arguments(drawn_fruits, tmp_path / "run", **options)
    train(*arguments)
    assert arguments[2].learning_rate is None


def test_datasets_can_be_sent_to_spawned_workers(drawn_fruits):
    processor = build_model(labels=["a", "b"])[1]
    rows = as_tensors(load_fruits(drawn_fruits).split("test"), EvalTransform(processor))
    copy = pickle.loads(pickle.dumps(rows))
    assert torch.equal(copy[0]["pixel_values"], rows[0]["pixel_values"])


def test_final_figures_are_full_precision_whatever_the_launcher_says(
    trained, drawn_fruits, tmp_path, monkeypatch
):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    run = shutil.copytree(trained, tmp_path / "run")
    data_args, _, args = quick_arguments(drawn_fruits, tmp_path, label_smoothing_factor=0.3)
    data = load_fruits(drawn_fruits)
    max_pixels = data_args.max_image_pixels
    options = {"device": args.device, "batch_size": 64, "max_pixels": max_pixels}
    measured = evaluate_artifact(run, data, **options).figures["test"]
    recorded = read(trained / "metrics.json")["test"]
    for name in ("accuracy", "macro_f1", "loss", "ece", "temperature"):
        assert measured[name] == pytest.approx(recorded[name], rel=1e-4), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resume_from_checkpoint": "last"}, "no checkpoint to resume from"),
        ({"resume_from_checkpoint": "nowhere"}, "nowhere: no such folder"),
        ({"push_to_hub": True}, "pushing needs a login"),
        ({"report_to": "wandb"}, "report_to=wandb: not installed"),
        ({"metric_for_best_model": "beauty"}, "metric_for_best_model=beauty.*macro_f1"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size=0"),
        ({"model": ModelArguments(freeze="some")}, "freeze=some"),
        ({"num_train_epochs": -1}, "num_train_epochs=-1"),
        ({"remove_unused_columns": True}, "remove_unused_columns"),
        ({"model": ModelArguments("resnet_18")}, "resnet_18"),
        ({"lr_scheduler_type": "cosin"}, "did you mean cosine"),
        ({"agc_clip_factor": 0.1}, "acts only with clip_mode=agc"),
        ({"max_grad_value": 0.1}, "acts only with clip_mode=value"),
        ({"lr_scheduler_type": "wavy"}, "lr_scheduler_type=wavy: unknown.*one_cycle.*cosine"),
        ({"optim": "adamm"}, "optim=adamm: unknown.*adamw_torch"),
        ({"optim": "timm:lambda"}, "optim=timm:lambda: unknown to timm.*lamb"),
        ({"clip_mode": "hard"}, "clip_mode=hard: unknown. Known: norm, value, agc"),
        ({"batch_norm": "off"}, "batch_norm=off: unknown.*recalibrate"),
        ({"class_weights": "odd"}, "class_weights=odd"),
        ({"ema_decay": 1.0}, "ema_decay=1.0: must be"),
        ({"layer_decay": 0.0}, "layer_decay=0.0: must be"),
        ({"balanced_sampler": True, "class_weights": "balanced"}, "Use one of them"),
        ({"early_stopping_patience": 2, "eval_strategy": "no"}, "needs validation"),
        (
            {"early_stopping_patience": 2, "metric_for_best_model": "accuracy_2se"},
            "grows with every epoch",
        ),
        ({"mix_probability": 0.5}, "nothing is mixed"),
        ({"model": ModelArguments(lora_rank=4, freeze="head_only")}, "lora_rank and freeze"),
        ({"model": ModelArguments(lora_rank=4), "layer_decay": 0.7}, "lora_rank and layer_decay"),
        ({"model": ModelArguments(lora_rank=4), "clip_mode": "agc"}, "lora_rank and clip_mode"),
        ({"model": ModelArguments(freeze="head_only"), "layer_decay": 0.7}, "only one layer"),
        ({"model": ModelArguments(image_size=8)}, "image_size=8: must be 32 or more"),
        ({"optim": "adafactor", "layer_decay": 0.7}, "layer_decay: this optimizer"),
        ({"train_sampling_strategy": "group_by_length"}, "train_sampling_strategy"),
        ({"num_train_epochs": math.inf}, "num_train_epochs=inf: must be more than 0, and finite"),
        ({"learning_rate": math.inf}, "learning_rate=inf: must be more than 0, and finite"),
        ({"weight_decay": math.nan}, "weight_decay=nan: must be 0 or more, and finite"),
        ({"warmup_steps": math.nan}, "warmup_steps=nan: must be 0 or more"),
        ({"seed": -1}, "seed=-1: must be between 0 and 4294967295"),
        ({"dataloader_num_workers": -1}, "dataloader_num_workers=-1: must be 0 or more"),
        (
            {"dataloader_num_workers": 1, "dataloader_prefetch_factor": 0},
            "dataloader_prefetch_factor=0: must be 1 or more",
        ),
        ({"eval_accumulation_steps": 0}, "eval_accumulation_steps=0: must be 1 or more"),
        ({"logging_steps": -3}, "logging_steps=-3: must be more than 0"),
        (
            {"dataloader_num_workers": 0, "dataloader_persistent_workers": True},
            "dataloader_persistent_workers: there are no workers",
        ),
        ({"batch_eval_metrics": True}, "batch_eval_metrics.*Leave them out"),
        ({"prediction_loss_only": True}, "prediction_loss_only.*Leave them out"),
        ({"label_names": ["a"]}, "label_names.*Leave them out"),
        ({"neftune_noise_alpha": 5.0}, "neftune_noise_alpha.*for language models"),
        ({"use_liger_kernel": True}, "use_liger_kernel.*for language models"),
        (
            {"accelerator_config": {"gradient_accumulation_kwargs": {"num_steps": 4}}},
            "accelerator_config: num_steps in .* Set gradient_accumulation_steps in its place",
        ),
        ({"auto_find_batch_size": True}, "auto_find_batch_size.* per_device_train_batch_size sma"),
        ({"greater_is_better": False}, "greater_is_better: the worst epoch"),
        ({"greater_is_better": True, "metric_for_best_model": "loss"}, "the worst epoch"),
        ({"torch_compile_backend": "inductr"}, "torch_compile_backend=inductr.*inductor"),
    ],
)
def test_impossible_arguments_stop_before_the_data_is_read(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        train(*quick_arguments(tmp_path / "no data", tmp_path / "run", **options))


def test_one_step_that_the_trainer_notes_for_accelerate_is_not_refused(tmp_path):
    options = {"accelerator_config": {"gradient_accumulation_kwargs": {"num_steps": 1}}}
    check_arguments(*quick_arguments(tmp_path / "no data", tmp_path / "run", **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"dataloader_drop_last": True, "per_device_train_batch_size": 64},
            "32 photos to train on are fewer than a batch of 64, so none would be left",
        ),
        ({"warmup_steps": 500}, "warmup_steps=500: training has 8 steps"),
        ({"warmup_steps": 20, "max_steps": 20}, "warmup_steps=20: training has 20 steps"),
        (
            {
                "eval_strategy": "steps",
                "eval_steps": 9,
                "save_strategy": "no",
                "load_best_model_at_end": False,
            },
            "eval_steps=9: training has 8 steps",
        ),
        ({"eval_strategy": "epoch", "eval_delay": 3}, "eval_delay=3: training has 2 epochs"),
        (
            {"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 0.1}},
            r"lr_scheduler_kwargs={'lr_end': 0.1}: not for polynomial \(lr_end \(0.1\) must be",
        ),
        (
            {"lr_scheduler_type": "polynomial", "learning_rate": 1e-8},
            r"lr_end \(1e-07\) must be smaller than initial lr \(1e-08\)",
        ),
        (
            {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 0.1}},
            "the rate would rise to",
        ),
    ],
)
def test_options_that_leave_nothing_to_do_stop_before_the_first_step(
    drawn_fruits, tmp_path, monkeypatch, options, message
):
    monkeypatch.setattr(FruitTrainer, "train", None)
    options = {"learning_rate": 1e-3} | options
    with pytest.raises(InputError, match=message):
        train(*tiny_arguments(drawn_fruits, tmp_path / "run", **options))
    assert not (tmp_path / "run").exists()


def test_the_last_batch_is_dropped_in_training_and_never_in_validation(drawn_fruits, tmp_path):
    options = {"dataloader_drop_last": True, "per_device_train_batch_size": 20}
    options |= {"eval_strategy": "epoch", "num_train_epochs": 1, "warmup_steps": 0}
    metrics = train(*tiny_arguments(drawn_fruits, tmp_path, **options))
    assert metrics["training"]["steps"] == 1  # 20 of 32
    assert metrics["validation"]["images"] == 12


@pytest.mark.slow
def test_two_processes_train_one_model_and_count_each_sample_once(drawn_fruits, tmp_path):
    folder = tmp_path / "two"
    sizes = ["--per_device_train_batch_size=4", "--per_device_eval_batch_size=3"]
    done = launch([drawn_fruits, "--output_dir", folder, "--num_train_epochs=1", *sizes])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Saved") == 1
    metrics = read(folder / "metrics.json")
    assert metrics["training"]["processes"] == 2
    assert metrics["training"]["steps"] == 4  # 32 images / (2 processes x 4)
    data = load_fruits(drawn_fruits)
    fruits = FruitClassifier.from_pretrained(folder)
    for split in ("validation", "test"):
        predictions = fruits.predict([drawn_fruits / path for path in data[split]["path"]])
        labels = [fruits.labels[index] for index in data[split]["label"]]
        hits = [own.label == label for own, label in zip(predictions, labels, strict=True)]
        assert metrics[split]["accuracy"] == pytest.approx(np.mean(hits))
        assert metrics[split]["images"] == len(hits)


@pytest.mark.slow
def test_bad_input_in_two_processes_is_reported_once(tmp_path):
    done = launch([tmp_path / "nowhere"])
    assert done.returncode != 0
    assert done.stderr.count("no such folder") == 1


def test_of_epochs_that_do_not_differ_significantly_the_later_wins(drawn_fruits, tmp_path):
    args = quick_arguments(drawn_fruits, tmp_path, eval_strategy="no")[2]
    trainer = FruitTrainer(model=build_model(labels=["a", "b"])[0], args=args)
    trainer.state.max_steps = 100

    def score(step: int, hits: int) -> float:
        trainer.state.global_step = step
        ranked = np.array([[0, 1]] * hits + [[1, 0]] * (100 - hits))
        predictions = (ranked, np.zeros(100))
        return trainer.compute_fruit_metrics(
            EvalPrediction(predictions=predictions, label_ids=np.zeros(100, int))
        )["accuracy_2se"]

    assert score(0, 80) == pytest.approx(0.80)
    # sqrt(0.8 * 0.2 / 100) = 0.04
    assert score(100, 80) == pytest.approx(0.80 + 2 * 0.04, abs=2e-3)
    assert score(100, 100) > score(50, 100) and score(100, 100) > score(75, 99)
    assert score(100, 79) > score(50, 80) > score(100, 70)


@pytest.mark.parametrize(
    ("images", "options", "said"),
    [
        (15, {}, "16 epochs are only 16 steps: few photos may need more (num_train_epochs=32)"),
        (40, {"num_train_epochs": 5}, "5 epochs are only 10 steps"),
        (64, {}, None),
        (15, {"max_steps": 3}, None),
    ],
)
def test_few_steps_are_warned_of(caplog, tmp_path, images, options, said):
    warn_of_few_steps(images, FruitTrainingArguments(str(tmp_path), use_cpu=True, **options))
    assert said in caplog.text if said else not caplog.text


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_steps": 20, "eval_delay": 4, "num_train_epochs": 2}, None),  # 5 epochs
        ({"max_steps": 8, "eval_delay": 3, "num_train_epochs": 9}, "training has 2 epochs"),
        ({"num_train_epochs": 2, "eval_delay": 2}, None),
        ({"num_train_epochs": 2, "eval_delay": 9, "eval_strategy": "steps", "eval_steps": 1},
         "training has 8 steps"),  # the last photos of an epoch are no batch
    ],
)  # fmt: skip
def test_a_validation_that_would_never_come_is_found_by_the_steps_there_are(
    tmp_path, options, said
):
    options = {"dataloader_drop_last": True, "per_device_train_batch_size": 8, **options}
    options |= {"load_best_model_at_end": False}
    args = FruitTrainingArguments(str(tmp_path), use_cpu=True, **options)
    if said is None:
        check_photos(args, 39)
    else:
        with pytest.raises(InputError, match=said):
            check_photos(args, 39)


def test_a_run_may_not_lie_in_its_data(drawn_fruits, tmp_path):
    root = shutil.copytree(drawn_fruits, tmp_path / "data")
    with pytest.raises(InputError, match="lies in the data folder"):
        train(*quick_arguments(root, root / "run"))
    assert not (root / "run").exists()


def test_each_epoch_has_its_own_training_loss(trained):
    log = json.loads((trained / "log_history.json").read_text())
    validated = {row["epoch"] for row in log if "eval_loss" in row}
    assert validated == {1.0, 2.0}
    assert validated <= {row["epoch"] for row in log if "loss" in row}


@pytest.mark.parametrize("name", ["exclude", "coarse_labels", "split_lists"])
def test_a_missing_file_is_reported_before_any_photo_is_read(drawn_fruits, tmp_path, name, caplog):
    arguments = quick_arguments(drawn_fruits, tmp_path / "run")
    setattr(arguments[0], name, str(tmp_path / "gone.txt"))
    with pytest.raises(InputError, match=f"{name}=.*gone.txt: no such file"):
        train(*arguments)
    assert not (tmp_path / "run").exists()


def test_a_finished_run_that_was_moved_is_given_where_it_is_now(tmp_path):
    write_json(tmp_path / "metrics.json", {"output_dir": "runs/earlier", "seed": 1})
    run = SimpleNamespace(folder=tmp_path, args=SimpleNamespace(resume_from_checkpoint="auto"))
    assert finished_metrics(run) == {"output_dir": str(tmp_path), "seed": 1}
