"""The OpenVINO engine, on the CPU: the fastest there, most of all in bfloat16."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PretrainedConfig

from hffruits.core.distributed import cores_per_process
from hffruits.core.errors import InputError
from hffruits.inference.engines.openvino_loading import load_openvino

logger = logging.getLogger(__name__)

# What a precision means to the runtime; an int8 graph says by itself what it rounds.
HINTS = {"fp32": "f32", "fp16": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVinoEngine:
    """See `base.Engine`. Where the processor has no bfloat16, OpenVINO computes in float32."""

    def __init__(self, file: Path, config: PretrainedConfig, *, precision: str, parameters: int):
        self.config, self.parameters = config, parameters
        self.device = torch.device("cpu")
        self.megabytes = file.with_suffix(".bin").stat().st_size / 1e6
        options = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, on all cores
            "INFERENCE_NUM_THREADS": cores_per_process(),
        }
        self._model = load_openvino().Core().compile_model(file, "CPU", options)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, H, W) -> logits (B, K) and features (B, D), in float32."""
        outputs = self._model(np.ascontiguousarray(pixels.numpy()))
        # copied, for the runtime writes the next outputs to the same place
        return torch.from_numpy(outputs[0].copy()), torch.from_numpy(outputs[1].copy())


def open_export(
    file: Path,
    config: PretrainedConfig,
    record: dict[str, Any],
    *,
    device: str | torch.device | None = None,
) -> OpenVinoEngine:
    """Raises `InputError` for a file that OpenVINO can't read. It takes no other device."""
    if device is not None and torch.device(device).type != "cpu":
        logger.info("%s: OpenVINO runs on the CPU", file.parent)
    try:
        return OpenVinoEngine(
            file, config, precision=record["precision"], parameters=record["parameters"]
        )
    except (RuntimeError, OSError) as error:
        raise InputError(f"{file}: OpenVINO can't read it. Export the model again.") from error
