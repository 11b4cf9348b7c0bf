"""A trained model as one graph of operations, by `torch.export`."""

import copy
import logging
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn
from transformers import PreTrainedModel

from hffruits.core.errors import plain_line
from hffruits.models.bn_folding import fold_batch_norm
from hffruits.models.heads import logits_and_features
from hffruits.models.saving import quiet_transformers

logger = logging.getLogger(__name__)
T = TypeVar("T")
# What tracing raises for a net that it can't follow, of no class of their own.
TRACING_ERRORS = (RuntimeError, TypeError, ValueError, AssertionError, AttributeError, LookupError)


class LogitsAndFeatures(nn.Module):
    """What is exported: the head's output, and its input, by which unknown images are found."""

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

    def convert(model: PreTrainedModel) -> torch.export.ExportedProgram:
        net, pixels, shapes = what_to_trace(model, size)
        with torch.no_grad():
            return torch.export.export(net, (pixels,), dynamic_shapes=shapes)

    return with_any_attention(convert, model)


def with_any_attention(convert: Callable[[PreTrainedModel], T], model: PreTrainedModel) -> T:
    """What `convert` makes of a model, or, if that fails, of one whose attention isn't fused.

    Window attention (Swin, MaxViT, Hiera) takes part of the batch for heads or windows, of which
    the fused operation, when traced, wants to know the number. The outputs are the same.
    """
    try:
        return convert(model)
    except TRACING_ERRORS as error:
        unfused = copy.deepcopy(model)
        if not unfuse_attention(unfused):
            raise
        logger.info("trying again with plain attention: %s", first_cause(error))
        return convert(unfused)


def first_cause(error: BaseException) -> str:
    """What torch's exporter met with: its own words are about which step of it failed.

    In its first line: what follows says where, or what to report to PyTorch.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    lines = filter(None, map(plain_line, str(error).splitlines()))
    return next(lines, type(error).__name__).rstrip(".:")


def unfuse_attention(model: PreTrainedModel) -> bool:
    """Have a model compute attention in plain steps from now on; whether it was fused before."""
    of_timm = [module for module in model.modules() if vars(module).get("fused_attn")]
    for module in of_timm:
        module.fused_attn = False
    before = model.config._attn_implementation
    with quiet_transformers():  # it warns of nets without attention
        model.set_attn_implementation("eager")
    return bool(of_timm) or before != model.config._attn_implementation


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
