"""Whether bfloat16 really makes training faster here: by rule on GPUs, by trying on CPUs.

AMX doubles the speed of a ResNet and slows a net of depthwise convolutions with frozen stages.
"""

import time
from collections.abc import Callable

import torch
from torch import nn

Forward = Callable[[torch.Tensor], torch.Tensor]
GAIN = 1.1  # bfloat16 is less exact: it must be this much faster to be worth it


def gpu_has_bf16() -> bool:
    """True for GPUs with bfloat16 units: NVIDIA's from Ampere on."""
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def cpu_has_bf16() -> bool:
    """True for processors with AMX, where there is no GPU to train on."""
    return not torch.accelerator.is_available() and torch.cpu._is_amx_tile_supported()


def has_bf16(device: torch.device) -> bool:
    """True where a device computes in bfloat16 at full speed."""
    return cpu_has_bf16() if device.type == "cpu" else gpu_has_bf16()


def bf16_is_faster(
    model: nn.Module, size: tuple[int, int], *, batch_size: int = 16, forward: Forward | None = None
) -> bool:
    """Time training steps of a model on the CPU in both precisions, some seconds in all.

    `forward` is what a step does with pixels (B, 3, H, W), if that isn't just to call the model.
    Leaves the model as it was: no weight, gradient or running statistic changes.
    """
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    was_training = model.training
    seconds = {False: float("inf"), True: float("inf")}
    forward = forward or (lambda pixels: model(pixel_values=pixels).logits)
    pixels = torch.zeros(batch_size, 3, *size)
    model.train()
    for _ in range(3):  # in turns; the quickest step counts, the first one warms up
        for bf16 in seconds:
            started = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                logits = forward(pixels)
            logits.float().sum().backward()
            seconds[bf16] = min(seconds[bf16], time.perf_counter() - started)
    model.zero_grad(set_to_none=True)
    model.train(was_training)
    for name, buffer in model.named_buffers():
        buffer.copy_(kept[name])
    return seconds[False] > GAIN * seconds[True]
