"""What the commands that prepare data have in common: options, and how they end."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable

from feeders.store import DataError
from processor.host import usable_cores


def add_options(options: argparse.ArgumentParser) -> None:
    """``--strict``, ``--jobs``, ``--overwrite``."""
    options.add_argument("--strict", action="store_true", help="refuse where anything is left out")
    options.add_argument("--jobs", type=int, default=usable_cores(), help="processes")
    options.add_argument("--overwrite", action="store_true", help="replace the store in --out")


def carry_out(work: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> int:
    """Runs ``work`` and returns the exit code: 2 for what a user can mend, 130 for Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        if arguments.jobs < 1:
            raise DataError(f"--jobs must be at least 1, got {arguments.jobs}")
        work(arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0
