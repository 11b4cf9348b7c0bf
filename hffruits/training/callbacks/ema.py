"""EMA: an exponential moving average of the weights over the steps, which becomes the model.

The Trainer continues with the weights as they are; validation, best-model choice and the saved
artifact use the average. A checkpoint has both, so that a resumed run ends with the same average.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from timm.utils import ModelEmaV3
from torch import nn
from transformers import TrainerCallback

from hffruits.core.errors import InputError
from hffruits.models.saving import without_sharing

AVERAGE_FILE = "ema.safetensors"


class _EachTensorOnce(ModelEmaV3):
    """timm's goes by names, of which the tensors of a shared layer have several."""

    def apply_update_(self, model: nn.Module, decay: float) -> None:
        averages, values = [], []
        for average, value in zip(_tensors(self.module), _tensors(model), strict=True):
            if average.is_floating_point():
                averages.append(average)
                values.append(value)
            else:
                average.copy_(value)
        self._foreach_lerp_(averages, values, weight=1.0 - decay)


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    return chain(module.parameters(), module.buffers())


class EMACallback(TrainerCallback):
    """timm's `ModelEmaV3` with warmup: the average follows fast at first, then by `decay`."""

    def __init__(self, decay: float):
        self.decay = decay
        self.average: ModelEmaV3 | None = None
        self.checkpoint: str | None = None  # where a resumed run finds its average

    def on_train_begin(self, args, state, control, model: nn.Module = None, **kwargs):
        self.average = _EachTensorOnce(model, decay=self.decay, use_warmup=True)
        if self.checkpoint is not None:
            self._load(self.average.module, Path(self.checkpoint))

    def on_step_end(self, args, state, control, model: nn.Module = None, **kwargs):
        self.average.update(model, step=state.global_step)

    def on_train_end(self, args, state, control, model: nn.Module = None, **kwargs):
        """Leave the model with the average: the best checkpoint's, or the last one."""
        if args.load_best_model_at_end and state.best_model_checkpoint is not None:
            self._load(model, Path(state.best_model_checkpoint))
        else:
            _copy(self.average.module.state_dict(), model)
        self.average = None

    @contextmanager
    def in_place(self, model: nn.Module) -> Iterator[None]:
        """The model with the average in it, and afterwards, to the bit, as it was."""
        if self.average is None:  # before and after training
            yield
            return
        original = {name: value.clone() for name, value in model.state_dict().items()}
        _copy(self.average.module.state_dict(), model)
        try:
            yield
        finally:
            _copy(original, model)

    def save(self, folder: Path) -> None:
        """Write the average into a checkpoint."""
        state = without_sharing(self.average.module.state_dict())
        save_file(
            {name: value.contiguous() for name, value in state.items()}, folder / AVERAGE_FILE
        )

    def _load(self, model: nn.Module, checkpoint: Path) -> None:
        file = checkpoint / AVERAGE_FILE
        if not file.is_file():
            raise InputError(f"{checkpoint}: has no {AVERAGE_FILE}, so its run had no ema_decay.")
        model.load_state_dict(load_file(file))


@torch.no_grad()
def _copy(values: dict[str, torch.Tensor], target: nn.Module) -> None:
    for name, value in target.state_dict().items():
        value.copy_(values[name])
