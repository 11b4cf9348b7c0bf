"""What keeps a GPU busy, tested without one: uint8 transfer, steps that never synchronise."""

import json
import math

import pytest
import torch
from support.runs import quick_arguments, tiny_arguments
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import TrainerCallback

from hffruits import InputError
from hffruits.core.distributed import may_use_cuda
from hffruits.data.transforms import scaling_of
from hffruits.training import arguments as config
from hffruits.training import run as training
from hffruits.training import setup as preparation
from hffruits.training.argument_checks import warn_of_missing_gpu
from hffruits.training.arguments import ModelArguments
from hffruits.training.run import train
from hffruits.training.run_state import PreparedModel

pytestmark = pytest.mark.usefixtures("without_report")


def losses(folder) -> list[float]:
    rows = json.loads((folder / "log_history.json").read_text())
    return [row["loss"] for row in rows if "loss" in row]


@pytest.mark.parametrize(("kind", "pinned"), [("cuda", True), ("mps", False)])
def test_memory_is_pinned_for_the_accelerator_that_is_used(monkeypatch, kind, pinned):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda: torch.device(kind))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert may_use_cuda() == pinned


def test_a_device_that_scales_the_pixels_learns_the_same(drawn_fruits, tmp_path, monkeypatch):
    options = {"max_steps": 3, "logging_steps": 1}
    train(*tiny_arguments(drawn_fruits, tmp_path / "host", **options))
    asked = []

    def scaling(prepared, augment, device):
        asked.append(device)
        return scaling_of(prepared.processor, augment)

    monkeypatch.setattr(preparation, "device_scaling", scaling)
    train(*tiny_arguments(drawn_fruits, tmp_path / "device", **options))
    assert asked and len(losses(tmp_path / "host")) == 3
    assert losses(tmp_path / "device") == pytest.approx(losses(tmp_path / "host"), abs=1e-4)


def test_only_a_gpu_is_left_the_scaling():
    _, processor = preparation.build_model("efficientnet_lite0", labels=["a", "b"])
    prepared = PreparedModel(torch.nn.Identity(), processor, (), "none", "train")
    assert preparation.device_scaling(prepared, "light", torch.device("cpu")) is None
    assert preparation.device_scaling(prepared, "light", torch.device("cuda")) is not None


@pytest.mark.parametrize(("cores", "workers"), [(1, 1), (8, 8), (64, 16)])
def test_a_gpu_gets_all_cores_up_to_a_limit(monkeypatch, cores, workers):
    monkeypatch.setattr(config, "cores_per_process", lambda: cores)
    assert config.choose_num_workers(True) == workers
    assert config.choose_num_workers(False) == 0


NUMBER = torch.ops.aten._local_scalar_dense.default  # that Python has to know
COPY = torch.ops.aten.lift_fresh.default  # a tensor made of Python's numbers


class CountWaits(TorchDispatchMode):
    """Counts operations for which a GPU would be waited for."""

    def __init__(self, *operations):
        super().__init__()
        self.operations, self.counted = operations, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counted += func in self.operations
        return func(*args, **(kwargs or {}))


class CountInSteps(TrainerCallback):
    """From the beginning of each step to that of the next, callbacks and reading included."""

    def __init__(self):
        self.steps: list[int] = []
        self.mode: CountWaits | None = None

    def on_step_begin(self, args, state, control, **kwargs):
        self.stop()
        self.mode = CountWaits(NUMBER)
        self.mode.__enter__()

    def on_epoch_end(self, args, state, control, **kwargs):
        self.stop()

    def stop(self):
        if self.mode:
            self.mode.__exit__(None, None, None)
            self.steps.append(self.mode.counted)
            self.mode = None


@pytest.mark.parametrize("feature_cache_views", [0, 1])
@pytest.mark.parametrize("filters", [False, True])
def test_no_step_waits_for_its_numbers(
    drawn_fruits, tmp_path, monkeypatch, filters, feature_cache_views
):
    """With optimizer, clipping and average. The log's filter of losses would wait, and it shows."""
    counts = CountInSteps()
    monkeypatch.setattr(
        training, "LogParameterGroupsCallback", lambda: counts
    )  # one of the callbacks
    monkeypatch.setattr(preparation, "device_scaling", lambda p, a, _: scaling_of(p.processor, a))
    options = {"num_train_epochs": 1, "logging_steps": 100, "eval_strategy": "no"}
    options |= {"logging_nan_inf_filter": filters, "class_weights": "balanced"}
    options |= {"dataloader_num_workers": 1}  # which prepares the images, as for a GPU
    model = ModelArguments(image_size=64, feature_cache_views=feature_cache_views)
    train(*quick_arguments(drawn_fruits, tmp_path, model=model, **options))
    assert len(counts.steps) == 4
    assert all((count > 0) == filters for count in counts.steps)


def test_scaling_sends_its_numbers_once():
    _, processor = preparation.build_model("efficientnet_lite0", labels=["a", "b"])
    scaling = scaling_of(processor, "light")
    values = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    scaling(values)
    with CountWaits(NUMBER, COPY) as waits:
        scaling(values)
    assert not waits.counted


def test_a_nan_loss_is_logged(drawn_fruits, tmp_path, monkeypatch):
    logged = []

    class Log(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            logged.extend(logs[name] for name in ("loss",) if name in logs)

    monkeypatch.setattr(training, "LogParameterGroupsCallback", Log)
    options = {"max_steps": 4, "logging_steps": 1, "learning_rate": 1e30, "max_grad_norm": 0.0}
    with pytest.raises(InputError, match="training has diverged"):
        train(*tiny_arguments(drawn_fruits, tmp_path, optim="sgd", **options))
    assert math.isfinite(logged[0]) and math.isnan(logged[-1])


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        ({"fp16": True}, {}, "fp16 is slower than float32 there"),
        ({"bf16": True}, {}, "bf16 is slower than float32 there"),
        ({}, {"ACCELERATE_MIXED_PRECISION": "fp16"}, "fp16 is slower than float32 there"),
        ({}, {"ACCELERATE_USE_CPU": "False", "WORLD_SIZE": "4"}, "4 processes share it"),
        ({}, {"ACCELERATE_USE_CPU": "True", "WORLD_SIZE": "4"}, None),
        ({}, {}, None),
    ],
)
def test_what_asks_for_a_gpu_where_there_is_none_is_warned_of_in_a_line(
    options, environment, said, monkeypatch, caplog
):
    monkeypatch.setattr("hffruits.training.argument_checks.cpu_has_bf16", lambda: False)
    size = environment.pop("WORLD_SIZE", "1")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    args = config.FruitTrainingArguments(output_dir="run", **options)
    monkeypatch.setenv("WORLD_SIZE", size)  # else the arguments would wait for the others
    warn_of_missing_gpu(args)
    lines = [line for line in caplog.messages if "no GPU is used" in line]
    assert len(lines) == (said is not None) and (not said or said in lines[0])
