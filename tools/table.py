"""Tables of finished runs, by method over seeds: ``python -m tools.table work_dir/nw_ucla_lt --baseline cross_entropy``

A method is what lies in one folder, with a folder ``seed_<N>`` for each seed. Metrics are those of the last epoch, from
the runs' scores_test.npz, as mean, standard deviation and 95 % interval over the seeds.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from feeders.files import write_atomically
from processor.command_line import run_command
from processor.host import say
from processor.run_folder import RunFolder
from processor.study.archive import write_archive
from processor.study.pool import Pooled, pooled_effects, pooled_methods
from processor.study.runs import read_experiment, read_sets
from processor.study.tables import COMPARED, Comparison, compare_methods

PLOTS = (".png", ".svg", ".pdf")
Shown = tuple[str, Comparison | Pooled, dict[str, RunFolder]]  # the text; what it shows; its runs, by their names


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(description="Tables of finished runs, by method over seeds.")
    add = options.add_argument
    runs = "a run's folder, or a folder or .zip archive in which runs lie at any depth; also a folder in an archive"
    add("runs", nargs="+", type=Path, metavar="RUN", help=runs)
    add("--methods", nargs="+", metavar="NAME", help="these methods alone; verdicts are corrected for them alone")
    add("--baseline", metavar="NAME", help="add each method's difference from this one, and a verdict")
    add("--compare", nargs="+", choices=COMPARED, default=COMPARED[:2], help="the metrics whose difference is wanted")
    add("--format", choices=["markdown", "csv", "latex"], default="markdown")
    add("--out", type=Path, metavar="FILE", help="write the table there instead of printing it")
    add("--archive", type=Path, metavar="FILE", help="also keep what the table is made from, as a small .zip")
    add("--split", choices=["test", "val"], default="test", help="val: the validation split, to choose a recipe on")
    best = "metrics of the epoch with the best test top-1, as often published"
    add("--best-test-epoch", action="store_true", help=best)
    add("--group-by", choices=["count"], help="add a table of classes by training samples (CSV: only it)")
    plot = "with --group-by, --pool or --effects: plot that, as .png, .svg or .pdf"
    add("--plot", type=Path, metavar="FILE", help=plot)
    add("--pool", action="store_true", help="each RUN is a data set: mean differences from --baseline over all of them")
    parts = "each RUN is a data set: what each part of methods such as a+b changes, where combinations were run"
    add("--effects", action="store_true", help=parts)
    return options


def table(arguments: argparse.Namespace) -> None:
    """Reads, compares, prints or writes."""
    if arguments.baseline is not None and arguments.best_test_epoch:
        kept = "the scores of each sample, which runs keep of the last epoch alone"
        raise ValueError(f"--baseline needs {kept}; leave --best-test-epoch or --baseline out")
    if arguments.plot is not None and not (arguments.group_by or arguments.pool or arguments.effects):
        raise ValueError("--plot shows classes or data sets; add --group-by count, --pool or --effects")
    if arguments.plot is not None and arguments.plot.suffix not in PLOTS:
        raise ValueError(f"--plot {arguments.plot}: give a file that ends in {', '.join(PLOTS)}")
    if arguments.best_test_epoch and (arguments.split == "val" or arguments.effects):
        raise ValueError("--best-test-epoch is of the test split, without differences; leave out the other")
    text, shown, files = _pooled(arguments) if arguments.pool or arguments.effects else _one_set(arguments)
    if arguments.plot is not None:
        write_atomically(arguments.plot, shown.plot(arguments.plot.suffix[1:]))
    if arguments.archive is not None:
        write_archive(arguments.archive, files, arguments.split)
    if arguments.out is None:
        say(text.removesuffix("\n"))
    else:
        write_atomically(arguments.out, text.encode())


def _pooled(arguments: argparse.Namespace) -> Shown:
    if arguments.effects == (arguments.baseline is not None) or arguments.effects == arguments.pool:
        raise ValueError("--pool needs --baseline, and --effects is without one; give one of the two")
    if arguments.format == "csv" or arguments.group_by is not None:
        raise ValueError("--pool and --effects print Markdown or LaTeX, without --group-by")
    sets = {name: one.only(arguments.methods) for name, one in read_sets(arguments.runs, arguments.split).items()}
    print(*(one.left_out_text() for one in sets.values()), sep="", end="", file=sys.stderr)
    if arguments.effects:
        found = pooled_effects(sets, arguments.compare)
    else:
        found = pooled_methods(sets, arguments.baseline, arguments.compare)
    files = {f"{name}/{place}": run for name, one in sets.items() for place, run in one.files().items()}
    return found.text(arguments.format), found, files


def _one_set(arguments: argparse.Namespace) -> Shown:
    experiment = read_experiment(arguments.runs, arguments.split, arguments.best_test_epoch).only(arguments.methods)
    print(experiment.left_out_text(), end="", file=sys.stderr)
    comparison = compare_methods(experiment, arguments.baseline, arguments.compare)
    text = comparison.text(arguments.format, by_class=arguments.group_by is not None)
    return text, comparison, experiment.files()


main = partial(run_command, table, parser())

if __name__ == "__main__":
    sys.exit(main())
