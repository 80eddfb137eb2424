"""Trains many runs over one recipe: ``python -m tools.sweep config/sweeps/demo.yaml``

The YAML names what is compared (``config``, the recipe; ``runs``, what differs; ``grid``; ``seeds``; ``set``). What
``set``, ``grid`` and a run's own ``set`` say lies over all files, those of methods too. Finished runs are left alone,
those that were cut off go on, several train at a time. ``--dry-run`` lists them.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from signal import SIGINT

from processor.command_line import split_assignment
from processor.host import usable_cores
from processor.run_folder import open_log
from processor.study.launch import Scheduler, visible_gpus
from processor.study.plan import Run, plan

log = logging.getLogger(__name__)

MOST_JOBS = 8  # on the CPU, by default


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        description="Train the runs of a sweep that are missing. The same command goes on after Ctrl-C or a crash, and "
        "several on one disk share the work.",
        allow_abbrev=False,
    )
    options.add_argument("sweep", type=Path, metavar="SWEEP.yaml", help="such as config/sweeps/demo.yaml")
    options.add_argument("--seeds", nargs="+", type=int, metavar="N", help="instead of those in the file")
    options.add_argument(
        "--only", nargs="+", default=[], metavar="PATTERN", help="runs: 'grid/run', 'run' or 'grid'; * and ? match"
    )
    options.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help=f"runs at a time; by default one a GPU, or one a CPU core up to {MOST_JOBS}",
    )
    options.add_argument("--dry-run", action="store_true", help="list the runs and how far each is; start nothing")
    options.add_argument("--plugin", action="append", default=[], help="package of yours that class paths may name")
    options.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="a.b=c for any key, for all runs"
    )
    return options


def sweep(arguments: argparse.Namespace) -> int:
    """Plans, lists or trains; returns the exit code.

    Raises:
        ValueError: something that the user can mend.
    """
    if arguments.jobs is not None and arguments.jobs < 1:
        raise ValueError(f"--jobs must be 1 or more, got {arguments.jobs}")
    overrides = dict(map(split_assignment, arguments.set))
    notes = logging.getLogger("processor")
    level = notes.level
    notes.setLevel(logging.WARNING)  # each run's own log has the rest
    try:
        runs = plan(arguments.sweep, arguments.seeds, arguments.only, overrides, arguments.plugin)
    finally:
        notes.setLevel(level)
    statuses = [run.status() for run in runs]
    if arguments.dry_run:
        width = max(len(run.label) for run in runs)
        for run, status in zip(runs, statuses, strict=True):
            where = f" at epoch {run.epochs()}" if status == "cut off" else ""
            log.info("%-*s  %s%s", width, run.label, status, where)
        return 0
    missing = sum(status in ("missing", "cut off") for status in statuses)
    gpus = [] if all(run.config.device == "cpu" for run in runs) else visible_gpus()
    jobs = arguments.jobs or len(gpus) or max(1, min(usable_cores(), MOST_JOBS, missing))
    log.info(
        "%s: %d runs, %d finished, %d running elsewhere, %d to train, %d at a time on %s",
        arguments.sweep, len(runs), statuses.count("finished"), statuses.count("running elsewhere"), missing, jobs,
        f"{len(gpus)} GPU(s)" if gpus else "the CPU",
    )  # fmt: skip
    scheduler = Scheduler(runs, arguments.plugin, jobs, gpus)
    code = scheduler.run()
    if code > 1:
        log.info("stopped; the same command goes on")
        return code
    for label, reason in scheduler.failed.items():
        log.error("failed: %s (%s)", label, reason)
    for command in table_commands(runs):
        log.info(command)
    return code


def table_commands(runs: Sequence[Run]) -> list[str]:
    """The commands that compare the runs, one for each grid entry; on the validation set, where there is one."""
    first: dict[Path, Run] = {}
    for run in runs:
        first.setdefault(run.folder.parents[1], run)
    return [
        f"python -m tools.table {shlex.quote(str(folder))} --baseline {run.folder.parent.name}"
        + (" --split val" if run.config.validates else "")
        for folder, run in first.items()
    ]


def main(words: list[str] | None = None) -> int:
    """Runs one command line; returns the exit code (1: a run failed, 2: something that the user can mend)."""
    arguments = parser().parse_args(words)
    open_log(None, console=True)
    try:
        return sweep(arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + SIGINT


if __name__ == "__main__":
    sys.exit(main())
