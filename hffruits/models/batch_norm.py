"""Batch-norm policies of fine-tuning: a small batch estimates the statistics badly."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from accelerate import PartialState
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

POLICIES = (
    "train",  # statistics and weights follow the training batches
    "freeze",  # statistics and weights stay as they were pretrained
    "freeze_stats",  # statistics stay, weights learn
    "sync",  # statistics over the batches of all processes, on GPUs
    "recalibrate",  # as train; at the end, statistics computed again from clean training images
)


def batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """The model's batch-norm layers by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, _BatchNorm)}


def set_policy(model: nn.Module, policy: str) -> tuple[nn.Module, list[str]]:
    """The model under one of `POLICIES`, and the names of the parameters that this froze."""
    frozen = []
    if policy == "freeze":
        for path, norm in batch_norms(model).items():
            for name, parameter in norm.named_parameters(recurse=False):
                parameter.requires_grad_(False)
                frozen.append(f"{path}.{name}")
    if policy == "sync":
        model = convert_sync_batchnorm(model)
    return model, frozen


def hold_statistics(model: nn.Module, policy: str) -> None:
    """Put into evaluation mode each batch norm whose statistics must not move.

    To be called after every `model.train()`. Under each policy, those with frozen weights are held:
    folding and feature caches rely on it.
    """
    for norm in batch_norms(model).values():
        frozen = norm.affine and not norm.weight.requires_grad
        if frozen or policy in ("freeze", "freeze_stats"):
            norm.eval()


def share_statistics(model: nn.Module) -> None:
    """Give each process the main one's statistics: while it trains, each has its own."""
    if PartialState().num_processes > 1:
        for norm in batch_norms(model).values():
            for buffer in norm.buffers():
                dist.broadcast(buffer, 0)


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[torch.Tensor]) -> None:
    """Set the statistics of all batch norms that learn to the plain mean over clean `batches`.

    `batches` are pixels (B, 3, H, W). Unlike `torch.optim.swa_utils.update_bn`, frozen norms keep
    their statistics, and dropout stays off.
    """
    norms = [
        norm for norm in batch_norms(model).values() if not norm.affine or norm.weight.requires_grad
    ]
    model.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative mean
        norm.train()
    for pixels in batches:
        model(pixel_values=pixels)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
