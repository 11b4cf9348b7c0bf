"""The evaluation transform is the checkpoint's own; the training one keeps shape and range."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, ConvNextImageProcessor, ViTImageProcessor

from hffruits.drawing import draw_fruit
from hffruits.models import build_model, save_model
from hffruits.transforms import AUGMENTATIONS, InputSpec, eval_transform, train_transform


@pytest.fixture(scope="module")
def processor():
    return build_model(labels=["a", "b"])[1]


def test_eval_transform_gives_what_plain_transformers_gives(tmp_path, processor):
    model, _ = build_model(labels=["a", "b"])
    save_model(model, processor, tmp_path)
    picture = draw_fruit("Kiwi", seed=1, size=150)
    theirs = AutoImageProcessor.from_pretrained(tmp_path)(picture, return_tensors="pt")
    assert torch.equal(eval_transform(processor)(picture), theirs["pixel_values"][0])


@pytest.mark.parametrize(
    ("processor_of", "size"),
    [
        (lambda: ViTImageProcessor(size={"height": 48, "width": 32}), (48, 32)),
        (lambda: ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875), (64, 64)),
        (lambda: build_model("efficientnet_lite0", labels=["a"])[1], (224, 224)),
        (lambda: build_model("test_vit", labels=["a"], pretrained=False)[1], (160, 160)),
    ],
)
def test_input_spec_reads_every_kind_of_processor(processor_of, size):
    processor = processor_of()
    spec = InputSpec.of(processor)
    assert spec.size == size
    assert eval_transform(processor)(Image.new("RGB", (90, 70))).shape == (3, *size)
    white = eval_transform(processor)(Image.new("RGB", (90, 70), "white"))
    expected = (1 - np.array(spec.mean)) / np.array(spec.std)
    assert np.allclose(white.mean((1, 2)), expected, atol=1e-2)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_train_transform_keeps_shape_and_range(augment):
    spec = InputSpec((40, 56), (0.5,) * 3, (0.5,) * 3)
    pixels = train_transform(spec, augment)(draw_fruit("Kiwi", seed=1, size=150))
    assert pixels.shape == (3, 40, 56) and pixels.dtype == torch.float32
    assert -1 <= pixels.min() < pixels.max() <= 1


def test_light_augmentation_varies_and_none_does_not():
    spec = InputSpec((32, 32), (0.5,) * 3, (0.5,) * 3)
    picture = draw_fruit("Kiwi", seed=1, size=64)
    light, none = train_transform(spec, "light"), train_transform(spec, "none")
    assert not torch.equal(light(picture), light(picture))
    assert torch.equal(none(picture), none(picture))


def test_light_augmentation_never_turns_a_red_apple_green():
    spec = InputSpec((16, 16), (0.0,) * 3, (1.0,) * 3)
    light = train_transform(spec, "light")
    for _ in range(50):
        red, green, blue = light(Image.new("RGB", (32, 32), (200, 40, 40))).mean((1, 2))
        assert red > 2 * green and red > 2 * blue


def test_an_unknown_augmentation_lists_the_known_ones():
    with pytest.raises(ValueError, match="Known: none, light"):
        train_transform(InputSpec((8, 8), (0.5,) * 3, (0.5,) * 3), "wild")
