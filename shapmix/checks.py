"""Checks of arguments, shared by the package."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor


def require(condition: bool, message: str) -> None:
    """Raises ValueError with the message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def within(low: float, high: float, **values: float) -> None:
    """Raises a ValueError unless each of the named arguments lies in ``low .. high``; ``high`` may be infinite."""
    for name, value in values.items():
        wanted = f"be at least {low}" if high == inf else f"lie in {low}..{high}"
        require(low <= value <= high, f"{name} must {wanted}, got {value}")


def choice(name: str, value: object, *words: object) -> None:
    """Raises a ValueError unless the argument ``name`` has one of the values ``words``."""
    require(value in words, f"{name} is {' or '.join(map(str, words))}, got {value!r}")


def as_counts(class_counts: Sequence[int] | Tensor) -> Tensor:
    """Training samples of each class (K,), a new tensor. ValueError unless there are classes, and no count below 0."""
    counts = torch.as_tensor(class_counts).clone()
    fits = counts.ndim == 1 and len(counts) > 0 and bool((counts >= 0).all())
    require(fits, f"class_counts must be (K,) counts >= 0, got {class_counts}")
    return counts


def as_classes(y: Tensor, num_class: int, look: bool = True) -> Tensor:
    """Classes (N,) of any integer dtype as int64.

    Args:
        num_class: K; the classes are 0 .. K-1.
        look: check on a GPU too that they are, although the host waits for it. On the CPU they are always checked.

    Raises:
        ValueError: y is not (N,) of integers, or one of them is no class; the message names its place.
    """
    integers = not (y.is_floating_point() or y.is_complex() or y.dtype == torch.bool)
    require(
        y.ndim == 1 and integers,
        f"y must be classes (N,) of an integer dtype, got {y.dtype} {tuple(y.shape)}; of one-hot rows take argmax(1)",
    )
    y = y.long()
    if look or y.device.type == "cpu":
        wrong = ((y < 0) | (y >= num_class)).nonzero().flatten().tolist()
        if wrong:
            place = wrong[0]
            raise ValueError(
                f"y[{place}] is {y[place].item()}, outside the classes 0..{num_class - 1}; {len(wrong)} of {len(y)} are"
            )
    return y
