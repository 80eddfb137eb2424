"""The saliency table: how much each coalition of parts says about each class (docs/method.md, "Saliency table").

Shapes: N batch, K classes, S coalitions.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import choice, require
from .distributed import average_over_ranks, gather_batch
from .skeleton import SkeletonLayout

INITIAL = 1e-6
ROUNDING = 1e-6  # a deviation of contributions up to this is no evidence


class SaliencyTable(nn.Module):
    """Averages ``table[class, coalition]`` of clipped contributions, and what guided mixing makes of them.

    A contribution enters as ``w = max(0, contribution) / (joints in the coalition) * scale``. It is clipped for each
    sample, before averaging, so an entry is not an unbiased estimate of the class's mean contribution.
    :meth:`update` moves entries by the evidence of a batch, :meth:`replace` sets them.

    Args:
        num_class: K.
        layout: gives the number of joints of a coalition.
        coalitions: the S columns.
        scale: factor on every contribution, > 0.
        update: ``mean``: one update for each class and batch, with the mean of its samples. ``sequential``: sample
            after sample, as published: repeated classes compound, and without decay the last sample wins.
        reduction: ``evidence``: ranks share their samples and make the same update as one process with the global
            batch. ``table``: every rank updates with its own samples; once mixing is guided, the tables are averaged
            after each update, as published, so that a class seen by one of W ranks moves 1/W as fast. Before that each
            rank has its own table, and a checkpoint of one rank does not resume the others exactly.
        temperature: of the softmax over a row, > 0.
        bias_correction: an entry is the moving average of its evidence alone: the initial value's share is taken out,
            as Adam does (Kingma and Ba, ICLR 2015). For guidance, an entry without evidence counts as the mean of its
            row's others. Without it, as published, the rows of rare classes stay near the initial value for long.
        standardise: a row's mean is subtracted, and it is divided by its standard deviation, before the softmax, so
            that every class is guided alike strongly. Sampled rows of rare classes are mostly noise: use it with
            refreshed ones.

    Raises:
        ValueError: an argument out of range.
    """

    table: Tensor  # (K, S)
    initial: Tensor  # (K, S): the share of the initial value in each entry

    def __init__(
        self,
        num_class: int,
        layout: SkeletonLayout,
        coalitions: Sequence[tuple[int, ...]],
        scale: float = 10.0,
        update: Literal["mean", "sequential"] = "mean",
        reduction: Literal["evidence", "table"] = "evidence",
        temperature: float = 0.2,
        bias_correction: bool = True,
        standardise: bool = False,
    ) -> None:
        super().__init__()
        require(scale > 0, f"scale must be above 0, got {scale}")
        require(temperature > 0, f"temperature must be above 0, got {temperature}")
        choice("update", update, "mean", "sequential")
        choice("reduction", reduction, "evidence", "table")
        self.coalitions = tuple(coalitions)
        self.update_rule = update
        self.reduction = reduction
        self.gain = [scale / joints for joints in layout.joints_of(self.coalitions).sum(1).tolist()]
        self.temperature, self.bias_correction, self.standardise = temperature, bias_correction, standardise
        self.register_buffer("table", torch.full((num_class, len(self.coalitions)), INITIAL))
        self.register_buffer("initial", torch.ones_like(self.table))

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
        old, count = self.table[:, column], onehot.sum(0)
        if self.update_rule == "mean":
            entered = (1 - ema) * by_class.sum(0) / count.clamp(min=1)
            times = count.clamp(max=1)
        else:  # n values one after another: old * ema^n + (1 - ema) * sum of w_i * ema^(number of later ones)
            later = count - onehot.cumsum(0)  # (N, K)
            entered = (1 - ema) * (by_class * torch.full_like(later, ema).pow(later)).sum(0)  # 0 ** 0 is 1
            times = count
        decay = torch.full_like(old, ema).pow(times)
        before = self._evidence()[:, column]
        self.initial[:, column] *= decay
        share = self._evidence()[:, column]  # 0 where ema is 1: nothing enters
        self.table[:, column] = torch.where((count > 0) & (share > 0), (before * decay * old + entered) / share, old)
        if self.reduction == "table" and average:
            self._average_tables()

    def _evidence(self) -> Tensor:
        """(K, S): the share of an entry that is not its initial value, where that is taken out; else 1."""
        return 1 - self.initial if self.bias_correction else torch.ones_like(self.initial)

    def _average_tables(self) -> None:
        """The mean of the ranks' tables, each entry weighed by its evidence."""
        total = self._evidence() * self.table
        average_over_ranks(total)
        average_over_ranks(self.initial)
        share = self._evidence()
        self.table.copy_(torch.where(share > 0, total / share, self.table))

    @torch.no_grad()
    def replace(self, mean: Tensor, count: Tensor) -> None:
        """Sets the rows of the classes with a ``count`` (K,) above 0 to mean clipped contributions (K, S)."""
        seen = (count > 0).unsqueeze(1)
        self.table.copy_(torch.where(seen, mean.to(self.table) * torch.tensor(self.gain).to(self.table), self.table))
        self.initial.masked_fill_(seen, 0)

    def rows(self) -> Tensor:
        """(K, S): the table as guided mixing reads it; with the correction, entries without evidence are filled."""
        if not self.bias_correction:
            return self.table
        seen = self.initial < 1
        row_mean = (self.table * seen).sum(1, keepdim=True) / seen.sum(1, keepdim=True).clamp(min=1)
        return torch.where(seen | ~seen.any(1, keepdim=True), self.table, row_mean)

    def logits(self) -> Tensor:
        """(K, S): guided mixing draws a coalition with p = softmax of its class's row of these."""
        rows = self.rows()
        if self.standardise:
            deviation = rows.std(1, correction=0, keepdim=True)
            told = deviation > ROUNDING * max(self.gain)
            rows = torch.where(told, (rows - rows.mean(1, keepdim=True)) / deviation, 0)
        return rows / self.temperature

    def guidance(self) -> Tensor:
        """How far from uniform each class draws its coalitions: 0 (all equally likely) .. 1 (always the same one).

        One minus the entropy of the softmax of :meth:`logits`, as a share of the entropy of S equal probabilities. Near
        0 the contributions are small against the temperature. There the measure is coarse: at 0.03 with S = 20, one
        coalition may still be a few times as likely as another.

        Returns:
            (K,) float64, on the CPU: one wait for the device.
        """
        logp = self.logits().cpu().double().log_softmax(-1)
        return (1 + (logp.exp() * logp).sum(-1) / log(logp.shape[-1])).clamp(0, 1)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Tables from before the correction are taken as they are."""
        if prefix + "table" in state_dict:
            state_dict.setdefault(prefix + "initial", torch.zeros_like(self.initial))
        super()._load_from_state_dict(state_dict, prefix, *others)
