"""The saliency table: how much each coalition of parts tells about each class (METHOD 3).

Shapes: N batch, K classes, S coalitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from .distributed import gather_batch, world
from .skeleton import SkeletonLayout

INITIAL = 1e-6


class SaliencyTable(nn.Module):
    """Moving averages ``table[class, coalition]`` of clipped contributions.

    A contribution enters as ``w = max(0, contribution) / (joints in the coalition) * scale``. Clipping is by
    sample, before averaging, so a column is not an unbiased estimate of the class's mean contribution.

    Args:
        num_class: K.
        layout: gives the number of joints of a coalition.
        coalitions: the S columns.
        scale: factor on every contribution.
        update: ``mean``: one update for each class and batch, with the mean of its samples. ``sequential``: sample
            after sample, as published: repeated classes compound, and without decay the last sample wins.
        reduction: ``evidence``: ranks share their samples and make the same update as one process with the global
            batch. ``table``: every rank updates with its own samples and the tables are averaged, as published, so
            that a class seen by one of W ranks moves 1/W as fast.
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
        if update not in ("mean", "sequential") or reduction not in ("evidence", "table"):
            raise ValueError(
                f"update is mean or sequential, reduction evidence or table; got {update!r}, {reduction!r}"
            )
        self.coalitions = tuple(coalitions)
        self.update_rule = update
        self.reduction = reduction
        joints_of_part = layout.membership().sum(1).tolist()
        self.gain = [scale / sum(joints_of_part[part] for part in coalition) for coalition in self.coalitions]
        self.table: Tensor
        self.register_buffer("table", torch.full((num_class, len(self.coalitions)), INITIAL))

    @torch.no_grad()
    def update(self, column: int, target: Tensor, contribution: Tensor, ema: float) -> None:
        """Enters one batch's evidence about one coalition; one collective call when there are several processes.

        Args:
            column: which coalition.
            target: classes of this rank's samples (n,), int64.
            contribution: their unclipped contributions (n,); NaN and infinite ones are left out.
            ema: share of the old value that stays, 0 .. 1.
        """
        weight = contribution.to(self.table).clamp(min=0) * self.gain[column]
        if self.reduction == "evidence":
            target, weight = gather_batch(target), gather_batch(weight)
        fine = weight.isfinite().unsqueeze(1)  # a sample whose contribution is not finite is no evidence
        onehot = torch.where(fine, F.one_hot(target, len(self.table)).to(weight), 0.0)  # (N, K)
        by_class = torch.where(onehot > 0, weight.unsqueeze(1), 0.0)
        old = self.table[:, column]
        if self.update_rule == "mean":
            count = onehot.sum(0)
            evidence = by_class.sum(0) / count.clamp(min=1)
            new = torch.where(count > 0, ema * old + (1 - ema) * evidence, old)
        else:  # n values one after another: old * ema^n + (1 - ema) * sum of w_i * ema^(number of later ones)
            later = onehot.sum(0) - onehot.cumsum(0)  # (N, K)
            fading = torch.full_like(later, ema).pow(later)  # 0 ** 0 is 1
            new = old * torch.full_like(old, ema).pow(onehot.sum(0)) + (1 - ema) * (by_class * fading).sum(0)
        self.table[:, column] = new
        _, processes = world()
        if self.reduction == "table" and processes > 1:
            dist.all_reduce(self.table)
            self.table /= processes
