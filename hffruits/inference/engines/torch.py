"""The PyTorch engine: on any of its devices, in float32 or bfloat16."""

import logging

import torch
from transformers import PreTrainedModel

from hffruits.core.errors import InputError
from hffruits.core.hardware import has_bf16
from hffruits.models.bn_folding import fold_batch_norm
from hffruits.models.heads import logits_and_features
from hffruits.models.layers import use_channels_last

logger = logging.getLogger(__name__)
PRECISIONS = ("fp32", "bf16")


class TorchEngine:
    """PyTorch, eager. `model` is as it was saved; what runs is a copy with folded batch norm."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        device: str | torch.device | None = None,
        precision: str = "fp32",
    ):
        if precision not in PRECISIONS:
            raise InputError(f"precision={precision}: unknown. Known: {', '.join(PRECISIONS)}.")
        if device is None:
            device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
        self.device = torch.device(device)
        self.precision = precision
        self.bf16 = precision == "bf16" and has_bf16(self.device)
        if precision == "bf16" and not self.bf16:
            logger.warning("precision=bf16: this machine doesn't support it, so fp32 is used")
        self.model = use_channels_last(model.eval().to(self.device), self.device)
        self.config = model.config
        self.parameters = model.num_parameters()
        self.megabytes = model.get_memory_footprint() / 1e6
        self._folded: PreTrainedModel | None = None

    @torch.no_grad()  # inference mode would spoil what some nets keep for later
    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 3, H, W) -> logits (B, K) and features (B, D), on the CPU, in float32."""
        pixels = pixels.to(self.device, self.model.dtype)
        if self._folded is None:
            self._folded = fold_batch_norm(self.model, pixels[:1])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits, features = logits_and_features(self._folded, pixels)
        return logits.float().cpu(), features.float().cpu()
