"""Helpers: images, short runs, small models and commands that several test files share."""

import importlib.util
import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from PIL import Image
from transformers import TrainerCallback

from hffruits.data.arguments import DataArguments
from hffruits.data.images import readable_formats
from hffruits.training.arguments import FruitTrainingArguments, ModelArguments
from support.drawing import draw_fruit
from support.warm import run_group

ROOT = Path(__file__).parents[2]


REPO_ID = "user/fruits"  # a repository of the tests


UNTRAINED_LABELS = ["Kiwi", "Lime", "Pear"]


TINY_FLAGS = (  # as `tiny_arguments`, on a command line
    "--model_name_or_path=test_efficientnet", "--pretrained=false", "--image_size=32",
    "--freeze=none", "--eval_strategy=no", "--load_best_model_at_end=false", "--bf16=false",
)  # fmt: skip


def paint(path: Path, colour: str = "red", *, size: tuple[int, int] = (40, 32), seed: int = 0):
    """Write one noisy, coloured image; the format follows the suffix."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
    pixels = np.asarray(Image.new("RGB", size, colour)) // 2 + noise
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels.astype(np.uint8))
    if path.suffix.lower() in (".heic", ".heif", ".hif"):
        path.write_bytes(heic(image))
    else:
        image.save(path)
    return path


def heic(image: Image.Image, *more: Image.Image, **options) -> bytes:
    """A HEIC file as an iPhone writes it; `more` images behind the first."""
    readable_formats()  # registers the HEIF plugin
    file = io.BytesIO()
    options = {"quality": 90, "enc_params": {"preset": "ultrafast"}} | options
    image.save(file, "HEIF", save_all=bool(more), append_images=more, **options)
    return file.getvalue()


def quick_arguments(
    data_dir: Path, output_dir: Path, *, model: ModelArguments | None = None, **options
) -> tuple[DataArguments, ModelArguments, FruitTrainingArguments]:
    """Arguments of a run that takes seconds."""
    # so few steps only have to keep what the head is fitted to
    short = {"num_train_epochs": 2, "per_device_train_batch_size": 8, "learning_rate": 1e-4}
    fixed = {"bf16": False}  # otherwise each run would time which precision is faster
    options = short | fixed | options
    if options.get("eval_strategy") == "no":  # then there is no best epoch to keep
        options = {"save_strategy": "no", "load_best_model_at_end": False} | options
    return (
        DataArguments(data_dir=str(data_dir)),
        model or ModelArguments(),
        FruitTrainingArguments(output_dir=str(output_dir), **options),
    )


def tiny_arguments(
    data_dir: Path, output_dir: Path, *, model: ModelArguments | None = None, **options
) -> tuple[DataArguments, ModelArguments, FruitTrainingArguments]:
    """Arguments of a run that takes a second: a model of 0.4 M random weights on 32 pixels."""
    tiny = {"eval_strategy": "no", "disable_tqdm": True, "per_device_train_batch_size": 8}
    tiny_net = ModelArguments("test_efficientnet", pretrained=False, image_size=32, freeze="none")
    return quick_arguments(data_dir, output_dir, model=model or tiny_net, **tiny | options)


def losses(folder: Path) -> list[float]:
    """The logged training losses of a run."""
    log = json.loads((folder / "log_history.json").read_text())
    return [row["loss"] for row in log if "loss" in row]


def trainer_with(*more: TrainerCallback) -> Callable[..., None]:
    """A replacement for `FruitTrainer.__init__` that adds these callbacks, as the last ones."""
    from hffruits.training.trainer import FruitTrainer

    start = FruitTrainer.__init__

    def started(self, *args, callbacks=(), **kwargs):
        start(self, *args, callbacks=[*callbacks, *more], **kwargs)

    return started


def save_untrained(folder: Path, labels: list[str], *, net: str = "efficientnet_lite0") -> Path:
    """A model with an untrained head, whose OOD score separates drawn fruit from other images.

    Of `net`, random weights where it isn't the default; those separate nothing.
    """
    from hffruits.inference.classifier import FruitClassifier
    from hffruits.inference.ood import find_prototypes, save_prototypes
    from hffruits.models.loading import build_model

    model, processor = build_model(net, labels=labels, pretrained=net == "efficientnet_lite0")
    drawn = [draw_fruit(name, seed=seed) for name in ("Pear", "Kiwi") for seed in range(6)]
    (outputs,) = FruitClassifier(model.eval(), processor).infer(drawn)
    model.config.ood_threshold = 0.4
    model.save_pretrained(folder)
    save_prototypes(find_prototypes(outputs.features.numpy(), np.arange(12) // 6), folder)
    (folder / "metrics.json").write_text("{}")
    return folder


def put(files: dict[str, bytes], name: str = REPO_ID) -> None:
    """Commit files to a Hub repository, as another client."""
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    HfApi().create_commit(name, operations, commit_message="Someone else's")


def load_benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A script of `benchmarks/` as a module, for this test."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # the script may add to it
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


def launch(
    arguments: Iterable[str | Path], *, command: str = "train", processes: int = 2
) -> subprocess.CompletedProcess:
    """Run a command of `hffruits` on CPU processes that see what `torchrun` would show them."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["hffruits", command, *arguments]
        return run_group(words, processes=processes, folder=Path(folder))
