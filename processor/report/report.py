"""The report of one run or of several, as a page; and the file ``report.html`` in a run's folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from feeders.files import write_atomically

from ..run_folder import RunFolder
from .live import Live
from .page import Page, Section
from .run_data import RunData, read_run
from .sections import sections_of
from .several import comparison_page

log = logging.getLogger(__name__)


def run_page(run: RunData, live: Live | None, reason: str = "") -> Page:
    """The page of one run.

    Args:
        live: the run with its data and network; None where they cannot be had, for this ``reason``.
    """
    sections: list[Section] = [*sections_of(run, live.player if live is not None else None, reason)]
    footer = f"Made by python -m tools.report {run.place}"
    return Page(f"{run.name}: report", sections, footer)


def write_report(folder: RunFolder, live: Live | None, reason: str = "") -> Path:
    """Writes report.html into a run's folder."""
    write_atomically(folder.report, run_page(read_run(folder.path), live, reason).html().encode())
    return folder.report


def write_comparison(paths: Sequence[Path], folders: Sequence[RunFolder], baseline: str | None, out: Path) -> Path:
    """Writes the page of several runs."""
    page = comparison_page(paths, [read_run(folder.path) for folder in folders], baseline)
    write_atomically(out, page.html().encode())
    return out
