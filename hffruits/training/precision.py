"""Precision: whether bfloat16 makes training faster on this CPU, by timing a few steps.

AMX doubles the speed of a ResNet and slows a net of depthwise convolutions with frozen stages.
"""

import time
from collections.abc import Callable, Iterable

import torch
from torch import nn

Forward = Callable[[torch.Tensor], torch.Tensor]
LONG = 10.0  # seconds after which no further step is tried
GAIN = 1.1  # bfloat16 is less exact: it must be this much faster to be worth it


def bf16_is_faster(
    model: nn.Module, size: tuple[int, int], *, batch_size: int = 16, forward: Forward | None = None
) -> bool:
    """Whether training steps of a model on the CPU are faster in bfloat16, by `step_seconds`."""
    return is_faster(step_seconds(model, size, batch_size=batch_size, forward=forward))


def is_faster(seconds: dict[bool, float]) -> bool:
    """Whether bfloat16 (True) gains enough to be worth it against float32 (False)."""
    return seconds[False] > GAIN * seconds[True]


def step_seconds(
    model: nn.Module,
    size: tuple[int, int],
    *,
    batch_size: int = 16,
    forward: Forward | None = None,
    precisions: Iterable[bool] = (False, True),
) -> dict[bool, float]:
    """Time training steps of a model in bfloat16 (True) and without it, some seconds in all.

    `forward` is what a step does with pixels (B, 3, H, W), if that isn't just to call the model.
    Leaves the model as it was: no weight, gradient or running statistic changes.
    """
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    was_training = model.training
    seconds = dict.fromkeys(precisions, float("inf"))
    forward = forward or (lambda pixels: model(pixel_values=pixels).logits)
    device = next(model.parameters()).device
    pixels = torch.zeros(batch_size, 3, *size, device=device)
    model.train()
    began = time.perf_counter()
    for _ in range(3):  # in turns; the fastest step counts, the first one warms up
        if time.perf_counter() - began > LONG:
            break
        for bf16 in seconds:
            started = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                logits = forward(pixels)
            logits.float().sum().backward()
            logits.detach().sum().item()  # a GPU has done it when this is known
            seconds[bf16] = min(seconds[bf16], time.perf_counter() - started)
    model.zero_grad(set_to_none=True)
    model.train(was_training)
    for name, buffer in model.named_buffers():
        buffer.copy_(before[name])
    return seconds
