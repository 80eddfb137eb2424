"""Measuring: variants run in turn, memory of this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

STATUS = Path("/proc/self/status")


def interleaved(variants: dict[str, Callable[[int], object]], repeats: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each variant, called with the number of the repeat; each has one call before that counts."""

    def seconds(variant: Callable[[int], object], repeat: int) -> float:
        begun = perf_counter()
        variant(repeat)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return perf_counter() - begun

    times: dict[str, list[float]] = {name: [] for name in variants}
    for repeat in range(-1, repeats):
        for name, variant in variants.items():
            duration = seconds(variant, max(repeat, 0))
            if repeat >= 0:
                times[name].append(duration)
    return {name: median(values) for name, values in times.items()}


def memory() -> dict[str, float]:
    """Megabytes in memory that are this process's ``own``, and mapped from files, which processes ``share``.

    Read from Linux's /proc; elsewhere NaN.
    """
    if not STATUS.is_file():
        return {"own": float("nan"), "shared": float("nan")}
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return {name: int(lines[key].split()[0]) / 1024 for name, key in (("own", "RssAnon"), ("shared", "RssFile"))}
