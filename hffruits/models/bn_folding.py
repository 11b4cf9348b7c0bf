"""Batch norm folded into the convolutions before it: the same outputs in half the time on CPUs.

Only for inference: a frozen batch norm is a scale and a shift, which a convolution does for free.
"""

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

_TOLERANCE = 1e-3  # of the largest output; folding itself changes only the last digits


def fold_batch_norm(model: nn.Module, pixels: torch.Tensor) -> nn.Module:
    """A model with this one's outputs in eval mode, with fewer layers.

    Shares all tensors but those of the folded convolutions. Which batch norm follows which
    convolution is read off the order of the layers, and tried out on pixels (B, 3, H, W): a net
    that does something else between them comes back as it is.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    folded = copy.deepcopy(model, shared)
    found = 0
    for parent in list(folded.modules()):
        for name, name_after in foldable(parent):
            conv, norm = getattr(parent, name), getattr(parent, name_after)
            setattr(parent, name, fuse_conv_bn_eval(conv, norm))
            setattr(parent, name_after, nn.Sequential(*after_norm(norm)))
            found += 1
    if not found:
        return model
    with torch.no_grad():
        wanted, got = model(pixel_values=pixels).logits, folded(pixel_values=pixels).logits
    return folded if same_outputs(wanted, got) else model


def foldable(parent: nn.Module) -> list[tuple[str, str]]:
    """Names of the convolutions in a module and of the batch norm, in eval mode, behind each."""
    children = parent.named_children()
    return [
        (name, name_after)
        for (name, conv), (name_after, norm) in pairwise(children)
        if _fit(conv, norm)
    ]


def after_norm(norm: nn.Module) -> list[nn.Module]:
    """What timm's batch norms do after normalising: drop and act."""
    rest = [getattr(norm, name, None) for name in ("drop", "act")]
    return [layer for layer in rest if layer is not None]


def same_outputs(wanted: torch.Tensor, got: torch.Tensor) -> bool:
    """Whether logits (B, K) differ only by rounding."""
    if wanted.shape != got.shape:
        return False
    return bool((wanted - got).abs().max() <= _TOLERANCE * wanted.abs().max())


def _fit(conv: nn.Module, norm: nn.Module) -> bool:
    return (
        isinstance(conv, nn.Conv2d)
        and isinstance(norm, nn.BatchNorm2d)
        and norm.running_var is not None
        and not norm.training
        and conv.out_channels == norm.num_features
    )
