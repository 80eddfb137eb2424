"""Durations of our own parts, each beside a plain way to do the same: ``python -m tools.benchmark mixing``.

The variants of one comparison are first checked to give the same result. ``all`` runs every part.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from . import everything
from .measure import failed, settings, write_json

COMMANDS = {**everything.PARTS, "all": everything}


def main(words: list[str] | None = None) -> int:
    """Runs one subcommand; returns 1 where the variants do not agree, or one of them cannot run."""
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
    except (AssertionError, ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(", ".join(f"{name} {value}" for name, value in settings(options).items()))
    print(COMMANDS[options.command].table(figures, options))
    if options.json:
        write_json(options.json, options, figures)
    return int(failed(figures))


if __name__ == "__main__":
    sys.exit(main())
