"""Low-rank adaptation of ViTs through peft: few weights learn, and are merged when saved."""

import torch
from torch import nn
from transformers import PreTrainedModel

from hffruits.core.errors import InputError


def add_lora(
    model: PreTrainedModel, rank: int, *, head: tuple[str, ...], size: tuple[int, int]
) -> nn.Module:
    """The model with low-rank updates (arXiv:2106.09685) in every linear layer of its blocks.

    The head learns in full; all else is frozen. `size` is what the model sees, (high, wide). Raises
    `InputError` for nets that are not made of linear layers, and where peft is missing.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise InputError("lora_rank: needs peft. Run pip install 'hffruits[lora]'.") from error
    linear = [name for name in _called_linears(model, size) if not name.startswith(head)]
    in_linear = sum(model.get_submodule(name).weight.numel() for name in linear)
    if in_linear < model.num_parameters() / 2:
        raise InputError(f"lora_rank={rank}: for ViTs; most weights here are in convolutions.")
    present = [name for name in head if name in dict(model.named_modules())]
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=linear, modules_to_save=present, bias="none"
    )
    return get_peft_model(model, config)


@torch.no_grad()
def _called_linears(model: PreTrainedModel, size: tuple[int, int]) -> list[str]:
    """Linear layers that an image passes; some nets only borrow a layer's weights."""
    called: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    was_training = model.training
    model.eval()(pixel_values=torch.zeros(1, 3, *size))
    model.train(was_training)
    for handle in handles:
        handle.remove()
    return sorted(set(called))


def without_lora(model: nn.Module) -> PreTrainedModel:
    """The transformers model in a net that may have such updates, which stay in it."""
    return model if isinstance(model, PreTrainedModel) else model.get_base_model()


def merge_lora(model: nn.Module) -> PreTrainedModel:
    """The plain model again, with the updates added to its weights."""
    return model.merge_and_unload()
