"""Durations of our own parts, each beside a plain way to do the same: ``python -m tools.benchmark mixing``.

The variants of a comparison are first checked to give the same result, then measured side by side in one run. ``all``
runs every benchmark with its defaults for the device: the command for a machine with a GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from feeders.files import write_atomically
from processor.command_line import parse
from processor.host import keep_freed_memory

from . import checksums, epoch, export, feeder, mixing, network, predict, step
from .measure import settings, table

BENCHMARKS: dict[str, Any] = {
    "mixing": mixing, "network": network, "step": step, "feeder": feeder, "epoch": epoch, "predict": predict,
    "export": export, "checksums": checksums,
}  # fmt: skip
PARTS = [name for name in BENCHMARKS if name not in ("export", "checksums")]  # of all: these two measure the CPU alone
OPTIONS: dict[str, dict[str, Any]] = {
    "device": {"choices": ["cpu", "cuda"], "help": "with several GPUs, CUDA_VISIBLE_DEVICES selects one"},
    "width": {"type": int, "help": "width of CTR-GCN's first block"},
    "batch": {"type": int, "help": "samples in a batch"},
    "repeats": {"type": int, "help": "timed turns of each variant"},
    "compile": {"action": "store_true", "default": None, "help": "also measure ours with torch.compile"},
    "kind": {"choices": ["ntu", "pose", "store"], "help": "which feeder"},
    "sequences": {"type": int, "help": "size of the made-up training set"},
    "batches": {"type": int, "help": "timed batches of each feeder"},
    "workers": {"type": int, "help": "processes that load for the plain feeder"},
    "epochs": {"type": int, "help": "epochs of a run; the last one is reported"},
    "streams": {"action": "store_true", "default": None, "help": "export every network in all four streams"},
    "folder": {"type": Path, "help": "where made-up sets lie"},
}
SMOKE = {"width": 16, "batch": 4, "repeats": 1, "sequences": 24, "batches": 2, "workers": 0}


def parser() -> argparse.ArgumentParser:
    """A subcommand for each benchmark with the options that it reads, and ``all`` with all of them."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = options.add_subparsers(dest="command", required=True)
    for name in (*BENCHMARKS, "all"):
        module = BENCHMARKS.get(name, sys.modules[__name__])
        command = commands.add_parser(name, help=(module.__doc__ or "").splitlines()[0])
        for key in OPTIONS if name == "all" else module.DEFAULTS:
            command.add_argument(f"--{key}", **OPTIONS[key])
        command.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch on the CPU")
        command.add_argument("--json", type=Path, metavar="FILE", help="write settings and durations there as well")
        if name == "all":
            command.add_argument("--parts", nargs="+", choices=list(BENCHMARKS), default=PARTS)
            command.add_argument("--smoke", action="store_true", help="everything tiny, to see whether it runs")
    return options


def options_of(name: str, given: argparse.Namespace) -> argparse.Namespace:
    """A benchmark's options: what was given, else the smoke test's, else the benchmark's default for the device."""
    found = {"command": name, "threads": given.threads}
    for key, default in BENCHMARKS[name].DEFAULTS.items():
        if isinstance(default, tuple):
            default = default[given.device == "cuda"]
        if getattr(given, "smoke", False):
            default = SMOKE.get(key, default)
        value = getattr(given, key)
        found[key] = default if value is None else value
    return argparse.Namespace(**found)


def main(words: list[str] | None = None) -> int:
    """Runs benchmarks; returns 1 where variants do not agree, or one of them cannot run. One does not stop the next."""
    given, found, bad = parse(parser(), words), {}, False
    torch.set_num_threads(given.threads)
    keep_freed_memory()  # as a training run does
    for name in given.parts if given.command == "all" else [given.command]:
        options = options_of(name, given)
        try:
            tables = BENCHMARKS[name].measure(options)
            found[name] = {"settings": settings(options), "tables": tables}
            print(", ".join(f"{key} {value}" for key, value in settings(options).items()))
            bad |= any("error" in row for rows in tables.values() for row in rows.values())
            print(*(table(rows, heading) for heading, rows in tables.items()), "", sep="\n", flush=True)
        except Exception as error:
            bad, found[name] = True, {"error": f"{type(error).__name__}: {error}"}
            print(f"error: {name}: {found[name]['error']}", file=sys.stderr, flush=True)
        if given.json:
            write_atomically(given.json, f"{json.dumps(found, indent=2, default=str)}\n".encode())
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
