"""A model with folded batch norm gives the same outputs; what can't be folded stays."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hffruits.models.bn_folding import fold_batch_norm
from hffruits.models.loading import build_model


def lively_batch_norms(model: nn.Module) -> nn.Module:
    """Statistics and weights that a fold could get wrong; a new net has zeros and ones."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                tensor.uniform_(0.5, 1.5)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def count_batch_norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "mobilenetv3_small_050"])
def test_a_folded_net_predicts_the_same_without_batch_norm(name):
    model = lively_batch_norms(build_model(name, labels=list("abc"), pretrained=False)[0])
    pixels = torch.randn(2, 3, 96, 96)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    folded = fold_batch_norm(model, pixels)
    assert count_batch_norms(model) > 10 and count_batch_norms(folded) == 0
    with torch.inference_mode():
        wanted, got = model(pixel_values=pixels).logits, folded(pixel_values=pixels).logits
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[key]), key


def test_a_change_of_the_head_also_changes_the_folded_net():
    model = lively_batch_norms(
        build_model("efficientnet_lite0", labels=list("abc"), pretrained=False)[0]
    )
    pixels = torch.randn(1, 3, 64, 64)
    folded = fold_batch_norm(model, pixels)
    with torch.inference_mode():
        model.timm_model.classifier.weight.zero_()
        model.timm_model.classifier.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
        assert folded(pixel_values=pixels).logits[0].tolist() == [1, 2, 3]


class ActsBetween(nn.Module):
    """Convolution and batch norm are neighbours, but something happens between them."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, pixel_values):
        return SimpleNamespace(logits=self.norm(F.relu(self.conv(pixel_values))).mean((2, 3)))


def test_a_net_that_acts_before_its_batch_norm_stays_as_it_is():
    model = lively_batch_norms(ActsBetween())
    assert fold_batch_norm(model, torch.randn(2, 3, 8, 8)) is model


def test_a_net_without_batch_norm_stays_as_it_is():
    model, _ = build_model("test_vit", labels=list("abc"), pretrained=False)
    assert fold_batch_norm(model.eval(), torch.randn(1, 3, 160, 160)) is model
