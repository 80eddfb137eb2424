"""Divides sequences into training, validation and test, so that every class is in every part where it can be.

Shapes: n sequences, K classes, G groups (subjects or views).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .store import DataError

PARTS = ("train", "val", "test")
TRIES = 200  # divisions of the groups that are drawn; the best one is taken


def check_shares(val: float, test: float) -> None:
    """DataError where these shares of the sequences leave nothing to train on, or are none."""
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise DataError(f"--val and --test are shares whose sum is below 1, such as 0.1 and 0.2; got {val:g}, {test:g}")


def divide(labels: np.ndarray, val: float, test: float, rng: np.random.Generator) -> np.ndarray:
    """Places in ``PARTS`` (n,) of sequences of these classes (n,), drawn class by class.

    A class has in each part its share, rounded, and at least one sequence, where it has enough: first in training, then
    in the test, then in validation.

    Args:
        val, test: shares 0 .. 1; where one is 0, that part is empty.
    """
    check_shares(val, test)
    parts = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        left = len(members) - 1  # one is for training
        for part, share, after in ((2, test, val), (1, val, 0.0)):
            most = left - 1 if after and left > 1 else left  # one for the part after this one
            number = min(max(1, round(share * len(members))), most) if share else 0
            parts[members[left + 1 - number : left + 1]] = part
            left -= number
    return parts


def divide_groups(
    labels: np.ndarray,
    groups: np.ndarray,
    val: float | Sequence[int],
    test: float | Sequence[int],
    rng: np.random.Generator,
) -> np.ndarray:
    """Places in ``PARTS`` (n,) of sequences of these classes (n,) and groups (n,); a group is in one part only.

    Args:
        val, test: the numbers of the groups in that part, or the share (0 .. 1) of the groups, at least one. Of many
            divisions that are drawn, the one is taken that leaves the fewest classes out of a part (training counts
            most), and whose numbers of sequences are nearest to the shares.

    Raises:
        DataError: no group would be left for training, or one would be in two parts.
    """
    there = np.unique(groups)
    named = {part: list(wanted) for part, wanted in ((1, val), (2, test)) if not isinstance(wanted, float)}
    shares = {part: wanted for part, wanted in ((2, test), (1, val)) if isinstance(wanted, float)}
    check_shares(*(wanted if isinstance(wanted, float) else 0.0 for wanted in (val, test)))
    chosen = [group for numbers in named.values() for group in numbers]
    if len(set(chosen)) < len(chosen):
        raise DataError("the same one is named for validation and for the test")
    numbers = {part: max(1, round(share * len(there))) for part, share in shares.items() if share}
    if len(chosen) + sum(numbers.values()) >= len(there):
        raise DataError(f"there are {len(there)} of them: none would be left for training")
    free = np.setdiff1d(there, chosen)
    best, least = np.zeros(0), np.inf
    for _ in range(TRIES if numbers else 1):
        part_of = np.zeros(there.max() + 1, np.int64)
        order = rng.permutation(free)
        for part, members in named.items():
            part_of[members] = part
        for part, number in numbers.items():
            part_of[order[:number]], order = part, order[number:]
        parts = part_of[groups]
        badness = _badness(labels, parts, {part: shares[part] for part in numbers})
        if badness < least:
            best, least = parts, badness
    return best


def _badness(labels: np.ndarray, parts: np.ndarray, shares: dict[int, float]) -> float:
    """How far a division is from what is wanted: classes left out, and parts that are too large or small."""
    classes = np.unique(labels)
    left_out = [len(classes) - len(np.unique(labels[parts == part])) for part in (0, *shares)]
    return (
        10 * left_out[0]
        + sum(left_out[1:])
        + sum(abs((parts == part).mean() - share) for part, share in shares.items())
    )
