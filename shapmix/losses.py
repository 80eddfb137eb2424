"""Losses for long-tailed training (docs/method.md, "Loss"). N batch, K classes, n_k training samples of class k.

Each loss says what a sample would cost as a sample of each class. A hard target selects one of these costs, a soft
target takes their weighted sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .checks import as_classes, as_counts, require, within


class LongTailedLoss(nn.Module):
    """A loss that knows the training counts: logits (N, K) and classes (N,) or soft targets (N, K) -> mean loss.

    A soft target's loss is the expectation over its classes, as in mixup. Subclasses define :meth:`costs`.

    Args:
        class_counts: training samples of each class (K,).

    Raises:
        ValueError: counts that are negative, or all 0.
    """

    def __init__(self, class_counts: Sequence[int] | Tensor) -> None:
        super().__init__()
        counts = as_counts(class_counts).double()
        require(bool(counts.any()), "class_counts must be above 0 for at least one class")
        self.counts: Tensor
        self.class_weights: Tensor | None
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("class_weights", None, persistent=False)

    def reweight(self, weights: Tensor | None) -> None:
        """From now on multiplies the cost of each class by its weight (K,); None: by 1.

        The mean stays one over samples, so W processes compute what one does. Published codes divide by the sum of the
        batch's weights instead.
        """
        self.class_weights = None if weights is None else weights.to(self.counts)

    def costs(self, logits: Tensor) -> Tensor:
        """(N, K): what each sample would cost as a sample of each class."""
        raise NotImplementedError

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean loss of a batch: logits (N, K); target (N,) integer classes or (N, K) soft targets.

        Raises:
            ValueError: a class outside 0 .. K-1, on the CPU.
        """
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()
        costs = self.costs(logits)
        if self.class_weights is not None:
            costs = costs * self.class_weights.to(costs)
        if target.ndim == 1:
            return nn.functional.nll_loss(-costs, as_classes(target, costs.shape[1], look=False))
        # 0 * inf of an absent class counts as 0
        return torch.where(target > 0, target * costs, torch.zeros_like(costs)).sum(-1).mean()


class LogitAdjustedLoss(LongTailedLoss):
    """Cross-entropy of ``logits + tau * log(n_k / sum n)``, for hard and soft targets.

    Balanced softmax (Ren et al., NeurIPS 2020), logit adjustment (Menon et al., ICLR 2021). With tau = 0 it is plain
    cross-entropy. A class without training samples, whose prior would be log 0, is left out of the softmax's
    denominator; a target that gives such a class weight costs infinity.

    Args:
        class_counts: training samples of each class (K,).
        tau: strength of the prior, >= 0.
        label_smoothing: share of every target that is spread evenly over the classes with training samples, 0 .. 1
            (Szegedy et al., CVPR 2016).

    Raises:
        ValueError: counts that are negative or all 0, tau < 0, or label_smoothing outside 0 .. 1.
    """

    def __init__(self, class_counts: Sequence[int] | Tensor, tau: float = 1.0, label_smoothing: float = 0.0) -> None:
        super().__init__(class_counts)
        require(tau >= 0, f"tau must be >= 0, got {tau}")
        within(0, 1, label_smoothing=label_smoothing)
        self.label_smoothing = label_smoothing
        adjustment = tau * (self.counts / self.counts.sum()).log() if tau else torch.zeros_like(self.counts)
        self.adjustment: Tensor
        self.register_buffer("adjustment", adjustment)

    def costs(self, logits: Tensor) -> Tensor:
        costs = -(logits + self.adjustment.to(logits)).log_softmax(-1)
        if not self.label_smoothing:
            return costs
        # the cost of a smoothed target is that of its class and the mean over all, in the same shares
        present = self.counts > 0
        mean = torch.where(present, costs, 0).sum(-1, keepdim=True) / present.sum()
        return (1 - self.label_smoothing) * costs + self.label_smoothing * mean


class FocalLoss(LongTailedLoss):
    """``-(1 - p_k)^gamma log p_k`` (Lin et al., ICCV 2017, without their alpha, which is what class weights are for).

    Args:
        class_counts: training samples of each class (K,).
        gamma: >= 0; 0 is cross-entropy.

    Raises:
        ValueError: counts that are negative or all 0, or gamma < 0.
    """

    def __init__(self, class_counts: Sequence[int] | Tensor, gamma: float = 2.0) -> None:
        super().__init__(class_counts)
        require(gamma >= 0, f"gamma must be >= 0, got {gamma}")
        self.gamma = gamma

    def costs(self, logits: Tensor) -> Tensor:
        log_probability = logits.log_softmax(-1)
        # 1 - p, kept above 0, where its power would have no gradient
        missing = (-log_probability.expm1()).clamp(min=torch.finfo(log_probability.dtype).eps)
        return -(missing**self.gamma) * log_probability


class LDAMLoss(LongTailedLoss):
    """Cross-entropy with a margin on the sample's own class, larger for rarer ones (Cao et al., NeurIPS 2019).

    ``-log( exp(z_k - d_k) / (exp(z_k - d_k) + sum_{j != k} exp z_j) )`` with ``d_k = scale * margin_k``, where margin_k
    is proportional to n_k^(-1/4), and ``max_margin`` for the rarest class that occurs. The logits should be
    ``scale * cosine`` (``model_args: {classifier: cosine}``). LDAM-DRW adds class weights in the last epochs.

    Args:
        class_counts: training samples of each class (K,).
        max_margin: largest margin, >= 0.
        scale: of the logits, > 0; that of the cosine classifier.

    Raises:
        ValueError: counts that are negative or all 0, or another argument out of range.
    """

    def __init__(self, class_counts: Sequence[int] | Tensor, max_margin: float = 0.5, scale: float = 30.0) -> None:
        super().__init__(class_counts)
        require(max_margin >= 0 and scale > 0, f"max_margin must be >= 0, scale > 0, got {max_margin}, {scale}")
        self.scale = scale
        present = self.counts[self.counts > 0]
        margins = max_margin * (present.min() / self.counts.clamp(min=present.min().item())) ** 0.25
        self.margins: Tensor
        self.register_buffer("margins", scale * margins)

    def costs(self, logits: Tensor) -> Tensor:
        # log of the sum over the other classes: where a class dominates, the others are summed without it
        first = logits.argmax(-1, keepdim=True)
        without_first = logits.scatter(-1, first, -torch.inf).logsumexp(-1, keepdim=True)
        total = logits.logsumexp(-1, keepdim=True)
        probability = (logits - total).exp().scatter(-1, first, 0)
        others = (total + torch.log1p(-probability)).scatter(-1, first, without_first)
        return nn.functional.softplus(others - (logits - self.margins.to(logits)))


def effective_number_weights(class_counts: Sequence[int] | Tensor, beta: float = 0.9999) -> Tensor:
    """Class weights ``(1 - beta) / (1 - beta^n_k)``, one over the effective number of samples (Cui et al., CVPR 2019).

    Args:
        class_counts: training samples of each class (K,).
        beta: 0 .. below 1; 0 weighs all classes alike, near 1 by 1 / n_k.

    Returns:
        (K,) float64, scaled so that their mean over the training samples is 1. A class without samples has the weight
        of a class with one.

    Raises:
        ValueError: counts that are negative, or beta out of range.
    """
    require(0 <= beta < 1, f"beta must lie in 0 .. below 1, got {beta}")
    counts = as_counts(class_counts).double()
    weights = (1 - beta) / (1 - beta ** counts.clamp(min=1))
    return weights * counts.sum() / (weights * counts).sum()


def post_hoc_adjustment(class_counts: Sequence[int] | Tensor, tau: float = 1.0) -> Tensor:
    """What post-hoc logit adjustment subtracts from the logits at test time (Menon et al., ICLR 2021, section 4.1).

    Args:
        class_counts: training samples of each class (K,), not all 0.
        tau: >= 0.

    Returns:
        (K,) ``tau * log(n_k / sum n)``, float64. A class without samples has the value of the rarest class with some.

    Raises:
        ValueError: counts that are negative, or tau < 0.
    """
    require(tau >= 0, f"tau must be >= 0, got {tau}")
    counts = as_counts(class_counts).double()
    rarest = counts[counts > 0].min()
    return tau * (counts.clamp(min=rarest.item()) / counts.sum()).log()
