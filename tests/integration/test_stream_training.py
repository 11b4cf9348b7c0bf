"""A run on streamed shards learns, resumes and is distributed like one on folders."""

import io
import json
import tarfile
from pathlib import Path

import pytest
from support.runs import launch, tiny_arguments, trainer_with
from transformers import TrainerCallback

from hffruits.core.errors import InputError
from hffruits.data.arguments import DataArguments
from hffruits.training.run import train
from hffruits.training.trainer import FruitTrainer

pytestmark = pytest.mark.usefixtures("without_report")


@pytest.fixture(scope="module")
def shards(drawn_fruits: Path, tmp_path_factory) -> Path:
    """`drawn_fruits` as WebDataset: three shards to train on, one to validate, one to test."""
    folder = tmp_path_factory.mktemp("shards")
    for split, count in {"train": 3, "validation": 1, "test": 1}.items():
        files = sorted((drawn_fruits / split).rglob("*.png"))
        for number in range(count):
            with tarfile.open(folder / f"{split}-{number}.tar", "w") as tar:
                for path in files[number::count]:
                    key = f"{split}-{path.parent.name}-{path.stem}"
                    for suffix, content in (
                        ("png", path.read_bytes()),
                        ("txt", path.parent.name.encode()),
                    ):
                        member = tarfile.TarInfo(f"{key}.{suffix}")
                        member.size = len(content)
                        tar.addfile(member, io.BytesIO(content))
    return folder


def streamed(shards: Path, output_dir: Path, **options):
    """Arguments of a tiny run on the shards."""
    _, model, args = tiny_arguments(shards, output_dir, **options)
    return DataArguments(data_dir=str(shards), streaming=True, shuffle_buffer=8), model, args


def test_a_streamed_run_ends_with_the_same_kind_of_artifact(shards, drawn_fruits, tmp_path):
    metrics = train(*streamed(shards, tmp_path / "run", batch_norm="recalibrate"))
    folders = train(*tiny_arguments(drawn_fruits, tmp_path / "folders"))
    for counts in ("images", "images_per_class"):
        assert metrics["data"][counts] == folders["data"][counts]
    assert metrics["training"]["steps"] == folders["training"]["steps"] == 8
    assert folders["test"].keys() - metrics["test"].keys() == {"coarse_accuracy"}
    labels = [
        json.loads((tmp_path / name / "config.json").read_text())["label_names"]
        for name in ("run", "folders")
    ]
    assert labels[0] == labels[1]
    assert not (tmp_path / "run" / "splits").exists()


def test_evaluation_of_a_stream_equals_that_of_the_folders(shards, drawn_fruits, tmp_path, trained):
    from hffruits.data.arguments import DataArguments
    from hffruits.data.load import load_fruits
    from hffruits.data.stream_dataset import load_streams
    from hffruits.data.transforms import EvalTransform
    from hffruits.models.loading import load_model
    from hffruits.training.datasets import as_tensors

    model, processor = load_model(trained)
    *_, args = tiny_arguments(drawn_fruits, tmp_path)
    transform = EvalTransform(processor)
    streams = load_streams(DataArguments(shards, streaming=True))
    results = [
        FruitTrainer(model=model, args=args).evaluate(as_tensors(data.split("test"), transform))
        for data in (streams, load_fruits(drawn_fruits))
    ]
    for name in ("eval_loss", "eval_accuracy", "eval_macro_f1"):
        assert results[0][name] == pytest.approx(results[1][name], abs=1e-6)


class Stop(Exception):
    """Stands for a power cut."""


class StopAt(TrainerCallback):
    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise Stop


@pytest.mark.parametrize("workers", [0, 2])
def test_a_streamed_run_resumed_in_mid_epoch_equals_an_uninterrupted_one(
    shards, tmp_path, monkeypatch, workers
):
    options = {
        "save_strategy": "steps",
        "save_steps": 1,
        "load_best_model_at_end": False,
        "dataloader_num_workers": workers,
        "logging_steps": 1,
    }
    train(*streamed(shards, tmp_path / "whole", **options))
    with monkeypatch.context() as patch:
        patch.setattr(FruitTrainer, "__init__", trainer_with(StopAt(6)))
        with pytest.raises(Stop):
            train(*streamed(shards, tmp_path / "cut", **options))
    train(*streamed(shards, tmp_path / "cut", resume_from_checkpoint="last", **options))
    whole, cut = (tmp_path / name / "model.safetensors" for name in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()


@pytest.mark.slow
def test_two_processes_see_every_streamed_row_once(shards, tmp_path):
    command = ["--model_name_or_path=test_efficientnet", "--pretrained=false", "--image_size=32"]
    flags = ["--freeze=none", "--num_train_epochs=2", "--per_device_train_batch_size=4"]
    done = launch(
        [shards, "--streaming", *command, *flags, "--bf16=false", f"--output_dir={tmp_path / 'r'}"]
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "r" / "metrics.json").read_text())
    assert metrics["training"]["processes"] == 2
    assert metrics["training"]["steps"] == 8  # 32 rows in steps of 2 x 4, twice
    assert metrics["test"]["images"] == 20


def test_streaming_a_folder_of_photos_is_refused(drawn_fruits, tmp_path):
    data, model, args = streamed(drawn_fruits, tmp_path / "run")
    with pytest.raises(InputError, match="streaming is for shards"):
        train(data, model, args)
