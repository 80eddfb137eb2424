"""The report of one run or of several, as a page; and the file ``report.html`` in a run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from feeders.files import write_atomically

from ..run_folder import RunFolder
from .explain import Explanation, explain_run, load
from .explained import explained_sections
from .mixing_section import mixing_section
from .open_run import OpenRun
from .page import Page, Section
from .run_data import RunData, read_run
from .sections import sections_of
from .several import comparison_page

SHARE = 0.01  # of the cost of a training
PASSES = 8  # forward passes that a training sample costs: two for each of network, mixed sample and their gradients
MOST = 10  # samples of each class


def run_page(run: RunData, live: OpenRun | None, found: Explanation | None = None, reason: str = "") -> Page:
    """The page of one run.

    Args:
        live: the run with its data and network; None where they cannot be had, for this ``reason``.
        found: explanations of test samples; None where there are none, for this ``reason``.
    """
    player = live.player if live is not None else None
    sections: list[Section] = [*sections_of(run, player, reason), *explained_sections(found, live, reason)]
    sections.append(mixing_section(live, reason))
    return Page(f"{run.name}: report", sections, f"Made by python -m tools.report {run.place}")


def write_report(folder: RunFolder, live: OpenRun | None, samples: int | None = None, reason: str = "") -> Path:
    """Writes report.html into a run's folder.

    Args:
        samples: of each class that are explained; None: as many as cost about 1 % of the run's training.
        reason: why ``live`` is None.
    """
    run, found = read_run(folder.path), None
    if live is not None:
        try:
            found, reason = _explained(folder, live, samples)
        except ValueError as error:
            reason = str(error)
    write_atomically(folder.report, run_page(run, live, found, reason).html().encode())
    return folder.report


def _explained(folder: RunFolder, live: OpenRun, samples: int | None) -> tuple[Explanation | None, str]:
    """What was explained before of these weights, if it is as much, else what is explained now; or why nothing is."""
    if samples is None:
        samples = affordable(live)
    there = max(live.data.loaders["test"].class_counts)
    with suppress(ValueError):
        before = load(folder.explanation, folder.last)
        if np.bincount(before.labels).max() >= min(samples, there):
            return before, ""
    if samples < 1:
        return None, f"so short a run has no time for it; python -m tools.report {folder.path.name} makes it"
    found = explain_run(live.config, live.data, live.network, live.mixer, folder.last, samples)
    found.save(folder.explanation)
    return found, ""


def affordable(live: OpenRun) -> int:
    """Samples of each class whose explanation costs at most ``SHARE`` of the forward passes of the training."""
    config, loader, layout = live.config, live.data.loaders["train"], live.layout
    parts = layout.num_parts if layout is not None else 0
    trained = config.num_epoch * loader.samples_per_epoch * PASSES
    clips = getattr(live.data.feeders["test"], "num_clips", 1)
    return min(MOST, int(SHARE * trained / (2**parts * clips * len(live.data.class_names))))


def write_comparison(paths: Sequence[Path], folders: Sequence[RunFolder], baseline: str | None, out: Path) -> Path:
    """Writes the page of several runs."""
    page = comparison_page(paths, [read_run(folder.path) for folder in folders], baseline)
    write_atomically(out, page.html().encode())
    return out
