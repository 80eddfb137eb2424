"""An animated picture of a run: ``python -m tools.picture work_dir/demo --out demo.gif``

Shows one test sample of some classes side by side. Every body part has the colour of its exact Shapley value, the mean
over the test samples of the class.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from feeders.files import write_atomically
from processor.command_line import run_command
from processor.study.picture import first_bodies, moving_picture

from . import saliency

PANELS = 6


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = saliency.parser("An animated picture: body parts coloured by their contribution to their class.")
    options.add_argument("--out", type=Path, default=Path("picture.gif"), metavar="FILE", help="the GIF to write")
    options.add_argument("--classes", nargs="+", metavar="NAME", help=f"by default {PANELS}, from frequent to rare")
    options.add_argument("--flat", action="store_true", help="2D poses: y points down, the third channel is a score")
    return options


def picture(arguments: argparse.Namespace) -> None:
    """Computes the contributions of a run and writes the picture."""
    data, found = saliency.contributions(arguments)
    stream = getattr(data.feeders["test"], "stream", "joint")
    if stream != "joint":
        raise ValueError(f"{arguments.run} was trained on the stream {stream}; only joints can be shown")
    names = arguments.classes
    if names is None:
        order = sorted(range(len(data.class_names)), key=lambda label: -data.class_counts[label])
        step = max(1, (len(order) - 1) / (PANELS - 1))
        names = [data.class_names[order[round(place * step)]] for place in range(min(PANELS, len(order)))]
    bodies = first_bodies(data.loaders["test"], data.class_counts, found.parts.numpy(), names, arguments.flat)
    write_atomically(arguments.out, moving_picture(bodies, found.layout))
    logging.getLogger(__name__).info("%s: %s", arguments.out, ", ".join(names))


def main(words: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit code."""
    return run_command(picture, parser(), words)


if __name__ == "__main__":
    sys.exit(main())
