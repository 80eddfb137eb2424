"""Trains many runs over one recipe: ``python -m tools.sweep config/sweeps/demo.yaml``

The YAML names what is compared: ``config``, the recipe; ``methods`` and ``runs``, what differs; ``grid``, other recipes
or settings, each for all runs; ``seeds``; ``set``. An entry of ``grid`` or ``runs`` has ``config``, files over those
before, and ``set``, keys over all files. Finished runs are left alone, those that were cut off go on, several train at
a time. ``--dry-run`` lists them.
"""

from __future__ import annotations

import argparse
import logging
import sys
from functools import partial
from pathlib import Path

from processor.command_line import add_plugin, run_command, split_assignment
from processor.host import usable_cores
from processor.study.launch import Launcher, visible_gpus
from processor.study.plan import plan, table_commands

log = logging.getLogger(__name__)

MOST_JOBS = 8  # on the CPU, by default


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        description="Train the runs of a sweep that are missing. The same command continues after Ctrl-C or a crash; "
        "several on one disk share the work.",
        allow_abbrev=False,
    )
    add = options.add_argument
    add("sweep", type=Path, metavar="SWEEP.yaml", help="such as config/sweeps/demo.yaml")
    add("--seeds", nargs="+", type=int, metavar="N", help="instead of those in the file")
    add("--only", nargs="+", default=[], metavar="PATTERN", help="runs: 'grid/run', 'run' or 'grid'; * and ? match")
    most = f"runs at a time; by default one a GPU, or one a CPU core up to {MOST_JOBS}"
    add("--jobs", type=int, metavar="N", help=most)
    add("--per_gpu", type=int, metavar="N", help="runs at a time on each GPU, instead of --jobs; small runs leave room")
    add("--dry-run", action="store_true", help="list the runs and how far each is; start nothing")
    add_plugin(options)
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="a.b=c for any key, for all runs")
    return options


def sweep(arguments: argparse.Namespace) -> int:
    """Plans, lists or trains; returns the exit code (1: a run failed)."""
    for name, number in (("jobs", arguments.jobs), ("per_gpu", arguments.per_gpu)):
        if number is not None and number < 1:
            raise ValueError(f"--{name} must be 1 or more, got {number}")
    if arguments.jobs and arguments.per_gpu:
        raise ValueError("--jobs and --per_gpu both say how many runs train at a time; give one of them")
    overrides = dict(map(split_assignment, arguments.set))
    logging.disable(logging.INFO)  # notes on each config; the run's own log has them
    try:
        jobs = plan(arguments.sweep, arguments.seeds, arguments.only, overrides, arguments.plugin)
    finally:
        logging.disable(logging.NOTSET)
    statuses = [job.status() for job in jobs]
    if arguments.dry_run:
        width = max(len(job.label) for job in jobs)
        for job, status in zip(jobs, statuses, strict=True):
            where = f" at epoch {job.epochs()}" if status == "cut off" else ""
            log.info("%-*s  %s%s", width, job.label, status, where)
        return 0
    missing = sum(status in ("missing", "cut off") for status in statuses)
    gpus = [] if all(job.config.device == "cpu" for job in jobs) else visible_gpus()
    if arguments.per_gpu and not gpus:
        raise ValueError("--per_gpu: no run of this sweep would use a GPU here; --jobs says how many train at a time")
    places = arguments.jobs or len(gpus) * (arguments.per_gpu or 1) or max(1, min(usable_cores(), MOST_JOBS, missing))
    where = f"{len(gpus)} GPU(s)" if gpus else "the CPU"
    finished, elsewhere = statuses.count("finished"), statuses.count("running elsewhere")
    log.info("%s: %d runs, %d finished, %d running elsewhere, %d to train, %d at a time on %s",
             arguments.sweep, len(jobs), finished, elsewhere, missing, places, where)  # fmt: skip
    launcher = Launcher(jobs, arguments.plugin, places, gpus)
    code = launcher.run()
    if code > 1:
        log.info("stopped; the same command continues")
        return code
    for label, reason in launcher.failed.items():
        log.error("failed: %s (%s)", label, reason)
    for command in table_commands(jobs):
        log.info(command)
    return code


main = partial(run_command, sweep, parser())

if __name__ == "__main__":
    sys.exit(main())
