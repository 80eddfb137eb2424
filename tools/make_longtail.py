"""A long-tailed training list: ``python -m tools.make_longtail --store data/ntu120 --split xsub --imbalance 100``

BRL's protocol: the counts of the classes fall exponentially (or in one step) from ``--n_max`` by the factor
``--imbalance``; so many sequences of each class are selected at random. The source is a store of any data set, PYSKL's
pickle, or a list of NTU's names. The list is written to ``data/ntu_lt/NTU120_xsub_exp_100.txt``, which the configs name
as ``split_path``. For NTU 120, in any form, it is the published list. That of another store is written beside its
splits, for example ``data/mine/splits/train_exp_100_max_80.txt``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from feeders.lists import write_list
from feeders.longtail import PROFILES, largest_n_max, long_tailed_subset, permuted, shot_groups
from feeders.training_sets import training_set
from processor.command_line import run_command
from processor.host import say

DEFAULT = Path("data/ntu_lt")


def summary(counts: list[int], names: Sequence[str]) -> str:
    """Counts and shot groups as text."""
    lines = [f"{'class':<28}{'sequences':>10}"]
    lines += [f"{name:<28}{count:>10}" for name, count in zip(names, counts, strict=True)]
    groups = ", ".join(f"{len(members)} {group}" for group, members in shot_groups(counts).items())
    imbalance = f"{max(counts) / min(counts):g}" if min(counts) else "infinite"
    lines.append(f"{sum(counts)} sequences in {len(counts)} classes ({groups}), imbalance {imbalance}")
    return "\n".join(lines)


def select(options: argparse.Namespace) -> tuple[Path, list[str], str]:
    """Path of the list, names of the selected sequences, and the counts of the classes as text."""
    source = training_set(options.store, options.ann_file, options.names, options.dataset, options.split)
    profile = PROFILES[options.profile]
    n_max = source.n_max if options.n_max is None else options.n_max
    if n_max is None:
        n_max = largest_n_max(source.labels, options.order_seed, profile, options.imbalance, source.num_class)
    wanted = permuted(profile(n_max, options.imbalance, source.num_class), options.order_seed)
    kept = long_tailed_subset(source.labels, wanted, options.seed, options.allow_fewer)
    counts = np.bincount(source.labels[kept], minlength=source.num_class).tolist()
    own = options.out is None and source.folder is not None
    file = f"{source.split if own else source.name}_{options.profile}_{options.imbalance:g}"
    file += f"_max_{n_max}" if n_max != source.n_max else ""
    file += f"_seed_{options.seed}" if options.seed else ""
    file += f"_order_{options.order_seed}" if options.order_seed is not None else ""
    out = options.out or source.folder or DEFAULT
    path = out if out.suffix == ".txt" else out / f"{file}.txt"
    return path, [source.names[row] for row in kept], summary(counts, source.class_names)


def run(options: argparse.Namespace) -> None:
    """Selects the sequences, writes the list, prints the counts."""
    path, names, table = select(options)
    write_list(path, names, options.overwrite)
    say(f"{table}\n{path}")
    if path.name.startswith("NTU60"):
        say("(to compare with published results use BRL's own NTU60 lists, selected from an unsorted listing)")


def main(words: list[str] | None = None) -> int:
    """Runs one command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--store", type=Path, help="of tools.prepare_ntu, tools.prepare_pose or a feeder")
    source.add_argument("--ann_file", type=Path, help="instead: PYSKL's pickle, read as the feeder reads it")
    source.add_argument("--names", type=Path, help="instead: the names of all sequences of NTU, one a line")
    parser.add_argument(
        "--dataset", choices=["ntu60", "ntu120"], help="of NTU's names; by default the store's, or ntu120"
    )
    parser.add_argument("--split", help="xsub, xview or xset of NTU, or the training split of the store or pickle")
    parser.add_argument("--imbalance", type=float, required=True, help="largest count / smallest count")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="exp")
    parser.add_argument(
        "--n_max", type=int, help="largest count; by default 600 for NTU (ntu120 xset: 400), else all it has"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the selection; 0 for the published lists")
    parser.add_argument("--order-seed", type=int, help="permutes which classes are rare; by default the last ones")
    parser.add_argument("--allow-fewer", action="store_true", help="accept classes that have fewer sequences")
    parser.add_argument(
        "--out", type=Path, help=f"folder, or a .txt file; by default {DEFAULT}, or the folder splits of an own store"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace another list of that name")
    return run_command(run, parser, words)


if __name__ == "__main__":
    sys.exit(main())
