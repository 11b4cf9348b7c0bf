"""Test-time augmentation: what the views show, and that their logits are averaged."""

import numpy as np
import pytest
import torch
from PIL import Image
from support.drawing import draw_fruit

from hffruits.core.errors import InputError
from hffruits.inference.classifier import FruitClassifier
from hffruits.inference.tta import VIEWS, choose_views

IMAGE = Image.fromarray(np.arange(40 * 60 * 3, dtype=np.uint8).reshape(40, 60, 3))


@pytest.mark.parametrize(
    ("name", "count"), [("flip", 1), ("zoom", 1), ("whole", 1), ("corners", 4)]
)
def test_a_row_gives_its_views(name: str, count: int):
    views = VIEWS[name](IMAGE)
    assert len(views) == count
    assert all(min(view.size) >= 32 for view in views)
    assert VIEWS[name](Image.new("RGB", (1, 1)))[0].size == (1, 1)


def test_views_show_what_their_names_say():
    pixels = np.asarray(IMAGE)
    np.testing.assert_array_equal(np.asarray(VIEWS["flip"](IMAGE)[0]), pixels[:, ::-1])
    np.testing.assert_array_equal(np.asarray(VIEWS["zoom"](IMAGE)[0]), pixels[4:36, 6:54])
    corners = [np.asarray(view) for view in VIEWS["corners"](IMAGE)]
    np.testing.assert_array_equal(corners[0], pixels[:32, :48])
    np.testing.assert_array_equal(corners[3], pixels[8:, 12:])
    assert VIEWS["whole"](IMAGE)[0].size == (40, 40)


def test_logits_are_averaged_before_the_softmax(trained):
    image = draw_fruit("Apple", seed=5, size=96)
    views = [image, *VIEWS["flip"](image), *VIEWS["corners"](image)]
    plain = FruitClassifier.from_pretrained(trained)
    (single,) = plain.infer(views)
    several = FruitClassifier.from_pretrained(trained, tta="flip,corners")
    (outputs,) = several.infer([image])
    torch.testing.assert_close(outputs.logits[0], single.logits.mean(0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(outputs.features[0], single.features[0], atol=1e-4, rtol=1e-4)
    scores = dict(several.predict(image).top)
    wanted = single.logits.mean(0).softmax(0)
    for label, score in scores.items():
        assert score == pytest.approx(float(wanted[plain.labels.index(label)]), abs=1e-4)


def test_an_unknown_view_is_explained():
    with pytest.raises(InputError, match=r"tta=mirror: unknown. Known: flip, zoom, whole, corners"):
        choose_views(["mirror"])
