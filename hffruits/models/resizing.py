"""Models whose input size can change, and the image processor for another size."""

from transformers import PreTrainedModel, TimmWrapperForImageClassification
from transformers.image_processing_utils import BaseImageProcessor

from hffruits.core.errors import InputError
from hffruits.models.layers import is_convolutional
from hffruits.models.loading import load_processor_of

TEST_SCALE = 8 / 7  # of the side: benchmarks/README.md, "Out of fold"


def resize_input(model: PreTrainedModel, size: int) -> BaseImageProcessor:
    """Make a CNN of timm see `size` x `size` pixels from now on; returns its new processor.

    Half the size is four times as fast. Raises `InputError` for nets that are built for one size.
    """
    if not is_resizable(model):
        raise InputError(f"image_size={size}: this model has a fixed size. Leave it out.")
    model.config.pretrained_cfg["input_size"] = [3, size, size]
    return load_processor_of(model)


def test_size(train_size: int) -> int:
    """Pixels that a net should see which was trained on random crops of `train_size` pixels.

    Such crops show things larger than the whole photo does: more pixels even that out (FixRes,
    arXiv:1906.06423). A multiple of 32, as nets halve their input five times.
    """
    return max(train_size, round(TEST_SCALE * train_size / 32) * 32)


def is_resizable(model: PreTrainedModel) -> bool:
    """True for what `resize_input` takes: timm's CNNs."""
    return isinstance(model, TimmWrapperForImageClassification) and takes_any_size(model)


def takes_any_size(model: PreTrainedModel) -> bool:
    """True for convolutional nets, but for those hybrids that timm knows to have one size."""
    config = getattr(model.config, "pretrained_cfg", None) or {}
    return is_convolutional(model) and not config.get("fixed_input_size", False)
