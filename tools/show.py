"""See skeletons move: ``python -m tools.show data/mine``, or the joints of a layout: ``--layout utd20``

DATA is a store, a run's folder, a config (also of a plug-in), CTR-GCN's .npz, PYSKL's pickle, or a file or folder that
tools.convert reads. Writes a page with players (.html), an animated picture (.gif) or a contact sheet (.png). With
--weights, each body part has the colour of its contribution to the prediction. Where a line crosses the body, the order
of the joints is wrong: try another --layout over the same data.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from feeders.anatomy import order_problem
from feeders.files import write_atomically
from feeders.store import DataError
from processor.command_line import add_plugin, run_command
from processor.config_files import read_layout
from processor.report.predictions import known_ids, predictions
from processor.report.sequences import of_data, of_layout, open_sequences
from processor.report.show import Shown
from processor.run_folder import RunFolder
from shapmix import LAYOUTS, SkeletonLayout

from .saliency import trained

log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("data", type=Path, nargs="?", metavar="DATA", help="by default that of --weights")
    options.add_argument("--id", nargs="+", default=[], metavar="NAME", help="show these sequences")
    options.add_argument("--class", dest="class_name", metavar="NAME", help="show sequences of this class")
    options.add_argument("--number", type=int, default=12, help="most sequences, where none is named; by default 12")
    options.add_argument("--layout", help=f"{', '.join(LAYOUTS)} or a YAML file; by default that of the data")
    options.add_argument("--dims", type=int, choices=[2, 3], help="coordinates, where the data does not say it")
    options.add_argument("--axes", help="order of arrays, such as TVC: T frames, M people, V joints, C coordinates")
    options.add_argument("--weights", type=Path, metavar="RUN", help="a run's folder, or a checkpoint in it")
    options.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    options.add_argument("--out", type=Path, metavar="FILE", help=".html, .gif or .png; by default in work_dir/show")
    add_plugin(options)
    return options


def chosen(arguments: argparse.Namespace) -> Shown:
    """The sequences that a command line names, read."""
    named, place, weights, run = read_layout(arguments.layout, "--layout"), arguments.data, arguments.weights, None
    layout = None if named is None else SkeletonLayout.get(named)
    if arguments.number < 1:
        raise DataError("--number must be at least 1")
    if weights is not None:
        folder, file = (weights, RunFolder("").last.name) if weights.is_dir() else (weights.parent, weights.name)
        run = trained(argparse.Namespace(**{**vars(arguments), "run": folder, "checkpoint": file}))
    if place is not None:
        found = open_sequences(place, layout, arguments.dims, arguments.axes, arguments.plugin)
    elif run is not None:
        found = of_data(run.config, run.data, weights, layout, arguments.dims)
    elif layout is not None and not arguments.id and arguments.class_name is None:
        found = of_layout(layout)
    else:
        raise DataError("name a store or other data, or --layout alone: python -m tools.show --layout ntu25")
    if run is not None and place is not None and not arguments.id:
        found = found.only(set(known_ids(run.data)), weights)
    rows = found.choose(arguments.id, arguments.class_name, arguments.number)
    shown = Shown(found, found.read_all(rows, bool(arguments.id)), bool(arguments.id or arguments.class_name))
    if run is None:
        return shown
    return replace(shown, predictions=predictions(run, shown.ids))


def show(arguments: argparse.Namespace) -> None:
    """Writes the page or picture."""
    shown = chosen(arguments)
    found, layout = shown.sequences, shown.sequences.layout
    out = arguments.out or (Path(f"{layout.name}.png") if found.sketch else Path("work_dir/show", f"{found.name}.html"))
    write_atomically(out, shown.content(out.suffix))
    if not found.sketch and (problem := order_problem(list(shown.frames.values()), layout, found.dims)):
        log.warning("%s", problem)
    log.info("%s: %s, %d joints, parts %s", out, layout.name, layout.num_joints, ", ".join(layout.part_names))


def figure(data: str | Path | None = None, ids: Sequence[str] = (), **options: Any) -> Shown:
    """What the command shows, as a value that a notebook displays; ``class_name="kick"`` and other options by name."""
    arguments = parser().parse_args([] if data is None else [str(data)])
    return chosen(argparse.Namespace(**{**vars(arguments), "id": [*ids], **options}))


main = partial(run_command, show, parser())

if __name__ == "__main__":
    sys.exit(main())
