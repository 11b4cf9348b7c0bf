"""The training loss: label smoothing, class weights, focal loss, all for hard and mixed labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ClassificationLoss:
    """Cross-entropy, mean over the batch, of (B, K) logits against (B,) or (B, K) labels."""

    label_smoothing: float = 0.0
    class_weights: torch.Tensor | None = None  # (K,)
    focal_gamma: float = 0.0  # arXiv:1708.02002; 0 is plain cross-entropy

    def __call__(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = logits.float()
        classes = logits.shape[1]
        if labels.ndim == 1:
            labels = labels[:, None] == torch.arange(classes, device=labels.device)  # one-hot
        targets = labels.float() * (1 - self.label_smoothing) + self.label_smoothing / classes
        if self.class_weights is not None:
            targets = targets * self.class_weights.to(logits)
        log_p = logits.log_softmax(1)
        if self.focal_gamma:
            # away from 0, where a power below 1 has no slope
            targets = targets * (1 - log_p.exp()).clamp(min=1e-6) ** self.focal_gamma
        return -(targets * log_p).sum(1).mean()


def class_weights(counts: Sequence[int], kind: str) -> torch.Tensor | None:
    """Weights (K,) by a row of `CLASS_WEIGHTS`, scaled so that the mean over all images is 1.

    `counts` (K,) are the images of each class.
    """
    if CLASS_WEIGHTS[kind] is None:
        return None
    n = torch.as_tensor(counts).double()
    weights = CLASS_WEIGHTS[kind](n.clamp(min=1))
    return (weights * n.sum() / (weights * n).sum()).float()


CLASS_WEIGHTS = {
    "none": None,
    "balanced": lambda n: 1 / n,  # as scikit-learn's "balanced"
    # n photos of one class repeat each other: count the "effective number", arXiv:1901.05555
    "effective": lambda n: (1 - 0.999) / (1 - 0.999**n),
}
