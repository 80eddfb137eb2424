"""Raw NTU files -> one store: ``python -m tools.prepare_ntu --raw FOLDER_OR_ZIP --out data/ntu60 --dataset ntu60``

Reads ``.skeleton`` files from folders and zip archives, which it does not unpack, and writes a store with all splits of
the data set. Files that cannot be used are left out; ``report.json`` and a table at the end name them. After a stop the
same command continues where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from feeders.convert.ctrgcn_npz import write_arrays
from feeders.convert.ntu_raw import choose_sources, read_source
from feeders.convert.prepare import find_sources, prepare, report_table
from feeders.lists import read_list
from feeders.ntu_protocols import PROTOCOLS
from processor.command_line import run_command
from processor.host import say, usable_cores


def add_options(options: argparse.ArgumentParser) -> None:
    """Options of the commands that prepare a data set."""
    options.add_argument("--strict", action="store_true", help="stop with an error where anything is left out")
    options.add_argument("--jobs", type=int, default=usable_cores(), help="processes; by default one for each core")
    options.add_argument("--overwrite", action="store_true", help="replace the store in --out")


def main(words: list[str] | None = None) -> int:
    """Runs one command line; returns the exit code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--raw", type=Path, nargs="+", required=True, help="folders and zip archives")
    options.add_argument("--out", type=Path, required=True, help="folder of the store")
    options.add_argument("--dataset", required=True, choices=["ntu60", "ntu120"])
    options.add_argument("--missing", type=Path, nargs="+", default=[], help="NTU's lists of missing skeletons")
    options.add_argument("--npz", action="store_true", help="also write CTR-GCN's arrays, NTU60_CS.npz and so on")
    add_options(options)
    return run_command(run, options, words)


def run(arguments: argparse.Namespace) -> None:
    """Finds the files, prepares the store, prints the report."""
    missing = {name for path in arguments.missing for name in read_list(path)}
    found, others = find_sources(arguments.raw, ".skeleton")
    sources, left_out = choose_sources(found, arguments.dataset, missing)
    store, report = prepare(
        arguments.out, arguments.dataset, sources, read_source, others | left_out, arguments.jobs, arguments.strict,
        arguments.overwrite,
    )  # fmt: skip
    say(f"{arguments.out}\n{report_table(report)}")
    for name, protocol in PROTOCOLS.items():
        if arguments.npz and protocol.dataset == arguments.dataset:
            write_arrays(arguments.out / f"{protocol.arrays}.npz", store, name)


if __name__ == "__main__":
    sys.exit(main())
