"""Raw NTU files -> one store: ``python -m tools.prepare_ntu --raw FOLDER_OR_ZIP --out data/ntu60 --dataset ntu60``

Reads ``.skeleton`` files from folders and zip archives, without unpacking these, and writes a store with all splits
of the data set. What cannot be used is left out, and named in ``report.json`` and in a table at the end. Cut off, the
same command goes on where it was.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from feeders.arrays import write_arrays
from feeders.ntu import PROTOCOLS
from feeders.ntu_data import read_list
from feeders.ntu_raw import choose_sources, read_source
from feeders.preparation import find_sources, prepare, report_table, usable_cores
from feeders.store import DataError

SUFFIX = ".skeleton"


def main(words: list[str] | None = None) -> int:
    """Runs one command line; returns the exit code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--raw", type=Path, nargs="+", required=True, help="folders and zip archives")
    options.add_argument("--out", type=Path, required=True, help="folder of the store")
    options.add_argument("--dataset", required=True, choices=["ntu60", "ntu120"])
    options.add_argument("--missing", type=Path, nargs="+", default=[], help="NTU's lists of missing skeletons")
    options.add_argument("--npz", action="store_true", help="also write CTR-GCN's arrays, NTU60_CS.npz and so on")
    options.add_argument("--strict", action="store_true", help="refuse where any file is left out")
    options.add_argument("--jobs", type=int, default=usable_cores(), help="processes")
    options.add_argument("--overwrite", action="store_true", help="replace what --out holds")
    arguments = options.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        if arguments.jobs < 1:
            raise DataError(f"--jobs must be at least 1, got {arguments.jobs}")
        missing = {name for path in arguments.missing for name in read_list(path)}
        found, others = find_sources(arguments.raw, SUFFIX)
        sources, left_out = choose_sources(found, arguments.dataset, missing)
        store, report = prepare(
            arguments.out,
            arguments.dataset,
            sources,
            read_source,
            {**others, **left_out},
            arguments.jobs,
            strict=arguments.strict,
            overwrite=arguments.overwrite,
        )
        print(f"{arguments.out}\n{report_table(report)}")
        for name, protocol in PROTOCOLS.items():
            if arguments.npz and protocol.dataset == arguments.dataset:
                write_arrays(arguments.out / f"{protocol.arrays}.npz", store, name)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
