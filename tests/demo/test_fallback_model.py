"""The model that the demo serves before anything is trained."""

import torch

from hffruits.demo.fallback_model import pretrained_produce_folder
from hffruits.models.loading import load_model


def test_the_pretrained_produce_model_is_the_bundled_one_cut_to_fruit_and_vegetables():
    cut, _ = load_model(pretrained_produce_folder())
    full, _ = load_model("efficientnet_lite0")
    ids = {name.split(",")[0].capitalize(): index for index, name in full.config.id2label.items()}
    names = [cut.config.id2label[index] for index in range(cut.config.num_labels)]
    assert {"Banana", "Granny smith", "Bell pepper", "Corn"} <= set(names)
    assert "Cardoon" not in names
    pixels = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        expected = full(pixels).logits[:, [ids[name] for name in names]]
        assert torch.allclose(cut(pixels).logits, expected, atol=1e-5)
