"""bfloat16 operations computed on integers equal PyTorch's, to the bit."""

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn

from hffruits.models.cpu_bfloat16 import speed_up_bfloat16


def every_number() -> torch.Tensor:
    """All 65,536 bit patterns of bfloat16 but the NaNs."""
    values = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    return values[~values.isnan()]


@pytest.mark.parametrize("layer", [nn.ReLU, nn.ReLU6])
@pytest.mark.parametrize("inplace", [False, True])
def test_every_number_is_clipped_as_ever(layer, inplace):
    values = every_number()
    expected = layer()(values)
    net = nn.Sequential(layer(inplace=inplace))
    speed_up_bfloat16(net)
    given = values.clone()
    found = net(given)
    assert torch.equal(found, expected)
    assert torch.equal(given, expected if inplace else values)
    assert torch.equal(net(values.float()), layer()(values.float()))  # not in bfloat16


@pytest.mark.parametrize(("kernel", "stride", "size"), [(3, 2, 16), (5, 2, 15), (3, 1, 8)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_padding_convolution_gives_the_same(kernel, stride, size, layout):
    torch.manual_seed(0)
    net = nn.Sequential(Conv2dSame(4, 4, kernel, stride, groups=4)).bfloat16()
    pixels = torch.randn(2, 4, size, size).bfloat16().contiguous(memory_format=layout)
    with torch.inference_mode():
        expected = net(pixels)
        speed_up_bfloat16(net)
        assert type(net[0]) is not Conv2dSame
        assert torch.equal(net(pixels), expected)


def test_other_layers_stay():
    net = nn.Sequential(nn.GELU(), nn.Conv2d(3, 3, 1), nn.LeakyReLU())
    before = [type(layer) for layer in net]
    speed_up_bfloat16(net)
    assert [type(layer) for layer in net] == before
