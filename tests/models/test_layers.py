"""Kernels are in `channels_last` where that pays, and never where it crashes."""

from pathlib import Path

import torch
from support.warm import run_apart
from torch import nn

from hffruits.models.layers import use_channels_last
from hffruits.models.loading import build_model

CPU = torch.device("cpu")


def layouts(model: nn.Module) -> set[bool]:
    """Whether kernels larger than 1 x 1 are in `channels_last`: of the others both are the same."""
    kernels = (m.weight for m in model.modules() if isinstance(m, nn.Conv2d))
    return {
        kernel.is_contiguous(memory_format=torch.channels_last)
        for kernel in kernels
        if kernel.shape[1] > 1 and kernel.shape[2] > 1
    }


def net(name: str) -> nn.Module:
    return build_model(name, labels=["a", "b"], pretrained=False)[0]


def learn_from_strided_pointwise_convolutions() -> None:
    torch.manual_seed(0)
    for name in ("repvgg_a0", "fastvit_t8"):
        model = use_channels_last(net(name), CPU).train()
        pixels = torch.rand(4, 3, 160, 160)
        for layout in (torch.contiguous_format, torch.channels_last):
            logits = model(pixel_values=pixels.to(memory_format=layout)).logits
            logits.square().sum().backward()
        assert layouts(model) == {False}


def test_nets_that_would_crash_in_channels_last_learn_on_a_cpu(tmp_path: Path):
    done = run_apart(learn_from_strided_pointwise_convolutions, folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_other_convolutional_nets_are_in_channels_last():
    assert layouts(use_channels_last(net("efficientnet_lite0"), CPU)) == {True}
    assert layouts(use_channels_last(net("resnet10t"), CPU)) == {True}  # strides on many channels
    assert layouts(use_channels_last(net("repvgg_a0"), torch.device("cuda"))) == {True}


def test_layouts_stay_as_they_are_on_devices_where_nobody_measured_them():
    assert layouts(use_channels_last(net("resnet10t"), torch.device("mps"))) == {False}
