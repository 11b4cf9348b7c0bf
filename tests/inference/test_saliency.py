"""Heatmaps cover the class, depend on the weights, and don't change the model."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from support.drawing import draw_fruit
from torch import nn
from torch.nn import functional as F
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    SwinConfig,
    SwinForImageClassification,
    TimmWrapperConfig,
    TimmWrapperForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)
from transformers.modeling_outputs import ImageClassifierOutput

from hffruits.core.errors import InputError
from hffruits.data.transforms import EvalTransform
from hffruits.demo.fallback_model import pretrained_produce_folder
from hffruits.inference.saliency import heatmaps, overlay, undo_preprocessing
from hffruits.models.heads import head_names
from hffruits.models.loading import build_model, load_model

CELLS = 4  # the telling cell is one of 4 x 4


def timm_net(name: str, **options) -> PreTrainedModel:
    """Three classes, random weights."""
    config = {"architecture": name, "pretrained_cfg": {}, "model_args": options}
    return TimmWrapperForImageClassification(TimmWrapperConfig.from_dict(config, num_labels=3))


def timm_vit(**options) -> PreTrainedModel:
    size = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    return timm_net("vit_tiny_patch16_224", **size | options)


def timm_swin(**options) -> PreTrainedModel:
    size = {
        "img_size": 64,
        "window_size": 4,
        "embed_dim": 16,
        "depths": (1, 1),
        "num_heads": (1, 2),
    }
    return timm_net("swin_tiny_patch4_window7_224", **size | options)


def hf_resnet() -> PreTrainedModel:
    options = {"embedding_size": 16, "hidden_sizes": [32], "depths": [1]}
    return ResNetForImageClassification(ResNetConfig(layer_type="basic", num_labels=3, **options))


def hf_vit(**options) -> PreTrainedModel:
    size = {"image_size": 32, "patch_size": 8, "hidden_size": 32, "intermediate_size": 64}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_labels": 3}
    return ViTForImageClassification(ViTConfig(**size | layers | options))


def hf_swin() -> PreTrainedModel:
    size = {"image_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 16}
    layers = {"depths": [1, 2], "num_heads": [1, 2], "num_labels": 3}
    return SwinForImageClassification(SwinConfig(**size, **layers))


def hf_convnext() -> PreTrainedModel:
    size = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "num_labels": 3}
    return ConvNextForImageClassification(ConvNextConfig(**size))


NETS: dict[str, tuple[Callable[[], PreTrainedModel], tuple[int, int]]] = {
    "timm CNN": (lambda: timm_net("test_efficientnet"), (96, 96)),
    "timm CNN, not square": (lambda: timm_net("test_resnet"), (64, 128)),
    "timm Swin, NHWC": (timm_swin, (64, 64)),
    "timm Swin, not square": (lambda: timm_swin(img_size=(32, 64)), (32, 64)),
    "timm ViT": (timm_vit, (32, 32)),
    "timm ViT, not square": (lambda: timm_vit(img_size=(24, 48)), (24, 48)),
    "timm ViT, registers": (lambda: timm_vit(reg_tokens=4), (32, 32)),
    "timm ViT, averaged": (lambda: timm_vit(global_pool="avg", class_token=False), (32, 32)),
    "timm ViT, attention pool": (lambda: timm_vit(global_pool="map"), (32, 32)),
    "timm BEiT, position bias": (
        lambda: timm_net("beit_base_patch16_224", img_size=48, embed_dim=32, depth=2, num_heads=2),
        (48, 48),
    ),
    "transformers CNN": (hf_resnet, (32, 48)),
    "transformers ViT": (hf_vit, (32, 32)),
    "transformers ViT, eager": (lambda: hf_vit(attn_implementation="eager"), (32, 32)),
    "transformers Swin": (hf_swin, (32, 32)),
    "transformers ConvNeXt": (hf_convnext, (64, 64)),
}
CLASSES = torch.tensor([0, 1, 2])


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """One thread: faster for models this small, especially on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=NETS)
def net(request) -> tuple[PreTrainedModel, torch.Tensor]:
    """A net with random weights, and three noise images of its size."""
    make, size = NETS[request.param]
    torch.manual_seed(0)
    return make().eval(), torch.randn(3, 3, *size)


def telling_cells(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Noise images with one red, green or blue cell: pixels, its colour, its (B, H, W) mask."""
    generator = torch.Generator().manual_seed(seed)
    colour = torch.randint(3, (count,), generator=generator)
    cell = F.one_hot(torch.randint(CELLS**2, (count,), generator=generator), CELLS**2)
    mask = cell.view(count, 1, CELLS, CELLS).repeat_interleave(8, 2).repeat_interleave(8, 3)
    noise = 0.5 * torch.randn(count, 3, 8 * CELLS, 8 * CELLS, generator=generator)
    pixels = noise + 2 * mask * F.one_hot(colour, 3)[:, :, None, None]
    return pixels, colour, mask[:, 0].bool()


def fit(model: PreTrainedModel, steps: int = 60) -> PreTrainedModel:
    pixels, colour, _ = telling_cells(512, seed=0)
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=4e-3)
    for batch in torch.randint(512, (steps, 32), generator=torch.Generator().manual_seed(0)):
        loss = F.cross_entropy(model(pixel_values=pixels[batch]).logits, colour[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


FITTED = {"CNN": hf_resnet, "ViT": timm_vit, "averaged ViT": NETS["timm ViT, averaged"][0]}


@pytest.fixture(scope="module", params=FITTED)
def fitted(request) -> PreTrainedModel:
    """A model that classifies by the colour of one cell."""
    torch.manual_seed(0)
    return fit(FITTED[request.param]())


def scores(model: PreTrainedModel, pixels: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(pixel_values=pixels).logits.softmax(1).gather(1, classes[:, None])[:, 0]


def drop_when_covered(model, pixels, classes, heat: np.ndarray, grey: float = 0.0) -> float:
    """By how much the class's score falls, on average, with the hottest fifth of the area grey."""
    order = torch.from_numpy(heat).flatten(1).argsort(dim=1, descending=True, stable=True)
    hottest = order[:, : order.shape[1] // 5]
    covered = torch.zeros(order.shape).scatter(1, hottest, 1).view(len(pixels), 1, *heat.shape[1:])
    before = scores(model, pixels, classes)
    return float((before - scores(model, pixels * (1 - covered) + grey * covered, classes)).mean())


def random_areas(count: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """Smooth blobs, as coarse as the maps."""
    noise = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(noise, size, mode="bilinear")[:, 0].numpy()


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of maps (B, H, W), each with its counterpart, on average."""
    return float(
        np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(one, other, strict=True)])
    )


# ---- faithfulness of the maps ----


def test_the_heat_lies_on_the_only_cell_that_tells_the_class(fitted):
    pixels, colour, mask = telling_cells(48, seed=9)
    heat = heatmaps(fitted, pixels, colour)
    share = (heat * mask.numpy()).sum((1, 2)) / heat.sum((1, 2))
    assert share.mean() > 0.25  # by chance 1/16; a bilinear peak of one cell has 0.56
    assert np.mean([heat[i][mask[i]].max() == 1 for i in range(48)]) > 0.6


def test_occluding_the_hottest_area_costs_more_than_occluding_others(fitted):
    pixels, colour, _ = telling_cells(48, seed=9)
    hot = drop_when_covered(fitted, pixels, colour, heatmaps(fitted, pixels, colour))
    areas = [random_areas(48, (32, 32), seed) for seed in range(5)]
    assert hot > 0.3
    assert hot > 2 * np.mean([drop_when_covered(fitted, pixels, colour, a) for a in areas])


def test_another_head_gives_another_map(fitted):
    """The sanity check of arXiv:1810.03292."""
    pixels, colour, _ = telling_cells(48, seed=9)
    other = copy.deepcopy(fitted)
    torch.manual_seed(7)
    for name, module in other.named_modules():
        if name.startswith(head_names(other)) and isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.1)
    before, after = heatmaps(fitted, pixels, colour), heatmaps(other, pixels, colour)
    both = (before.std((1, 2)) > 0) & (after.std((1, 2)) > 0)
    assert both.mean() > 0.5
    assert correlation(before[both], after[both]) < 0.9


@pytest.mark.slow
def test_occluding_the_hottest_area_of_a_pretrained_cnn_costs_most():
    model, processor = load_model(pretrained_produce_folder())
    names = ["Banana", "Lemon", "Orange", "Strawberry", "Pineapple", "Apple"]
    images = [draw_fruit(name, seed=seed, size=224) for seed, name in enumerate(names)]
    pixels = torch.stack([EvalTransform(processor)(image) for image in images])
    with torch.no_grad():
        classes = model(pixel_values=pixels).logits.argmax(1)
    hot = drop_when_covered(model, pixels, classes, heatmaps(model, pixels, classes))
    areas = [random_areas(len(pixels), tuple(pixels.shape[2:]), seed) for seed in range(3)]
    assert hot > 1.5 * np.mean([drop_when_covered(model, pixels, classes, a) for a in areas])


def test_without_weights_nothing_speaks_for_the_class():
    model = hf_resnet().eval()
    nn.init.zeros_(model.classifier[-1].weight)
    assert not heatmaps(model, torch.randn(2, 3, 32, 32), CLASSES[:2]).any()


# ---- any net, and only looked at ----


def test_any_net_gives_maps_from_zero_to_one(net):
    model, pixels = net
    heat = heatmaps(model, pixels, CLASSES)
    assert heat.shape == (3, *pixels.shape[2:]) and heat.dtype == np.float32
    assert heat.min() >= 0 and np.isfinite(heat).all()
    hottest = heat.max((1, 2))
    assert np.isin(hottest, (0, 1)).all() and (hottest == 1).any()
    assert np.array_equal(heat, heatmaps(model, pixels, CLASSES))


def test_images_of_a_batch_do_not_affect_each_other(net):
    model, pixels = net
    separate = np.concatenate(
        [heatmaps(model, pixels[i : i + 1], CLASSES[i : i + 1]) for i in range(3)]
    )
    assert np.allclose(heatmaps(model, pixels, CLASSES), separate, atol=2e-3)


def test_the_model_is_left_as_it_was(net):
    model, pixels = net
    first, *others = model.parameters()
    first.grad = torch.ones_like(first)
    for parameter in others[::2]:
        parameter.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    with torch.no_grad():
        logits = model(pixel_values=pixels).logits
    heatmaps(model, pixels, CLASSES)
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert (first.grad == 1).all() and all(parameter.grad is None for parameter in others)
    assert not model.training and not pixels.requires_grad and pixels.grad is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with torch.no_grad():
        assert torch.equal(model(pixel_values=pixels).logits, logits)


def test_frozen_weights_and_no_grad_change_nothing(net):
    model, pixels = net
    free = heatmaps(model, pixels, CLASSES)
    with torch.no_grad():
        assert np.array_equal(heatmaps(model.requires_grad_(False), pixels, CLASSES), free)


def test_channels_last_and_bfloat16_give_about_the_same(fitted):
    pixels, colour, _ = telling_cells(8, seed=9)
    exact = heatmaps(fitted, pixels, colour)
    model = copy.deepcopy(fitted).to(memory_format=torch.channels_last)
    assert np.allclose(heatmaps(model, pixels, colour), exact, atol=1e-3)
    rounded = heatmaps(model.to(torch.bfloat16), pixels, colour)
    assert rounded.dtype == np.float32 and correlation(rounded, exact) > 0.95
    assert all(parameter.dtype == torch.bfloat16 for parameter in model.parameters())


def test_fused_and_eager_attention_give_the_same_map():
    fused = hf_vit(attn_implementation="sdpa").eval()
    eager = hf_vit(attn_implementation="eager").eval()
    eager.load_state_dict(fused.state_dict())
    pixels = torch.randn(3, 3, 32, 32)
    one, other = (heatmaps(model, pixels, CLASSES) for model in (fused, eager))
    assert np.allclose(one, other, atol=1e-4)


class Flat(PreTrainedModel):
    """Sees the mean colour only."""

    config_class = ViTConfig

    def __init__(self):
        super().__init__(ViTConfig())
        self.classifier = nn.Linear(3, 3)

    def forward(self, pixel_values):
        return ImageClassifierOutput(logits=self.classifier(pixel_values.mean((2, 3))))


def test_a_net_without_map_or_tokens_is_explained_in_one_line():
    with pytest.raises(InputError, match=r"^Flat: no feature map and no tokens .* ViT\.$"):
        heatmaps(Flat().eval(), torch.randn(1, 3, 8, 8), CLASSES[:1])


# ---- images ----


def test_the_overlay_leaves_cold_places_and_the_size():
    image = draw_fruit("Kiwi", seed=0, size=90).resize((90, 60))
    heat = np.zeros((30, 30), np.float32)
    assert np.array_equal(np.asarray(overlay(image, heat)), np.asarray(image))
    heat[:, 20:] = 1
    warm = overlay(image, heat)
    assert warm.size == image.size and warm.mode == "RGB"
    changed = (np.asarray(warm) != np.asarray(image)).any(2)
    assert not changed[:, :50].any() and changed[:, 70:].all()


@pytest.mark.parametrize(
    "processor",
    [
        lambda: build_model("test_efficientnet", labels=["a", "b"], pretrained=False)[1],
        lambda: ViTImageProcessorPil(size={"height": 48, "width": 64}),
        lambda: ViTImageProcessorPil(size={"height": 48, "width": 64}, do_normalize=False),
    ],
    ids=["timm", "transformers", "not normalised"],
)
def test_the_image_shown_is_the_image_given(processor):
    processor = processor()
    colours = np.random.default_rng(0).integers(0, 256, (16, 3))
    for colour in colours.tolist():
        pixels = EvalTransform(processor)(Image.new("RGB", (200, 150), tuple(colour)))
        seen = undo_preprocessing(pixels, processor)
        assert seen.size == tuple(pixels.shape[:0:-1])
        assert np.abs(np.asarray(seen).astype(int) - colour).max() <= 1


def test_what_was_seen_keeps_its_details():
    processor = ViTImageProcessorPil(size={"height": 64, "width": 64})
    image = draw_fruit("Pear", seed=1, size=64)  # already of the net's size
    seen = np.asarray(undo_preprocessing(EvalTransform(processor)(image), processor)).astype(int)
    assert np.abs(seen - np.asarray(image)).max() <= 1
