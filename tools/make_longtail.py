"""A long-tailed training list: ``python -m tools.make_longtail --store data/ntu120 --split xsub --imbalance 100``

BRL's protocol: the counts of the classes fall exponentially (or in one step) from ``--n_max`` by the factor
``--imbalance``; so many sequences of each class are selected at random. The list is written to
``data/ntu_lt/NTU120_xsub_exp_100.txt``, which the configs name as ``split_path``. For NTU 120 it is the published list.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from feeders.files import write_atomically
from feeders.lists import read_list
from feeders.longtail import PROFILES, long_tailed_subset, shot_groups
from feeders.ntu_protocols import CLASSES, PROTOCOLS, parse_names
from feeders.store import DataError, SkeletonStore
from processor.command_line import run_command


def summary(counts: list[int]) -> str:
    """Counts and shot groups as text."""
    lines = [f"{'class':<28}{'sequences':>10}"]
    lines += [f"{name:<28}{count:>10}" for name, count in zip(CLASSES, counts, strict=False)]
    groups = ", ".join(f"{len(members)} {group}" for group, members in shot_groups(counts).items())
    imbalance = f"{max(counts) / min(counts):g}" if min(counts) else "infinite"
    lines.append(f"{sum(counts)} sequences in {len(counts)} classes ({groups}), imbalance {imbalance}")
    return "\n".join(lines)


def select(options: argparse.Namespace) -> tuple[str, list[str], list[int]]:
    """File name of the list, names of the selected sequences, and counts of the classes."""
    if options.store is not None:
        store = SkeletonStore(options.store)
        names, dataset = store.ids, store.meta["name"]
    else:
        names, dataset = read_list(options.names), "ntu120"
    dataset = options.dataset or dataset
    if f"{dataset}_{options.split}" not in PROTOCOLS:
        raise DataError(f"no protocol {dataset}_{options.split}; there are {', '.join(PROTOCOLS)}")
    protocol, columns = PROTOCOLS[f"{dataset}_{options.split}"], parse_names(names, options.store or options.names)
    rows = protocol.rows(columns, train=True)
    labels = columns["action"][rows] - 1
    n_max = protocol.n_max if options.n_max is None else options.n_max
    wanted = PROFILES[options.profile](n_max, options.imbalance, protocol.num_class)
    selected = rows[long_tailed_subset(labels, wanted, options.seed, options.allow_fewer)]
    counts = np.bincount(columns["action"][selected] - 1, minlength=protocol.num_class).tolist()
    file = f"{dataset.upper()}_{options.split}_{options.profile}_{options.imbalance:g}"
    file += f"_max_{n_max}" if n_max != protocol.n_max else ""
    file += f"_seed_{options.seed}" if options.seed else ""
    return f"{file}.txt", [names[row] for row in selected], counts


def write(out: Path, file: str, names: list[str], overwrite: bool) -> Path:
    """Writes the list to the file ``out``, or as ``file`` to the folder ``out``; another list there is an error."""
    path = out if out.suffix == ".txt" else out / file
    text = "\n".join(names) + "\n"
    if path.exists() and not overwrite and read_list(path) != names:
        raise DataError(f"{path} exists and names other sequences; choose another --out, or --overwrite it")
    write_atomically(path, text.encode())
    return path


def run(options: argparse.Namespace) -> None:
    """Selects the sequences, writes the list, prints the counts."""
    file, names, counts = select(options)
    path = write(options.out, file, names, options.overwrite)
    print(f"{summary(counts)}\n{path}")
    if file.startswith("NTU60"):
        print("(to compare with published results use BRL's own NTU60 lists, selected from an unsorted listing)")


def main(words: list[str] | None = None) -> int:
    """Runs one command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--store", type=Path, help="written by tools.prepare_ntu")
    source.add_argument("--names", type=Path, help="instead: the names of all sequences, one a line")
    parser.add_argument("--dataset", choices=["ntu60", "ntu120"], help="by default the store's, ntu120 for --names")
    parser.add_argument("--split", required=True, choices=["xsub", "xview", "xset"])
    parser.add_argument("--imbalance", type=float, required=True, help="largest count / smallest count")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="exp")
    parser.add_argument("--n_max", type=int, help="largest count; by default the protocol's, 600 (ntu120 xset: 400)")
    parser.add_argument("--seed", type=int, default=0, help="of the selection; 0 for the published lists")
    parser.add_argument("--allow-fewer", action="store_true", help="accept classes that have fewer sequences")
    parser.add_argument("--out", type=Path, default=Path("data/ntu_lt"), help="folder, or a .txt file")
    parser.add_argument("--overwrite", action="store_true", help="replace another list of that name")
    return run_command(run, parser, words)


if __name__ == "__main__":
    sys.exit(main())
