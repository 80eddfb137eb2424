"""Your own skeletons -> a store: ``python -m tools.convert FOLDER --out data/mine``

Reads a folder, a zip archive or a file: CSV tables, numpy arrays, JSON of OpenPose, MediaPipe and others, BVH, MATLAB
and plain text; and whole sets: CTR-GCN's .npz and PYSKL's pickles. The label is the folder of a class, a table
labels.csv (id, label, perhaps subject, view, split), or a part of the file's name. Files that cannot be used are left
out; ``report.json`` and a table at the end name them. After a stop the same command continues where it was.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tabulate import tabulate

from feeders.convert.forms import FORMS
from feeders.convert.names import layout_text
from feeders.convert.prepare import prepare, report_table
from feeders.convert.sequences import Conversion
from feeders.convert.summary import summary
from feeders.convert.takes import find_takes
from feeders.convert.understand import UnknownSkeleton, Wishes, understand
from feeders.convert.whole_sets import find_whole_set, open_whole_set
from feeders.files import write_atomically
from feeders.store import DataError
from processor.command_line import run_command
from processor.config_files import read_layout
from processor.host import say
from shapmix.skeleton import SkeletonLayout

from .prepare_ntu import add_options

CHECK = "A draft. Check the parts and the bones; sides are the person's own."


def main(words: list[str] | None = None) -> int:
    """Runs one command line; returns the exit code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("source", type=Path, metavar="IN", help="folder, zip archive or file")
    options.add_argument("--out", type=Path, required=True, help="folder of the store")
    options.add_argument("--layout", help="skeleton: a name or a YAML file; by default found out (tools.show --layout)")
    options.add_argument("--labels", type=Path, help="table of ids and labels; by default labels.csv in the folder")
    options.add_argument("--pattern", help="of the names, such as 'a{label}_s{subject}_t{}'; {} is anything")
    options.add_argument("--classes", type=Path, metavar="FILE", help="class names, one a line, in the labels' order")
    options.add_argument("--axes", help="order of arrays, such as TVC: T frames, M people, V joints, C coordinates")
    options.add_argument("--dims", type=int, choices=[2, 3], help="coordinates, where arrays can be read as both")
    options.add_argument("--people", type=int, help="most people that are kept; by default 2")
    options.add_argument("--img_shape", type=int, nargs=2, metavar=("H", "W"), help="image size of 2D poses")
    missing = "leave out takes with a larger share (0 .. 1) of joints not seen; others are filled; by default 0.5"
    options.add_argument("--max_missing", type=float, default=0.5, help=missing)
    options.add_argument("--min_frames", type=int, default=1, help="leave out takes with fewer frames with people")
    add_options(options)
    return run_command(run, options, words)


def run(arguments: argparse.Namespace) -> None:
    """Finds out what the files are, prepares the store, prints what was understood and what was left out."""
    if not 0 <= arguments.max_missing <= 1 or (arguments.people or 1) < 1 or arguments.min_frames < 1:
        raise DataError("--max_missing must be a share in 0 .. 1, --people and --min_frames at least 1")
    layout = None if arguments.layout is None else SkeletonLayout.get(read_layout(arguments.layout, "--layout"))
    size = tuple(arguments.img_shape) if arguments.img_shape else None
    wishes = Wishes(
        layout, arguments.axes, arguments.dims, arguments.people, size, arguments.max_missing, arguments.min_frames
    )  # fmt: skip
    found = understood(arguments, wishes)
    say(tabulate(found.words.items(), tablefmt="plain"))
    store, report = prepare(
        arguments.out, arguments.out.name, found.items, found.read, found.left_out, arguments.jobs, arguments.strict,
        arguments.overwrite, found.fingerprint, {"understood": found.words}, **found.meta,
    )  # fmt: skip
    say(f"\n{arguments.out}\n{report_table(report)}\n\n{summary(store)}")


def understood(arguments: argparse.Namespace, wishes: Wishes) -> Conversion:
    """What the files are; for a skeleton that is not known, a draft of its layout is written."""
    whole = find_whole_set(arguments.source)
    if whole is not None:
        if useless := [name for name in ("labels", "pattern", "axes", "dims") if getattr(arguments, name)]:
            raise DataError(f"{whole} says its labels and axes itself; leave out --{useless[0]}")
        return open_whole_set(whole, wishes, arguments.classes)
    takes = find_takes(arguments.source, FORMS, arguments.labels, arguments.pattern)
    try:
        return understand(takes, wishes, arguments.jobs, arguments.classes)
    except UnknownSkeleton as error:
        draft = arguments.out.with_name(f"{arguments.out.name}.layout.yaml")
        write_atomically(draft, layout_text(error.draft, CHECK).encode())
        look = f"look at the draft with python -m tools.show --layout {draft}, correct it, and add --layout {draft}"
        raise DataError(f"{error}; {look}") from error


if __name__ == "__main__":
    sys.exit(main())
