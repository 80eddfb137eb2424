"""PYSKL's annotation pickle -> a store of 2D poses or 3D skeletons.

``python -m tools.prepare_pose ntu60_3danno.pkl --out data/ntu60_3d``

A reader of arrays and plain containers, which runs no code, takes sequence by sequence from the pickle. At most two
people are kept. 3D skeletons are centred and turned as PYSKL does it. Sequences that cannot be used are left out;
``report.json`` and a table at the end name them. After a stop the same command continues where it was.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from feeders.convert.prepare import prepare, report_table
from feeders.convert.pyskl import read_class_names, read_pose, read_poses
from feeders.convert.recipe import Recipe
from feeders.store import DataError, SkeletonStore, fingerprint_files
from processor.command_line import run_command
from processor.config_files import read_layout
from processor.host import say
from shapmix.skeleton import LAYOUTS, SkeletonLayout

from .prepare_ntu import add_options


def split_table(store: SkeletonStore, splits: list[str]) -> str:
    """Sequences and classes of each split, as text."""
    lines = [f"{'split':<28}{'sequences':>10}{'classes':>9}{'largest':>9}{'smallest':>9}"]
    for split in splits:
        sizes = Counter(store.labels[store.columns[f"in {split}"] == 1].tolist()).values()
        largest, smallest = max(sizes, default=0), min(sizes, default=0)
        lines.append(f"{split:<28}{sum(sizes):>10}{len(sizes):>9}{largest:>9}{smallest:>9}")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Runs one command line; returns the exit code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("annotations", type=Path, metavar="ANNOTATIONS.pkl")
    options.add_argument("--out", type=Path, required=True, help="folder of the store")
    options.add_argument("--layout", help=f"{', '.join(LAYOUTS)} or a YAML file; by default by the number of joints")
    options.add_argument("--raw_folder", type=Path, help="folder of raw files; by default the pickle's")
    options.add_argument("--classes", type=Path, metavar="FILE", help="class names, one a line, in the labels' order")
    options.add_argument("--box_thr", type=float, default=0.0, help="leave out boxes with a lower score (0 .. 1)")
    few = "leave out training sequences with boxes in a smaller share of the frames (0 .. 1)"
    options.add_argument("--valid_ratio", type=float, default=0.0, help=few)
    order = "published: all boxes outside training, the first two of a frame; best: those with the largest scores"
    options.add_argument("--boxes", choices=["best", "published"], default="best", help=order)
    options.add_argument("--img_shape", type=int, nargs=2, metavar=("H", "W"), help="of annotations that have none")
    add_options(options)
    return run_command(run, options, words)


def run(arguments: argparse.Namespace) -> None:
    """Reads the pickle, prepares the store, prints the report and the splits."""
    if not 0 <= arguments.box_thr <= 1 or not 0 <= arguments.valid_ratio <= 1:
        raise DataError("--box_thr and --valid_ratio must be shares in 0 .. 1")
    layout = None if arguments.layout is None else SkeletonLayout.get(read_layout(arguments.layout, "--layout"))
    img_shape = tuple(arguments.img_shape) if arguments.img_shape else None
    folder = str(arguments.raw_folder or arguments.annotations.parent)
    recipe = Recipe(layout, arguments.box_thr, arguments.valid_ratio, img_shape, folder, arguments.boxes)
    names = read_class_names(arguments.classes) if arguments.classes else None
    poses = read_poses(arguments.annotations, recipe, names)
    fingerprint = fingerprint_files([arguments.annotations], recipe, names)
    store, report = prepare(
        arguments.out, arguments.annotations.stem, poses.poses, read_pose, {}, arguments.jobs, arguments.strict,
        arguments.overwrite, fingerprint, **poses.meta(),
    )  # fmt: skip
    say(f"{arguments.out}\n{report_table(report)}\n{split_table(store, poses.splits)}")


if __name__ == "__main__":
    sys.exit(main())
