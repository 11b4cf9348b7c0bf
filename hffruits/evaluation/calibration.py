"""Temperature scaling, and the OOD threshold: after training, on images that were held out.

What is found goes into the model itself, and so wherever it is loaded: the temperature into the
weights of its head, the OOD threshold into its config, the prototypes beside its weights.
"""

import logging
from collections.abc import Iterable

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from hffruits.core.counts import counted
from hffruits.core.errors import InputError
from hffruits.data.split_protocol import Sample
from hffruits.evaluation.predictions import collect_outputs, temperature_of
from hffruits.inference.classifier import FruitClassifier
from hffruits.inference.ood import choose_threshold, find_prototypes
from hffruits.models.heads import scale_logits

logger = logging.getLogger(__name__)
HELD_OUT = 10_000  # images; more give the same
PRIOR = 0.5  # standard deviation of log T before any image is seen
AT_ONCE = 4_000_000  # numbers in double precision


def calibrate(
    fruits: FruitClassifier,
    train: Iterable[Sample],
    held_out: Iterable[Sample],
    *,
    reject_rate: float,
    batch_size: int = 32,
    max_pixels: int,
) -> None:
    """Set the temperature and the OOD threshold of a classifier, in its model and its config.

    Of `train`, `ood.IMAGES_PER_CLASS` of each class are enough; of `held_out`, which must not have
    been trained on, `HELD_OUT`. `reject_rate` is the share of them that would be rejected as
    unknown, 0 rejects nothing. One process does this, and saves the model. Raises `InputError` for
    a model whose logits are NaN or infinite.
    """
    options = {"batch_size": batch_size, "max_pixels": max_pixels}
    logits, features, labels = collect_outputs(
        fruits, held_out, description="Calibrating", **options
    )
    config, before = fruits.config, temperature_of(fruits)  # not 1 if it was calibrated
    config.ood_threshold = None
    if not logits.isfinite().all():
        raise InputError(
            "the trained model's logits are NaN or infinite: training diverged. Start again with a "
            "lower learning_rate or max_grad_norm."
        )
    temperature = fit_temperature(logits.mul_(before).numpy(), labels)
    if not _divide_logits(fruits, temperature / before):
        logger.warning("the scores stay uncalibrated: the model's logits are not those of its head")
        temperature = before
    config.calibration = {"temperature": temperature, "images": len(labels)}
    if not reject_rate:
        return
    _, known, classes = collect_outputs(
        fruits, train, description="Finding prototypes", keep_logits=False, **options
    )
    if missing := len(fruits.labels) - len(set(classes.tolist())):
        logger.warning(
            "nothing is rejected as unknown: %s no photos to compute prototypes from",
            counted(missing, "class has", "classes have"),
        )
        return
    fruits.prototypes = find_prototypes(known.numpy(), classes)
    fruits.ood_threshold = choose_threshold(fruits.ood_score(features), reject_rate)
    config.ood_threshold = fruits.ood_threshold
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


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T for which the top prediction of softmax(logits / T) has the chance of being right.

    Logits (N, K), labels (N,) integers; needs images that were not trained on. Temperature
    scaling (Guo et al. 2017, arXiv:1706.04599, section 4.2), by the likelihood that the top
    prediction is right or wrong, for that is what is shown (top-label calibration,
    arXiv:2107.08353). A normal prior on log T keeps T near 1 where few or perfect predictions don't
    determine it; it is nothing beside a hundred images.
    """
    hits = logits.argmax(axis=1) == labels
    parts = np.array_split(logits, 1 + logits.size // AT_ONCE)

    def loss(log_temperature: float) -> float:
        temperature = np.exp(log_temperature)
        chances = np.concatenate([_best_chances(part, temperature) for part in parts])
        wrong = np.log(np.maximum(-np.expm1(chances), 1e-12))  # log(1 - p)
        return 0.5 * (log_temperature / PRIOR) ** 2 - np.where(hits, chances, wrong).sum()

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x))


def _best_chances(logits: np.ndarray, temperature: float) -> np.ndarray:
    """log softmax(logits / T) of the top prediction, (N,)."""
    return log_softmax(logits.astype(np.float64) / temperature, axis=1).max(axis=1)
