"""Pictures to check by eye: ``python -m tools.show --layout utd20`` or ``python -m tools.show data/mine``

Shows the joints of a layout, with numbers and names, in the colours of its parts: as the names have it, or on a person
of a store. ``--id`` shows frames of these sequences instead. Where a line crosses the body, the order of the joints is
wrong: try another ``--layout`` over the same store.
"""

from __future__ import annotations

import argparse
import logging
import sys
from functools import partial
from pathlib import Path

from feeders.anatomy import order_problem
from feeders.files import write_atomically
from feeders.store import DataError, SkeletonStore
from processor.command_line import run_command
from processor.config_files import read_layout
from processor.study.layout_picture import frames_picture, layout_picture, png
from shapmix import LAYOUTS, SkeletonLayout

SAMPLES = 32  # sequences by which the order of the joints is judged


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(description="Draws a skeleton layout, or sequences of a store, to check by eye.")
    options.add_argument("data", type=Path, nargs="?", metavar="DATA", help="a store, as tools.convert writes it")
    options.add_argument("--layout", help=f"{', '.join(LAYOUTS)} or a YAML file; by default that of the store")
    options.add_argument("--id", nargs="+", default=[], metavar="NAME", help="show frames of these sequences")
    options.add_argument("--out", type=Path, metavar="FILE", help="the PNG to write; by default <layout or store>.png")
    return options


def show(arguments: argparse.Namespace) -> None:
    """Writes the picture."""
    named = read_layout(arguments.layout, "--layout")
    log = logging.getLogger(__name__)
    if arguments.data is None:
        if named is None or arguments.id:
            raise DataError("name a store, or --layout alone: python -m tools.show --layout ntu25")
        layout = SkeletonLayout.get(named)
        out, figure = arguments.out or Path(f"{layout.name}.png"), layout_picture(layout)
    else:
        store = SkeletonStore(arguments.data)
        if named is None and "layout" not in store.meta:
            raise DataError(f"{arguments.data} does not name the layout of its joints; give --layout")
        layout, dims = SkeletonLayout.get(named or store.meta["layout"]), dims_of(store)
        rows = [row_of(store, name) for name in arguments.id] or range(0, len(store), max(1, len(store) // SAMPLES))
        samples = {str(store.ids[row]): store.sequence(row) for row in rows if store.lengths[row]}
        out = arguments.out or Path(f"{arguments.data.resolve().name}.png")
        if arguments.id:
            figure = frames_picture(layout, samples, dims)
        else:
            figure = layout_picture(layout, next(iter(samples.values()), None), dims)
        if problem := order_problem(list(samples.values()), layout, dims):
            log.warning("%s", problem)
    write_atomically(out, png(figure))
    log.info("%s: %s, %d joints, parts %s", out, layout.name, layout.num_joints, ", ".join(layout.part_names))


def dims_of(store: SkeletonStore) -> int:
    """2 or 3 coordinates: as the store says, else 2 where it has sizes of images."""
    return int(store.meta.get("dims", 2 if "height" in store.columns else 3))


def row_of(store: SkeletonStore, name: str) -> int:
    """The row of a sequence; DataError where there is none of this name."""
    if name not in store.ids:
        some = ", ".join(map(str, store.ids[:5]))
        raise DataError(f"{store.path} has no sequence {name!r}; there are {len(store)}: {some}, ...")
    return list(store.ids).index(name)


main = partial(run_command, show, parser())

if __name__ == "__main__":
    sys.exit(main())
