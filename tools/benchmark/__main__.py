"""Durations of our own parts, each beside a plain way to do the same: ``python -m tools.benchmark mixing``.

The variants of one comparison are first checked to give the same result.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

import torch

from . import feeder, feeder_pose, mixing, parts

COMMANDS = {"mixing": mixing, "feeder": feeder, "feeder_pose": feeder_pose, "parts": parts}


def main(words: list[str] | None = None) -> int:
    """Runs one subcommand; returns 1 where the variants do not agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(name, help=(module.__doc__ or "").splitlines()[0])
        module.add_options(command)
        command.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch on the CPU")
        command.add_argument("--json", type=Path, metavar="FILE", help="write the figures and settings there as well")
    options = parser.parse_args(words)
    torch.set_num_threads(options.threads)
    try:
        figures = COMMANDS[options.command].measure(options)
    except (AssertionError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    settings = {name: value for name, value in vars(options).items() if name != "json"}
    device = str(getattr(options, "device", "cpu"))
    machine = torch.cuda.get_device_name(device) if "cuda" in device else platform.machine()
    settings |= {"machine": f"{machine}, {os.cpu_count()} cores", "torch": torch.__version__}
    print(", ".join(f"{name} {value}" for name, value in settings.items()))
    print(COMMANDS[options.command].table(figures, options))
    if options.json:
        options.json.write_text(json.dumps({"settings": settings, "figures": figures}, indent=2, default=str) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
