"""What the plug-in needs of torch.distributed: this process's place, and the global batch from its slices."""

from __future__ import annotations

import torch
import torch.distributed as dist


def world() -> tuple[int, int]:
    """(rank, number of processes); (0, 1) outside torch.distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def gather_batch(local: torch.Tensor) -> torch.Tensor:
    """Joins equal slices (n, ...) of all ranks to the global batch (W * n, ...), in rank order. No gradient."""
    _, processes = world()
    if processes == 1:
        return local
    local = local.detach().contiguous()
    slices = [torch.empty_like(local) for _ in range(processes)]
    dist.all_gather(slices, local)
    return torch.cat(slices)


def own_slice(rows: torch.Tensor) -> torch.Tensor:
    """This rank's rows (n, ...) of a global batch (W * n, ...)."""
    rank, processes = world()
    size = len(rows) // processes
    return rows[rank * size : (rank + 1) * size]
