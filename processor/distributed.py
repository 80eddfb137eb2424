"""torch.distributed for the training program: set up, tear down, and the few collectives that the loop needs."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous

from shapmix.distributed import sum_over_ranks, world

from .heartbeat import Heartbeat, lost


def set_up(device: str) -> torch.device:
    """Joins the processes that torchrun started (its environment variables, one node or several) and picks the device.

    Returns:
        this process's device: the LOCAL_RANK-th GPU, or the CPU.

    Raises:
        ValueError: a device was asked for that is not there, or another process ended before all had joined.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = next(name for name in there if there[name]) if device == "auto" else device
    if not there[kind]:
        raise ValueError(f"device {kind} is not available here; use --device cpu or auto")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if kind == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise ValueError(f"process {local} of this node has no GPU: there are {torch.cuda.device_count()}")
        torch.cuda.set_device(local)
        place = torch.device("cuda", local)
    elif kind == "mps" and processes > 1:
        raise ValueError("several processes need --device cpu or cuda")
    else:
        place = torch.device(kind)
    if processes > 1 or "TORCHELASTIC_RUN_ID" in os.environ:
        try:
            _join("nccl" if kind == "cuda" else "gloo")
        except RuntimeError as error:
            raise lost(error) or error from None
    return place


def _join(backend: str) -> None:
    """Joins the other processes and, where there are some, begins to greet them."""
    store, rank, processes = next(rendezvous("env://"))
    dist.init_process_group(backend, store=_own_store(store), rank=rank, world_size=processes)
    if processes > 1:
        _heartbeat.append(Heartbeat())


def _own_store(store: dist.Store) -> dist.Store:
    """What processes that torchrun started again exchange through: torchrun's store still holds what those before them
    wrote, such as their addresses. On several nodes it says nothing that is the same for all, so there it is used as
    it is.
    """
    alone = os.environ.get("LOCAL_WORLD_SIZE") == os.environ.get("WORLD_SIZE")
    again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return dist.PrefixStore(f"start {again}", store) if alone else store


def launched_by() -> str:
    """A word for the torchrun that started this process, which is the same when it starts it again; "" without one.

    Its number is not enough: in containers each torchrun is process 1. Its error files are of one launch:
    <launch>/attempt_0/0/error.json.
    """
    run, errors = os.environ.get("TORCHELASTIC_RUN_ID"), os.environ.get("TORCHELASTIC_ERROR_FILE")
    launch = f"process {os.getppid()}" if errors is None else Path(errors).parents[2].name
    return f"torchrun {run}, {launch}" if run else ""


_heartbeat: list[Heartbeat] = []  # one, where there are several processes


def tear_down(done: bool) -> None:
    """Leaves the process group, if there is one. ``done``: so are all other processes, see :func:`barrier`.

    One of several that is done keeps the group until :func:`leave` ends it: torch 2.6 now and then waits forever where
    a group is destroyed right after its last collective.
    """
    if dist.is_available() and dist.is_initialized():
        while _heartbeat:
            _heartbeat.pop().end(together=done)
        if not done or world()[1] == 1:
            dist.destroy_process_group()


def leave(code: int) -> NoReturn:
    """Ends the program with an exit code, the last thing it does.

    One of several processes ends at once: DDP keeps the process group's threads alive, and an interpreter that shuts
    down while one of them still runs is aborted now and then ("terminate called without an active exception").
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def is_main() -> bool:
    """Is this the process that writes?"""
    return world()[0] == 0


def no_bar() -> bool | None:
    """tqdm's ``disable``: only the main process shows a bar, and only on a terminal."""
    return None if is_main() else True


def barrier() -> None:
    """Waits for all processes."""
    if world()[1] > 1:
        dist.barrier()


@contextmanager
def main_first() -> Iterator[None]:
    """The main process goes through the block before the others do, so that a cache is built once."""
    if not is_main():
        barrier()
    try:
        yield
    finally:
        if is_main():
            barrier()


def any_rank(flag: bool, device: torch.device) -> bool:
    """Is the flag up in any process?"""
    if world()[1] == 1:
        return flag
    return bool(sum_over_ranks(torch.tensor([float(flag)], device=device)).item())


def gather_rows(rows: Tensor) -> Tensor:
    """Joins rows (n, ...) of all ranks, where n may differ, in rank order."""
    _, processes = world()
    if processes == 1:
        return rows
    sizes = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(processes)]
    dist.all_gather(sizes, torch.tensor([len(rows)], device=rows.device))
    longest = max(int(size) for size in sizes)
    padded = rows.new_zeros(longest, *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(processes)]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(size)] for part, size in zip(parts, sizes, strict=True)])


def others_than_main(value: str, device: torch.device) -> list[int]:
    """The processes whose text is another one than the main process's. The same on every process."""
    digest = int.from_bytes(hashlib.blake2b(value.encode(), digest_size=7).digest())
    found = gather_rows(torch.tensor([digest], device=device)).tolist()
    return [rank for rank, one in enumerate(found) if one != found[0]]


def share_buffers(model: nn.Module) -> None:
    """Gives every process the main one's buffers (running statistics), so that all evaluate the same network."""
    if world()[1] > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
