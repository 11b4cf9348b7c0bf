"""ReLU and padding in bfloat16 on CPUs, done on integers: the same numbers, several times as fast.

For both PyTorch turns each number into float32 and back on a CPU. Read as an integer of 16 bits, a
positive bfloat16 has its place in the same order, and a negative one is below 0.
"""

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from timm.layers.padding import pad_same
from torch import nn

SIX = 0x40C0  # 6.0 in bfloat16


def speed_up_bfloat16(net: nn.Module) -> None:
    """Have the ReLUs and padding convolutions of a net do so from now on; only for inference.

    Other dtypes are treated as before. NaN may become a number: not for values that may be wrong.
    """
    for module in net.modules():
        module.__class__ = _KINDS.get(type(module), type(module))


class _Clipping:
    """What both ReLUs do: `most` is the largest number that may come out, as an integer."""

    most: int | None = None

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if values.dtype != torch.bfloat16:
            return super().forward(values)
        values = values if self.inplace else values.clone()
        values.view(torch.int16).clamp_(0, self.most)
        return values


class _IntegerReLU(_Clipping, nn.ReLU):
    pass


class _IntegerReLU6(_Clipping, nn.ReLU6):
    most = SIX


class _IntegerConv2dSame(Conv2dSame):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if values.dtype != torch.bfloat16:
            return super().forward(values)
        window = (self.kernel_size, self.stride, self.dilation)
        padded = pad_same(values.view(torch.int16), *window).view(torch.bfloat16)
        return F.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


_KINDS = {nn.ReLU: _IntegerReLU, nn.ReLU6: _IntegerReLU6, Conv2dSame: _IntegerConv2dSame}
