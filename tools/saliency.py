"""Which body parts carry each class? ``python -m tools.saliency work_dir/demo``

Prints, for every class, the exact contributions of the coalitions on the test set (mean over the class's samples,
clipped as in training), the coalition that the saliency table prefers, and the Shapley values of the single parts.
"""

from __future__ import annotations

import argparse
import logging
import sys
from functools import partial
from pathlib import Path

from processor.build import Data, build_mixer, build_network, load_data
from processor.checkpoint import load_checkpoint
from processor.command_line import add_plugin, run_command
from processor.config_files import load_config
from processor.distributed import set_up
from processor.run_folder import RunFolder
from processor.study.saliency import ClassContributions, class_contributions, contribution_page


def parser(description: str = "Which body parts carry each class, by exact contributions.") -> argparse.ArgumentParser:
    """The command line; tools.picture adds to it."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("run", type=Path, help="folder of a run: work_dir/<run>")
    options.add_argument("--checkpoint", default=RunFolder("").last.name, help="file in that folder")
    options.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    add_plugin(options)
    return options


def contributions(arguments: argparse.Namespace) -> tuple[Data, ClassContributions]:
    """A run's data, and what its network and mixer look at; both are built as they were saved."""
    weights = arguments.run / arguments.checkpoint
    state = load_checkpoint(weights)
    if "mixer" not in state:
        raise ValueError(f"{weights} is not the checkpoint of a run")
    config = load_config(str(RunFolder(arguments.run).config), {"device": arguments.device}, arguments.plugin)
    device = set_up(config.device)
    data = load_data(config, device, ("train", "test"))
    network = build_network(config, data, device, str(weights))
    mixer = build_mixer(config, data, device, state["mixer"])
    return data, class_contributions(network, mixer, data.loaders["test"])


def saliency(arguments: argparse.Namespace) -> None:
    """Prints a row for each class."""
    data, found = contributions(arguments)
    logging.getLogger(__name__).info(contribution_page(found, data.class_names, data.class_counts))


main = partial(run_command, saliency, parser())

if __name__ == "__main__":
    sys.exit(main())
