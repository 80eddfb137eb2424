"""Random numbers that depend on where they are used, not on what ran before.

Every draw of order, augmentation and mixing comes from a CPU generator with a key (seed, epoch, step, purpose), and the
rows of a draw belong to places in the global batch. So one process and W processes, CPU and GPU, see the same numbers,
and a run that is killed and resumed continues with the numbers that it would have had.
"""

from __future__ import annotations

import hashlib

import torch


def derive_seed(*key: int | str) -> int:
    """A 63-bit seed from a key such as ``(seed, epoch, step, "mix")``; other keys give unrelated seeds."""
    text = "/".join(str(part) for part in key)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(*key: int | str) -> torch.Generator:
    """A new CPU generator, seeded by :func:`derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(*key))


def uniform_int(low: int, high: int, rng: torch.Generator) -> int:
    """An integer uniform in ``low .. high``, both included."""
    return int(torch.randint(low, high + 1, (), generator=rng))


def uniform_subset(members: range | list[int], size: int, rng: torch.Generator) -> tuple[int, ...]:
    """``size`` of the members, in rising order; every subset is equally likely."""
    order = torch.randperm(len(members), generator=rng)[:size].tolist()
    return tuple(sorted(members[place] for place in order))
