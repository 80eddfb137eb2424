"""All benchmarks in turn with their defaults for the device, in one JSON file: the one to run on a machine with a GPU.

What one part says does not stop the others; the file is written anew after each.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import torch

from . import epoch, feeder, feeder_pose, mixing, network, step
from .measure import Figures, settings, write_json

PARTS: dict[str, Any] = {
    "mixing": mixing,
    "network": network,
    "step": step,
    "feeder": feeder,
    "feeder_pose": feeder_pose,
    "epoch": epoch,
}
SMALL = 8  # cores; feeder_pose takes 9 GB of memory and of disk, which smaller machines may not have
SEQUENCES = 24  # of the feeder's smoke test
TINY = "--width 16 --batch 2 --repeats 1 --in_a_row 1 --peak_size 64"
FEW = "--batch 8 --batches 2 --workers 0"
SMOKE = {
    "mixing": "--batch 4 --repeats 1",
    "network": TINY,
    "step": TINY,
    "feeder": f"{FEW} --size",
    "feeder_pose": f"{FEW} --clips 40",
    "epoch": "--width 16 --batch 4 --sequences 8",
}


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of ``python -m tools.benchmark all``."""
    default = [name for name in PARTS if name != "feeder_pose" or (os.cpu_count() or 1) >= SMALL]
    command.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    command.add_argument("--parts", nargs="+", choices=list(PARTS), default=default, help=f"by default {default}")
    command.add_argument("--compile", action="store_true", help="also ours through torch.compile")
    command.add_argument("--folder", type=Path, help="for made-up sets")
    command.add_argument("--smoke", action="store_true", help="everything tiny, to see whether it runs")


def options_of(name: str, options: argparse.Namespace) -> argparse.Namespace:
    """A part's own options: its defaults, or tiny ones, and what was said for all."""
    words = SMOKE[name].split() if options.smoke else []
    if words[-1:] == ["--size"]:
        words.append(epoch.made_up(SEQUENCES))
    parser = argparse.ArgumentParser()
    PARTS[name].add_options(parser)
    own = parser.parse_args(words)
    for key in ("device", "compile", "folder"):
        if hasattr(own, key) and getattr(options, key) is not None:
            setattr(own, key, getattr(options, key))
    own.threads = options.threads
    return own


def measure(options: argparse.Namespace) -> dict[str, Figures]:
    """Settings and figures of each part; ``error`` in place of the figures of one that failed."""
    found: dict[str, Figures] = {}
    for name in options.parts:
        print(f"--- {name} ---", flush=True)
        try:
            own = options_of(name, options)
            figures = PARTS[name].measure(own)
            found[name] = {"settings": settings(own), "figures": figures}
            print(PARTS[name].table(figures, own), flush=True)
        except Exception as error:
            found[name] = {"error": f"{type(error).__name__}: {error}"}
            print(f"error: {name}: {found[name]['error']}", file=sys.stderr, flush=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if options.json:
            write_json(options.json, options, found)
    return found


def table(figures: dict[str, Figures], options: argparse.Namespace) -> str:
    """Which parts ran: their tables are printed as they end."""
    return "; ".join(f"{name}: {'failed' if 'error' in part else 'done'}" for name, part in figures.items())
