"""Measuring: variants in turn, the device's peak; the table of what was found."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import torch

from processor.host import usable_cores

PEAK_SIZE = {"cpu": 2048, "cuda": 8192}  # of the square matrix product that gives the peak
IN_A_ROW = {"cpu": 1, "cuda": 8}  # calls that are timed together
Row = dict[str, Any]  # what was measured of a variant: a key of COLUMNS -> value, or ``error``
Rows = dict[str, Row]
COLUMNS = {  # heading, factor, format
    "ready_s": ("ready s", 1, ".2f"),
    "own_mb": ("own MB", 1, ".0f"),
    "shared_mb": ("shared MB", 1, ".0f"),
    "ms": ("ms a sample", 1, ".3f"),
    "samples_per_s": ("samples/s", 1, ".1f"),
    "ratio": ("times as fast", 1, ".2f"),
    "macs_per_s": ("G mult-adds/s", 1e-9, ".1f"),
    "peak_share": ("% of peak", 100, ".1f"),
    "first_s": ("first call s", 1, ".2f"),
    "whole_s": ("whole run s", 1, ".1f"),
    "hours": ("h of training", 1, ".2f"),
    "peak_mb": ("peak MB", 1, ".0f"),
}


@dataclass(frozen=True)
class Variant:
    """One way to do what a benchmark measures.

    Attributes:
        run: is called with the number of the repeat.
        samples: in a call.
        multiply_adds: what a call costs the plain network, whatever this variant does.
        precision: of the device's peak that the call is compared with.
    """

    run: Callable[[int], object]
    samples: int
    multiply_adds: float = 0.0
    precision: str = "float32"


def compare(variants: Mapping[str, Variant], options: argparse.Namespace, peak: Rows | None = None) -> Rows:
    """Medians over ``options.repeats`` turns of each variant, after a first call of each; the variants alternate.

    Args:
        options: with repeats and device.
        peak: see :func:`device_peak`.

    Returns:
        for each variant ms (a sample), samples_per_s, ratio (the first variant's duration over its own) and first_s
        (the first call, which also compiles and chooses kernels); with ``peak`` also macs_per_s and peak_share; on CUDA
        peak_mb, the memory of a call beside what all variants hold. Or ``error``, where a variant cannot run.
    """
    torch.compiler.reset()  # which compiles a function for so many networks only
    rows: Rows = {}
    times: dict[str, list[float]] = {}
    for name, variant in variants.items():
        try:
            rows[name] = {"first_s": seconds(lambda run=variant.run: run(0), options.device)}  # type: ignore[misc]
            times[name] = []
        except Exception as error:
            rows[name] = {"error": f"{type(error).__name__}: {error}"}
    for repeat in range(options.repeats):
        for name, taken in times.items():
            run = variants[name].run
            if options.device == "cuda":
                torch.cuda.reset_peak_memory_stats()
                held = torch.cuda.memory_allocated()
            calls = range(IN_A_ROW[options.device])
            taken.append(seconds(lambda: [run(repeat) for _ in calls], options.device) / len(calls))  # noqa: B023
            if options.device == "cuda":
                rows[name]["peak_mb"] = (torch.cuda.max_memory_allocated() - held) / 2**20
    medians = {name: median(taken) for name, taken in times.items()}
    first = medians.get(next(iter(variants)))
    for name, second in medians.items():
        variant, row = variants[name], rows[name]
        row |= {"ms": 1e3 * second / variant.samples, "samples_per_s": variant.samples / second}
        row |= {} if first is None else {"ratio": first / second}
        if peak is not None:
            rate = variant.multiply_adds / second
            row |= {"macs_per_s": rate, "peak_share": rate / peak[variant.precision]["macs_per_s"]}
    return rows


def seconds(call: Callable[[], object], device: str) -> float:
    """Duration of a call and of what it asks of the device, which has nothing else to do."""
    begun = perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return perf_counter() - begun


@contextmanager
def no_tf32() -> Iterator[None]:
    """Convolutions in true float32, also on CUDA: TF32 keeps 10 bits, too few to check that two results agree."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def device_peak(device: str) -> Rows:
    """macs_per_s of a square matrix product in float32 (on CUDA in TF32, where convolutions use it) and in bf16."""
    rows, before = {}, torch.get_float32_matmul_precision()
    if device == "cuda" and torch.backends.cudnn.allow_tf32:
        torch.set_float32_matmul_precision("high")
    for name, dtype in {"float32": torch.float32, "bf16": torch.bfloat16}.items():
        a = torch.rand(PEAK_SIZE[device], PEAK_SIZE[device], device=device).to(dtype)
        times = [seconds(lambda a=a: a @ a, device) for _ in range(6)]  # type: ignore[misc]
        rows[name] = {"macs_per_s": len(a) ** 3 / median(times[1:])}
    torch.set_float32_matmul_precision(before)
    return rows


def table(rows: Rows, heading: str) -> str:
    """One line for each row; a column that no row has is left out."""
    shown = {key: column for key, column in COLUMNS.items() if any(key in row for row in rows.values())}
    first = 2 + max(22, *map(len, (heading, *rows)))
    lines = [f"{heading:<{first}}" + "".join(f"  {title}" for title, _, _ in shown.values())]
    for name, row in rows.items():
        cells = [
            f"{format(factor * row[key], form) if key in row else '-':>{2 + len(title)}}"
            for key, (title, factor, form) in shown.items()
        ]
        failure = f"  failed: {row['error'].splitlines()[0][:200]}" if "error" in row else ""
        lines.append(f"{name:<{first}}" + (failure or "".join(cells)))
    return "\n".join(lines)


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The options, and what else durations depend on."""
    cuda = getattr(options, "device", "cpu") == "cuda"
    machine = torch.cuda.get_device_name() if cuda else platform.machine()
    found = {name: value for name, value in vars(options).items() if name != "folder"}
    found |= {"machine": f"{machine}, {usable_cores()} cores", "torch": torch.__version__}
    return found | ({"cudnn_allow_tf32": torch.backends.cudnn.allow_tf32} if cuda else {})
