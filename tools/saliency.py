"""Which body parts carry each class, and is that true? ``python -m tools.saliency work_dir/demo``

Prints, for every class, the exact contributions of the coalitions on the test set (mean over the class's samples,
clipped as in training), the coalition that the saliency table prefers, and the Shapley values of the single parts; of a
run without such a table only the last. Then it removes body parts of test samples in the order of their Shapley values,
in reverse, at random and by feature ablation, and says whether that order is better than chance. The result is kept in
the run's folder, as explanation.npz. ``--refresh`` first computes the table from training samples, as
``estimator: refresh`` does: how well it then ranks the coalitions says what a refresh after that epoch would give. If a
run tests averaged weights, it is the table of these; training refreshes it by the raw ones.
"""

from __future__ import annotations

import argparse
import logging
import sys
from functools import partial
from pathlib import Path

from processor.answers import autocast_dtype
from processor.command_line import add_plugin, run_command
from processor.engine import refresh_table
from processor.report.explain import explain_run, parts_page, truth_page
from processor.report.open_run import OpenRun, open_run
from processor.run_folder import RunFolder
from processor.study.saliency import ClassContributions, class_contributions, contribution_page, correlation_line
from shapmix import ShapMix


def parser(description: str = "Which body parts carry each class, by exact contributions.") -> argparse.ArgumentParser:
    """The command line; tools.picture adds to it."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("run", type=Path, help="folder of a run: work_dir/<run>")
    options.add_argument("--checkpoint", default=RunFolder("").last.name, help="file in that folder")
    options.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    add_plugin(options)
    return options


def trained(arguments: argparse.Namespace) -> OpenRun:
    """The run that the command line names."""
    return open_run(RunFolder(arguments.run), arguments.device, arguments.plugin, arguments.checkpoint)


def contributions(run: OpenRun) -> ClassContributions:
    """What the network and the saliency table look at."""
    return class_contributions(run.network, run.mixer, run.data.loaders["test"])


def saliency(arguments: argparse.Namespace) -> None:
    """Prints a row for each class, and whether the explanation is true."""
    run, folder, log = trained(arguments), RunFolder(arguments.run), logging.getLogger(__name__)
    weights = arguments.run / arguments.checkpoint
    names, counts = run.data.class_names, run.data.class_counts
    has_table = isinstance(run.mixer, ShapMix) and run.mixer.baseline is not None
    if arguments.refresh:
        if not has_table:
            raise ValueError(f"--refresh: {arguments.run} has no saliency table, because mixing is {run.config.mixing}")
        sizes = run.config.refresh_samples, run.config.test_batch_size
        train, precision = run.data.loaders["train"], autocast_dtype(run.config.precision)
        count = refresh_table(run.mixer, run.network, train, run.config.naive_mix_epoch, *sizes, precision)
        log.info("the table is computed from %d training samples", count)
    if has_table:
        found_of_classes = contributions(run)
        log.info(contribution_page(found_of_classes, names, counts))
        log.info("\n%s", correlation_line(found_of_classes, run.data.groups))
    found = explain_run(run.config, run.data, run.network, run.mixer, weights, arguments.samples)
    if not has_table:
        log.info(parts_page(found, counts))
    log.info("\n%s", truth_page(found))
    if weights == folder.last:
        found.save(folder.explanation)


options = parser()
options.add_argument("--samples", type=int, default=10, metavar="N", help="test samples of each class to explain")
options.add_argument("--refresh", action="store_true", help="compute the saliency table again before it is compared")
main = partial(run_command, saliency, options)

if __name__ == "__main__":
    sys.exit(main())
