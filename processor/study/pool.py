"""Differences over several data sets, as one table: of methods, and of the parts that methods are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..host import plain
from .runs import Experiment
from .statistics import Difference, holm, pooled
from .tables import METRICS, as_table, difference, difference_text

PLUS = "+"  # between the parts of a method's name


def pooled_table(experiments: Sequence[Experiment], baseline: str, compared: Sequence[str], style: str) -> str:
    """The mean difference of each method from the baseline over the data sets, as Markdown or LaTeX.

    Each set has the same weight. A method has to be in all of them; a metric, such as a group's accuracy, too. Verdicts
    are corrected for all differences of the table (Holm).

    Args:
        experiments: the runs of one data set each.
        baseline: a method in all of them.
        compared: metrics, see ``tables.COMPARED``.
        style: ``markdown`` or ``latex``.

    Raises:
        ValueError: the baseline is not in all sets, no other method is, or a method has no seed in common with it.
    """
    shared = set.intersection(*(set(experiment.methods) for experiment in experiments))
    if baseline not in shared:
        raise ValueError(f"--baseline {baseline} is not in all sets; in all are {', '.join(sorted(shared)) or 'none'}")
    names = [name for name in experiments[0].methods if name in shared and name != baseline]
    if not names:
        raise ValueError(f"no method but {baseline} is in all sets; give the same folders of methods to each")
    what = f"mean over {len(experiments)} data sets of the difference from {baseline}"
    return _table(experiments, {name: [(name, baseline)] for name in names}, compared, style, ("method", what))


def effects_table(experiments: Sequence[Experiment], compared: Sequence[str], style: str) -> str:
    """What each part of the methods changes, where all their combinations were run (a factorial design).

    A method ``a+b`` has the parts a and b. The effect of a part is the mean difference between methods with it and the
    same methods without it, over all of these, all seeds and all sets; each set has the same weight. Each such pair of
    runs counts as one repeat, so the variance holds how much the effect differs with the other parts.

    Args:
        experiments: the runs of one data set each.
        compared: metrics, see ``tables.COMPARED``.
        style: ``markdown`` or ``latex``.

    Raises:
        ValueError: no method differs from another by one part alone, in all sets.
    """
    shared = set.intersection(*(set(experiment.methods) for experiment in experiments))
    by_parts = {frozenset(name.split(PLUS)): name for name in experiments[0].methods if name in shared}
    effects: dict[str, list[tuple[str, str]]] = {}
    for parts, name in by_parts.items():
        for part in name.split(PLUS):
            if other := by_parts.get(parts - {part}):
                effects.setdefault(part, []).append((name, other))
    if not effects:
        raise ValueError(f"--effects compares methods such as a{PLUS}b and a; there are {', '.join(sorted(shared))}")
    what = f"mean over {len(experiments)} data sets of the difference between methods with a part and without it"
    return _table(experiments, effects, compared, style, ("part", what))


def _table(
    experiments: Sequence[Experiment],
    rows: Mapping[str, Sequence[tuple[str, str]]],
    compared: Sequence[str],
    style: str,
    said: tuple[str, str],
) -> str:
    """A row for the pairs of methods of each name."""
    alone = []
    for pairs in rows.values():
        for metric in compared:
            found = [difference(experiment, pairs, metric) for experiment in experiments]
            known: list[Difference] = [one for one in found if one is not None]
            if len(known) < len(experiments):
                raise ValueError(f"{' and '.join(pairs[0])} have no seed in common in one of the sets")
            alone.append(pooled(known))
    texts = [difference_text(one, max(one.seeds for one in alone)) for one in holm(alone)]
    width = len(compared)
    lines = [[name, *texts[place * width : (place + 1) * width]] for place, name in enumerate(rows)]
    heading = (
        f"{said[1]} in points, paired by seed and sample [95 % interval for each comparison alone]; verdict with "
        "Holm's correction for all differences shown"
    )
    header = [said[0], *(METRICS[metric] for metric in compared)]
    return f"{'% ' if style == 'latex' else ''}{plain(heading)}\n\n{as_table([header, *lines], style)}\n"
