"""What this machine's processors can do."""

import torch


def gpu_has_bf16() -> bool:
    """True for GPUs with bfloat16 units: NVIDIA's from Ampere on."""
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)


def cpu_has_bf16() -> bool:
    """True for processors with AMX."""
    return torch.cpu._is_amx_tile_supported()


def has_bf16(device: torch.device) -> bool:
    """True where a device computes in bfloat16 at full speed."""
    return cpu_has_bf16() if device.type == "cpu" else gpu_has_bf16()
