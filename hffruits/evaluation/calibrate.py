"""Makes a trained model's scores mean what they say, and has it know what it doesn't know.

What is found goes into the model itself, and so wherever it is loaded: the temperature into the
weights of its head, the threshold into its config, the prototypes beside its weights.
"""

import logging
from collections.abc import Iterable

import torch

from hffruits.core.errors import InputError
from hffruits.data.split_protocol import Sample
from hffruits.evaluation.calibration import fit_temperature
from hffruits.evaluation.predictions import collect_answers, temperature_of
from hffruits.inference.classifier import FruitClassifier
from hffruits.inference.ood import choose_threshold, find_prototypes
from hffruits.models.heads import scale_logits

logger = logging.getLogger(__name__)
HELD_OUT = 10_000  # pictures; more give the same


def calibrate(
    fruits: FruitClassifier,
    train: Iterable[Sample],
    held_out: Iterable[Sample],
    *,
    reject_rate: float,
    batch_size: int = 32,
    max_pixels: int,
) -> None:
    """Change the classifier, its model and its config by some of the pictures.

    Of `train`, `unknowns.PICTURES` of each class are enough; of `held_out`, which must not have
    been trained on, `HELD_OUT`. `reject_rate` is the share of them that would be refused as
    unknown, 0 refuses nothing. One process does this, and saves the model. Raises `InputError` for
    a model that answers NaN.
    """
    options = {"batch_size": batch_size, "max_pixels": max_pixels}
    logits, features, labels = collect_answers(
        fruits, held_out, description="Calibrating", **options
    )
    config, before = fruits.config, temperature_of(fruits)  # not 1 if it was calibrated
    config.reject_below = None
    if not logits.isfinite().all():
        raise InputError(
            "the trained model's answers are not numbers: training diverged. Begin again with a "
            "lower learning_rate or max_grad_norm."
        )
    temperature = fit_temperature(logits.mul_(before).numpy(), labels)
    if not _divide_logits(fruits, temperature / before):
        logger.warning("the scores stay uncalibrated: this net's logits are not those of its head")
        temperature = before
    config.calibration = {"temperature": temperature, "images": len(labels)}
    if not reject_rate:
        return
    _, known, classes = collect_answers(
        fruits, train, description="Finding prototypes", keep_logits=False, **options
    )
    if missing := len(fruits.labels) - len(set(classes.tolist())):
        logger.warning("nothing is refused as unknown: no photos at hand of %d classes", missing)
        return
    fruits.prototypes = find_prototypes(known.numpy(), classes)
    fruits.reject_below = choose_threshold(fruits.familiarity(features), reject_rate)
    config.reject_below = fruits.reject_below
    config.calibration["reject_rate"] = reject_rate


def _divide_logits(fruits: FruitClassifier, temperature: float) -> bool:
    """Whether that worked; if not, the model is as it was."""
    probe = torch.randn(2, 3, *fruits.input_size, generator=torch.Generator().manual_seed(0))
    before, _ = fruits.forward(probe)
    weights = {name: tensor.clone() for name, tensor in fruits.model.state_dict().items()}
    scale_logits(fruits.model, 1 / temperature)
    after, _ = fruits.forward(probe)
    if torch.allclose(after, before / temperature, rtol=1e-2, atol=1e-2):
        return True
    fruits.model.load_state_dict(weights)
    return False
