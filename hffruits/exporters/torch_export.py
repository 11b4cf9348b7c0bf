"""A trained model as one graph of operations, by `torch.export`."""

import copy

import torch
from torch import nn
from transformers import PreTrainedModel

from hffruits.models.bn_folding import fold_batch_norm
from hffruits.models.heads import logits_and_features


class LogitsAndFeatures(nn.Module):
    """What is exported: the head's answer, and its input, by which unknown images are found."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, H, W) -> logits (B, K) and features (B, D)."""
        return logits_and_features(self.model, pixels)


def trace(model: PreTrainedModel, size: tuple[int, int]) -> torch.export.ExportedProgram:
    """The computation for any number of images of a size (high, wide), batch norm folded.

    `pixels` (B, 3, H, W) -> logits (B, K) and features (B, D). Of a model in eval mode on the CPU.
    """
    net, pixels, shapes = what_to_trace(model, size)
    with torch.no_grad():
        return torch.export.export(net, (pixels,), dynamic_shapes=shapes)


def what_to_trace(
    model: PreTrainedModel, size: tuple[int, int]
) -> tuple[LogitsAndFeatures, torch.Tensor, dict]:
    """The net, pixels to trace it with, and which of their dimensions may change."""
    pixels = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    # in float32, whatever the checkpoint; and with channels_last kernels, a graph would gather its
    # values one by one
    plain = copy.deepcopy(model).float().to(memory_format=torch.contiguous_format)
    net = LogitsAndFeatures(fold_batch_norm(plain, pixels))
    return net.eval(), pixels, {"pixels": {0: torch.export.Dim("batch")}}
