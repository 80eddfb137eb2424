"""Measuring: variants run in turn, the device's peak, memory of this process; tables and JSON of the figures."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch.profiler import profile, record_function

from feeders.files import write_atomically
from processor.host import keep_freed_memory

STATUS, COUNTERS = Path("/proc/self/status"), Path("/proc/self/stat")
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
Figures = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """One way to do what a benchmark measures.

    ``run`` is called with the number of the repeat. A call is over ``samples``, and would cost the plain network
    ``multiply_adds``; ``peak`` names the product that its share of the device's peak is of. ``keep_memory``: freed
    memory stays in the process, see processor.host.
    """

    run: Callable[[int], object]
    samples: int
    multiply_adds: float
    peak: str = "float32"
    keep_memory: bool = True


Build = Callable[[argparse.Namespace], dict[str, Variant]]
_built: dict[str, Variant] = {}  # of a process that timed() started


def device_options(command: argparse.ArgumentParser) -> None:
    """Options of the benchmarks of the network; what is not given is set by :func:`choose`."""
    command.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    command.add_argument("--width", type=int, default=64, help="of CTR-GCN's first block")
    command.add_argument("--batch", type=int, help="samples; by default 16 on the CPU, 64 on a GPU")
    command.add_argument("--repeats", type=int, help="timed turns of each variant; by default 3, on a GPU 20")
    command.add_argument("--in_a_row", type=int, help="calls in a turn; by default 1 on the CPU, 8 on a GPU")
    command.add_argument("--peak_size", type=int, help="of the matrix product that gives the peak")
    command.add_argument("--compile", action="store_true", help="also ours through torch.compile")
    command.add_argument("--profile", type=Path, metavar="FILE", help="write a Chrome trace of a few calls of ours")


def choose(options: argparse.Namespace) -> torch.device:
    """The device, made the current one; fills in the options whose default depends on it."""
    device = torch.device(options.device)
    cuda = device.type == "cuda"
    if cuda:
        device = torch.device("cuda", device.index or 0)
        torch.cuda.set_device(device)
        os.environ["LOCAL_RANK"] = str(device.index)  # which the Processor goes by
    defaults = {"batch": (16, 64), "repeats": (3, 20), "in_a_row": (1, 8), "peak_size": (2048, 8192)}
    for name, value in defaults.items():
        if getattr(options, name, 0) is None:
            setattr(options, name, value[cuda])
    return device


def synchronise(device: torch.device) -> None:
    """Waits until the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Duration of a call and of what it asks of the device, which has nothing else to do."""
    begun = perf_counter()
    call()
    synchronise(device)
    return perf_counter() - begun


def in_turn(turns: Mapping[str, Callable[[int], Figures]], repeats: int) -> dict[str, Figures]:
    """Medians of what each variant's turn returns, called with the number of the repeat; the variants alternate."""
    found: dict[str, list[Figures]] = {name: [] for name in turns}
    for repeat in range(repeats):
        for name, turn in turns.items():
            found[name].append(turn(repeat))
    return {name: {key: median(row[key] for row in rows) for key in rows[0]} for name, rows in found.items()}


def interleaved(variants: dict[str, Callable[[int], object]], repeats: int, device: torch.device) -> dict[str, float]:
    """Median seconds of each variant, called with the number of the repeat; each has one call before that counts."""

    def turn(variant: Callable[[int], object]) -> Callable[[int], Figures]:
        return lambda repeat: {"seconds": seconds(lambda: variant(repeat), device)}

    turns = {name: turn(variant) for name, variant in variants.items()}
    in_turn(turns, 1)
    return {name: row["seconds"] for name, row in in_turn(turns, repeats).items()}


def timed(build: Build, options: argparse.Namespace, peak: Mapping[str, float], plain: str) -> dict[str, Figures]:
    """Figures of the variants that ``build(options)`` makes, which alternate; a function of a module.

    A turn is one call that is not timed, then ``in_a_row`` calls that are. On the CPU the variants live in two
    processes, one that keeps freed memory and one that does not: memory that was kept cannot be told from other memory
    later, so one process would serve both from it.

    Args:
        options: with batch, repeats, in_a_row, device and threads.
        peak: multiply-adds a second of a product, by name.
        plain: the variant that ``ratio`` is against: its duration over theirs.

    Returns:
        for each variant seconds (of a call), first_s (the first call: what compiling and choosing of kernels cost),
        samples_per_s, macs_per_s, ratio and peak_share; page_faults on Linux's CPU; peak_mb on CUDA: memory of a call,
        above what all variants hold between calls. Or ``error``, where one cannot run.
    """
    device = torch.device(options.device)
    with _homes(build, options, device) as (variants, run):
        rows: dict[str, Figures] = {}
        first: dict[str, float] = {}
        for name in variants:
            tried = run(name, 0, 0)
            if "error" in tried:
                rows[name] = tried
            else:
                first[name] = tried["first_s"]
        turns = {
            name: (lambda repeat, name=name: run(name, repeat, options.in_a_row))  # type: ignore[misc]
            for name in first
        }
        medians = in_turn(turns, options.repeats)
    for name, figures in medians.items():
        variant = variants[name]
        rate = variant.multiply_adds / figures["seconds"]
        rows[name] = figures | {
            "first_s": first[name],
            "samples_per_s": variant.samples / figures["seconds"],
            "macs_per_s": rate,
            "peak_share": rate / peak[variant.peak],
        }
        if plain in medians:
            rows[name]["ratio"] = medians[plain]["seconds"] / figures["seconds"]
    return {name: rows[name] for name in variants}


@contextmanager
def _homes(
    build: Build, options: argparse.Namespace, device: torch.device
) -> Iterator[tuple[dict[str, Variant], Callable[[str, int, int], Figures]]]:
    """The variants, and what runs a turn of one: in this process or, on the CPU, in those that do not share memory."""
    if device.type != "cpu":
        variants = build(options)
        yield variants, lambda name, repeat, in_a_row: _turn(variants[name], repeat, in_a_row, device)
        return

    def elsewhere(name: str, repeat: int, in_a_row: int) -> Figures:
        return pools[variants[name].keep_memory].submit(_turn_here, name, repeat, in_a_row, device).result()

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tools.benchmark.step"])
    with ExitStack() as stack:
        pools = {
            keep: stack.enter_context(ProcessPoolExecutor(1, context, _move_in, (build, options, keep)))
            for keep in (False, True)
        }
        variants = pools[True].submit(_there).result()
        yield variants, elsewhere


def _move_in(build: Build, options: argparse.Namespace, keep: bool) -> None:
    torch.set_num_threads(options.threads)
    _built.update(build(options))
    keep_freed_memory(keep)


def _there() -> dict[str, Variant]:
    return {name: replace(variant, run=print) for name, variant in _built.items()}  # a function that can be sent


def _turn_here(name: str, repeat: int, in_a_row: int, device: torch.device) -> Figures:
    return _turn(_built[name], repeat, in_a_row, device)


def _turn(variant: Variant, repeat: int, in_a_row: int, device: torch.device) -> Figures:
    """One call, then ``in_a_row`` timed ones; ``first_s`` is the first one's duration.

    A variant that fails where nothing is timed is no reason to stop: its ``error`` is returned.
    """

    def calls() -> None:
        for _ in range(in_a_row):
            variant.run(repeat)

    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
    try:
        figures: Figures = {"first_s": seconds(lambda: variant.run(repeat), device)}
    except Exception as error:
        if in_a_row:
            raise
        return {"error": f"{type(error).__name__}: {error}"}
    if cuda:
        figures["peak_mb"] = (torch.cuda.max_memory_allocated(device) - held) / 2**20
    if in_a_row:
        before = page_faults()
        figures["seconds"] = seconds(calls, device) / in_a_row
        if before is not None and not cuda:
            figures["page_faults"] = ((page_faults() or 0) - before) / in_a_row
    return figures


def device_peak(options: argparse.Namespace, device: torch.device, repeats: int = 5) -> dict[str, float]:
    """What the device reaches, medians: multiply-adds a second of a square product by dtype, bytes a second of a copy.

    On CUDA also ``tf32``: float32 with TensorFloat-32 allowed. A copy reads and writes: both count.
    """
    size = options.peak_size
    names = [*DTYPES, *(["tf32"] if device.type == "cuda" else [])]
    before, found = torch.get_float32_matmul_precision(), {}
    for name in names:
        a, b = (torch.rand(size, size, device=device).to(DTYPES.get(name, torch.float32)) for _ in range(2))
        torch.set_float32_matmul_precision("high" if name == "tf32" else before)
        try:
            found[name] = size**3 / _median_seconds(lambda a=a, b=b: a @ b, repeats, device)  # type: ignore[misc]
        finally:
            torch.set_float32_matmul_precision(before)
    source = torch.rand(16 * size**2, device=device)
    target = torch.empty_like(source)
    moved = 2 * source.numel() * source.element_size()
    return found | {"copy": moved / _median_seconds(lambda: target.copy_(source), repeats, device)}


def _median_seconds(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    return interleaved({"": lambda repeat: call()}, repeats, device)[""]


def peak_line(peak: Mapping[str, float]) -> str:
    """One line about what :func:`device_peak` found."""
    products = ", ".join(f"{name} {value / 1e9:.1f}" for name, value in peak.items() if name != "copy")
    return f"peak of this device, measured: {products} G multiply-adds/s, copy {peak['copy'] / 1e9:.1f} GB/s"


def float32_peak(device: torch.device) -> str:
    """The product that float32 networks are held against: TF32 where torch lets convolutions use it."""
    return "tf32" if device.type == "cuda" and torch.backends.cudnn.allow_tf32 else "float32"


def trace(path: Path, variants: Mapping[str, Variant], device: torch.device, calls: int = 2) -> None:
    """Writes a Chrome trace of a few calls of variants, after one each; not timed."""
    for variant in variants.values():
        variant.run(0)
    synchronise(device)
    with profile() as profiler:
        for name, variant in variants.items():
            for number in range(calls):
                with record_function(name):
                    variant.run(number)
                    synchronise(device)
    profiler.export_chrome_trace(str(path))


def memory() -> dict[str, float]:
    """Megabytes in memory that are this process's ``own``, and mapped from files, which processes ``share``.

    Read from Linux's /proc; elsewhere NaN.
    """
    if not STATUS.is_file():
        return {"own": float("nan"), "shared": float("nan")}
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return {name: int(lines[key].split()[0]) / 1024 for name, key in (("own", "RssAnon"), ("shared", "RssFile"))}


def page_faults() -> int | None:
    """Pages that this process was given without reading a disk, so far; None where there is no Linux /proc."""
    return int(COUNTERS.read_text().rpartition(")")[2].split()[7]) if COUNTERS.is_file() else None


VARIANT_COLUMNS = {  # of timed(): figure -> heading, factor, format
    "ms": ("ms a sample", 1, ".3f"),
    "samples_per_s": ("samples/s", 1, ".1f"),
    "ratio": ("times as fast", 1, ".2f"),
    "macs_per_s": ("G mult-adds/s", 1e-9, ".1f"),
    "peak_share": ("% of peak", 100, ".1f"),
    "first_s": ("first call s", 1, ".2f"),
    "page_faults": ("page faults", 1, ".0f"),
    "peak_mb": ("peak MB", 1, ".0f"),
}
Columns = Mapping[str, tuple[str, float, str]]


def table(rows: Mapping[str, Figures], columns: Columns, heading: str = "variant") -> str:
    """One line for each row with its figures times the column's factor; a column that no row has is left out."""
    shown = {key: column for key, column in columns.items() if any(key in row for row in rows.values())}
    first = max(22, 2 + max(map(len, (heading, *rows))))
    lines = [f"{heading:<{first}}" + "".join(f"{title:>{2 + len(title)}}" for title, _, _ in shown.values())]
    for name, row in rows.items():
        line = f"{name:<{first}}"
        if "error" in row:
            lines.append(line + f"  failed: {row['error'].splitlines()[0][:200]}")
            continue
        for key, (title, factor, form) in shown.items():
            text = format(factor * row[key], form) if key in row else "-"
            line += f"{text:>{2 + len(title)}}"
        lines.append(line)
    return "\n".join(lines)


def variant_table(rows: Mapping[str, Figures], heading: str) -> str:
    """The table of :func:`timed`'s figures."""
    with_ms = {name: row if "error" in row else row | {"ms": 1e3 / row["samples_per_s"]} for name, row in rows.items()}
    return table(with_ms, VARIANT_COLUMNS, heading)


def failed(figures: object) -> bool:
    """Is there an ``error`` anywhere in the figures?"""
    if isinstance(figures, Mapping):
        return "error" in figures or any(failed(value) for value in figures.values())
    return False


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The options, and what else durations depend on."""
    found = {name: value for name, value in vars(options).items() if name != "json" and value is not None}
    device = str(getattr(options, "device", "cpu"))
    machine = torch.cuda.get_device_name(device) if "cuda" in device else platform.machine()
    found |= {"machine": f"{machine}, {os.cpu_count()} cores", "torch": torch.__version__}
    if "cuda" in device:
        found["float32_matmul_precision"] = torch.get_float32_matmul_precision()
        found["cudnn_allow_tf32"] = torch.backends.cudnn.allow_tf32
    return found


def write_json(path: Path, options: argparse.Namespace, figures: object) -> None:
    """Settings and figures; a reader sees the old file or the whole new one."""
    text = json.dumps({"settings": settings(options), "figures": figures}, indent=2, default=str)
    write_atomically(path, f"{text}\n".encode())
