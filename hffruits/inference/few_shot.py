"""Few-shot learning: one more class for a trained classifier, from a few photos, in seconds.

All that is learned is a new row of the head, from features of the photos and of some views of each;
the prototypes stand for the old classes, so their photos aren't needed. `benchmarks/teach.py`
compares ways to find that row. Leaves out: moving the other weights, which needs the old photos,
and forgetting a class.
"""

import copy
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import softplus
from transformers import AutoModelForImageClassification, PretrainedConfig, PreTrainedModel

from hffruits.core.claims import make_new
from hffruits.core.counts import counted
from hffruits.core.errors import FewWarnings, InputError, optional_output
from hffruits.core.files import content_digest, translate_write_errors
from hffruits.core.names import clean_name, match_names
from hffruits.data.images import ImageSource
from hffruits.data.pixel_limit import MAX_PIXELS, check_max_pixels
from hffruits.inference.classifier import (
    FruitClassifier,
    UnreadableImageError,
    open_image,
)
from hffruits.inference.engines.torch import TorchEngine
from hffruits.inference.ood import find_prototypes, save_prototypes
from hffruits.inference.sources import by_place, find_images
from hffruits.inference.tta import choose_views
from hffruits.models.artifact import CARD, EXAMPLES
from hffruits.models.examples import Example, save_examples, small_jpeg
from hffruits.models.heads import last_layers
from hffruits.models.model_card import write_model_card
from hffruits.models.saving import save_model
from hffruits.models.train_digests import read_train_digests, write_train_digests

logger = logging.getLogger(__name__)
FEWEST = 2  # photos
LONGEST_NAME = 60
VIEWS = ("flip", "zoom", "corners")  # beside the photo itself
WEIGHT_DECAY = 1e-5  # 1e-6 and 3e-5 give the same within a point


def teach(
    model: FruitClassifier | str | Path,
    name: str,
    images: Sequence[ImageSource] | str | Path,
    *,
    output_dir: str | Path | None = None,
    max_image_pixels: int = MAX_PIXELS,
    allow_truncated_images: bool = False,
) -> FruitClassifier:
    """Teach a trained model one more class from a few photos, in seconds, without the old ones.

    The logits of the old classes stay the same, so these lose only what the new one takes from
    them: less than a point in `benchmarks/README.md`. The model given stays as it was.

    Args:
        model: a classifier, a folder that training wrote, or a Hub id.
        name: the new class, up to 60 characters.
        images: two or more photos of it: paths, bytes or PIL images, or a folder of them.
            Unreadable ones are left out with a warning.
        output_dir: a new folder to save the result in, as training saves a model, with a card, and
            with one of the photos, small, among the examples that its demo shows.
        max_image_pixels: larger images are left out, as `FruitClassifier.predict` refuses them.
        allow_truncated_images: read JPEGs that lack only their last bytes, with a warning.

    Returns:
        A classifier whose last label is `name`; `save_taught` saves it later.

    Raises:
        InputError: for an empty, unprintable, too long or taken name, for fewer than two readable
            images, for models without prototypes or a linear head, and for a folder that is there.

    >>> import hffruits
    >>> taught = hffruits.teach("runs/fruits", "Lychee", ["1.jpg", "2.jpg"], output_dir="runs/more")
    >>> taught.labels[-1]
    'Lychee'
    >>> hffruits.FruitClassifier.from_pretrained("runs/more").predict("1.jpg").label
    'Lychee'
    """
    check_max_pixels(max_image_pixels)
    if output_dir is not None:
        _check_new(Path(output_dir).expanduser())
    fruits = model if isinstance(model, FruitClassifier) else FruitClassifier.from_pretrained(model)
    if isinstance(images, str | Path):
        images = find_images([images])
    elif isinstance(images, bytes | Image.Image):
        images = [images]
    paths = by_place(Path(image) for image in images if isinstance(image, str | Path))
    others = [image for image in images if not isinstance(image, str | Path)]
    images = [*paths.values(), *others]  # a file that is given twice is one photo
    reading = max_image_pixels, FewWarnings(logger) if allow_truncated_images else None
    taught = _learn(fruits, name, images, reading)
    if output_dir is not None:
        save_taught(taught, output_dir)
    return taught


def _learn(
    fruits: FruitClassifier,
    name: str,
    images: Sequence[ImageSource],
    reading: tuple[int, FewWarnings | None],
) -> FruitClassifier:
    """A classifier with a row for `name` in its head, which shares all other weights."""
    name = _check_name(name, fruits.labels)
    if fruits.prototypes is None:
        raise InputError(
            f"{name}: can't be taught to a model without prototypes, which stand for its old "
            "classes. Train it with a reject_rate above 0."
        )
    model = _add_class(fruits.model, name)
    engine = TorchEngine(model, device=fruits.device, precision=fruits.engine.precision)
    taught = FruitClassifier(engine, fruits.transform.processor, tta=fruits.tta)
    head = _find_head(model)[1]
    features, photo = _embed(taught, name, images, reading)  # (N, V, D)
    taught.examples = [*fruits.examples, Example(name, small_jpeg(photo))]
    taught.taught_digests = [*_trained_digests(fruits), *_digests_of(images)]
    model.config.taught = {**(getattr(model.config, "taught", None) or {}), name: len(features)}
    seen = features.flatten(0, 1)
    others = fruits.prototypes * seen.norm(dim=1).mean()  # prototypes are of unit length
    with torch.no_grad():
        weight, bias = head.weight[:-1].float().cpu(), head.bias[:-1].float().cpu()
        head.weight[-1], head.bias[-1] = fit_row(seen, others, weight, bias)
    own = find_prototypes(features[:, 0].numpy(), np.zeros(len(features), int))
    taught.prototypes = torch.cat([fruits.prototypes, own])
    return taught


def save_taught(fruits: FruitClassifier, folder: str | Path) -> None:
    """Write what `teach` gave as training writes a model, with a card that says what was taught.

    One photo of each new class is saved, small, as an example. The folder appears whole or not at
    all. Raises `InputError` for one that is there already or can't be written, and for a classifier
    that was not taught.
    """
    folder = Path(folder).expanduser()
    if not getattr(fruits.model.config, "taught", None):
        raise InputError(f"{folder}: nothing was taught to this model. Save what teach() returns.")
    _check_new(folder)

    def fill(aside: Path) -> None:
        save_model(fruits.model, fruits.transform.processor, aside)
        save_prototypes(fruits.prototypes, aside)
        write_train_digests(fruits.taught_digests, aside)
        with optional_output(aside / EXAMPLES, remedy="The demo of this model shows none."):
            save_examples(fruits.examples, aside)
        with optional_output(aside / CARD, remedy="`hffruits push` makes one of its own."):
            write_model_card(aside, name=folder.name)

    with translate_write_errors(folder):
        make_new(folder, fill, remedy="Choose another folder.")
    fruits.folder = folder


def _trained_digests(fruits: FruitClassifier) -> list[str]:
    """Of the photos that `fruits` learned from, so that `evaluate` knows them; none of the Hub."""
    if fruits.taught_digests or not fruits.folder:
        return fruits.taught_digests
    return read_train_digests(fruits.folder)


def _digests_of(images: Sequence[ImageSource]) -> list[str]:
    """Of the files among them; PIL images are of no file that is known."""
    files = [Path(image) for image in images if isinstance(image, str | Path)]
    contents = [file.read_bytes() for file in files if file.is_file()]
    contents += [image for image in images if isinstance(image, bytes)]
    return [content_digest(content) for content in contents]


def fit_row(
    features: torch.Tensor, others: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The head's row (D,) and bias () of a new class, beside `weight` (K, D) and `bias` (K,).

    From features (N, D) of the new class and (P, D) of the old ones. Cross-entropy over all K + 1
    logits, of which only the new one is free: logistic regression with the old logits' log-sum-exp
    as offset, so the new logit comes out on their scale. Every class counts alike.
    """
    every = torch.cat([features, others]).double()  # (N + P, D)
    old = (every @ weight.T.double() + bias.double()).logsumexp(dim=1)
    signs = torch.cat([torch.ones(len(features)), -torch.ones(len(others))]).double()
    shares = torch.cat([
        torch.full((len(features),), 1 / (len(features) * len(weight))),
        torch.full((len(others),), 1 / len(others)),
    ]).double()  # fmt: skip
    middle, scale = others.double().mean(dim=0), every.norm(dim=1).mean()
    inputs = (every - middle) / scale
    row = torch.zeros(every.shape[1], dtype=torch.double, requires_grad=True)
    level = torch.zeros((), dtype=torch.double, requires_grad=True)
    solver = torch.optim.LBFGS([row, level], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        margins = signs * (inputs @ row + level - old)
        total = (shares * softplus(-margins)).sum() + WEIGHT_DECAY * row.square().sum()
        total.backward()
        return total

    with torch.enable_grad():
        solver.step(loss)
    row = row.detach() / scale
    return row.float(), (level.detach() - row @ middle).float()


# ---- the parts ----


def _check_new(folder: Path) -> None:
    if folder.exists():
        raise InputError(f"{folder}: already exists. Choose another folder.")


def _check_name(name: str, labels: list[str]) -> str:
    """The name without spaces to spare."""
    if not isinstance(name, str):
        raise InputError(f"name={name!r}: not a text. Give the new class a name.")
    name = name.strip()
    if not name:
        raise InputError("the new class has no name. Give it one.")
    if not name.isprintable():
        raise InputError(f"{name!r}: has characters that can't be shown. Leave them out.")
    if len(name) > LONGEST_NAME:
        raise InputError(
            f"{name[:20]}...: {len(name)} characters. Use {LONGEST_NAME} or fewer for a name."
        )
    if same := match_names([name], labels):
        raise InputError(f"{name}: the model has {same[name]} already. Choose another name.")
    return clean_name(name)


def _find_head(model: PreTrainedModel) -> tuple[str, nn.Linear]:
    """Name and module of the one linear layer that gives the logits."""
    layers = last_layers(model)
    head = layers[0]
    fits = isinstance(head, nn.Linear) and head.bias is not None
    if len(layers) > 1 or not fits or head.out_features != model.config.num_labels:
        raise InputError(
            f"{type(model).__name__}: its head is not a single linear layer with a bias, so a "
            "class can't be added. Train a model that has one, or train again with the new class."
        )
    return next(name for name, module in model.named_modules() if module is head), head


def _add_class(old: PreTrainedModel, name: str) -> PreTrainedModel:
    """A model with one more class, whose row of the head is zero; it shares all other weights.

    Built from its config, as it will be when it is loaded; hooks on the old one stay there.
    """
    key, _ = _find_head(old)
    model = AutoModelForImageClassification.from_config(_extend_config(old.config, name))
    weights = old.state_dict()
    for part in (f"{key}.weight", f"{key}.bias"):
        weights[part] = torch.cat([weights[part], torch.zeros_like(weights[part][:1])])
    model.load_state_dict(weights, assign=True)
    return model.eval()


def _extend_config(old: PretrainedConfig, name: str) -> PretrainedConfig:
    config = copy.deepcopy(old)
    labels = [*(config.id2label[index] for index in range(config.num_labels)), name]
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: index for index, label in enumerate(labels)}
    if "label_names" in vars(config):  # timm-wrapped models are saved with it in place of id2label
        config.label_names = labels
    if getattr(config, "coarse_labels", None):
        config.coarse_labels = {**config.coarse_labels, name: name}
    if not getattr(config, "taught_from", None):
        origin = config.name_or_path or "a model that was not saved"
        config.taught_from = Path(origin).resolve().name if Path(origin).exists() else origin
    return config


def _embed(
    fruits: FruitClassifier,
    name: str,
    images: Sequence[ImageSource],
    reading: tuple[int, FewWarnings | None],
) -> tuple[torch.Tensor, Image.Image]:
    """Features of each readable image and of its views, (N, V, D), the image itself first.

    And the first of these images.
    """
    head = _find_head(fruits.model)[1]
    rows = choose_views(VIEWS)
    found, first, warnings = [], None, FewWarnings(logger)
    for source in images:
        try:
            image = open_image(source, *reading)
        except OSError as error:
            warnings.warn("left out: %s", UnreadableImageError(source, str(error)))
            continue
        views = [image, *(view for make in rows for view in make(image))]
        logits, features = fruits.forward(torch.stack([fruits.transform(view) for view in views]))
        with torch.inference_mode():
            own = head(features.to(head.weight)).float().cpu()
        if not torch.allclose(own, logits, rtol=1e-2, atol=1e-2):
            raise InputError(
                f"{type(fruits.model).__name__}: its logits are not only those of its head, so a "
                "class can't be added. Train again with the new class."
            )
        found.append(features)
        first = first or image
    if len(found) < FEWEST:
        raise InputError(
            f"{name}: {len(found)} of {counted(len(images), 'photo')} can be read; teaching needs "
            f"{FEWEST}. Add some."
        )
    return torch.stack(found), first
