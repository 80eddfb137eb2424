"""BRL's long-tail protocol (Liu et al., arXiv 2308.14024): class counts, subsets, shot groups.

See docs/method.md, "Long-tail protocol".

Shapes: n sequences, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .store import DataError


def exponential_counts(n_max: int, imbalance: float, num_class: int) -> list[int]:
    """``int(n_max * imbalance ** -(k / (K - 1)))`` samples of class k; the last class has n_max / imbalance."""
    _check(n_max, imbalance, num_class)
    return [int(n_max * imbalance ** -(k / (num_class - 1))) for k in range(num_class)]


def step_counts(n_max: int, imbalance: float, num_class: int) -> list[int]:
    """n_max samples of the first half of the classes, n_max / imbalance of the rest (Buda et al., arXiv 1710.05381)."""
    _check(n_max, imbalance, num_class)
    many = (num_class + 1) // 2
    return [n_max] * many + [int(n_max / imbalance)] * (num_class - many)


PROFILES = {"exp": exponential_counts, "step": step_counts}


def permuted(counts: Sequence[int], order_seed: int | None) -> list[int]:
    """The counts for the classes in a random order, by numpy's RandomState; None: class k has ``counts[k]``."""
    order = np.arange(len(counts)) if order_seed is None else np.random.RandomState(order_seed).permutation(len(counts))
    return [counts[place] for place in order]


def largest_n_max(
    labels: np.ndarray,
    order_seed: int | None,
    profile: Callable[[int, float, int], list[int]],
    imbalance: float,
    num_class: int,
) -> int:
    """The largest ``n_max`` for which no class of ``labels`` (n,) has too few samples; at least 1."""
    present = np.bincount(labels, minlength=num_class)
    low, high = 1, int(present.max(initial=1))
    while low < high:
        middle = (low + high + 1) // 2
        fits = (present >= permuted(profile(middle, imbalance, num_class), order_seed)).all()
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def long_tailed_subset(
    labels: np.ndarray, counts: Sequence[int], seed: int = 0, allow_fewer: bool = False
) -> np.ndarray:
    """Rows of a long-tailed subset: class by class, the first counts[k] of the shuffled class, in that order.

    Args:
        labels: (n,) classes in file order.
        counts: (K,) samples to keep.
        seed: of numpy's RandomState, which the protocol uses.

    Raises:
        DataError: without ``allow_fewer``, classes that have fewer samples, or that would be empty.
    """
    present = np.bincount(labels, minlength=len(counts))
    few = [k for k, count in enumerate(counts) if present[k] < count]
    short = [f"class {k} has {present[k]} samples, {counts[k]} are asked for" for k in few]
    empty = [str(k) for k, count in enumerate(counts) if count == 0]
    if short and not allow_fewer:
        raise DataError(
            f"{len(short)} classes have too few: {'; '.join(short[:5])}; lower n_max, or raise imbalance for rare ones"
        )
    if empty and not allow_fewer:
        raise DataError(f"classes {', '.join(empty)} would be empty; raise n_max or lower imbalance")
    rng = np.random.RandomState(seed)
    kept = []
    for label, count in enumerate(counts):
        members = np.flatnonzero(labels == label)
        rng.shuffle(members)
        kept.append(members[:count])
    return np.concatenate(kept)


def cut_long_tail(labels: np.ndarray, num_class: int, long_tail: Mapping[str, Any]) -> np.ndarray:
    """Rows of a long-tailed subset, rising, as a config describes it: ``{n_max: 100, imbalance: 10, seed: 0}``.

    By default ``imbalance`` is 10, and ``n_max`` the largest that the labels (n,) allow. With ``order_seed`` the
    classes are rare in a random order; without it the last ones are.

    Raises:
        DataError: unknown keys, and as :func:`long_tailed_subset`.
    """
    unknown = sorted(set(long_tail) - {"n_max", "imbalance", "seed", "order_seed"})
    if unknown:
        raise DataError(f"long_tail: unknown keys {unknown}; there are n_max, imbalance, seed, order_seed")
    imbalance, order_seed = float(long_tail.get("imbalance", 10)), long_tail.get("order_seed")
    n_max = long_tail.get("n_max")
    if n_max is None:
        n_max = largest_n_max(labels, order_seed, exponential_counts, imbalance, num_class)
    counts = permuted(exponential_counts(int(n_max), imbalance, num_class), order_seed)
    return np.sort(long_tailed_subset(labels, counts, int(long_tail.get("seed", 0))))


def held_out_subjects(subjects: np.ndarray, chosen: Sequence[int], fraction: float, seed: int = 0) -> np.ndarray:
    """(n,) bool: which training sequences belong to the validation split, by their ``subjects`` (n,).

    Held out are the ``chosen`` subjects, or instead a ``fraction`` (0 .. 1) of them, drawn by ``seed``: at least one.

    Raises:
        DataError: both are given, unknown subjects, or no subjects would remain.
    """
    there = np.unique(subjects)
    unknown = sorted(set(chosen) - set(there.tolist()))
    if chosen and fraction:
        raise DataError("give val_subjects or val_fraction, not both")
    if unknown:
        raise DataError(f"val_subjects {unknown} are no training subjects; there are {there.tolist()}")
    if not 0 <= fraction < 1:
        raise DataError(f"val_fraction must be a share in 0 .. 1, got {fraction}")
    held = np.array(sorted(chosen), dtype=np.int64)
    if fraction:
        number = max(1, round(fraction * len(there)))
        held = np.random.RandomState(seed).permutation(there)[:number]
    if len(held) == len(there):
        raise DataError(f"all {len(there)} training subjects would be held out for validation")
    return np.isin(subjects, held)


def shot_groups(class_counts: Sequence[int], many: int = 100, few: int = 20) -> dict[str, list[int]]:
    """Classes with more than ``many`` training samples, with fewer than ``few``, and those between."""
    groups: dict[str, list[int]] = {"many": [], "medium": [], "few": []}
    for label, count in enumerate(class_counts):
        groups["many" if count > many else "few" if count < few else "medium"].append(label)
    return groups


def _check(n_max: int, imbalance: float, num_class: int) -> None:
    if not (n_max >= 1 and 1 <= imbalance < math.inf and num_class >= 2):
        raise ValueError(f"need n_max >= 1, imbalance >= 1, classes >= 2; got {n_max}, {imbalance}, {num_class}")
