"""Convolutions that train fast on CPUs; the outputs are the same, to rounding.

A frozen batch norm becomes part of the convolution before it. Depthwise convolutions get a backward
pass of their own: the gradient of their input is a convolution, and that of kernels larger than
3 x 3, which oneDNN has no fast bfloat16 code for, is computed in float32. Gradients are PyTorch's,
to rounding. Evaluation is as it was.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from timm.layers.padding import pad_same
from torch import nn

from hffruits.models.bn_folding import after_norm, foldable, same_outputs

_gradients = torch.ops.aten.convolution_backward


def speed_up_convolutions(model: nn.Module, pixels: torch.Tensor) -> int:
    """Have the convolutions that learn compute fast from now on; returns how many there are.

    `pixels` (B, 3, H, W) are to try it on: a net that does something between a convolution and its
    batch norm stays as it is. Names, weights and what evaluation gives don't change.
    """
    chosen = [module for module in model.modules() if _can_be_fast(module)]
    was_training = model.training
    model.eval()
    norms = _frozen_norms(model)
    with torch.no_grad():
        wanted = model(pixel_values=pixels).logits
        for conv in chosen:
            _FastConvolution.put(conv, norms.get(conv))
            conv.training = True
        found = model(pixel_values=pixels).logits
    if not same_outputs(wanted, found):
        for conv in chosen:
            _FastConvolution.take(conv)
        chosen = []
    model.train(was_training)
    return len(chosen)


def _can_be_fast(module: nn.Module) -> bool:
    """A convolution that learns, padded with zeros, square, and whole or depthwise."""
    if type(module) not in _FastConvolution.kinds or not module.weight.requires_grad:
        return False
    whole = module.groups == 1
    depthwise = module.groups == module.in_channels == module.out_channels
    square = (module.stride, module.padding, module.kernel_size)
    return (
        (whole or depthwise)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and module.dilation == (1, 1)
        and all(len(set(sides)) == 1 for sides in square)
    )


def _frozen_norms(model: nn.Module) -> dict[nn.Module, nn.BatchNorm2d]:
    """The frozen batch norm behind each convolution, by the order of the layers."""
    pairs = (
        (getattr(parent, name), getattr(parent, name_after))
        for parent in model.modules()
        for name, name_after in foldable(parent)
    )
    return {conv: norm for conv, norm in pairs if norm.affine and not norm.weight.requires_grad}


class _FastConvolution:
    """What a convolution becomes: another class of the same object, so that it copies as it was."""

    kinds: ClassVar[dict[type, type]] = {}

    @staticmethod
    def put(conv: nn.Conv2d, norm: nn.BatchNorm2d | None) -> None:
        conv.__class__ = _FastConvolution.kinds[type(conv)]
        conv.behind = [norm]  # in a list, or it would be a part of the convolution
        if norm is not None:
            norm.before = [conv]
            norm.__class__ = type(f"Folded{type(norm).__name__}", (_FoldedNorm, type(norm)), {})

    @staticmethod
    def take(conv: nn.Conv2d) -> None:
        conv.__class__ = type(conv).__mro__[2]
        (norm,) = vars(conv).pop("behind")
        if norm is not None:
            norm.__class__ = type(norm).__mro__[2]
            del norm.before

    @property
    def is_fast(self) -> bool:
        """In training, and with its batch norm, if that is frozen, in evaluation."""
        (norm,) = self.behind
        return self.training and (norm is None or not norm.training)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if not self.is_fast:
            return super().forward(pixels)
        weight, bias, padding = self.weight, self.bias, self.padding[0]
        (norm,) = self.behind
        if norm is not None:
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            weight = weight * scale[:, None, None, None]
            shift = norm.bias - norm.running_mean * scale
            bias = shift if bias is None else bias * scale + shift
        if isinstance(self, Conv2dSame):  # as TensorFlow pads, perhaps more on one side
            pixels, padding = pad_same(pixels, self.kernel_size, self.stride, self.dilation), 0
        kind = pixels.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        pixels, weight = pixels.to(dtype), weight.to(dtype)
        bias = bias if bias is None else bias.to(dtype)
        with torch.autocast(kind, enabled=False):
            if self.groups > 1:
                return _Depthwise.apply(pixels, weight, bias, self.stride[0], padding)
            return F.conv2d(pixels, weight, bias, self.stride, padding)


class _FastConv2d(_FastConvolution, nn.Conv2d):
    pass


class _FastConv2dSame(_FastConvolution, Conv2dSame):
    pass


_FastConvolution.kinds.update({nn.Conv2d: _FastConv2d, Conv2dSame: _FastConv2dSame})


class _FoldedNorm:
    """A batch norm that leaves normalising to the convolution before it, where that is fast."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        (conv,) = self.before
        if not conv.is_fast:
            return super().forward(pixels)
        for layer in after_norm(self):
            pixels = layer(pixels)
        return pixels


class _Depthwise(torch.autograd.Function):
    """`conv2d` with a kernel a channel: (B, C, H, W), (C, 1, K, K) -> (B, C, H', W')."""

    @staticmethod
    def forward(ctx, pixels, weight, bias, stride: int, padding: int):
        ctx.save_for_backward(pixels, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(pixels, weight, bias, stride, padding, groups=len(weight))

    @staticmethod
    def backward(ctx, gradient):
        pixels, weight = ctx.saved_tensors
        size, dtype = weight.shape[-1], pixels.dtype
        to_pixels = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            around = size - 1 - ctx.padding
            if ctx.stride == 1 and around >= 0:  # a convolution with the kernels turned round
                turned = weight.flip(2, 3)
                to_pixels = F.conv2d(gradient, turned, None, 1, around, groups=len(weight))
            else:
                to_pixels = _of_torch(ctx, gradient, pixels, weight, 0, torch.float32).to(dtype)
        if ctx.needs_input_grad[1]:
            exact = dtype if size <= 3 else torch.float32
            to_weight = _of_torch(ctx, gradient, pixels, weight, 1, exact).to(dtype)
        if ctx.needs_input_grad[2]:
            to_bias = gradient.sum((0, 2, 3))
        return to_pixels, to_weight, to_bias, None, None


def _of_torch(ctx, gradient, pixels, weight, which: int, dtype: torch.dtype) -> torch.Tensor:
    """One of PyTorch's own gradients, to pixels (0) or weight (1), in this precision."""
    inputs = (part.to(dtype) for part in (gradient, pixels, weight))
    sides = ([ctx.stride] * 2, [ctx.padding] * 2, [1, 1], False, [0, 0])
    return _gradients(*inputs, None, *sides, len(weight), [which == 0, which == 1, False])[which]
