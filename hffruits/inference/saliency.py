"""Saliency maps (heatmaps of HiResCAM and attention rollout), and their overlay on the image.

Nets that end in a spatial map (CNNs, ConvNeXt, Swin) and ViTs, of timm and of transformers alike:
the layer is found by observing a forward pass, so nothing depends on names. One forward and one
backward pass; the model stays as it was. A map shows which area spoke for a class, not why, and is
as coarse as the net's last grid.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from hffruits.core.errors import InputError
from hffruits.data.transforms import EvalTransform

_MOST_EXTRA_TOKENS = 16  # class, distillation and register tokens; all nets put them first
_COLOURS = "plasma"  # its lightness rises evenly, also for the colour-blind
_STRONGEST = 0.75  # of the colour, so that the image shows through


def heatmaps(model: PreTrainedModel, pixels: torch.Tensor, classes: torch.Tensor) -> np.ndarray:
    """Saliency maps: (B, H, W) float32 in [0, 1], the maximum of each map 1.

    `model` in eval mode, `pixels` (B, 3, H, W) from `EvalTransform`, `classes` (B,) the class that
    each map is about. A map is zero where nothing speaks for its class. Spatial maps: HiResCAM
    (arXiv:2011.08891), which is Grad-CAM where the head averages. ViTs: gradient-weighted attention
    rollout (arXiv:2103.15679). In float32, whatever the weights are. No other thread may run the
    model meanwhile. Raises `InputError` for nets that have neither map nor tokens.
    """
    assert not model.training, "heatmaps need model.eval()"
    height, width = pixels.shape[2:]
    pixels = pixels.detach().to(model.device, torch.float32, copy=True).requires_grad_()
    with torch.enable_grad():
        with _AttentionWatch() as attention:
            logits, views = _watch_forward(model, pixels)
        chosen = logits.gather(1, classes.to(logits.device)[:, None])[:, 0]
        # what all classes share speaks for none
        score = (chosen - logits.mean(1)).sum()
    if not views:
        raise InputError(
            f"{type(model).__name__}: no feature map and no tokens to make a heatmap of. "
            "Use a CNN or a ViT."
        )
    layers = _whole_attention(attention.weights, views[-1])
    heat = _rollout(score, views[-1], layers) if layers else _cam(score, views)
    heat = F.interpolate(heat[:, None], (height, width), mode="bilinear")[:, 0]
    hottest = heat.amax((1, 2), keepdim=True)
    return (heat / hottest.where(hottest > 0, 1)).cpu().numpy()


def overlay(image: Image.Image, heat: np.ndarray) -> Image.Image:
    """The image with `heat` (H, W) in [0, 1] over it, from clear through blue and red to yellow.

    Where the heat is 0 the image is unchanged. The heat is stretched to the image's size.
    """
    resized = Image.fromarray(heat.astype(np.float32)).resize(image.size, Image.BILINEAR)
    warmth = np.asarray(resized)[..., None].clip(0, 1)  # (H, W, 1)
    import matplotlib  # which only this needs

    colours = 255 * matplotlib.colormaps[_COLOURS](warmth[..., 0])[..., :3]
    strength = _STRONGEST * warmth
    mixed = (1 - strength) * np.asarray(image.convert("RGB")) + strength * colours
    return Image.fromarray(mixed.round().astype(np.uint8))


def undo_preprocessing(pixels: torch.Tensor, processor: BaseImageProcessor) -> Image.Image:
    """The image as the model sees it: `pixels` (3, H, W), cropped, their normalisation undone.

    Black and white, sent through the processor, show what it does to a colour.
    """
    transform = EvalTransform(processor)
    plain = [transform(Image.new("RGB", (64, 64), colour)) for colour in ("black", "white")]
    black, white = (one[:, one.shape[1] // 2, one.shape[2] // 2, None, None] for one in plain)
    levels = 255 * (pixels.float().cpu() - black) / (white - black)
    return Image.fromarray(levels.round().clamp(0, 255).byte().permute(1, 2, 0).numpy())


# ---- what a forward pass shows ----


class _View(NamedTuple):
    """A module's output that has a place for each part of the image."""

    output: torch.Tensor  # as the net made it, a node of the graph
    to_map: Callable[[torch.Tensor], torch.Tensor]  # -> (B, h, w, C), without extra tokens
    whole_grid: bool  # tokens, as many as there were patches


def _watch_forward(model: nn.Module, pixels: torch.Tensor) -> tuple[torch.Tensor, list[_View]]:
    """Logits (B, K), and in order of execution the views of the kind (map, tokens) seen last."""
    views: list[_View] = []
    grid = None  # height and width of the last spatial map, which is the patches' in a ViT
    count = 0  # tokens seen last

    def watch(module: nn.Module, inputs: tuple, output: Any) -> None:
        nonlocal grid, count
        if not isinstance(output, torch.Tensor) or len(output) != len(pixels):
            return
        if output.ndim == 4 and count not in output.shape[1:3]:  # else queries, keys or attention
            to_map = _map_layout(output, pixels.shape[2] / pixels.shape[3])
            high, wide = to_map(output).shape[1:3]
            if min(high, wide) > 1:
                grid = high, wide
                views.append(_View(output, to_map, False))
        elif output.ndim == 3 and output.shape[2] > 1 and grid:
            fitting = _token_grid(output.shape[1], grid)
            if fitting:
                count = output.shape[1]
                views.append(_View(output, _tokens_layout(*fitting), fitting == grid))

    hooks = [module.register_forward_hook(watch) for module in model.modules()]
    try:
        logits = _forward_in_float32(model, pixels)
    finally:
        for hook in hooks:
            hook.remove()
    return logits, [view for view in views if view.output.ndim == views[-1].output.ndim]


def _forward_in_float32(model: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """Behind a norm the contributions cancel out, and half precision would leave noise of them."""
    if model.dtype == torch.float32:
        return model(pixel_values=pixels).logits
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    exact = {name: one.float() for name, one in tensors.items() if one.is_floating_point()}
    return functional_call(model, exact, kwargs={"pixel_values": pixels}).logits


def _map_layout(output: torch.Tensor, aspect: float) -> Callable:
    """NCHW or NHWC: the two axes whose ratio is nearer to the image's are the spatial ones."""
    _, a, b, c = output.shape
    channels_first = abs(math.log(b / c / aspect)) <= abs(math.log(a / b / aspect))
    return (lambda map: map.permute(0, 2, 3, 1)) if channels_first else (lambda map: map)


def _tokens_layout(high: int, wide: int) -> Callable:
    return lambda tokens: tokens[:, -high * wide :].unflatten(1, (high, wide))


def _token_grid(count: int, grid: tuple[int, int]) -> tuple[int, int] | None:
    """Height and width of `count` tokens: the patches' grid, or one that merging has halved."""
    high, wide = grid
    while high * wide > 1:
        if high * wide <= count <= high * wide + _MOST_EXTRA_TOKENS:
            return high, wide
        high, wide = math.ceil(high / 2), math.ceil(wide / 2)
    return None


class _AttentionWatch(TorchFunctionMode):
    """Keeps all attention weights (B, heads, N, N), also where a fused kernel would hide them."""

    def __init__(self):
        super().__init__()
        self.weights: list[torch.Tensor] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            return self._attend(*args, **kwargs)
        result = function(*args, **kwargs)
        if function in (F.softmax, torch.softmax, torch.Tensor.softmax):
            self._keep(result)
        return result

    def _attend(self, query, key, value, attn_mask=None, *, scale=None, **options):
        """What the fused kernels compute, in two steps. An image classifier's is never causal."""
        assert not (options.get("is_causal") or options.get("enable_gqa"))
        scores = query @ key.transpose(-2, -1) * (scale or query.shape[-1] ** -0.5)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -math.inf)
        elif attn_mask is not None:
            scores = scores + attn_mask
        weights = scores.softmax(-1)
        self._keep(weights)
        return weights @ value

    def _keep(self, weights: torch.Tensor) -> None:
        if weights.ndim == 4 and weights.requires_grad:
            self.weights.append(weights)


def _whole_attention(weights: list[torch.Tensor], last: _View) -> list[torch.Tensor]:
    """The layers of a ViT; none where windows or merged tokens hide how the layers link up."""
    batch, count = last.output.shape[:2]
    wanted = (batch, count, count) if last.whole_grid else None
    return [one for one in weights if (one.shape[0], *one.shape[2:]) == wanted]


# ---- from gradients to heat ----
# captum's LayerGradCam is not used: it averages the wrong axes of NHWC maps and of tokens.


def _cam(score: torch.Tensor, views: list[_View]) -> torch.Tensor:
    """HiResCAM (B, h, w), at the last view on which the score depends outside the extra tokens."""
    for view in reversed(views):
        gradient = _gradients(score, [view.output])[0]
        if view.to_map(gradient).any():
            break
    return view.to_map(gradient * view.output.detach()).sum(-1).clamp(min=0)


def _rollout(score: torch.Tensor, last: _View, layers: list[torch.Tensor]) -> torch.Tensor:
    """Relevance of the patches (B, h, w): arXiv:2103.15679, equations 5 and 6.

    The paper reads the class token's row; here each token's row counts by what it gave the head,
    which is the same there, and keeps nets that average their patches from a washed-out map.
    """
    read, *gradients = _gradients(score, [last.output, *layers])
    relevance = torch.eye(read.shape[1], device=read.device).expand(len(read), -1, -1)
    for weights, gradient in zip(layers, gradients, strict=True):
        mixed = (gradient * weights.detach()).clamp(min=0).mean(1)  # over heads
        relevance = relevance + mixed @ relevance
    given = (read * last.output.detach()).sum(-1, keepdim=True)  # (B, N, 1)
    patches = last.to_map(given).flatten(1, 2)
    extra = given[:, : -patches.shape[1]].abs()  # has no place, so for or against is all one
    counts = torch.cat([extra, patches.clamp(min=0)], dim=1)
    return last.to_map(relevance.transpose(1, 2) @ counts)[..., 0]


def _gradients(score: torch.Tensor, outputs: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Zero where the score does not depend; doesn't touch the parameters' `.grad`."""
    return torch.autograd.grad(score, outputs, retain_graph=True, materialize_grads=True)
