"""What the plug-in needs of torch.distributed. Without it, there is one process of rank 0."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> tuple[int, int]:
    """(rank, W processes); (0, 1) outside torch.distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather_batch(local: Tensor) -> Tensor:
    """Joins equal slices (n, ...) of all ranks to the global batch (W * n, ...), in rank order. No gradient."""
    _, processes = world()
    if processes == 1:
        return local
    local = local.detach().contiguous()
    slices = [torch.empty_like(local) for _ in range(processes)]
    dist.all_gather(slices, local)
    return torch.cat(slices)


def own_slice(rows: Tensor) -> Tensor:
    """This rank's rows (n, ...) of a global batch (W * n, ...)."""
    rank, processes = world()
    return rows.chunk(processes)[rank]


def sum_over_ranks(values: Tensor) -> Tensor:
    """Elementwise sum over all ranks, in place."""
    if world()[1] > 1:
        dist.all_reduce(values)
    return values


def average_over_ranks(values: Tensor) -> None:
    """Replaces the values, in place, by their mean over the ranks."""
    sum_over_ranks(values)
    values /= world()[1]
