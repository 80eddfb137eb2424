"""Several runs on one page: their curves, and a table with intervals as tools.table has it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..study.runs import read_experiment
from ..study.tables import COMPARED, METRICS, Comparison, compare_methods
from .charts import curves_of_runs, groups_of_runs
from .page import Page, Section, Table
from .run_data import RunData

MOST_CURVES = 12  # runs


def comparison_page(paths: Sequence[Path], runs: Sequence[RunData], baseline: str | None = None) -> Page:
    """The page of several runs.

    Args:
        paths: folders in which the runs lie.
        baseline: the method that the others are compared with; by default the first.
    """
    sections = [_table(paths, baseline), _curves(runs)]
    sections += [
        Section(f"run-{place}", run.name, facts=[("folder", run.place)], warnings=run.warnings())
        for place, run in enumerate(runs)
        if run.warnings()
    ]
    return Page(f"{len(runs)} runs", sections)


def _table(paths: Sequence[Path], baseline: str | None) -> Section:
    title = "Which method is better"
    try:
        experiment = read_experiment(paths)
        first = next(iter(experiment.methods))
        comparison = compare_methods(experiment, baseline or first if len(experiment.methods) > 1 else None)
    except ValueError as error:
        return Section("table", title, absent=f"The runs cannot be compared: {error}")
    header, *rows = comparison.cells()
    text = [comparison.heading()] + [f"Left out, without scores: {', '.join(map(str, experiment.left_out))}."] * bool(
        experiment.left_out
    )
    table = Table("Methods", header, rows)
    return Section("table", title, text=text, charts=[groups_of_runs(_summaries(comparison))], tables=[table])


def _summaries(comparison: Comparison) -> dict[str, dict[str, tuple[float, float]]]:
    """Method -> metric -> mean and half of the 95 % interval, in percent; 0 for a single seed."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for row in comparison.rows:
        known = {key: summary for key in COMPARED if (summary := row.summaries[key]) is not None}
        found[row.method] = {
            METRICS[key]: (100 * one.mean, 0.0 if one.high is None else 100 * (one.high - one.mean))
            for key, one in known.items()
        }
    return found


def _curves(runs: Sequence[RunData]) -> Section:
    shown = runs[:MOST_CURVES]
    text = [f"The first {MOST_CURVES} of {len(runs)} runs."] if len(runs) > MOST_CURVES else []
    return Section("curves", "Training", text=text, charts=curves_of_runs(shown))
