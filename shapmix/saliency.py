"""The saliency table: how much each coalition of parts says about each class (docs/method.md, "Saliency table").

Shapes: N batch, K classes, S coalitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import require
from .distributed import average_over_ranks, gather_batch
from .skeleton import SkeletonLayout

INITIAL = 1e-6


class SaliencyTable(nn.Module):
    """Moving averages ``table[class, coalition]`` of clipped contributions.

    A contribution enters as ``w = max(0, contribution) / (joints in the coalition) * scale``. It is clipped for each
    sample, before averaging, so an entry is not an unbiased estimate of the class's mean contribution.

    Args:
        num_class: K.
        layout: gives the number of joints of a coalition.
        coalitions: the S columns.
        scale: factor on every contribution, > 0.
        update: ``mean``: one update for each class and batch, with the mean of its samples. ``sequential``: sample
            after sample, as published: repeated classes compound, and without decay the last sample wins.
        reduction: ``evidence``: ranks share their samples and make the same update as one process with the global
            batch. ``table``: every rank updates with its own samples; once mixing is guided, the tables are averaged
            after each update, as published, so that a class seen by one of W ranks moves 1/W as fast.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        num_class: int,
        layout: SkeletonLayout,
        coalitions: Sequence[tuple[int, ...]],
        scale: float = 10.0,
        update: Literal["mean", "sequential"] = "mean",
        reduction: Literal["evidence", "table"] = "evidence",
    ) -> None:
        super().__init__()
        require(scale > 0, f"scale must be above 0, got {scale}")
        known = update in ("mean", "sequential") and reduction in ("evidence", "table")
        require(known, f"update is mean or sequential, reduction evidence or table; got {update!r}, {reduction!r}")
        self.coalitions = tuple(coalitions)
        self.update_rule = update
        self.reduction = reduction
        self.gain = [scale / joints for joints in layout.joints_of(self.coalitions).sum(1).tolist()]
        self.table: Tensor
        self.register_buffer("table", torch.full((num_class, len(self.coalitions)), INITIAL))  # (K, S)

    @torch.no_grad()
    def update(self, column: int, target: Tensor, contribution: Tensor, ema: float, average: bool = True) -> None:
        """Enters a batch's contributions of one coalition: ``new = ema * old + (1 - ema) * w`` for its classes.

        Args:
            column: which coalition.
            target: classes (n,), int64, of this rank's samples.
            contribution: their unclipped contributions (n,). NaN and infinite ones are left out.
            ema: share of the old value that stays, 0 .. 1.
            average: with the reduction ``table``: over the ranks.
        """
        weight = contribution.to(self.table).clamp(min=0) * self.gain[column]
        if self.reduction == "evidence":
            target, weight = gather_batch(target), gather_batch(weight)
        finite = weight.isfinite().unsqueeze(1)
        onehot = torch.where(finite, F.one_hot(target, len(self.table)).to(weight), 0.0)  # (N, K)
        by_class = torch.where(onehot > 0, weight.unsqueeze(1), 0.0)
        old = self.table[:, column]
        if self.update_rule == "mean":
            count = onehot.sum(0)
            mean = by_class.sum(0) / count.clamp(min=1)
            new = torch.where(count > 0, ema * old + (1 - ema) * mean, old)
        else:  # n values one after another: old * ema^n + (1 - ema) * sum of w_i * ema^(number of later ones)
            later = onehot.sum(0) - onehot.cumsum(0)  # (N, K)
            fading = torch.full_like(later, ema).pow(later)  # 0 ** 0 is 1
            new = old * torch.full_like(old, ema).pow(onehot.sum(0)) + (1 - ema) * (by_class * fading).sum(0)
        self.table[:, column] = new
        if self.reduction == "table" and average:
            average_over_ranks(self.table)
