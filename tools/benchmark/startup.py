"""What feeders cost: time until ready, memory, samples a second; each variant in a process of its own."""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import count, islice
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from feeders.loader import Loader

from .measure import memory


def common_options(command: argparse.ArgumentParser) -> None:
    """Options of all benchmarks of feeders."""
    command.add_argument("--folder", type=Path, default=Path("work_dir/cache/benchmark"), help="for the made-up set")
    command.add_argument("--batch", type=int, default=64, help="samples")
    command.add_argument("--batches", type=int, default=200, help="timed batches of each variant")
    command.add_argument("--workers", type=int, default=2, help="loading processes of the plain variant")


def fresh(function: Callable[..., Any], *arguments: object) -> Any:
    """What a function of a module returns, called in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def run(
    start: Callable[[Path, int, int], tuple[int, Iterator[Any]]], path: Path, options: argparse.Namespace
) -> dict[str, float]:
    """Figures of one variant, in this process."""
    torch.set_num_threads(options.threads)
    torch.empty(7 * 2**20)  # 28 MB, given back: as after a training step, the C library then keeps what is freed
    before, begun = memory(), perf_counter()
    size, batches = start(path, options.batch, options.workers)
    ready = perf_counter() - begun
    next(batches)
    begun = perf_counter()
    delivered = sum(1 for _ in islice(batches, options.batches))
    seconds = perf_counter() - begun
    after = memory()
    return {
        "samples": size,
        "ready_s": ready,
        "own_mb": after["own"] - before["own"],
        "shared_mb": after["shared"] - before["shared"],
        "samples_per_s": delivered * options.batch / seconds,
    }


def plain_batches(dataset: Dataset, batch: int, workers: int) -> Iterator[Any]:
    """Shuffled batches of a plain variant, through torch's DataLoader; its processes share the data's memory."""
    context = "fork" if workers else None
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch,
        shuffle=True,
        num_workers=workers,
        drop_last=True,
        multiprocessing_context=context,
        persistent_workers=workers > 0,
    )
    return (loaded for _ in count() for loaded in loader)


def own_batches(loader: Loader) -> Iterator[Any]:
    """Training batches of one of our loaders, one epoch after the other."""
    return (loaded for epoch in count() for loaded in loader.shuffled(epoch))


def startup_table(figures: dict[str, dict[str, float]], plain: str, *ours: str) -> str:
    """One line for each variant, and the ratios of each of ``ours`` to ``plain``."""
    lines = [f"{'variant':<22}{'ready after':>12}{'own memory':>12}{'shared':>10}{'samples/s':>11}"]
    for name, row in figures.items():
        lines.append(
            f"{name:<22}{row['ready_s']:>10.2f} s{row['own_mb']:>9.0f} MB{row['shared_mb']:>7.0f} MB"
            f"{row['samples_per_s']:>11.0f}"
        )
    for name in ours:
        first, second = figures[plain], figures[name]
        lines.append(
            f"{name} against {plain}: {first['ready_s'] / second['ready_s']:.0f} times sooner ready, "
            f"{second['own_mb'] / first['own_mb']:.3f} of the own memory, "
            f"{second['samples_per_s'] / first['samples_per_s']:.1f} times the samples/s"
        )
    return "\n".join(lines)
