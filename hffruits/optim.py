"""Which parameters decay, and how fast they learn. Plain functions over a model."""

from torch import nn


def decayed_parameters(model: nn.Module) -> list[str]:
    """Names of the parameters that weight decay applies to: matrices and kernels.

    Norms, biases and position embeddings are left out, as in timm: shrinking them does not
    regularise, and batch norm undoes the shrinking of what comes before it.
    """
    kept_out = {
        f"{path}.{name}".lstrip(".")
        for path, module in model.named_modules()
        for name in getattr(module, "no_weight_decay", set)()  # timm's own list, where it has one
    }
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1 and name not in kept_out
    ]


def default_learning_rate(model: nn.Module) -> float:
    """Peak learning rate for AdamW at batch size 32.

    Nets with batch norm bear ten times what those with layer norm do.
    """
    has_batch_norm = any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    return 1e-3 if has_batch_norm else 1e-4
