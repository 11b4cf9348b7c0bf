"""The protocol of an engine, which runs a model, and the opener that picks one by the folder.

Engines differ only in `forward`. Images, labels and scores are the classifier's.
"""

import importlib
import json
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PretrainedConfig
from transformers.image_processing_utils import BaseImageProcessor

from hffruits.core.errors import InputError
from hffruits.inference.engines.torch import TorchEngine
from hffruits.models.artifact import EXPORT
from hffruits.models.loading import load_config, load_folder

EXPORT_PRECISIONS = ("fp32", "fp16", "bf16", "int8")


class Engine(Protocol):
    """A model that is ready to predict, whatever runs it. Not to be called by two threads at once.

    `device` is where its outputs are computed, as a user would name it.
    """

    config: PretrainedConfig
    device: torch.device
    parameters: int
    megabytes: float

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, H, W) -> logits (B, K) and features (B, D), on the CPU, in float32."""
        ...


# An export's format -> the module that runs it, and the package that this needs.
RUNTIMES = {
    "onnx": ("hffruits.inference.engines.onnx", "onnxruntime"),
    "openvino": ("hffruits.inference.engines.openvino", "openvino"),
}


def open_engine(
    folder: Path,
    *,
    name: str | None = None,
    device: str | torch.device | None = None,
    precision: str = "fp32",
) -> tuple[Engine, BaseImageProcessor]:
    """The model in a folder, trained or exported, and its image processor.

    An export runs where and as precisely as it was made for. `name` is what to call the model in
    errors. Raises `InputError` for one that can't be loaded, and for an export whose runtime is not
    installed.
    """
    name = name or str(folder)
    if not (folder / EXPORT).is_file():
        model, processor = load_folder(folder, name=name)
        return TorchEngine(model, device=device, precision=precision), processor
    if precision != "fp32":
        raise InputError(f"precision={precision}: {name} is an export. Export it like that.")
    record = read_export(folder / EXPORT)
    config, processor = load_config(folder, name=name)
    files = [folder / part for part in record["files"]]
    if missing := [file.name for file in files if not file.is_file()]:
        raise InputError(f"{name}: {missing[0]} is missing. Export the model again.")
    runtime, package = RUNTIMES[record["format"]]
    try:
        engine = importlib.import_module(runtime).open_export(
            files[0], config, record, device=device
        )
    except ImportError as error:
        raise InputError(
            f"{name}: needs {package}. Run pip install 'hffruits[{record['format']}]'."
        ) from error
    return engine, processor


def read_export(file: Path) -> dict[str, Any]:
    """What `export.json` says. Raises `InputError` for one that exporting has not written."""
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        format, files = record["format"], record["files"]
        whole = files and all(isinstance(name, str) and Path(name).name == name for name in files)
        whole = whole and record["precision"] in EXPORT_PRECISIONS
        whole = whole and isinstance(record["parameters"], int)
        if not whole:
            raise ValueError("a value of another type")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file}: not as exporting wrote it. Export the model again.") from error
    if format not in RUNTIMES:
        known = ", ".join(RUNTIMES)
        raise InputError(
            f"{file}: an export for use without hffruits ({format}). Load one of these: {known}."
        )
    return record
