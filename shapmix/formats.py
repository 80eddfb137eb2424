"""Orders of the dimensions of a batch. The package computes on (N, C, T, V, M); other networks take other orders.

Shapes: N batch, C coordinates, T frames, V joints, M people.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .checks import require
from .skeleton import SkeletonLayout

DEFAULT = "NCTVM"


@dataclass(frozen=True)
class InputFormat:
    """Takes batches from the caller's order to (N, C, T, V, M) and back.

    Every other order is copied, so that each computation is that of the default, bit for bit, and networks get
    contiguous tensors. The default itself is passed on as it is.

    Args:
        order: a letter for each dimension: N first, then C, T, V and M in any order; without M, there is one person.
            ``NCTVM``: ST-GCN, CTR-GCN and their kind; ``NMTVC``: PYSKL; ``NTVC``: most transformers.

    Raises:
        ValueError: other letters, or N is not the first.
    """

    order: str = DEFAULT

    def __post_init__(self) -> None:
        fits = isinstance(self.order, str) and self.order[:1] == "N" and set(self.order) | {"M"} == set(DEFAULT)
        require(
            fits and len(set(self.order)) == len(self.order),
            f"input_format is N and then C, T, V, M in the order of the dimensions, or without M, such as NCTVM, NMTVC "
            f"or NTVC; got {self.order!r}",
        )

    def __str__(self) -> str:
        return f"({', '.join(self.order)})"

    @property
    def sequence(self) -> str:
        """How one sequence is laid out, for messages: (C, T, V, M)."""
        return f"({', '.join(self.order[1:])})"

    def inward(self, x: Tensor, layout: SkeletonLayout | None = None) -> Tensor:
        """The caller's batch as (N, C, T, V, M). ValueError: other dimensions, or other joints than the layout's."""
        joints = f" with V = {layout.num_joints} joints of layout {layout.name!r}" if layout else ""
        fits = x.ndim == len(self.order) and (not layout or x.shape[self.order.index("V")] == layout.num_joints)
        require(fits, f"x {tuple(x.shape)} must be {self}{joints}; input_format sets the order of the dimensions")
        if self.order == DEFAULT:
            return x
        places = self._with_people()
        x = x if "M" in self.order else x.unsqueeze(-1)
        return x.permute([places.index(letter) for letter in DEFAULT]).contiguous()

    def outward(self, x: Tensor) -> Tensor:
        """A batch (N, C, T, V, M) in the caller's order."""
        if self.order == DEFAULT:
            return x
        x = x.permute([DEFAULT.index(letter) for letter in self._with_people()])
        return (x if "M" in self.order else x.squeeze(-1)).contiguous()

    def baseline_inward(self, baseline: Tensor) -> Tensor:
        """A sequence without N, or one for each sample of a batch, as (C, T, V, M) or (N, C, T, V, M)."""
        if baseline.ndim == len(self.order):
            return self.inward(baseline)
        return self.inward(baseline.unsqueeze(0)).squeeze(0)

    def _with_people(self) -> str:
        return self.order if "M" in self.order else self.order + "M"
