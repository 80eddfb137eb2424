"""An animated picture of a run: ``python -m tools.picture work_dir/demo --out demo.gif``

Shows one test sample of some classes side by side. Every body part has the colour of its exact Shapley value, the mean
over the test samples of the class.
"""

from __future__ import annotations

import argparse
import logging
import sys
from functools import partial
from pathlib import Path

import numpy as np

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
    options.add_argument(
        "--flat", action="store_true", help="of your own Dataset: 2D poses, y points down, the third is a score"
    )
    return options


def picture(arguments: argparse.Namespace) -> None:
    """Computes the contributions of a run and writes the picture."""
    run = saliency.trained(arguments)
    data, found = run.data, saliency.contributions(run)
    stream = getattr(data.feeders["test"], "stream", "joint")
    if stream != "joint":
        raise ValueError(f"{arguments.run} was trained on the stream {stream}; only joints can be shown")
    names = arguments.classes
    if names is None:
        order = np.argsort(-np.array(data.class_counts), kind="stable")
        places = np.linspace(0, len(order) - 1, min(PANELS, len(order))).round().astype(int)
        names = [data.class_names[label] for label in order[places]]
    flat = arguments.flat or getattr(data.feeders["test"], "coordinates", 3) == 2
    bodies = first_bodies(data.loaders["test"], data.class_counts, found.parts.numpy(), names, flat)
    write_atomically(arguments.out, moving_picture(bodies, found.layout))
    logging.getLogger(__name__).info("%s: %s", arguments.out, ", ".join(names))


main = partial(run_command, picture, parser())

if __name__ == "__main__":
    sys.exit(main())
