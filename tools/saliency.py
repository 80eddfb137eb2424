"""Which body parts carry each class? ``python -m tools.saliency work_dir/demo``

Prints, for every class, the exact contributions of the coalitions on the test set (mean over the class's samples,
clipped as in training), the saliency table's favourite, and the Shapley values of the single parts.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from processor.build import build_mixer, build_network, load_data
from processor.checkpoint import load_checkpoint
from processor.config import load_config
from processor.distributed import set_up
from processor.run_folder import open_log
from processor.study.saliency import class_contributions, contribution_page


def main(words: list[str] | None = None) -> int:
    """Runs one command line; returns the exit code."""
    options = argparse.ArgumentParser(description="Which body parts carry each class, by exact contributions.")
    options.add_argument("run", type=Path, help="folder of a run: work_dir/<run>")
    options.add_argument("--checkpoint", default="last.pt", help="file in that folder")
    options.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    options.add_argument("--plugin", action="append", default=[], help="package of yours that class paths may name")
    arguments = options.parse_args(words)
    open_log(None, console=True)
    try:
        state = load_checkpoint(arguments.run / arguments.checkpoint)
        if "mixer" not in state:
            raise ValueError(f"{arguments.run / arguments.checkpoint} is no checkpoint of a run")
        overrides = {"device": arguments.device}
        config = load_config(str(arguments.run / "config.yaml"), overrides, arguments.plugin)
        device = set_up(config.device)
        data = load_data(config, device, ("train", "test"))
        network = build_network(config, data, device, str(arguments.run / arguments.checkpoint))
        found = class_contributions(network, build_mixer(config, data, device, state["mixer"]), data.loaders["test"])
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    logging.getLogger(__name__).info(contribution_page(found, data.class_names, data.class_counts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
