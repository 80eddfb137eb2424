"""Tables of finished runs, by method over seeds: ``python -m tools.table work_dir/nw_ucla_lt --baseline cross_entropy``

A method is what lies in one folder, with a folder ``seed_<N>`` for each seed. Figures are those of the last epoch, from
the runs' scores_test.npz, as mean, standard deviation and 95 % interval over the seeds.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tabulate import tabulate

from feeders.files import write_atomically
from processor.scores import ScoreFile
from processor.study.runs import Run, by_method, find_runs, read_runs
from processor.study.statistics import Difference, Summary, class_weights, compare, summarise, top1_weights

FIGURES = {
    "top1": "overall (top-1)",
    "mean_class_accuracy": "mean class (balanced accuracy)",
    "many": "many shot",
    "medium": "medium shot",
    "few": "few shot",
    "ece": "ECE",
}
COMPARED = ("top1", "mean_class_accuracy", "many", "medium", "few")
STYLES = {"markdown": "github", "latex": "latex_booktabs"}
SPLITS = {"test": "test", "val": "validation"}
PLOTS = (".png", ".svg", ".pdf")
BEST_TEST_EPOCH = "best_test_epoch (published protocol)"
Cells = list[list[str]]


@dataclass(frozen=True)
class Row:
    """A method in the table: summaries by figure, and differences from the baseline by figure.

    A summary is None where the figure is not known; a difference where there is no baseline or no seed in common.
    """

    method: str
    runs: Sequence[Run]
    summaries: Mapping[str, Summary | None]
    differences: Mapping[str, Difference | None]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(description="Tables of finished runs, by method over seeds.")
    options.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="a run's folder, or one in which runs lie at any depth"
    )
    options.add_argument("--baseline", metavar="NAME", help="add each method's difference from this one, and a verdict")
    options.add_argument(
        "--compare", nargs="+", choices=COMPARED, default=COMPARED[:2], help="the figures whose difference is wanted"
    )
    options.add_argument("--format", choices=["markdown", "csv", "latex"], default="markdown")
    options.add_argument("--out", type=Path, metavar="FILE", help="write the table there instead of printing it")
    options.add_argument(
        "--split",
        choices=["test", "val"],
        default="test",
        help="val: the validation split, on which to choose a recipe without looking at the test",
    )
    options.add_argument(
        "--best-test-epoch",
        action="store_true",
        help="figures of the epoch with the best top-1 on the test set, as published tables have them",
    )
    options.add_argument(
        "--group-by", choices=["count"], help="add a table of classes, by training samples; as CSV instead"
    )
    options.add_argument("--plot", type=Path, metavar="FILE", help="with --group-by: draw it, as .png, .svg or .pdf")
    options.add_argument(
        "--bootstrap", type=int, default=2000, metavar="R", help="replicates for the differences (default 2000)"
    )
    return options


def make_table(arguments: argparse.Namespace) -> None:
    """Reads, compares, prints or writes.

    Raises:
        ValueError: something that the user can mend.
    """
    if arguments.baseline is not None and arguments.best_test_epoch:
        raise ValueError("--baseline needs the scores of each sample, which runs keep of the last epoch alone; leave "
                         "--best-test-epoch or --baseline out")  # fmt: skip
    if arguments.plot is not None and arguments.group_by is None:
        raise ValueError("--plot draws the table of classes; add --group-by count")
    if arguments.plot is not None and arguments.plot.suffix not in PLOTS:
        raise ValueError(f"--plot {arguments.plot}: give a file that ends in {', '.join(PLOTS)}")
    split = arguments.split
    if split == "val" and arguments.best_test_epoch:
        raise ValueError("--best-test-epoch is of the test split; leave it or --split val out")
    scored, lacking = find_runs(arguments.runs, split)
    if lacking:
        names = ", ".join(map(str, lacking))
        print(f"left out, without scores_{split}.npz (unfinished, or save_score is false): {names}", file=sys.stderr)
    runs, test = read_runs(scored, arguments.best_test_epoch, split)
    methods = by_method(runs)
    groups = [group for group, members in test.groups.items() if members]
    compared = [key for key in arguments.compare if key in (*COMPARED[:2], *groups)] if arguments.baseline else []
    rows = compare_methods(methods, test, arguments.baseline, compared, arguments.bootstrap)
    epoch = BEST_TEST_EPOCH if arguments.best_test_epoch else "last epoch"
    as_csv = arguments.format == "csv"
    tables = [method_csv(rows, epoch, compared) if as_csv else method_cells(rows, arguments.baseline, compared)]
    if arguments.group_by is not None:
        if test.class_counts is None:
            raise ValueError(f"{test.source} has no training counts to group by; train this run anew")
        classes = class_cells(methods, test, as_csv)
        tables = [classes] if as_csv else [*tables, classes]  # a CSV file is one table
    if as_csv:
        text = render_csv(tables[0])
    else:
        heading = describe(test, SPLITS[split], epoch, arguments.baseline, arguments.bootstrap)
        text = render(heading, tables, arguments.format)
    if arguments.plot is not None:
        write_file(arguments.plot, draw(methods, test, SPLITS[split], epoch, arguments.plot.suffix[1:]))
    if arguments.out is not None:
        write_file(arguments.out, text.encode())
    else:
        print(text, end="")


def write_file(path: Path, content: bytes) -> None:
    """Writes a file, in a folder that need not be there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)


# --- figures ---------------------------------------------------------------------------------------------------------


def compare_methods(
    methods: Mapping[str, Sequence[Run]],
    test: ScoreFile,
    baseline: str | None,
    compared: Sequence[str],
    replicates: int,
) -> list[Row]:
    """The rows of the table.

    Raises:
        ValueError: no method has the baseline's name.
    """
    if baseline is not None and baseline not in methods:
        raise ValueError(f"--baseline {baseline}: no such method; there are {', '.join(methods)}")
    rows = []
    for name, runs in methods.items():
        summaries = {key: _summary([run.figures.get(key) for run in runs]) for key in FIGURES}
        differences: dict[str, Difference | None] = {}
        if baseline is not None and name != baseline:
            differences = {key: difference(runs, methods[baseline], test, key, replicates) for key in compared}
        rows.append(Row(name, runs, summaries, differences))
    return rows


def difference(
    runs: Sequence[Run], baseline: Sequence[Run], test: ScoreFile, figure: str, replicates: int
) -> Difference | None:
    """How much better a method is than the baseline, over the seeds that both have; None where there are none."""
    pairs = [(run.correct, base.correct) for run in runs for base in baseline if run.seed == base.seed]
    if not pairs:
        return None
    assert test.labels is not None
    ours, theirs = map(np.stack, zip(*pairs, strict=True))
    weights = top1_weights(test.labels) if figure == "top1" else class_weights(test.labels, test.groups.get(figure))
    return compare(ours, theirs, test.labels, weights, replicates)


def _summary(values: Sequence[float | None]) -> Summary | None:
    known = [value for value in values if value is not None]
    return summarise(known) if known and len(known) == len(values) else None


def _by_falling_count(test: ScoreFile) -> list[int]:
    assert test.class_counts is not None
    return sorted(range(len(test.class_counts)), key=[-count for count in test.class_counts].__getitem__)


def _class_summary(runs: Sequence[Run], label: int) -> Summary | None:
    return _summary([run.figures["per_class"][label] for run in runs])


# --- text ------------------------------------------------------------------------------------------------------------


def describe(test: ScoreFile, split: str, epoch: str, baseline: str | None, replicates: int) -> str:
    """The line above the table."""
    text = (
        f"{len(test.ids)} {split} samples, {test.scores.shape[1]} classes; {epoch}; in %, mean ± standard deviation "
        "over seeds [95 % interval of the mean by Student's t]"
    )
    if baseline is not None:
        text += (
            f"; difference from {baseline} in points, paired by seed and sample [95 % interval, bootstrap of "
            f"{replicates} over seeds and samples, not corrected for the number of comparisons]"
        )
    return text


def method_cells(rows: Sequence[Row], baseline: str | None, compared: Sequence[str]) -> Cells:
    """The table of methods as text, header first; a figure that no method has is left out."""
    figures = [key for key in FIGURES if any(row.summaries[key] is not None for row in rows)]
    names = [FIGURES[key] for key in figures] + [f"{FIGURES[key]}, difference" for key in compared]
    cells = [["method", "seeds", *names]]
    seeds_of_baseline = max([len(row.runs) for row in rows if row.method == baseline], default=0)
    for row in rows:
        most = max(len(row.runs), seeds_of_baseline)
        line = [row.method, str(len(row.runs))]
        line += [_figure_text(row.summaries[key], with_interval=key != "ece") for key in figures]
        for key in compared:
            line.append("baseline" if row.method == baseline else _difference_text(row.differences[key], most))
        cells.append(line)
    return cells


def _figure_text(summary: Summary | None, with_interval: bool) -> str:
    if summary is None:
        return "-"
    text = f"{100 * summary.mean:.1f}"
    if summary.sd is not None:
        text += f" ± {100 * summary.sd:.1f}"
    if with_interval and summary.low is not None and summary.high is not None:
        text += f" [{100 * summary.low:.1f}, {100 * summary.high:.1f}]"
    return text


def _difference_text(found: Difference | None, most_seeds: int) -> str:
    if found is None:
        return "no seed in common"
    text = f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}] {found.verdict}"
    if found.seeds == 2:
        return f"{text} (2 seeds: too few for 95 %)"
    return text if found.seeds in (1, most_seeds) else f"{text} ({found.seeds} seeds)"


def class_cells(methods: Mapping[str, Sequence[Run]], test: ScoreFile, as_csv: bool) -> Cells:
    """The table of classes, header first, by falling training counts; in a CSV mean and deviation are two columns."""
    assert test.class_counts is not None
    if as_csv:
        cells = [["class", "training_samples"]]
        cells[0] += [f"{name} {part}_percent" for name in methods for part in ("mean", "sd")]
    else:
        cells = [["class", "training samples", *methods]]
    for label in _by_falling_count(test):
        line = [test.names[label], str(test.class_counts[label])]
        for runs in methods.values():
            summary = _class_summary(runs, label)
            line += _numbers(summary)[:2] if as_csv else [_figure_text(summary, with_interval=False)]
        cells.append(line)
    return cells


def method_csv(rows: Sequence[Row], epoch: str, compared: Sequence[str]) -> Cells:
    """The table of methods with a column for each number, unrounded, in percent and points; empty where unknown."""
    header = ["method", "seeds", "figures_of"]
    header += [f"{key}_{part}_percent" for key in FIGURES for part in ("mean", "sd", "low", "high")]
    for key in compared:
        header += [f"{key}_difference_{part}" for part in ("points", "low_points", "high_points", "seeds", "verdict")]
    cells = [header]
    for row in rows:
        line = [row.method, str(len(row.runs)), epoch]
        for key in FIGURES:
            line += _numbers(row.summaries[key])
        for key in compared:
            found = row.differences.get(key)
            if found is None:
                line += [""] * 5
            else:
                line += [repr(100 * value) for value in (found.value, found.low, found.high)]
                line += [str(found.seeds), found.verdict]
        cells.append(line)
    return cells


def _numbers(summary: Summary | None) -> list[str]:
    """Mean, deviation, low and high in percent."""
    values = [None] * 4 if summary is None else [summary.mean, summary.sd, summary.low, summary.high]
    return ["" if value is None else repr(100 * value) for value in values]


def render_csv(cells: Cells) -> str:
    """A table as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(cells)
    return text.getvalue()


def render(heading: str, tables: Sequence[Cells], style: str) -> str:
    """Tables under a heading, as Markdown or LaTeX (booktabs; the heading is a comment)."""
    parts = [f"% {heading}" if style == "latex" else heading]
    for header, *lines in tables:
        if style == "markdown":
            header, *lines = ([cell.replace("|", r"\|") for cell in line] for line in (header, *lines))
        align = ["left", *["right"] * (len(header) - 1)]
        parts.append(tabulate(lines, header, STYLES[style], disable_numparse=True, colalign=align))
    text = "\n\n".join(parts) + "\n"
    return text.replace("±", r"$\pm$") if style == "latex" else text


def draw(methods: Mapping[str, Sequence[Run]], test: ScoreFile, split: str, epoch: str, kind: str) -> bytes:
    """A picture of accuracy against training samples, a line a method, with the deviation over its seeds.

    Classes with the same training count are one point, their mean. Those without training samples have no place on the
    logarithmic axis, and are left out.

    Args:
        kind: png, svg or pdf.
    """
    from matplotlib.figure import Figure

    counts = np.array(test.class_counts)
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, runs in methods.items():
        accuracy = np.array([run.figures["per_class"] for run in runs], dtype=float)  # (S, K), NaN where unknown
        known = ~np.isnan(accuracy).any(0) & (counts > 0)
        places = np.unique(counts[known])
        points = [summarise(accuracy[:, known & (counts == place)].mean(1).tolist()) for place in places]
        axes.errorbar(
            places,
            [100 * point.mean for point in points],
            [100 * (point.sd or 0) for point in points],
            marker="o",
            markersize=4,
            capsize=3,
            label=f"{name} ({len(runs)} seed{'s' if len(runs) > 1 else ''})",
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("training samples of the class")
    axes.set_ylabel("accuracy (%)")
    axes.set_title(f"{split} split, mean ± standard deviation over seeds; {epoch}", fontsize="medium")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    content = io.BytesIO()
    figure.savefig(content, format=kind, dpi=150)
    return content.getvalue()


def main(words: list[str] | None = None) -> int:
    """Runs one command line; returns the exit code."""
    arguments = parser().parse_args(words)
    try:
        make_table(arguments)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
