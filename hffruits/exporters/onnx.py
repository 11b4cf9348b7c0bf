"""A traced model as an ONNX graph, in float32, float16 or 8 bits.

Makes graphs; choosing images, checking and saving happen elsewhere.
"""

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxruntime.transformers.float16 import convert_float_to_float16
from transformers import PreTrainedModel

from hffruits.exporters.torch_export import what_to_trace, with_any_attention

OPSET = 20


def to_onnx(model: PreTrainedModel, size: tuple[int, int]) -> onnx.ModelProto:
    """The graph of a model in eval mode on the CPU, for images of a size (high, wide).

    `pixels` float32 (B, 3, H, W) -> `logits` (B, K), `features` (B, D).
    """
    graph = with_any_attention(partial(_convert, size=size), model)
    del graph.metadata_props[:]
    for node in graph.graph.node:  # each holds the stack trace of the code that it came from
        del node.metadata_props[:]
        node.doc_string = ""
    return graph


def _convert(model: PreTrainedModel, size: tuple[int, int]) -> onnx.ModelProto:
    net, pixels, shapes = what_to_trace(model, size)
    names = {"input_names": ["pixels"], "output_names": ["logits", "features"]}
    options = {"opset_version": OPSET, "dynamo": True, "verbose": False, "dynamic_shapes": shapes}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints each of its steps
        return torch.onnx.export(net, (pixels,), **names, **options).model_proto


def to_half(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Weights and sums in float16; what goes in and out stays float32."""
    model = onnx_ir.from_proto(convert_float_to_float16(graph, keep_io_types=True))
    model.graph.sort()  # its casts stand at the end
    return onnx_ir.to_proto(model)


def to_int8(graph: onnx.ModelProto, batches: Iterable[np.ndarray]) -> onnx.ModelProto:
    """Weights and activations in 8 bits, as their ranges on batches (B, 3, H, W) suggest.

    Each channel's weights have a scale of their own; the head stays in float32, for scores in
    steps of 1/256 of their range would tie.
    """
    with tempfile.TemporaryDirectory() as folder, _only_errors():
        plain, made = Path(folder, "plain.onnx"), Path(folder, "int8.onnx")
        quant_pre_process(graph, plain)
        nodes = onnx.load(plain).graph.node
        quantize_static(
            plain,
            made,
            _Reader(iter(batches)),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[node.name for node in nodes if "logits" in node.output],
        )
        return onnx.load(made)


class _Reader(CalibrationDataReader):
    def __init__(self, batches: Iterator[np.ndarray]):
        self.batches = batches

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.batches, None)
        return None if batch is None else {"pixels": batch}


@contextlib.contextmanager
def _only_errors() -> Iterator[None]:
    """The quantizer logs its steps by the root logger."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logging.root.setLevel(level)
