"""Fast convolutions have the outputs and gradients of PyTorch's."""

import copy

import pytest
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import nn

from hffruits.models.batch_norm import hold_statistics, set_policy
from hffruits.models.bn_folding import fold_batch_norm
from hffruits.models.cpu_convolutions import _Depthwise, speed_up_convolutions
from hffruits.models.loading import build_model


def nets(name: str) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    """A net with frozen batch norm, a copy with fast convolutions, and pixels for both."""
    torch.manual_seed(0)
    plain, _ = build_model(name, labels=["a", "b", "c"], pretrained=False)
    for norm in plain.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_mean, -0.2, 0.2)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 2)
            nn.init.uniform_(norm.bias, -0.2, 0.2)
    set_policy(plain, "freeze")
    size = plain.config.pretrained_cfg["input_size"][1:]
    pixels = torch.randn(8, 3, *size)
    fast = copy.deepcopy(plain)
    assert speed_up_convolutions(fast, pixels[:2]) > 3
    for model in (plain, fast):
        model.train()
        hold_statistics(model, "freeze")
    return plain, fast, pixels


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "efficientnet_lite0"])
def test_a_net_gives_the_same_outputs_and_gradients(name):
    plain, fast, pixels = nets(name)
    pixels = pixels[:2] if name == "efficientnet_lite0" else pixels
    outputs = []
    for model in (plain, fast):
        torch.manual_seed(1)
        outputs.append(model(pixel_values=pixels).logits)
        outputs[-1].square().sum().backward()
    assert torch.allclose(*outputs, rtol=1e-3, atol=1e-4 * float(outputs[0].abs().max()))
    wanted = {n: p.grad for n, p in plain.named_parameters() if p.grad is not None}
    found = {n: p.grad for n, p in fast.named_parameters() if p.grad is not None}
    assert wanted.keys() == found.keys()
    for key, gradient in wanted.items():
        assert (gradient - found[key]).norm() <= 1e-2 * gradient.norm() + 1e-6, key


def test_evaluation_names_and_weights_stay_as_they_were():
    plain, fast, pixels = nets("test_efficientnet")
    plain.eval(), fast.eval()
    assert torch.equal(plain(pixel_values=pixels).logits, fast(pixel_values=pixels).logits)
    assert plain.state_dict().keys() == fast.state_dict().keys()
    folded = fold_batch_norm(fast, pixels[:1])
    assert folded is not fast
    assert torch.allclose(
        folded(pixel_values=pixels).logits, plain(pixel_values=pixels).logits, atol=1e-4
    )


def test_a_copy_learns_by_itself():
    _, fast, pixels = nets("test_efficientnet")
    other = copy.deepcopy(fast)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    before = fast(pixel_values=pixels).logits
    assert before.abs().max() > 0
    assert torch.equal(other(pixel_values=pixels).logits, torch.zeros_like(before))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("same", [False, True], ids=["plain", "TensorFlow's padding"])
def test_a_depthwise_convolution_has_the_gradients_of_torch(stride, size, same):
    torch.manual_seed(0)
    make = Conv2dSame if same else nn.Conv2d
    conv = make(6, 6, size, stride, 0 if same else size // 2, groups=6)
    net = Net(conv, BatchNormAct2d(6))
    net.norm.requires_grad_(False)
    fast = copy.deepcopy(net)
    pixels = torch.randn(4, 6, 15, 15)
    assert speed_up_convolutions(fast, pixels[:1]) == 1
    found = []
    for model in (net, fast):
        model.train()
        model.norm.eval()
        own = pixels.clone().requires_grad_()
        model(own).logits.square().sum().backward()
        found.append((own.grad, model.conv.weight.grad, model.conv.bias.grad))
    for wanted, got in zip(*found, strict=True):
        assert torch.allclose(wanted, got, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


class Net(nn.Module):
    """One convolution and its batch norm; `between` comes between them."""

    def __init__(self, conv: nn.Module, norm: nn.Module, between=lambda x: x):
        super().__init__()
        self.conv, self.norm, self.between = conv, norm, between

    def forward(self, pixel_values):
        self.logits = self.norm(self.between(self.conv(pixel_values)))
        return self


@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_gradients_of_depthwise_kernels_are_those_of_pytorch(size, stride):
    torch.manual_seed(0)
    weight, pixels = torch.randn(4, 1, size, size), torch.randn(16, 4, 9, 9)

    def gradients(convolve) -> tuple[torch.Tensor, ...]:
        inputs = pixels.clone().requires_grad_(), weight.clone().requires_grad_()
        return torch.autograd.grad(convolve(*inputs).square().sum(), inputs)

    wanted = gradients(lambda x, w: F.conv2d(x, w, None, stride, size // 2, groups=4))
    found = gradients(lambda x, w: _Depthwise.apply(x, w, None, stride, size // 2))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)


def test_a_norm_that_learns_is_not_folded():
    conv, norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
    net = Net(conv, norm)
    assert speed_up_convolutions(net, torch.randn(2, 3, 8, 8)) == 1
    net.train()
    mean = net(torch.randn(16, 3, 8, 8)).logits.mean((0, 2, 3))
    assert mean.abs().max() < 1e-5  # it normalises by its batch


def test_a_net_with_something_between_convolution_and_norm_stays_as_it_is():
    norm = nn.BatchNorm2d(4).requires_grad_(False)
    norm.bias.fill_(1)
    net = Net(nn.Conv2d(3, 4, 3), norm, between=torch.relu)
    assert speed_up_convolutions(net, torch.randn(2, 3, 8, 8)) == 0
    assert type(net.conv) is nn.Conv2d and type(net.norm) is nn.BatchNorm2d


def test_frozen_convolutions_stay_as_they_are():
    net = Net(nn.Conv2d(3, 4, 3).requires_grad_(False), nn.BatchNorm2d(4))
    assert speed_up_convolutions(net, torch.randn(2, 3, 8, 8)) == 0
