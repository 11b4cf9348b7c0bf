"""The averaged weights are validated and saved; training continues with the raw ones."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from support.runs import tiny_arguments
from timm.utils import ModelEmaV3
from torch import nn
from transformers import TrainerState

from hffruits.core.errors import InputError
from hffruits.models.loading import load_model
from hffruits.training.callbacks.ema import AVERAGE_FILE, EMACallback
from hffruits.training.run import train

pytestmark = pytest.mark.usefixtures("without_report")

OPTIONS = {
    "eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True,
    "metric_for_best_model": "loss", "ema_decay": 0.5, "num_train_epochs": 3,
    "save_total_limit": None,
}  # fmt: skip


def test_the_average_equals_timms_with_warmup():
    torch.manual_seed(0)
    model = nn.BatchNorm1d(3)
    ours, theirs = EMACallback(0.9), ModelEmaV3(model, decay=0.9, use_warmup=True)
    state = TrainerState()
    ours.on_train_begin(None, state, None, model=model)
    for _ in range(30):
        state.global_step += 1
        nn.init.normal_(model.weight)
        model(torch.randn(4, 3))
        ours.on_step_end(None, state, None, model=model)
        theirs.update(model, step=state.global_step)
    mine, other = ours.average.module.state_dict(), theirs.module.state_dict()
    assert all(torch.equal(mine[name], other[name]) for name in other)
    assert mine["num_batches_tracked"] == 30


def test_a_tensor_of_two_names_is_averaged_once():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    shared = nn.ModuleList([model, model])  # as timm's CoaT uses some layers in many places
    once, twice = EMACallback(0.9), EMACallback(0.9)
    state = TrainerState()
    once.on_train_begin(None, state, None, model=model)
    twice.on_train_begin(None, state, None, model=shared)
    for _ in range(5):
        state.global_step += 1
        nn.init.normal_(model[0].weight)
        model(torch.randn(4, 3))
        once.on_step_end(None, state, None, model=model)
        twice.on_step_end(None, state, None, model=shared)
    other = once.average.module.state_dict()
    for name, value in twice.average.module.state_dict().items():
        assert torch.equal(value, other[name.split(".", 1)[1]])


def test_the_model_is_to_the_bit_what_it_was_after_it_has_been_averaged():
    model = nn.Linear(3, 3)
    averaged = EMACallback(0.5)
    averaged.on_train_begin(None, TrainerState(), None, model=model)
    before = model.weight.detach().clone()
    nn.init.normal_(averaged.average.module.weight)
    with averaged.in_place(model):
        assert torch.equal(model.weight, averaged.average.module.weight)
    assert torch.equal(model.weight, before)


@pytest.fixture
def averaged_run(drawn_fruits, shared):
    def make(folder):
        with pytest.MonkeyPatch.context() as patch:  # a temperature would divide the head's weights
            patch.setattr("hffruits.evaluation.calibration.fit_temperature", lambda *_: 1.0)
            train(*tiny_arguments(drawn_fruits, folder, **OPTIONS))

    return shared("averaged", make)


def test_the_artifact_is_the_best_epochs_average(averaged_run):
    log = json.loads((averaged_run / "log_history.json").read_text())
    best = min((row for row in log if "eval_loss" in row), key=lambda row: row["eval_loss"])
    checkpoint = averaged_run / f"checkpoint-{best['step']}"
    saved, average = load_model(averaged_run)[0].state_dict(), load_file(checkpoint / AVERAGE_FILE)
    raw = load_file(checkpoint / "model.safetensors")
    assert all(torch.equal(saved[name], average[name]) for name in average)
    assert not all(torch.equal(saved[name], raw[name]) for name in raw)


def test_validation_measures_the_average(averaged_run):
    """The best epoch's logged loss is that of the saved model."""
    log = json.loads((averaged_run / "log_history.json").read_text())
    best = min(row["eval_loss"] for row in log if "eval_loss" in row)
    measured = json.loads((averaged_run / "metrics.json").read_text())["validation"]["loss"]
    assert measured == pytest.approx(best, rel=1e-4)


def test_training_itself_does_not_change(averaged_run, drawn_fruits, tmp_path):
    train(*tiny_arguments(
        drawn_fruits, tmp_path, eval_strategy="epoch", save_strategy="epoch", num_train_epochs=3,
        load_best_model_at_end=False, save_total_limit=None, ema_decay=0.0,
    ))  # fmt: skip
    for checkpoint in tmp_path.glob("checkpoint-*"):
        plain = load_file(checkpoint / "model.safetensors")
        beside = load_file(averaged_run / checkpoint.name / "model.safetensors")
        assert all(torch.equal(plain[name], beside[name]) for name in plain)


def test_a_checkpoint_without_its_average_is_not_taken(
    averaged_run, tmp_path, drawn_fruits, caplog
):
    folder = tmp_path / "run"
    shutil.copytree(averaged_run, folder)
    (folder / "metrics.json").unlink()  # not yet finished
    for file in folder.glob(f"checkpoint-*/{AVERAGE_FILE}"):
        file.unlink()
    options = OPTIONS | {"resume_from_checkpoint": "last"}
    with pytest.raises(InputError, match="no checkpoint is complete"):
        train(*tiny_arguments(drawn_fruits, folder, **options))
    assert "ema.safetensors can't be read" in caplog.text
