"""Divides a store into training, validation and test: ``python -m tools.split data/mine --by subject --test 0.2``

Writes ``data/mine/splits/train.txt``, ``val.txt`` and ``test.txt``, one id a line, which feeders.feeder_store reads.
Every class is in every part where it has enough sequences. The same seed gives the same lists.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from feeders.feeder_store import open_store
from feeders.lists import check_list, write_list
from feeders.own_splits import known_groups, list_path, numbers_of, rows_of_list, split_names
from feeders.splitting import PARTS, divide, divide_groups
from feeders.store import DataError, SkeletonStore
from processor.command_line import run_command
from processor.host import say


def parts_of(store: SkeletonStore, rows: np.ndarray, options: argparse.Namespace) -> np.ndarray:
    """Places in PARTS (n,) of the rows of a store, as the command line says."""
    rng, labels = np.random.default_rng(options.seed), store.labels[rows]
    if options.by == "random":
        return divide(labels, options.val, options.test, rng)
    if options.by == "list":
        if options.list is None:
            raise DataError("--by list needs --list FILE: the ids of the test sequences, one a line")
        test = np.isin(rows, rows_of_list(store, options.list))
        parts = np.where(test, 2, 0)
        parts[~test] = divide(labels[~test], options.val, 0.0, rng)
        return parts
    column, names = known_groups(store, rows, options.by)
    wanted = []
    for part in ("val", "test"):
        chosen = getattr(options, f"{part}_{options.by}s")
        what = f"--{part}_{options.by}s of {store.path}"
        wanted.append(numbers_of(chosen, column, names, what) if chosen else float(getattr(options, part)))
    return divide_groups(labels, column, *wanted, rng)


def summary(store: SkeletonStore, rows: np.ndarray, parts: np.ndarray) -> str:
    """Counts by class and part as text, and which classes a part lacks."""
    names = store.meta["class_names"]
    counts = np.stack([np.bincount(store.labels[rows[parts == part]], minlength=len(names)) for part in range(3)], 1)
    lines = [f"{'class':<28}" + "".join(f"{part:>8}" for part in PARTS)]
    for name, row in zip([*names, "all"], [*counts, counts.sum(0)], strict=True):
        lines.append(f"{name[:27]:<28}" + "".join(f"{count:>8}" for count in row))
    for place, part in enumerate(PARTS):
        without = [name for name, row in zip(names, counts, strict=True) if row.sum() and not row[place]]
        if without and counts[:, place].any():
            lines.append(f"without a sequence in {part}: {', '.join(without)}")
    return "\n".join(lines)


def run(options: argparse.Namespace) -> None:
    """Divides, writes the lists, prints the counts."""
    store = open_store(options.store)
    rows = np.array([row for row, name in enumerate(store.ids) if name not in store.problems], dtype=np.int64)
    parts = parts_of(store, rows, options)
    lists = {part: [store.ids[row] for row in rows[parts == place]] for place, part in enumerate(PARTS)}
    if not lists["train"] or not lists["test"]:
        raise DataError(f"{store.path}: nothing would be left for {'the test' if lists['train'] else 'training'}")
    for part, ids in lists.items():
        check_list(list_path(store, part), ids, options.overwrite)
    for part, ids in lists.items():
        if ids:
            write_list(list_path(store, part), ids, overwrite=True)
        else:
            list_path(store, part).unlink(missing_ok=True)
    say(f"{summary(store, rows, parts)}\n{list_path(store, 'train').parent}")
    if replaced := [part for part, ids in lists.items() if ids and part in store.meta.get("splits", [])]:
        keep = f"to keep it, remove {store.path}/splits; val_fraction in feeder_args takes a validation part from train"
        say(f"the source's own split into {' and '.join(replaced)} is replaced: {keep}", sys.stderr)
    if not lists["val"] and "val" in split_names(store):
        say("the source's own split val is left: --val 0.1 replaces it", sys.stderr)


def main(words: list[str] | None = None) -> int:
    """Runs one command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, help="of tools.convert or tools.prepare_pose")
    parser.add_argument("--by", choices=["subject", "view", "list", "random"], required=True)
    parser.add_argument("--test", type=float, default=0.2, help="share of the sequences, or of subjects or views")
    parser.add_argument("--val", type=float, default=0.0, help="the same; by default nothing is for validation")
    for kind in ("subject", "view"):
        for part in ("test", "val"):
            parser.add_argument(f"--{part}_{kind}s", nargs="+", default=[], help="instead: their names in the store")
    parser.add_argument("--list", type=Path, help="of --by list: the ids of the test sequences, one a line")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--overwrite", action="store_true", help="replace other lists")
    return run_command(run, parser, words)


if __name__ == "__main__":
    sys.exit(main())
