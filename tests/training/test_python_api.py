"""`hffruits.train`: flags as keywords, and what it returns."""

import json

import pytest

import hffruits
from hffruits import InputError
from hffruits.training.arguments import arguments_from_keywords, parse_train_arguments

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
    photo = next(drawn_fruits.rglob("*.png"))
    assert run.classifier.predict(photo).label in run.classifier.labels
    run.report.unlink()
    assert run.report is None
