"""Training that has diverged is stopped before any of it is saved, and the step is reported."""

import json
import math
import re

import pytest
import torch
from safetensors.torch import load_file
from support.runs import tiny_arguments, trainer_with
from transformers import TrainerCallback

from hffruits.core.errors import InputError
from hffruits.training.callbacks.divergence import (
    BEFORE_SAVING,
    IN_A_ROW,
    TIMES,
    DivergenceCallback,
)
from hffruits.training.checkpointing import checkpoints, newest_whole
from hffruits.training.run import train
from hffruits.training.trainer import FruitTrainer

pytestmark = pytest.mark.usefixtures("without_report")

BROKEN = 6  # of 8 steps, 4 an epoch


def break_steps(monkeypatch, *numbers: int) -> list[list[int]]:
    """Make the logits of these steps NaN; returns the labels that each step sees."""
    forward, seen = FruitTrainer._forward, []

    def broken(self, model, inputs):
        outputs = forward(self, model, inputs)
        if model.training:
            seen.append(inputs["labels"].tolist())
            if self.state.global_step + 1 in numbers:
                outputs.logits = outputs.logits * math.nan
        return outputs

    monkeypatch.setattr(FruitTrainer, "_forward", broken)
    return seen


def test_a_loss_that_is_nan_stops_the_run_and_names_its_photos(drawn_fruits, tmp_path, monkeypatch):
    seen = break_steps(monkeypatch, BROKEN)
    folder = tmp_path / "run"
    options = {"save_strategy": "epoch", "logging_steps": 50, "warmup_steps": 0}
    with pytest.raises(InputError) as raised:
        train(*tiny_arguments(drawn_fruits, folder, learning_rate=1e-3, **options))
    found = json.loads((folder / "diverged.json").read_text())
    message = str(raised.value)
    assert f"the loss is nan at step {BROKEN} (learning rate 0.000" in message
    assert f"photos {', '.join(found['photos'][:3])}, ..." in message
    assert "resume with max_skipped_steps (checkpoint-4 is from before it); else start" in message
    assert found["step"] == BROKEN and found["loss"] == "nan"
    names = sorted({name.rsplit("/", 2)[1] for name in found["photos"]})
    labels = [sorted(names).index(name.rsplit("/", 2)[1]) for name in found["photos"]]
    assert len(names) == 4 and labels == seen[BROKEN - 1]  # these very photos
    assert [path.name for path in checkpoints(folder)] == ["checkpoint-4"]
    assert newest_whole(folder) == folder / "checkpoint-4"
    weights = load_file(folder / "checkpoint-4" / "model.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_a_validation_loss_that_is_nan_stops_the_run_unsaved(drawn_fruits, tmp_path):
    folder = tmp_path / "run"
    options = {"eval_strategy": "epoch", "save_strategy": "epoch", "optim": "sgd"}
    options |= {"learning_rate": 1e6, "warmup_steps": 0, "logging_steps": 50}
    with pytest.raises(InputError, match=r"training has diverged: the (validation )?loss is"):
        train(*tiny_arguments(drawn_fruits, folder, **options))
    assert not checkpoints(folder)


def test_a_short_run_that_diverged_fails_and_saves_nothing(drawn_fruits, tmp_path, monkeypatch):
    forward = FruitTrainer._forward

    def wild(self, model, inputs):
        outputs = forward(self, model, inputs)
        if model.training and self.state.global_step >= 4:
            outputs.logits = outputs.logits - 1e6 * torch.nn.functional.one_hot(inputs["labels"], 4)
        return outputs

    monkeypatch.setattr(FruitTrainer, "_forward", wild)
    for save in ("epoch", "no"):
        folder = tmp_path / save
        with pytest.raises(InputError) as raised:  # 8 steps
            train(*tiny_arguments(drawn_fruits, folder, save_strategy=save, logging_steps=50))
        assert re.search(r"training has diverged: the loss is \S+ at step 5 ", str(raised.value))
        assert "diverged.json. Start again with a lower learning_rate" in str(raised.value)
        saved = ["checkpoint-4"] if save == "epoch" else []
        assert [path.name for path in checkpoints(folder)] == saved
        assert not (folder / "model.safetensors").exists()


def test_bad_steps_may_be_skipped_up_to_a_number(drawn_fruits, tmp_path, monkeypatch, caplog):
    for clip_mode in ("norm", "value", "agc"):
        folder = tmp_path / clip_mode
        with monkeypatch.context() as patched:
            break_steps(patched, 2, BROKEN)
            options = {"max_skipped_steps": 2, "logging_steps": 1, "clip_mode": clip_mode}
            metrics = train(*tiny_arguments(drawn_fruits, folder, **options))
        assert metrics["training"]["steps"] == 8
        assert "at step 2 " in caplog.text and "skipped; 0 more may be" in caplog.text
        weights = load_file(folder / "model.safetensors")
        assert all(torch.isfinite(value).all() for value in weights.values())
    break_steps(monkeypatch, 2, BROKEN)
    with pytest.raises(InputError, match=f"at step {BROKEN} "):
        train(*tiny_arguments(drawn_fruits, tmp_path / "one", max_skipped_steps=1))


class CountUpdates(TrainerCallback):
    """Takes the weights before and after each step."""

    def __init__(self):
        self.moved: list[bool] = []

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        self.before = [value.clone() for value in model.parameters()]

    def on_step_end(self, args, state, control, model=None, **kwargs):
        after = model.parameters()
        same = all(torch.equal(*pair) for pair in zip(self.before, after, strict=True))
        self.moved.append(not same)


def test_a_step_that_is_skipped_moves_no_weight(drawn_fruits, tmp_path, monkeypatch):
    break_steps(monkeypatch, 3)
    counting = CountUpdates()
    monkeypatch.setattr(FruitTrainer, "__init__", trainer_with(counting))
    options = {"max_skipped_steps": 1, "warmup_steps": 0, "num_train_epochs": 1}
    train(*tiny_arguments(drawn_fruits, tmp_path / "run", lr_scheduler_type="constant", **options))
    assert counting.moved == [True, True, False, True]


def test_a_loss_that_stays_far_above_chance_is_found():
    class Optimizer:
        param_groups = ({"lr": 0.5}, {"lr": 0.25})

    class State:
        global_step = 0

    limit = TIMES * math.log(16)
    for losses, in_a_row, found_at in [
        ([limit + 1] * 9, IN_A_ROW, None),
        ([limit + 1] * 9 + [limit - 1] + [limit + 1] * 9, IN_A_ROW, None),
        ([1.0] * 5 + [limit + 1] * 10, IN_A_ROW, 6),
        ([1.0] * 5 + [limit + 1] * 4, BEFORE_SAVING, 6),
        ([1.0] * 5 + [limit + 1] * 2, BEFORE_SAVING, None),
    ]:
        divergence = DivergenceCallback(classes=16)
        for number, loss in enumerate(losses):
            divergence.add_loss(torch.tensor(loss))
            divergence.norm = torch.tensor(1.0)
            State.global_step = number
            divergence.on_pre_optimizer_step(None, State, None, optimizer=Optimizer)
        bad = divergence.find(in_a_row=in_a_row)
        assert (bad and bad.number) == found_at
        if bad:
            assert bad.learning_rate == 0.5
    State.global_step = 99
    divergence = DivergenceCallback(
        classes=16, scaled=True
    )  # fp16: its scaler sees to the gradients
    divergence.add_loss(torch.tensor(1.0))
    divergence.norm = torch.tensor(math.inf)
    divergence.on_pre_optimizer_step(None, State, None, optimizer=Optimizer)
    assert divergence.find() is None
