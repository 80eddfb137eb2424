"""Losses for long-tailed training. N batch, K classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class LogitAdjustedLoss(nn.Module):
    """Cross-entropy of ``logits + tau * log(n_k / sum n)``, for hard and soft targets.

    Balanced softmax (Ren et al., NeurIPS 2020), logit adjustment (Menon et al., ICLR 2021). With tau = 0 it is plain
    cross-entropy. A class without training samples is left out of the softmax's denominator (its prior would be
    log 0); a target that gives such a class weight costs infinity.

    Args:
        class_counts: training samples of each class (K,).
        tau: strength of the prior, >= 0.
    """

    def __init__(self, class_counts: Sequence[int] | Tensor, tau: float = 1.0) -> None:
        super().__init__()
        counts = torch.as_tensor(class_counts, dtype=torch.float64)
        if counts.ndim != 1 or len(counts) == 0 or not bool((counts >= 0).all()) or counts.sum() == 0 or tau < 0:
            raise ValueError(f"class_counts must be (K,) counts >= 0, not all 0, and tau >= 0; got {counts}, {tau}")
        adjustment = tau * (counts / counts.sum()).log() if tau else torch.zeros_like(counts)
        self.adjustment: Tensor
        self.register_buffer("adjustment", adjustment.to(torch.get_default_dtype()))

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean loss of a batch: logits (N, K); target (N,) int64 classes or (N, K) soft targets."""
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        log_chance = (logits + self.adjustment.to(logits)).log_softmax(-1)
        if target.ndim == 1:
            return nn.functional.nll_loss(log_chance, target)
        # 0 * -inf of an absent class counts as 0
        weighted = torch.where(target > 0, target * log_chance, torch.zeros_like(log_chance))
        return -weighted.sum(-1).mean()
