"""Linear probe: the head's start, a logistic regression on the pretrained backbone's features.

From a random head, the first steps distort the features that the backbone brings along, which costs
accuracy on photos from elsewhere (LP-FT, arXiv:2202.10054).
"""

import torch
from torch import nn
from transformers import PreTrainedModel

from hffruits.models.heads import last_layers
from hffruits.models.lora import without_lora
from hffruits.training.arguments import FruitTrainingArguments
from hffruits.training.losses import ClassificationLoss
from hffruits.training.run_state import PROBE, TrainingRun

MOST_IMAGES = 8192
VIEWS = 2  # of each image, where that many are fewer
DECAY = 1e-2  # of the squared weights, on features of unit variance
MOST_ITERATIONS = 60
MOST_NUMBERS = 2e10  # images x features x classes: two minutes on two cores


def can_probe(model: PreTrainedModel, args: FruitTrainingArguments) -> bool:
    """Whether a head is worth it, and its weights are not divided among devices."""
    numbers = MOST_IMAGES * max(layer.weight.numel() for layer in last_layers(model))
    return numbers <= MOST_NUMBERS and not args.divides_weights


def probe_head(run: TrainingRun) -> None:
    """Fit the classifying layers of the run's model to its training images, in place.

    Only where its head is to start so.
    """
    if run.prepared.head_start != PROBE:
        return
    layers = last_layers(without_lora(run.prepared.model))
    count = min(MOST_IMAGES, VIEWS * len(run.datasets.split("train")))
    loss = ClassificationLoss(run.args.label_smoothing_factor, run.trainer.class_weights)
    features, labels = run.trainer.head_features(count)
    for layer, inputs in zip(layers, features, strict=True):
        if inputs is not None and inputs.shape[1:] == layer.weight.shape[1:2]:
            fit_head(layer, inputs, labels, loss)  # not a head of tokens, as VOLO's second one


def fit_head(
    layer: nn.Linear | nn.Conv2d,
    features: torch.Tensor,
    labels: torch.Tensor,
    loss: ClassificationLoss,
) -> None:
    """Set a layer's weights to the logistic regression of labels (N,) on its inputs (N, D)."""
    features = features.float()
    if not features.isfinite().all():
        return  # training itself says what is wrong
    centre = features.mean(0) if layer.bias is not None else torch.zeros_like(features[0])
    scale = features.std(0).mean().clamp(min=1e-6)
    inputs = (features - centre) / scale
    weight = inputs.new_zeros(layer.weight.shape[:1] + inputs.shape[1:], requires_grad=True)
    bias = inputs.new_zeros(len(weight), requires_grad=layer.bias is not None)
    learned = [weight] if layer.bias is None else [weight, bias]
    optimizer = torch.optim.LBFGS(learned, max_iter=MOST_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss(inputs @ weight.T + bias, labels) + DECAY * weight.square().sum()
        value.backward()
        return value

    optimizer.step(closure)
    with torch.no_grad():
        layer.weight.copy_((weight / scale).view_as(layer.weight))
        if layer.bias is not None:
            layer.bias.copy_(bias - weight @ centre / scale)
