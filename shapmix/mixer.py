"""What every mixer is: a callable ``(x, y) -> (x_mix, soft targets)`` over the global batch.

Shapes: N batch, C coordinates, T frames, V joints, M people, K classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import as_classes, as_counts, require
from .distributed import gather_batch, own_slice, world
from .draws import generator
from .formats import DEFAULT, InputFormat
from .mixing import target_dtype
from .skeleton import SkeletonLayout

FORGOTTEN = 100  # batches without start_step, after which a mixer that waits for a later epoch says so


class Mixer(nn.Module):
    """Mixes every sample of a batch with another one of it. Subclasses define :meth:`draw` and :meth:`apply_draws`.

    Sample i is mixed with sample (i + shift) mod N, with one shift for the batch, so the batch must be in random order;
    or with a partner that the caller gives.
    Under torch.distributed the batch is the global one: all ranks must call with batches of the same size, and each
    gets its own slice of the result.

    Args:
        class_counts: training samples of each class (K,).
        with_clean: for the training loop to read: is the clean batch trained on too, or the mixed one alone?
        enabled: False makes the call return the batch unmixed.
        seed: of all draws, together with epoch and step.
        input_format: order of the dimensions of x, of the result, of a baseline (without N) and of what the network
            takes, see :class:`shapmix.formats.InputFormat`. :meth:`draw` and :meth:`apply_draws` always get
            (N, C, T, V, M).

    Raises:
        ValueError: class_counts are not (K,) counts >= 0, or input_format is no order of dimensions.
    """

    layout: SkeletonLayout | None = None  # that x must have, where a mixer knows one

    def __init__(
        self,
        class_counts: Sequence[int] | Tensor,
        with_clean: bool = False,
        enabled: bool = True,
        seed: int = 0,
        input_format: str = DEFAULT,
    ) -> None:
        super().__init__()
        self.counts: Tensor
        self.register_buffer("counts", as_counts(class_counts), persistent=False)  # (K,)
        self.num_class = len(self.counts)
        self.with_clean = with_clean
        self.enabled = enabled
        self.seed = seed
        self.input_format = InputFormat(input_format)
        self.start_step(0, 0)
        self._started, self._batches = False, 0

    def start_step(self, epoch: int, step: int) -> None:
        """Seeds the draws of this step; epoch and step count from 0. Without it the epoch stays 0."""
        self._started = True
        self.epoch, self.step = epoch, step
        self.mix_rng = generator(self.seed, epoch, step, "mix")

    def observe(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor | None:
        """Looks at the clean batch before it is mixed. Does nothing here."""
        return None

    def refresh_due(self, epoch: int) -> bool:
        """Does :meth:`refresh` come before this epoch? Never here."""
        return False

    def refresh(self, model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], max_batch: int | None = None) -> None:
        """Looks at samples of all classes between two epochs. Does nothing here."""

    def target_counts(self, frames: int) -> Tensor | None:
        """(K,) see :func:`shapmix.mixing.target_counts`, for partners drawn alike from all classes.

        Args:
            frames: T of a sample.

        None where a target depends on more than the partner's mean share. Here it does.
        """
        return None

    def metrics(self) -> dict[str, float]:
        """What to record of the mixer after an epoch, by name. Empty here."""
        return {}

    @torch.no_grad()
    def forward(
        self, x: Tensor, y: Tensor, x_partner: Tensor | None = None, y_partner: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Mixes a batch: x (N, C, T, V, M), classes y (N,) -> x_mix, soft targets (N, K), both new tensors.

        Without partners it is mixed with itself. With ``x_partner`` and ``y_partner``, of the same shapes, sample i is
        mixed with partner i. A batch of one (over all ranks) stays unmixed, as does every batch where the mixer is not
        enabled. x, its partners and x_mix are in the order of ``input_format``.

        Raises:
            ValueError: x has other dimensions than ``input_format``, or other joints than the layout; y are not (N,)
                classes 0 .. K-1; on a GPU their values are checked in the first step only, since the host waits for
                that.
        """
        y = self.classes(x, y)
        self._remind()
        _, processes = world()
        if not self.enabled or len(x) * processes < 2:
            return x.clone(), F.one_hot(y, self.num_class).to(target_dtype(x))
        x = self.input_format.inward(x, self.layout)
        draws = self.draw(len(x) * processes, x)
        if x_partner is None or y_partner is None:
            x_partner, y_partner = (own_slice(gather_batch(rows).roll(-draws.shift, 0)) for rows in (x, y))
        else:
            y_partner, x_partner = self.classes(x_partner, y_partner), self.input_format.inward(x_partner, self.layout)
            require(x.shape == x_partner.shape, f"x {tuple(x.shape)} and x_partner {tuple(x_partner.shape)} differ")
        x_mix, y_mix = self.apply_draws(x, y, x_partner, y_partner, draws)
        return self.input_format.outward(x_mix), y_mix

    def classes(self, x: Tensor, y: Tensor) -> Tensor:
        """The classes y (N,) of a batch x as int64. Raises as :meth:`forward`."""
        require(len(x) == len(y), f"x {tuple(x.shape)} and y {tuple(y.shape)} have different numbers of samples")
        return as_classes(y, self.num_class, look=self.epoch == self.step == 0)

    def waits_for_epoch(self) -> int:
        """The epoch from which on the mixer works fully; 0: it does at once."""
        return 0

    def _remind(self) -> None:
        """Warns once where start_step seems forgotten, and that matters."""
        self._batches += 1
        if not self._started and self._batches == FORGOTTEN and self.waits_for_epoch():
            warnings.warn(
                f"{type(self).__name__} got {FORGOTTEN} batches, but start_step was never called: it stays in epoch 0, "
                f"while it works fully from epoch {self.waits_for_epoch()} on. Call start_step(epoch, step) before "
                "each batch",
                stacklevel=6,  # the caller's loop
            )

    def draw(self, size: int, x: Tensor) -> Any:
        """The random decisions for a global batch of ``size`` whose slice is x: an object with a ``shift``."""
        raise NotImplementedError

    def apply_draws(
        self, x: Tensor, y: Tensor, x_partner: Tensor, y_partner: Tensor, draws: Any
    ) -> tuple[Tensor, Tensor]:
        """Mixes x with x_partner (both (N, C, T, V, M)) as drawn: x_mix and soft targets (N, K), both new."""
        raise NotImplementedError
