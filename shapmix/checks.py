"""Checks of arguments, shared by the package."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def require(condition: bool, message: str) -> None:
    """Raises ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def as_counts(class_counts: Sequence[int] | Tensor) -> Tensor:
    """Training samples of each class (K,), a new tensor. ValueError unless there are classes, and no count below 0."""
    counts = torch.as_tensor(class_counts).clone()
    fits = counts.ndim == 1 and len(counts) > 0 and bool((counts >= 0).all())
    require(fits, f"class_counts must be (K,) counts >= 0, got {class_counts}")
    return counts
