"""Several processes train as one does: the same batches, losses, weights and decisions."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.runs import TINY_FLAGS, launch, losses, tiny_arguments
from support.warm import run_group

from hffruits.core.errors import InputError
from hffruits.data.load import load_fruits
from hffruits.training.callbacks.ema import AVERAGE_FILE
from hffruits.training.checkpointing import checkpoints
from hffruits.training.run import train
from hffruits.training.run_state import TrainingRun
from hffruits.training.setup import leaves_unused, make_trainer, prepare_model

pytestmark = pytest.mark.usefixtures("without_report")

PHOTOS = {  # 30 to train on: with batches of 8, the last one has 6, which 4 processes divide
    "train/Apple": 8, "train/Banana": 7, "train/Lime": 8, "train/Plum": 7,
    "validation/Apple": 3, "validation/Banana": 2, "validation/Lime": 3, "validation/Plum": 3,
}  # fmt: skip
FLAGS = (  # batch norm's statistics would be each process's own
    *TINY_FLAGS, "--batch_norm=freeze", "--num_train_epochs=3", "--logging_steps=1",
    "--class_weights=balanced", "--ema_decay=0.9", "--warmup_steps=0",
)  # fmt: skip


@pytest.mark.slow
def test_one_two_and_four_processes_have_the_same_loss_curve(make_folder, tmp_path):
    photos = make_folder(PHOTOS)
    curves, weights, metrics = [], [], []
    for processes in (1, 2, 4):
        folder = tmp_path / str(processes)
        sizes = [f"--per_device_train_batch_size={8 // processes}", f"--output_dir={folder}"]
        done = launch([photos, *FLAGS, *sizes], processes=processes)
        assert done.returncode == 0, done.stderr
        curves.append(losses(folder))
        weights.append(load_file(folder / "model.safetensors"))
        metrics.append(json.loads((folder / "metrics.json").read_text()))
    assert [m["training"]["processes"] for m in metrics] == [1, 2, 4]
    assert len(curves[0]) == 12 and max(curves[0]) > 1.01 * min(curves[0])
    for curve, state, measured in zip(curves[1:], weights[1:], metrics[1:], strict=True):
        assert curve == pytest.approx(curves[0], rel=1e-4)
        for name, value in weights[0].items():
            torch.testing.assert_close(state[name], value, rtol=1e-3, atol=1e-4, msg=name)
        assert measured["validation"]["accuracy"] == metrics[0]["validation"]["accuracy"]
        assert measured["validation"]["images"] == 11


@pytest.mark.slow
def test_all_processes_agree_on_weights_averages_and_choices(drawn_fruits, tmp_path):
    words = ["support.rank_states", drawn_fruits, tmp_path / "run"]
    done = run_group(words, processes=3, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("SEEN"))
    first, *others = json.loads(line.removeprefix("SEEN"))
    assert len(others) == 2 and all(seen == first for seen in others)
    steps = [entry[0] for entry in first if isinstance(entry[0], int)]
    assert steps[-1] == steps[-2] < 5 * 4  # stopped early, all at once
    assert sum(entry[0] == "evaluated" for entry in first) >= 2


@pytest.mark.slow
def test_a_run_resumes_with_another_number_of_processes(make_folder, tmp_path):
    photos = make_folder(PHOTOS)
    uninterrupted, moved = tmp_path / "uninterrupted", tmp_path / "moved"
    saving = ["--save_strategy=steps", "--save_steps=6", "--save_total_limit=9"]
    sizes = ["--per_device_train_batch_size=4", f"--output_dir={uninterrupted}"]
    done = launch([photos, *FLAGS, *saving, *sizes], processes=2)
    assert done.returncode == 0, done.stderr
    shutil.copytree(uninterrupted, moved)
    (moved / "metrics.json").unlink()  # as if it had ended in mid-epoch, at step 6 of 12
    again = [f"--output_dir={moved}", f"--resume_from_checkpoint={moved / 'checkpoint-6'}"]
    done = launch([photos, *FLAGS, *saving, *again, "--per_device_train_batch_size=8"], processes=1)
    assert done.returncode == 0, done.stderr
    assert losses(moved) == pytest.approx(losses(uninterrupted), rel=1e-4)
    expected, got = (load_file(run / "model.safetensors") for run in (uninterrupted, moved))
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.slow
def test_what_several_processes_validate_is_what_they_save(make_folder, tmp_path):
    photos, folder = make_folder(PHOTOS), tmp_path / "run"  # 11 to validate: the parts differ
    flags = ["--batch_norm=train", "--eval_strategy=epoch", "--load_best_model_at_end=true"]
    sizes = ["--num_train_epochs=2", "--per_device_train_batch_size=4", "--save_total_limit=9"]
    done = launch([photos, *TINY_FLAGS, *flags, *sizes, f"--output_dir={folder}"], processes=2)
    assert done.returncode == 0, done.stderr
    log = json.loads((folder / "log_history.json").read_text())
    logged = [row["eval_loss"] for row in log if "eval_loss" in row]
    arguments = tiny_arguments(photos, tmp_path / "again", eval_strategy="epoch")
    datasets, measured = load_fruits(photos), []
    for checkpoint in checkpoints(folder):
        prepared = prepare_model(*arguments[1:], datasets["train"].features["label"].names)
        prepared.model.load_state_dict(load_file(checkpoint / AVERAGE_FILE))
        trainer = make_trainer(TrainingRun(*arguments, datasets=datasets, prepared=prepared))
        measured.append(trainer.evaluate()["eval_loss"])
    assert len(logged) == 2 and measured == pytest.approx(logged, rel=1e-5)


def test_a_run_is_not_resumed_with_another_batch_size(drawn_fruits, tmp_path):
    options = {"max_steps": 2, "save_strategy": "epoch", "resume_from_checkpoint": "last"}
    train(
        *tiny_arguments(
            drawn_fruits, tmp_path / "saved", **options | {"resume_from_checkpoint": None}
        )
    )
    options |= {"per_device_train_batch_size": 4}
    with pytest.raises(InputError, match=r"= 4: the run began with 8 x 1 x 1 = 8\. Resume with"):
        train(*tiny_arguments(drawn_fruits, tmp_path / "saved", **options))


def test_weights_without_a_part_in_the_answer_are_found():
    _, model_args, args = tiny_arguments(Path("photos"), Path("run"))
    prepared = prepare_model(model_args, args, ["Apple", "Kiwi"])
    before = {name: value.clone() for name, value in prepared.model.state_dict().items()}
    assert not leaves_unused(prepared)
    for name, value in prepared.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    prepared.model.unused = torch.nn.Linear(2, 2)
    assert leaves_unused(prepared)
    assert all(parameter.grad is None for parameter in prepared.model.parameters())
