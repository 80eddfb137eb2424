"""The published mixers that Shap-Mix is compared with: mixup, CutMix over time, Remix.

Shapes: N batch, C coordinates, T frames, V joints, M people, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from .checks import require
from .draws import derive_seed, uniform_int
from .formats import DEFAULT
from .mixer import Mixer
from .mixing import blend, soft_target, target_counts, target_dtype


@dataclass(frozen=True)
class PairDraws:
    """The random decisions of one batch."""

    shift: int  # sample i is mixed with sample (i + shift) mod N; 1 .. N-1
    lam: float  # the partner's share, 0 .. 1
    place: float  # where the partner's segment lies, 0 (first frames) .. 1 (last frames)


class Mixup(Mixer):
    """``(1 - lam) x + lam x_partner``, and the targets alike, lam ~ Beta(alpha, alpha) (Zhang et al., ICLR 2018).

    Args:
        class_counts: training samples of each class (K,).
        alpha: > 0; 1 makes lam uniform.
        with_clean: train on the clean batch too; published: on the mixed one alone.
        enabled, seed, input_format: see :class:`Mixer`.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        alpha: float = 1.0,
        with_clean: bool = False,
        enabled: bool = True,
        seed: int = 0,
        input_format: str = DEFAULT,
    ) -> None:
        super().__init__(class_counts, with_clean, enabled, seed, input_format)
        require(alpha > 0, f"alpha must be above 0, got {alpha}")
        self.alpha = alpha

    def start_step(self, epoch: int, step: int) -> None:
        super().start_step(epoch, step)
        self._beta_rng = Random(derive_seed(self.seed, epoch, step, "beta"))

    def draw(self, size: int, x: Tensor) -> PairDraws:
        shift = uniform_int(1, size - 1, self.mix_rng)
        place = torch.rand((), generator=self.mix_rng, dtype=torch.float64).item()
        return PairDraws(shift, self._beta_rng.betavariate(self.alpha, self.alpha), place)

    def apply_draws(
        self, x: Tensor, y: Tensor, x_partner: Tensor, y_partner: Tensor, draws: PairDraws
    ) -> tuple[Tensor, Tensor]:
        mixed, share = self.mixed(x, x_partner, draws)
        shares = torch.full(y.shape, share, dtype=target_dtype(x), device=x.device)
        return mixed, soft_target(y, y_partner, self.target_shares(shares, y, y_partner), self.num_class)

    def target_counts(self, frames: int) -> Tensor | None:
        return target_counts(self.counts, 0.5)

    def mixed(self, x: Tensor, x_partner: Tensor, draws: PairDraws) -> tuple[Tensor, float]:
        """The mixed batch, a new tensor, and the partner's share of the data."""
        return blend(x, x_partner, draws.lam), draws.lam

    def target_shares(self, shares: Tensor, y: Tensor, y_partner: Tensor) -> Tensor:
        """The partner's shares (N,) of the targets, given its shares (N,) of the data."""
        return shares


class TemporalCutMix(Mixup):
    """A segment of ``round(lam T)`` frames is the partner's, of the same frames, lam ~ Beta(alpha, alpha).

    CutMix (Yun et al., ICCV 2019) along time, with all joints. The box of CutMix is here a segment that always lies
    within the clip. The partner's share is that of its frames.
    """

    def mixed(self, x: Tensor, x_partner: Tensor, draws: PairDraws) -> tuple[Tensor, float]:
        frames = x.shape[2]
        length = round(draws.lam * frames)
        start = int(draws.place * (frames - length + 1))
        mixed = x.clone()
        mixed[:, :, start : start + length] = x_partner[:, :, start : start + length]
        return mixed, length / frames


class Remix(Mixup):
    """Mixup whose target is the rarer class alone where the pair is unequal enough (Chou et al., ECCV-W 2020).

    With n_i and n_j training samples of the sample's and the partner's class: the target is the partner's if
    ``n_i >= kappa n_j`` and the sample's share is below ``threshold``; the sample's if ``n_j >= kappa n_i`` and the
    partner's share is below it; else that of mixup. Remix-DRW adds class weights in the last epochs.

    Args:
        class_counts: training samples of each class (K,).
        alpha: > 0, see :class:`Mixup`.
        kappa: ratio of counts from which on a pair is unequal, >= 1.
        threshold: share of the more common sample below which it is left out of the target, 0 .. 1 (the paper's tau).
        with_clean, enabled, seed, input_format: see :class:`Mixup`.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        alpha: float = 1.0,
        kappa: float = 3.0,
        threshold: float = 0.5,
        with_clean: bool = False,
        enabled: bool = True,
        seed: int = 0,
        input_format: str = DEFAULT,
    ) -> None:
        super().__init__(class_counts, alpha, with_clean, enabled, seed, input_format)
        require(kappa >= 1 and 0 <= threshold <= 1, f"need kappa >= 1, threshold in 0..1, got {kappa}, {threshold}")
        self.kappa = kappa
        self.threshold = threshold

    def target_counts(self, frames: int) -> Tensor | None:
        return None

    def target_shares(self, shares: Tensor, y: Tensor, y_partner: Tensor) -> Tensor:
        own, other = self.counts[y], self.counts[y_partner]
        all_partner = (own >= self.kappa * other) & (1 - shares < self.threshold)
        all_own = (other >= self.kappa * own) & (shares < self.threshold)
        return torch.where(all_partner, 1.0, torch.where(all_own, 0.0, shares)).to(shares)
