"""`hffruits.train`: flags as keywords, and what it returns."""

import json
from pathlib import Path

import pytest
import transformers.trainer
from transformers.utils.notebook import NotebookProgressCallback

import hffruits
from hffruits import InputError
from hffruits.data.arguments import DataArguments
from hffruits.models.loading import build_model
from hffruits.training import trainer
from hffruits.training.arguments import FruitTrainingArguments
from hffruits.training.callbacks.progress import EpochTableCallback
from hffruits.training.parser import arguments_from_keywords, parse_train_arguments

TINY = {
    "model_name_or_path": "test_efficientnet",
    "pretrained": False,
    "image_size": 32,
    "freeze": "none",
    "max_steps": 2,
    "eval_strategy": "no",
    "save_strategy": "no",
    "load_best_model_at_end": False,
    "bf16": False,
    "disable_tqdm": True,
}


def test_keywords_are_the_flags_of_the_command(tmp_path):
    flags = {"recipe": "fast", "learning_rate": 3e-4, "balanced_sampler": True}
    flags |= {"lr_scheduler_kwargs": {"gamma": 0.5}, "time_budget": None, "pretrained": False}
    words = ["fruits", "--recipe=fast", "--learning_rate=3e-4", "--balanced_sampler"]
    words += ["--no_pretrained", '--lr_scheduler_kwargs={"gamma": 0.5}']
    given, asked = arguments_from_keywords("fruits", **flags), parse_train_arguments(words)
    assert given.data == asked.data and given.model == asked.model
    assert given.training.to_dict() == asked.training.to_dict()


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"num_epochs": 3}, r"unknown: num_epochs=3 \(did you mean num_train_epochs\?\)"),
        ({"epochs": 3}, r"epochs=3 \(did you mean num_train_epochs\?\)"),
        ({"lr": 1e-3}, r"\(did you mean learning_rate\?\)"),
        ({"batch_size": 8}, r"\(did you mean per_device_train_batch_size\?\)"),
        ({"model": "resnet18"}, r"\(did you mean model_name_or_path\?\)"),
        ({"output": "a--b"}, r"^unknown: output=a--b \(did you mean output_dir\?\)"),
        ({"img_size": 64}, r"\(did you mean image_size\?\)"),
        ({"zebra": 1}, r"^unknown: zebra=1. See `hffruits train --help`\.$"),
        ({"recipe": "quick"}, "recipe quick: unknown. Known: balanced, best, fast"),
        ({"learning_rate": "high"}, "argument learning_rate"),
    ],
)
def test_a_keyword_that_is_wrong_raises_and_does_not_exit(flags, message):
    with pytest.raises(InputError, match=message):
        hffruits.train("fruits", **flags)


def test_a_run_comes_back_with_its_figures_folder_report_and_classifier(drawn_fruits, tmp_path):
    run = hffruits.train(drawn_fruits, output_dir=tmp_path / "run", **TINY)
    assert run.folder == tmp_path / "run"
    recorded = json.loads((run.folder / "metrics.json").read_text())
    assert run.metrics["test"]["accuracy"] == recorded["test"]["accuracy"]
    assert run.report == run.folder / "report.html"
    assert repr(run).startswith(f"FinishedRun({run.folder}: test accuracy ")
    photo = next(drawn_fruits.rglob("*.png"))
    assert run.classifier.predict(photo).label in run.classifier.labels
    run.report.unlink()
    assert run.report is None


def test_a_path_is_never_a_hub_id_nor_a_flag():
    assert arguments_from_keywords(Path("user/fruits")).data.data_dir == "user/fruits"
    assert arguments_from_keywords("user/fruits").data.dataset_name == "user/fruits"
    assert arguments_from_keywords(Path("--odd")).data.data_dir == "--odd"


def test_ready_arguments_are_data_too_and_flags_go_before_them():
    ready = DataArguments("user/fruits", exclude="bad.txt", streaming=True)
    data = arguments_from_keywords(ready, exclude="worse.txt").data
    assert data == DataArguments("user/fruits", exclude="worse.txt", streaming=True)
    assert arguments_from_keywords(ready, data_dir="other").data.data_dir == "other"
    assert arguments_from_keywords("-x").data.data_dir == "-x"


def test_data_goes_before_what_a_file_names_and_not_beside_a_flag(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("dataset_name: user/other")
    for named in (Path("fruits"), "fruits"):
        data = arguments_from_keywords(named, config=file).data
        assert (data.data_dir, data.dataset_name) == ("fruits", None)
        with pytest.raises(InputError, match="fruits and data_dir: give one of them"):
            arguments_from_keywords(named, data_dir="other")
    assert arguments_from_keywords(config=file).data.dataset_name == "user/other"
    with pytest.raises(InputError, match="data_dir: empty"):
        arguments_from_keywords("")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"help": True}, "^help: not a keyword"),
        ({"h": True}, r"^unknown: h=true\. See"),
        ({"recipe": []}, r"^recipe=\[\]: takes one value"),
        ({"freeze": ["half", "none"]}, r"^freeze=\['half', 'none'\]: takes one value"),
        ({"label_names": ["a", "--help"]}, "^label_names: --help begins with a hyphen"),
        ({"label_names": ["--help"], "zebra": 1}, "^unknown: zebra=1"),
        ({"a b": 1}, "^'a b': unknown"),
        ({"lr_scheduler_kwargs": {"a": {1}}}, "^lr_scheduler_kwargs: .*set is not JSON"),
        ({"config": ""}, "^argument config: empty"),
    ],
)
def test_no_keyword_ends_the_interpreter(flags, message):
    with pytest.raises(InputError, match=message):
        arguments_from_keywords("fruits", **flags)


def test_a_notebook_has_one_progress_bar(tmp_path, monkeypatch):
    for module in (transformers.trainer, trainer):  # what transformers takes in a notebook
        monkeypatch.setattr(module, "DEFAULT_PROGRESS_CALLBACK", NotebookProgressCallback)
    args = FruitTrainingArguments(output_dir=str(tmp_path), eval_strategy="no", save_strategy="no")
    args.load_best_model_at_end = False
    model, _ = build_model(labels=["a", "b"])
    shown = [
        type(c) for c in trainer.FruitTrainer(model=model, args=args).callback_handler.callbacks
    ]
    assert EpochTableCallback in shown and NotebookProgressCallback not in shown
