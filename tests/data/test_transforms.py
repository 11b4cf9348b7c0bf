"""The evaluation transform is the checkpoint's; the training transform ends in the same way."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from support.drawing import draw_fruit
from torchvision.transforms import v2
from transformers import (
    AutoImageProcessor,
    ConvNextImageProcessor,
    MobileViTImageProcessor,
    ViTImageProcessor,
)

from hffruits.data.images import open_rgb
from hffruits.data.transforms import (
    AUGMENTATIONS,
    EvalTransform,
    TrainTransform,
    input_size,
    open_for,
    scaling_of,
    train_transform,
)
from hffruits.models.loading import build_model
from hffruits.models.saving import save_model

PROCESSORS = {  # name -> how to make it, and the pixels (high, wide) that its model sees
    "vit": (lambda: ViTImageProcessor(size={"height": 48, "width": 32}, resample=2), (48, 32)),
    "convnext": (
        lambda: ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.875),
        (64, 64),
    ),
    "mobilevit": (
        lambda: MobileViTImageProcessor(
            size={"shortest_edge": 72}, crop_size={"height": 64, "width": 64}
        ),
        (64, 64),
    ),
    "timm cnn": (lambda: build_model("efficientnet_lite0", labels=["a"])[1], (224, 224)),
    "timm vit": (lambda: build_model("test_vit", labels=["a"], pretrained=False)[1], (160, 160)),
}


@pytest.fixture(params=PROCESSORS)
def processor_and_size(request):
    make, size = PROCESSORS[request.param]
    return make(), size


def test_eval_transform_gives_what_plain_transformers_gives(tmp_path):
    model, processor = build_model(labels=["a", "b"])
    save_model(model, processor, tmp_path)
    image = draw_fruit("Kiwi", seed=1, size=150)
    theirs = AutoImageProcessor.from_pretrained(tmp_path)(image, return_tensors="pt")
    assert torch.equal(EvalTransform(processor)(image), theirs["pixel_values"][0])


def test_training_ends_with_the_processors_own_normalisation(processor_and_size):
    processor, (height, width) = processor_and_size
    colours = Image.new("RGB", (width, height), (250, 120, 10))  # of the right size: no resizing
    finished = TrainTransform(processor, lambda image: image)(colours)
    assert input_size(processor) == (height, width)
    expected = EvalTransform(processor)(Image.new("RGB", (2 * width, 2 * height), (250, 120, 10)))
    assert torch.allclose(finished, expected, atol=1e-5)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_train_transforms_keep_the_size_and_can_be_sent_to_workers(processor_and_size, augment):
    processor, size = processor_and_size
    transform = pickle.loads(pickle.dumps(train_transform(processor, augment)))
    pixels = transform(draw_fruit("Kiwi", seed=1, size=150))
    assert pixels.shape == (3, *size) and pixels.dtype == torch.float32


def test_training_may_see_another_size_than_validation(processor_and_size):
    processor, size = processor_and_size
    image = draw_fruit("Kiwi", seed=1, size=100)
    assert train_transform(processor, "light", size=40)(image).shape == (3, 40, 40)
    assert EvalTransform(processor)(image).shape == (3, *size)


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_a_device_can_do_the_scaling(processor_and_size, augment):
    processor, _ = processor_and_size
    scaling = scaling_of(processor, augment)
    if augment in ("none", "medium", "strong"):  # they do nothing, or more, to scaled pixels
        assert scaling is None
    elif scaling is not None:  # not of processors with steps of their own
        image, both = draw_fruit("Kiwi", seed=1, size=150), []
        for scaled in (True, False):
            torch.manual_seed(0)
            both.append(train_transform(processor, augment, scaled=scaled)(image))
        assert both[1].dtype == torch.uint8
        assert torch.allclose(scaling(both[1][None])[0], both[0], atol=1e-5)


@pytest.mark.parametrize("name", ["vit", "timm cnn", "timm vit"])
def test_the_usual_processors_leave_the_scaling_to_a_device(name):
    make, _ = PROCESSORS[name]
    assert scaling_of(make(), "light") is not None


def test_light_augmentation_varies_and_none_is_the_eval_transform(processor_and_size):
    processor, _ = processor_and_size
    image = draw_fruit("Kiwi", seed=1, size=100)
    light = train_transform(processor, "light")
    assert not torch.equal(light(image), light(image))
    none = train_transform(processor, "none")
    assert torch.equal(none(image), EvalTransform(processor)(image))


def test_light_augmentation_leaves_colours_as_they_are():
    processor = ViTImageProcessor(size={"height": 16, "width": 16})
    plain = Image.new("RGB", (32, 32), (200, 140, 40))
    light = train_transform(processor, "light")
    for _ in range(10):
        assert torch.allclose(light(plain), EvalTransform(processor)(plain), atol=1e-5)


@pytest.mark.parametrize("augment", ["medium", "strong"])
def test_stronger_augmentation_hardly_turns_the_hue(augment):
    """Colour must survive: the mean hue moves by a few degrees of 360."""
    processor = ViTImageProcessor(size={"height": 16, "width": 16})
    noise = np.random.default_rng(0).integers(-20, 20, (48, 48, 3))
    image = Image.fromarray((np.array([210, 120, 40]) + noise).astype(np.uint8))
    transform = train_transform(processor, augment)
    for seed in range(40):
        torch.manual_seed(seed)
        pixels = transform.augment(image).convert("HSV")
        hues = np.asarray(pixels)[..., 0][np.asarray(pixels)[..., 1] > 60]  # without the grey
        assert abs(np.median(hues) / 255 * 360 - 28) < 12


@pytest.mark.parametrize("augment", ["light", "medium", "strong"])
@pytest.mark.parametrize("suffix", ["jpg", "ppm"])  # as --image_cache decoded keeps them
def test_of_a_large_photo_training_gets_no_more_than_its_smallest_crop_needs(
    tmp_path, suffix, augment
):
    file = tmp_path / f"large.{suffix}"
    draw_fruit("Kiwi", seed=1, size=128).resize((2048, 1536)).save(file, quality=95)
    processor = ViTImageProcessor(size={"height": 64, "width": 64}, resample=2)
    transform = train_transform(processor, augment, scaled=False)
    part, whole = open_for(transform, str(file)), open_rgb(file)
    assert whole.size == (2048, 1536)
    shrunk = min(part.size) / 1536
    assert shrunk in (1 / 8, 1 / 4)
    crop = next(t for t in transform.augment.transforms if isinstance(t, v2.RandomResizedCrop))
    area, ratio = crop.scale[0], crop.ratio[0]
    assert min(part.size) * (area * ratio) ** 0.5 >= 64  # what the smallest crop has
    seen = [np.asarray(image.resize((128, 128)), int) for image in (part, whole)]
    assert np.abs(seen[0] - seen[1]).mean() < 2  # of 255


def test_small_photos_and_those_for_validation_are_decoded_whole(tmp_path):
    processor = ViTImageProcessor(size={"height": 64, "width": 64})
    for size in (100, 1500):
        draw_fruit("Kiwi", seed=1, size=128).resize((size, size)).save(tmp_path / f"{size}.jpg")
    small = open_for(train_transform(processor, "light"), str(tmp_path / "100.jpg"))
    assert small.size == (100, 100)
    for transform in (train_transform(processor, "none"), EvalTransform(processor)):
        assert open_for(transform, str(tmp_path / "1500.jpg")).size == (1500, 1500)


def test_an_unknown_augmentation_lists_the_known_ones():
    with pytest.raises(ValueError, match="Known: none, light"):
        train_transform(ViTImageProcessor(), "wild")


def test_of_a_line_of_pixels_the_processor_is_given_the_middle(monkeypatch):
    """Resized by its shorter side, it would be billions of pixels."""
    _, processor = build_model("efficientnet_lite0", labels=["a", "b"])
    given = []

    def record(self, image):
        given.append(image)
        return plainly(self, image)

    plainly = EvalTransform._plainly
    monkeypatch.setattr(EvalTransform, "_plainly", record)
    monkeypatch.setattr(EvalTransform, "_quick", None)
    line = Image.new("RGB", (1, 60_001), "red")
    line.putpixel((0, 30_000), (0, 0, 255))
    assert EvalTransform(processor)(line).shape == (3, 224, 224)
    assert given[0].size == (1, 20) and (0, 0, 255) in given[0].get_flattened_data()
    long = Image.effect_noise((400, 20), 80).convert("RGB")  # the longest that is not cropped
    EvalTransform(processor)(long)
    assert given[1] is long


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("efficientnet_lite0", {}),  # bicubic, a middle crop
        ("efficientnet_lite2", {}),
        ("resnet18", {"pretrained": False}),  # other means
        ("test_vit", {"pretrained": False}),
    ],
)
def test_the_fast_preprocessing_gives_the_processors_pixels_to_the_bit(name, options):
    transform = EvalTransform(build_model(name, labels=["a", "b"], **options)[1])
    assert transform._quick is not None
    image = draw_fruit("Apple", seed=3, size=256)
    for number in range(40):
        width, height = np.random.default_rng(number).integers(40, 700, 2).tolist()
        resized = image.resize((width, height))
        assert torch.equal(transform(resized), transform._plainly(resized)), (width, height)


def test_a_processor_with_steps_of_its_own_is_asked_itself():
    processor = ConvNextImageProcessor(size={"shortest_edge": 224})
    transform = EvalTransform(processor)
    image = draw_fruit("Apple", seed=3, size=100)
    assert transform._quick is None
    assert torch.equal(transform(image), transform._plainly(image))
