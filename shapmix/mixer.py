"""Mixers, callables ``(x, y) -> (x_mix, soft targets)`` over the global batch, and those to compare Shap-Mix with.

Shapes: N batch, C coordinates, T frames, V joints, M people, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .distributed import gather_batch, world
from .draws import generator
from .mixing import Rows, partner_rows, target_dtype


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

    def metrics(self) -> dict[str, float]:
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


def check(fine: bool, message: str) -> None:
    """ValueError with the message, where it is not so."""
    if not fine:
        raise ValueError(message)
