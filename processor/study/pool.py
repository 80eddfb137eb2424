"""Differences of methods over several data sets, as one table."""

from __future__ import annotations

from collections.abc import Sequence

from ..host import plain
from .runs import Experiment
from .statistics import holm, pooled
from .tables import METRICS, as_table, difference, difference_text


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
    alone = []
    for name in names:
        for metric in compared:
            found = [difference(experiment, name, baseline, metric) for experiment in experiments]
            known = [one for one in found if one is not None]
            if len(known) < len(experiments):
                raise ValueError(f"{name} and {baseline} have no seed in common in one of the sets")
            alone.append(pooled(known))
    texts = [difference_text(one, one.seeds) for one in holm(alone)]
    width = len(compared)
    lines = [[name, *texts[place * width : (place + 1) * width]] for place, name in enumerate(names)]
    heading = (
        f"mean over {len(experiments)} data sets of the difference from {baseline} in points, paired by seed and "
        "sample [95 % interval for each comparison alone]; verdict with Holm's correction for all differences shown"
    )
    header = ["method", *(METRICS[metric] for metric in compared)]
    return f"{'% ' if style == 'latex' else ''}{plain(heading)}\n\n{as_table([header, *lines], style)}\n"
