"""Tables of methods over seeds, as Markdown, LaTeX or CSV, and a plot of their accuracy by class.

Shapes: S seeds, K classes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from tabulate import tabulate

from ..host import plain, spreadsheet_text
from ..scores import ScoreFile
from .runs import Experiment, Run
from .statistics import Difference, Repeats, Summary, class_weights, compare, holm, summarise, top1_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # its import takes time, which only plots need

METRICS = {
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
SUMMARY = ("mean", "sd", "low", "high")
DIFFERENCE = {
    "points": "value", "low_points": "low", "high_points": "high", "p": "p", "p_holm": "p_holm", "seeds": "seeds",
    "verdict": "verdict",
}  # fmt: skip
Cells = list[list[str]]
Repeat = tuple[str, str, int]  # method, baseline, seed


@dataclass(frozen=True)
class Row:
    """A method: summaries by metric, and differences from the baseline by metric.

    A summary is None where the metric is not known; a difference where the baseline has no seed in common.
    """

    method: str
    runs: Sequence[Run]
    summaries: Mapping[str, Summary | None]
    differences: Mapping[str, Difference | None]


@dataclass(frozen=True)
class Comparison:
    """Methods side by side, each with its difference from the ``baseline`` in the metrics ``compared``."""

    experiment: Experiment
    baseline: str | None
    compared: Sequence[str]
    rows: Sequence[Row]

    def text(self, style: str, by_class: bool) -> str:
        """The table of methods; with ``by_class`` that of classes below it, or as CSV in its place.

        Raises:
            ValueError: classes are wanted, but their training counts are not known.
        """
        samples = self.experiment.samples
        if by_class and samples.class_counts is None:
            raise ValueError(f"{samples.source} has no training counts to group by; train this run again")
        if style == "csv":
            content = io.StringIO()
            cells = self._class_table(as_csv=True) if by_class else self._method_csv()
            csv.writer(content, lineterminator="\n").writerows(
                [spreadsheet_text(cell) for cell in line] for line in cells
            )
            return content.getvalue()
        heading = plain(self.heading())  # one line, so that all of it is a comment in LaTeX
        text = f"% {heading}\n" if style == "latex" else f"{heading}\n"
        tables = [self.cells(), self._class_table(as_csv=False)] if by_class else [self.cells()]
        for cells in tables:
            text += f"\n{as_table(cells, style)}\n"
        return text.replace("±", r"$\pm$") if style == "latex" else text

    def plot(self, kind: str) -> bytes:
        """Accuracy against training samples, a line for each method, with the standard deviation over its seeds.

        Classes with the same training count are one point, their mean. Those without training samples have no place on
        the logarithmic axis, and are left out.

        Args:
            kind: png, svg or pdf.
        """
        from matplotlib.figure import Figure

        counts = np.array(self.experiment.samples.class_counts)
        figure = Figure(figsize=(9, 4.5), layout="constrained")
        axes = figure.add_subplot()
        for row in self.rows:
            accuracy = np.array([run.metrics["per_class"] for run in row.runs], dtype=float)  # (S, K), NaN: unknown
            known = ~np.isnan(accuracy).any(0) & (counts > 0)
            places = np.unique(counts[known])
            points = [summarise(accuracy[:, known & (counts == place)].mean(1).tolist()) for place in places]
            means, deviations = [100 * point.mean for point in points], [100 * (point.sd or 0) for point in points]
            label = f"{plot_text(row.method)} ({len(row.runs)} seed{'s' if len(row.runs) > 1 else ''})"
            axes.errorbar(places, means, deviations, marker="o", markersize=4, capsize=3, label=label)
        axes.set(xscale="log", xlabel="training samples of the class", ylabel="accuracy (%)")
        axes.xaxis.set_major_formatter("{x:g}")
        title = f"{SPLITS[self.experiment.split]} split, mean ± standard deviation over seeds; {self.experiment.epoch}"
        axes.set_title(title, fontsize="medium")
        axes.grid(alpha=0.3)
        figure.legend(loc="outside right upper", fontsize="small")
        return as_file(figure, kind)

    def heading(self) -> str:
        samples = self.experiment.samples
        text = (
            f"{len(samples.ids)} {SPLITS[self.experiment.split]} samples, {samples.scores.shape[1]} classes; "
            f"{self.experiment.epoch}; in %, mean ± standard deviation over seeds [95 % interval of the mean by "
            f"Student's t, over seeds alone]; {groups_text(samples)}"
        ).removesuffix("; ")
        if self.baseline is not None:
            text += (
                f"; difference from {self.baseline} in points, paired by seed and sample [95 % interval over seeds and "
                "samples, for each comparison alone]; verdict with Holm's correction for all differences of the table"
            )
        return text

    def cells(self) -> Cells:
        """The table of methods, header first; a metric that no method has is left out."""
        metrics = [key for key in METRICS if any(row.summaries[key] is not None for row in self.rows)]
        names = [METRICS[key] for key in metrics] + [f"{METRICS[key]}, difference" for key in self.compared]
        cells = [["method", "seeds", *names]]
        runs = {row.method: len(row.runs) for row in self.rows}
        for row in self.rows:
            texts = [_summary_text(row.summaries[key], with_interval=key != "ece") for key in metrics]
            if row.method == self.baseline:
                texts += ["baseline"] * len(self.compared)
            else:
                most = max(runs[row.method], runs.get(self.baseline or "", 0))
                texts += [difference_text(row.differences[key], most) for key in self.compared]
            cells.append([row.method, str(len(row.runs)), *texts])
        return cells

    def _method_csv(self) -> Cells:
        """The table of methods with a column for each number, unrounded, in percent and points; empty where unknown."""
        header = ["method", "seeds", "figures_of", *(f"{key}_{part}_percent" for key in METRICS for part in SUMMARY)]
        cells = [[*header, *(f"{key}_difference_{name}" for key in self.compared for name in DIFFERENCE)]]
        for row in self.rows:
            numbers = [_number(row.summaries[key], part) for key in METRICS for part in SUMMARY]
            parts = DIFFERENCE.values()
            numbers += [_number(row.differences.get(key), part) for key in self.compared for part in parts]
            cells.append([row.method, str(len(row.runs)), self.experiment.epoch, *numbers])
        return cells

    def _class_table(self, as_csv: bool) -> Cells:
        """The table of classes by falling training count, header first; as CSV with columns for mean and deviation."""
        samples, methods = self.experiment.samples, [row.method for row in self.rows]
        counts = np.array(samples.class_counts)
        parts = [f"{method} {part}_percent" for method in methods for part in SUMMARY[:2]]
        cells = [["class", "training_samples", *parts] if as_csv else ["class", "training samples", *methods]]
        for label in np.argsort(-counts, kind="stable"):
            found = [_summary([run.metrics["per_class"][label] for run in row.runs]) for row in self.rows]
            numbers = [_number(one, part) for one in found for part in SUMMARY[:2]]
            texts = [_summary_text(one, with_interval=False) for one in found]
            cells.append([samples.names[label], str(counts[label]), *(numbers if as_csv else texts)])
        return cells


def compare_methods(experiment: Experiment, baseline: str | None, wanted: Sequence[str] = COMPARED[:2]) -> Comparison:
    """Summaries of all methods, and their differences from the baseline, with Holm's correction over all of them.

    Args:
        baseline: a method, or None: no differences.
        wanted: metrics to take differences of; a group that is not known is left out.

    Raises:
        ValueError: no method has the baseline's name.
    """
    methods, samples = experiment.methods, experiment.samples
    if baseline is not None and baseline not in methods:
        raise ValueError(f"--baseline {baseline}: no such method; there are {', '.join(methods)}")
    compared = [] if baseline is None else known_metrics(samples, wanted)
    pairs = [(name, key) for name in methods if name != baseline for key in compared]
    repeats = {name: common([experiment], name, baseline or "") for name in methods if baseline is not None}
    known = [pair for pair in pairs if repeats[pair[0]]]
    alone = [differences(experiment, repeats[name], key).mean() for name, key in known]
    found = dict(zip(known, holm(alone), strict=True))
    rows = []
    for name, runs in methods.items():
        summaries = {key: _summary([run.metrics.get(key) for run in runs]) for key in METRICS}
        rows.append(Row(name, runs, summaries, {key: found.get((name, key)) for key in compared}))
    return Comparison(experiment, baseline, compared, rows)


def known_metrics(samples: ScoreFile, wanted: Sequence[str]) -> list[str]:
    """Those of ``wanted`` that these samples have: a group needs training counts, and a sample of its classes."""
    assert samples.labels is not None
    occur = set(samples.labels.tolist())
    groups = [group for group, members in samples.groups.items() if occur & set(members)]
    return [key for key in wanted if key in (*COMPARED[:2], *groups)]


def groups_text(samples: ScoreFile) -> str:
    """What many and few mean; empty where training counts are unknown."""
    return f"many shot: over {samples.many} training samples, few shot: under {samples.few}" if samples.groups else ""


def common(sets: Iterable[Experiment], method: str, baseline: str) -> list[Repeat]:
    """The repeats of a comparison: (method, baseline, seed) for each seed that both have in all sets."""
    places = [one.methods[name] for one in sets for name in (method, baseline)]
    seeds = set.intersection(*({run.seed for run in runs} for runs in places))
    return [(method, baseline, seed) for seed in sorted(seeds)]


def differences(experiment: Experiment, repeats: Sequence[Repeat], metric: str) -> Repeats:
    """How much larger a metric is with a method than with its baseline, in each of one or more repeats."""
    right = {(name, run.seed): run.correct for name, runs in experiment.methods.items() for run in runs}
    ours = np.stack([right[method, seed] for method, _, seed in repeats])
    theirs = np.stack([right[baseline, seed] for _, baseline, seed in repeats])
    labels = experiment.samples.labels
    assert labels is not None
    groups = experiment.samples.groups
    weights = top1_weights(labels) if metric == "top1" else class_weights(labels, groups.get(metric))
    return compare(ours, theirs, labels, weights)


def as_file(figure: Figure, kind: str) -> bytes:
    """A figure as png, svg or pdf."""
    content = io.BytesIO()
    figure.savefig(content, format=kind, dpi=150)
    return content.getvalue()


def plot_text(text: str) -> str:
    """A text as matplotlib shows it as it is: ``$`` does not begin a formula."""
    return plain(text).replace("$", r"\$")


def as_table(cells: Cells, style: str) -> str:
    """Markdown or LaTeX of a header and lines, whatever characters are in the names."""
    lines = [[plain(cell) for cell in line] for line in cells]
    if style == "markdown":
        lines = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    align = ["left", *["right"] * (len(lines[0]) - 1)]
    return tabulate(lines[1:], lines[0], STYLES[style], disable_numparse=True, colalign=align)


def _summary(values: Sequence[float | None]) -> Summary | None:
    known = [value for value in values if value is not None]
    return summarise(known) if known and len(known) == len(values) else None


def _summary_text(summary: Summary | None, with_interval: bool) -> str:
    if summary is None:
        return "-"
    text = f"{100 * summary.mean:.1f}"
    if summary.sd is not None:
        text += f" ± {100 * summary.sd:.1f}"
    if with_interval and summary.low is not None and summary.high is not None:
        text += f" [{100 * summary.low:.1f}, {100 * summary.high:.1f}]"
    return text


def difference_text(found: Difference | None, most_seeds: int) -> str:
    """``+1.2 [+0.3, +2.1] better``; with the number of seeds where a method of the table has more."""
    if found is None:
        return "no seed in common"
    text = f"{interval_text(found)} {found.verdict}"
    return text if found.seeds in (1, most_seeds) else f"{text} ({found.seeds} seeds)"


def interval_text(found: Difference) -> str:
    """``+1.2 [+0.3, +2.1]``, in points."""
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _number(found: Summary | Difference | None, part: str) -> str:
    """A part of a summary or difference for CSV: shares in percent or points; empty where it is unknown."""
    value = getattr(found, part, None)
    if value is None:
        return ""
    return repr(100 * value) if isinstance(value, float) and part not in ("p", "p_holm") else str(value)
