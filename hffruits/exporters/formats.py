"""The formats that a trained model can be exported to: a row each, which writes its files.

Packages that only exports need are imported when a format is chosen.
"""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from hffruits.core.errors import InputError
from hffruits.inference.classifier import FruitClassifier
from hffruits.inference.engines.openvino_loading import load_openvino
from hffruits.models.artifact import ONNX, OPENVINO, OPENVINO_WEIGHTS, TORCH, WEB

Batches = Iterable[np.ndarray]  # of pixels (B, 3, H, W), to calibrate 8 bits by


@dataclass(frozen=True)
class Format:
    """`write` puts its files into a folder and returns their names, the one to open first."""

    precisions: tuple[str, ...]
    packages: tuple[str, ...]  # that it needs; the first has its name from the extra
    write: Callable[[FruitClassifier, Path, str, Batches], list[str]]


def choose_format(name: str, precision: str) -> Format:
    """The row of `FORMATS`. Raises `InputError` for names, and packages, that aren't there."""
    if name not in FORMATS:
        raise InputError(f"format={name}: unknown. Known: {', '.join(FORMATS)}.")
    chosen = FORMATS[name]
    if precision not in chosen.precisions:
        known = ", ".join(chosen.precisions)
        raise InputError(f"precision={precision}: not for {name}, which has {known}.")
    for package in chosen.packages:
        try:
            load_openvino() if package == "openvino" else importlib.import_module(package)
        except ImportError as error:
            remedy = f"Run pip install 'hffruits[{chosen.packages[0]}]'."
            raise InputError(f"format={name}: needs {package}. {remedy}") from error
    return chosen


def _write_onnx(
    fruits: FruitClassifier, folder: Path, precision: str, batches: Batches
) -> list[str]:
    graph = _onnx_graph(fruits, precision, batches)
    importlib.import_module("onnx").save(graph, folder / ONNX)
    return [ONNX]


def _write_openvino(
    fruits: FruitClassifier, folder: Path, precision: str, batches: Batches
) -> list[str]:
    openvino = load_openvino()
    whole = "int8" if precision == "int8" else "fp32"
    graph = _onnx_graph(fruits, whole, batches).SerializeToString()
    model, half = openvino.Core().read_model(graph), precision == "fp16"
    openvino.save_model(model, folder / OPENVINO, compress_to_fp16=half)
    return [OPENVINO, OPENVINO_WEIGHTS]


def _write_web(
    fruits: FruitClassifier, folder: Path, precision: str, batches: Batches
) -> list[str]:
    if fruits.transform.steps is None:
        name = type(fruits.transform.processor).__name__
        raise InputError(f"{name}: its preprocessing can't be put into a graph. Choose onnx.")
    whole = importlib.import_module("hffruits.exporters.web").with_preprocessing(
        _onnx_graph(fruits, precision, batches),
        fruits.transform.steps,
        labels=fruits.labels,
        prototypes=fruits.prototypes,
        ood_threshold=fruits.ood_threshold,
    )
    importlib.import_module("onnx").save(whole, folder / WEB)
    return [WEB]


def _write_torch(fruits: FruitClassifier, folder: Path, _: str, __: Batches) -> list[str]:
    trace = importlib.import_module("hffruits.exporters.torch_export").trace
    torch.export.save(trace(fruits.model, fruits.input_size), folder / TORCH)
    return [TORCH]


def _onnx_graph(fruits: FruitClassifier, precision: str, batches: Batches):
    onnx_export = importlib.import_module("hffruits.exporters.onnx")
    graph = onnx_export.to_onnx(fruits.model, fruits.input_size)
    if precision == "int8":
        return onnx_export.to_int8(graph, batches)
    return onnx_export.to_half(graph) if precision == "fp16" else graph


_ONNX_PACKAGES = ("onnx", "onnx_ir", "onnxscript", "onnxruntime")
FORMATS = {
    "onnx": Format(("fp32", "fp16", "int8"), _ONNX_PACKAGES, _write_onnx),
    "openvino": Format(
        ("fp32", "fp16", "bf16", "int8"), ("openvino", *_ONNX_PACKAGES), _write_openvino
    ),
    # one file, with the preprocessing inside, for ONNX Runtime in a browser
    "web": Format(("fp32", "fp16", "int8"), _ONNX_PACKAGES, _write_web),
    "torch": Format(("fp32",), (), _write_torch),  # torch.export
}
