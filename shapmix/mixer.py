"""Mixers, callables ``(x, y) -> (x_mix, soft targets)`` over the global batch, and those to compare Shap-Mix with.

Shapes: N batch, C coordinates, T frames, V joints, M people, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .distributed import gather_batch, world
from .draws import derive_seed, generator, uniform_int
from .mixing import Rows, blend, in_pieces, partner_rows, soft_target, target_dtype


class Mixer(nn.Module):
    """Mixes every sample of a batch with another one of it. Subclasses define :meth:`draw` and :meth:`apply_draws`.

    Sample i is mixed with sample (i + shift) mod N, the same shift for the batch, which must be in random order. Under
    torch.distributed the batch is the global one (all ranks must call with equal batches), the result the rank's slice.

    Args:
        class_counts: training samples of each class (K,).
        with_clean: is the clean batch trained on as well, or the mixed one alone?
        enabled: False makes the call return the batch unmixed.
        seed: of all draws, together with epoch and step.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self, class_counts: Sequence[int] | Tensor, with_clean: bool = False, enabled: bool = True, seed: int = 0
    ) -> None:
        super().__init__()
        counts = torch.as_tensor(class_counts)
        check(
            counts.ndim == 1 and len(counts) > 0 and bool((counts >= 0).all()), "class_counts must be (K,) counts >= 0"
        )
        self.num_class = len(counts)
        self.with_clean = with_clean
        self.enabled = enabled
        self.seed = seed
        self.counts: Tensor
        self.register_buffer("counts", counts.clone(), persistent=False)  # (K,)
        self.start_step(0, 0)

    def start_step(self, epoch: int, step: int) -> None:
        """Seeds the draws of this step (both count from 0)."""
        self.epoch, self.step = epoch, step
        self.mix_rng = generator(self.seed, epoch, step, "mix")

    def observe(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor | None:
        """Looks at the clean batch before it is mixed; nothing here."""
        return None

    def figures(self) -> dict[str, float]:
        """What there is to record of the mixer after an epoch, by name; nothing here."""
        return {}

    @torch.no_grad()
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mixes a batch with itself: x (N, C, T, V, M), y (N,) -> x_mix, soft targets (N, K). Both are new tensors.

        A batch of one (over all ranks), and a mixer that is not enabled, give the batch itself with one-hot targets.
        """
        rank, processes = world()
        if not self.enabled or len(x) * processes < 2:
            return x.clone(), F.one_hot(y, self.num_class).to(target_dtype(x))
        everyone, classes = gather_batch(x), gather_batch(y)
        draws = self.draw(len(everyone), x)
        first = rank * len(x) + draws.shift
        partner = partner_rows(everyone, first, len(x))
        y_partner = torch.cat(partner_rows(classes, first, len(x)))
        return self.apply_draws(x, y, partner, y_partner, draws)

    def draw(self, size: int, x: Tensor) -> Any:
        """The random decisions for a global batch of ``size`` whose slice is x, with a ``shift``."""
        raise NotImplementedError

    def apply_draws(self, x: Tensor, y: Tensor, partner: Rows, y_partner: Tensor, draws: Any) -> tuple[Tensor, Tensor]:
        """Mixes x with partner (both (N, C, T, V, M)) as drawn; the partner may come in pieces, see partner_rows."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"classes={self.num_class}, enabled={self.enabled}"


@dataclass(frozen=True)
class PairDraws:
    """The random decisions of one batch: partner's shift, its share ``lam``, and where a segment lies (0 .. 1)."""

    shift: int
    lam: float
    place: float


class Mixup(Mixer):
    """``(1 - lam) x + lam partner``, targets alike, lam ~ Beta(alpha, alpha) (Zhang et al., ICLR 2018).

    Args:
        class_counts: training samples of each class (K,).
        alpha: > 0; 1 is uniform.
        with_clean: train on the clean batch as well; published: on the mixed one alone.
        enabled, seed: see :class:`Mixer`.

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
    ) -> None:
        super().__init__(class_counts, with_clean, enabled, seed)
        check(alpha > 0, f"alpha must be above 0, got {alpha}")
        self.alpha = alpha

    def draw(self, size: int, x: Tensor) -> PairDraws:
        shift = uniform_int(1, size - 1, self.mix_rng)
        place = torch.rand((), generator=self.mix_rng, dtype=torch.float64).item()
        beta = Random(derive_seed(self.seed, self.epoch, self.step, "beta"))
        return PairDraws(shift, beta.betavariate(self.alpha, self.alpha), place)

    def apply_draws(
        self, x: Tensor, y: Tensor, partner: Rows, y_partner: Tensor, draws: PairDraws
    ) -> tuple[Tensor, Tensor]:
        mixed, share = self.mixed(x, partner, draws)
        shares = torch.full(y.shape, share, dtype=target_dtype(x), device=x.device)
        return mixed, soft_target(y, y_partner, self.shares(shares, y, y_partner), self.num_class)

    def mixed(self, x: Tensor, partner: Rows, draws: PairDraws) -> tuple[Tensor, float]:
        """The mixed batch, a new tensor, and the partner's share of the data."""
        return blend(x, partner, draws.lam), draws.lam

    def shares(self, shares: Tensor, y: Tensor, y_partner: Tensor) -> Tensor:
        """The partner's shares (N,) of the targets, given those of the data."""
        return shares


class TemporalCutMix(Mixup):
    """A segment of ``round(lam T)`` frames is the partner's, of the same frames, lam ~ Beta(alpha, alpha).

    CutMix (Yun et al., ICCV 2019) along time, with all joints: the box is a segment, and it always fits the clip. The
    partner's share is that of its frames.
    """

    def mixed(self, x: Tensor, partner: Rows, draws: PairDraws) -> tuple[Tensor, float]:
        frames = x.shape[2]
        length = round(draws.lam * frames)
        start = int(draws.place * (frames - length + 1))
        mixed = x.clone()
        for rows, other in in_pieces(mixed, partner):
            rows[:, :, start : start + length] = other[:, :, start : start + length]
        return mixed, length / frames


class Remix(Mixup):
    """Mixup whose target is the rarer class alone, where the pair is unequal enough (Chou et al., ECCV-W 2020).

    With n_i and n_j training samples of the sample's and the partner's class: the target is the partner's if
    ``n_i >= kappa n_j`` and the sample's share is below ``threshold``; the sample's if ``n_j >= kappa n_i`` and the
    partner's share is below it; else as mixup has it. Remix-DRW adds class weights in the last epochs.

    Args:
        class_counts: training samples of each class (K,).
        alpha: > 0, see :class:`Mixup`.
        kappa: ratio of counts from which on a pair is unequal, >= 1.
        threshold: share of the more common sample up to which it is left out of the target, 0 .. 1 (the paper's tau).
        with_clean, enabled, seed: see :class:`Mixup`.

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
    ) -> None:
        super().__init__(class_counts, alpha, with_clean, enabled, seed)
        check(kappa >= 1 and 0 <= threshold <= 1, f"need kappa >= 1, threshold in 0..1, got {kappa}, {threshold}")
        self.kappa = kappa
        self.threshold = threshold

    def shares(self, shares: Tensor, y: Tensor, y_partner: Tensor) -> Tensor:
        own, other = self.counts[y], self.counts[y_partner]
        all_partner = (own >= self.kappa * other) & (1 - shares < self.threshold)
        all_own = (other >= self.kappa * own) & (shares < self.threshold)
        return torch.where(all_partner, 1.0, torch.where(all_own, 0.0, shares)).to(shares)


def check(fine: bool, message: str) -> None:
    """ValueError with the message, where it is not so."""
    if not fine:
        raise ValueError(message)
