"""Differences over several data sets, as a table and a plot: of methods, and of the parts that methods are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..host import plain
from .runs import Experiment
from .statistics import Difference, Repeats, holm, pooled
from .tables import (
    METRICS,
    as_file,
    as_table,
    common,
    difference_text,
    differences,
    groups_text,
    interval_text,
    known_metrics,
    plot_text,
)

PLUS = "+"  # between the parts of a method's name
Sets = Mapping[str, Experiment]  # the runs of each data set, by its name


@dataclass(frozen=True)
class Pooled:
    """Mean differences over data sets, each with the same weight.

    Attributes:
        kind: what a row is: ``method`` or ``part``.
        repeat: what is repeated, in the plural.
        of_what: the difference, in words.
        sets: names of the data sets -> what many and few mean there.
        compared: metrics, see ``tables.COMPARED``.
        of_sets: row -> for each metric the difference on each set.
        over_sets: row -> for each metric the mean difference, with Holm's correction for all of them.
    """

    kind: str
    repeat: str
    of_what: str
    sets: Mapping[str, str]
    compared: Sequence[str]
    of_sets: Mapping[str, Sequence[Sequence[Difference]]]
    over_sets: Mapping[str, Sequence[Difference]]

    def text(self, style: str) -> str:
        """The mean differences as a table in Markdown or LaTeX, and below it those on each set."""
        most = max(one.seeds for row in self.over_sets.values() for one in row)
        lines = [[name, *(difference_text(one, most) for one in row)] for name, row in self.over_sets.items()]
        heading = (
            f"mean over {len(self.sets)} data sets and {most} {self.repeat} of {self.of_what} in points, paired by "
            "seed and sample [95 % interval for each comparison alone, about these sets]; verdict with Holm's "
            "correction for all mean differences"
        )
        heading += "".join(f"; {place}: {text}" for place, text in self.sets.items() if text)
        if self.kind == "part":
            heading += "; where an effect varies with the seed, intervals are too narrow"
        header = [self.kind, *(METRICS[metric] for metric in self.compared)]
        on_each = [
            [name, place, *(interval_text(one[number]) for one in self.of_sets[name])]
            for name in self.of_sets
            for number, place in enumerate(self.sets)
        ]
        tables = (
            (heading, as_table([header, *lines], style)),
            ("on each set, without a verdict", as_table([[self.kind, "data set", *header[1:]], *on_each], style)),
        )
        return "\n".join(f"{'% ' if style == 'latex' else ''}{plain(text)}\n\n{table}\n" for text, table in tables)

    def plot(self, kind: str) -> bytes:
        """The differences on each set and over all sets with their 95 % intervals, a panel for each metric.

        Args:
            kind: png, svg or pdf.
        """
        from matplotlib.figure import Figure

        rows, columns = len(self.over_sets), len(self.compared)
        figure = Figure(figsize=(2.2 + 2.9 * columns, 1.4 + 0.35 * rows * (len(self.sets) + 1)), layout="constrained")
        panels = figure.subplots(1, columns, sharey=True, squeeze=False)[0]
        step = 0.8 / (len(self.sets) + 1)  # of 1, the height of a row
        for column, (axes, metric) in enumerate(zip(panels, self.compared, strict=True)):
            found = [
                (*self.of_sets[name][column], self.over_sets[name][column])  # the sets, and last their mean
                for name in self.over_sets
            ]
            for place, label in enumerate([*self.sets, "all sets"]):
                points = [row[place] for row in found]
                half = [100 * (one.high - one.value) for one in points]
                heights = [row - 0.4 + (place + 0.5) * step for row in range(rows)]
                of_all = {"fmt": "D", "color": "black", "markersize": 5, "linewidth": 2.2}
                of_one = {"fmt": "o", "color": f"C{place}", "markersize": 3.5, "linewidth": 1.1}
                look = of_one if place < len(self.sets) else of_all
                axes.errorbar([100 * one.value for one in points], heights, xerr=half, label=plot_text(label), **look)
            for row in range(0, rows, 2):
                axes.axhspan(row - 0.5, row + 0.5, color="black", alpha=0.04, linewidth=0)
            axes.axvline(0, color="grey", linewidth=0.8)
            axes.set_title(METRICS[metric], fontsize="medium")
            axes.set_xlabel("difference in points")
            axes.grid(axis="x", alpha=0.3)
        panels[0].set_yticks(range(rows), [plot_text(name) for name in self.over_sets])
        panels[0].set_ylim(rows - 0.5, -0.5)
        title = f"{self.of_what}; 95 % intervals, for each comparison alone"
        figure.suptitle(plot_text(title[0].upper() + title[1:]), fontsize="medium")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(self.sets) + 1,
                      fontsize="small")  # fmt: skip
        return as_file(figure, kind)


def pooled_methods(sets: Sets, baseline: str, compared: Sequence[str]) -> Pooled:
    """The mean difference of each method from the baseline over the data sets.

    A method has to be in all of them; a metric, such as a group's accuracy, too. Seeds that a set lacks do not count.

    Args:
        sets: the runs of each data set.
        baseline: a method in all of them.
        compared: metrics, see ``tables.COMPARED``.

    Raises:
        ValueError: the baseline is not in all sets, no other method is, a method has no seed in common with it, or a
            set has no sample of a group.
    """
    shared = _shared(sets)
    if baseline not in shared:
        raise ValueError(f"--baseline {baseline} is not in all sets; in all are {', '.join(sorted(shared)) or 'none'}")
    names = [name for name in shared if name != baseline]
    if not names:
        raise ValueError(f"no method but {baseline} is in all sets; give the same folders of methods to each")
    pairs = {name: [(name, baseline)] for name in names}
    return _pooled("method", "seeds", f"the difference from {baseline}", sets, pairs, compared)


def pooled_effects(sets: Sets, compared: Sequence[str]) -> Pooled:
    """What each part of the methods changes, where all their combinations were run (a factorial design).

    A method ``a+b`` has the parts a and b. The effect of a part is the mean difference between methods with it and the
    same methods without it, over all of these, all seeds and all sets; each set has the same weight. Each such pair of
    runs counts as one repeat, so the variance holds how much the effect differs with the other parts. How much it
    differs with the seed is taken to be little beside the noise of single runs: else intervals are too narrow.

    Args:
        sets: the runs of each data set.
        compared: metrics, see ``tables.COMPARED``.

    Raises:
        ValueError: no method differs from another by one part alone, in all sets; two have the same parts; or a set
            has no sample of a group.
    """
    shared = _shared(sets)
    by_parts: dict[frozenset[str], str] = {}
    for name in shared:
        if (same := by_parts.setdefault(frozenset(name.split(PLUS)), name)) != name:
            raise ValueError(f"{same} and {name} are made of the same parts; leave one out by --methods")
    effects: dict[str, list[tuple[str, str]]] = {}
    for parts, name in by_parts.items():
        for part in name.split(PLUS):
            if other := by_parts.get(parts - {part}):
                effects.setdefault(part, []).append((name, other))
    if not effects:
        raise ValueError(f"--effects compares methods such as a{PLUS}b and a; there are {', '.join(sorted(shared))}")
    of_what = "the difference between methods with a part and without it"
    return _pooled("part", "pairs of runs", of_what, sets, effects, compared)


def _shared(sets: Sets) -> list[str]:
    """Methods that are in all sets, in the order of the first set."""
    first, *others = sets.values()
    return [name for name in first.methods if all(name in other.methods for other in others)]


def _pooled(
    kind: str, repeat: str, of_what: str, sets: Sets, rows: Mapping[str, Sequence[tuple[str, str]]],
    compared: Sequence[str],
) -> Pooled:  # fmt: skip
    """A row for the pairs of methods of each name."""
    for place, experiment in sets.items():
        known = known_metrics(experiment.samples, compared)
        if lacking := [metric for metric in compared if metric not in known]:
            raise ValueError(f"{place} has no classes of {' and '.join(lacking)}; leave out one of them")
    found: dict[str, list[list[Repeats]]] = {}
    for name, pairs in rows.items():
        by_pair = [common(sets.values(), *pair) for pair in pairs]
        if not all(by_pair):
            raise ValueError(f"{name}: two runs to compare have no seed in common that is in all sets")
        repeats = [one for few in by_pair for one in few]
        found[name] = [[differences(one, repeats, metric) for one in sets.values()] for metric in compared]
    corrected = iter(holm([pooled(each) for row in found.values() for each in row]))
    over_sets = {name: [next(corrected) for _ in row] for name, row in found.items()}
    of_sets = {name: [[one.mean() for one in each] for each in row] for name, row in found.items()}
    groups = {place: groups_text(one.samples) for place, one in sets.items()}
    return Pooled(kind, repeat, of_what, groups, compared, of_sets, over_sets)
