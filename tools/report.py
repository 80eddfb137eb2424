"""A page that shows a run: ``python -m tools.report work_dir/demo``; of several runs: their comparison.

Writes ``report.html`` into the run's folder: what was trained, where it fails, which body parts carry each class, what
mixing did. It is one file that needs no network. Several runs, or a folder of them, give one page with their curves and
a table of differences with intervals, as ``tools.table`` has them.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from processor.command_line import add_plugin, run_command
from processor.host import say
from processor.report.open_run import OpenRun, open_run
from processor.report.report import write_comparison, write_report
from processor.run_folder import RunFolder
from processor.study.archive import find_runs

log = logging.getLogger(__name__)


def main(words: list[str] | None = None) -> int:
    """Runs one command line; returns the exit code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of runs, or folders that hold some")
    options.add_argument(
        "--out", type=Path, help="file of several runs' page; by default report.html in the first folder"
    )
    options.add_argument("--baseline", metavar="NAME", help="of several: the method that the others are compared with")
    options.add_argument("--samples", type=int, default=10, help="test samples of each class that are explained")
    options.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    add_plugin(options)
    return run_command(run, options, words)


def run(arguments: argparse.Namespace) -> None:
    """Writes one page and prints where it is."""
    folders = [folder for path in arguments.runs for folder in find_runs(path).values()]
    if len(folders) > 1:
        out = arguments.out or RunFolder(arguments.runs[0]).report
        say(str(write_comparison(arguments.runs, folders, arguments.baseline, out)))
        return
    live: OpenRun | None = None
    reason = ""
    try:
        live = open_run(folders[0], arguments.device, arguments.plugin)
    except (ValueError, OSError) as error:
        reason = str(error)
        log.warning("what needs data or network is left out: %s", reason)
    say(str(write_report(folders[0], live, arguments.samples, reason)))


if __name__ == "__main__":
    sys.exit(main())
