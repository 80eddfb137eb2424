"""The long-tail protocol (BRL, Liu et al., arXiv 2308.14024; METHOD 7): class counts, subsets, shot groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .store import DataError


def exponential_counts(n_max: int, imbalance: float, num_class: int) -> list[int]:
    """``int(n_max * imbalance ** -(k / (K - 1)))`` samples of class k; the last class has n_max / imbalance."""
    if n_max < 1 or imbalance < 1 or num_class < 2:
        raise ValueError(f"need n_max >= 1, imbalance >= 1, classes >= 2; got {n_max}, {imbalance}, {num_class}")
    return [int(n_max * imbalance ** -(k / (num_class - 1))) for k in range(num_class)]


def long_tailed_subset(labels: np.ndarray, counts: Sequence[int], seed: int = 0) -> np.ndarray:
    """Positions of a long-tailed subset, in file order: class by class shuffled in place, the first counts[k] kept.

    Args:
        labels: (n,) classes in file order.
        counts: samples to keep of each class.
        seed: of numpy's RandomState, which the protocol names.

    Raises:
        DataError: a class has fewer samples than asked.
    """
    rng = np.random.RandomState(seed)
    kept = []
    for label, count in enumerate(counts):
        members = np.flatnonzero(labels == label)
        if len(members) < count:
            raise DataError(
                f"class {label} has {len(members)} samples, {count} are asked for; lower n_max or imbalance"
            )
        rng.shuffle(members)
        kept.append(members[:count])
    return np.sort(np.concatenate(kept))


def shot_groups(class_counts: Sequence[int], many: int = 100, few: int = 20) -> dict[str, list[int]]:
    """Classes with more than ``many`` training samples, with fewer than ``few``, and those between."""
    groups: dict[str, list[int]] = {"many": [], "medium": [], "few": []}
    for label, count in enumerate(class_counts):
        groups["many" if count > many else "few" if count < few else "medium"].append(label)
    return groups
