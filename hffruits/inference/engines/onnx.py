"""The ONNX Runtime engine: on an NVIDIA GPU where it can, else the CPU."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as state
from transformers import PretrainedConfig

from hffruits.core.distributed import cores_per_process
from hffruits.core.errors import InputError

_ERRORS = (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf)
_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


class OnnxEngine:
    """See `engines.base.Engine`."""

    def __init__(
        self,
        file: Path,
        config: PretrainedConfig,
        *,
        parameters: int,
        device: torch.device | None = None,
    ):
        self.config, self.parameters = config, parameters
        self.megabytes = file.stat().st_size / 1e6
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cores_per_process()
        options.log_severity_level = 3  # errors
        # else its threads spin when there is nothing to do, on cores that decode images
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers: list = [_CPU]
        on_cpu = device is not None and device.type != "cuda"
        if _CUDA in onnxruntime.get_available_providers() and not on_cpu:
            index = device.index if device and device.index is not None else 0
            providers.insert(0, (_CUDA, {"device_id": index}))
        self._session = onnxruntime.InferenceSession(file, options, providers=providers)
        on_gpu = self._session.get_providers()[0] == _CUDA
        self.device = torch.device("cuda" if on_gpu else "cpu")

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, H, W) -> logits (B, K) and features (B, D), in float32."""
        given = {"pixels": np.ascontiguousarray(pixels.numpy())}
        logits, features = self._session.run(["logits", "features"], given)
        return torch.from_numpy(logits), torch.from_numpy(features)


def open_export(
    file: Path,
    config: PretrainedConfig,
    record: dict[str, Any],
    *,
    device: str | torch.device | None = None,
) -> OnnxEngine:
    """Raises `InputError` for a file that ONNX Runtime can't read."""
    try:
        chosen = None if device is None else torch.device(device)
        return OnnxEngine(file, config, parameters=record["parameters"], device=chosen)
    except (*_ERRORS, OSError) as error:
        raise InputError(f"{file}: ONNX Runtime can't read it. Export the model again.") from error
