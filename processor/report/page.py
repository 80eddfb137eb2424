"""A page of sections as one self-contained HTML file. Text is escaped; nothing is loaded from elsewhere."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from .charts import Chart
from .templating import render


@dataclass(frozen=True)
class Motion:
    """A sequence that plays: its id on the page, what it shows, and what the player gets."""

    key: str
    label: str
    content: dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One number with its name, and perhaps a remark."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text below a header; a searchable one can be sorted too."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    searchable: bool = False

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers alone."""
        columns = list(zip(*self.rows, strict=True)) or [()] * len(self.header)
        return [bool(column) and all(map(re.compile(r"[-+]?\d.*|-?").fullmatch, column)) for column in columns]


@dataclass(frozen=True)
class Panel:
    """Sequences side by side, with a title, a remark above and one below."""

    title: str
    motions: Sequence[Motion]
    note: str = ""
    below: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page. Where something is missing, ``absent`` says what, and how to make it."""

    key: str
    title: str
    text: Sequence[str] = ()
    absent: str = ""
    warnings: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    facts: Sequence[tuple[str, str]] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    panels: Sequence[Panel] = ()
    choice_label: str = ""  # with it one panel is shown at a time

    @property
    def choices(self) -> bool:
        """Is one panel chosen from several?"""
        return bool(self.choice_label) and len(self.panels) > 1


@dataclass(frozen=True)
class Page:
    """A title, sections and a last line."""

    title: str
    sections: Sequence[Section]
    footer: str = ""

    def html(self) -> str:
        """The whole file."""
        charts = [chart for section in self.sections for chart in section.charts]
        motions = [motion for section in self.sections for panel in section.panels for motion in panel.motions]
        return render(
            "report.html.j2", title=self.title, sections=self.sections, footer=self.footer,
            charts=[(chart.key, _escaped(chart.figure)) for chart in charts], motions=motions,
            plotly=_plotly() if charts else "",
        )  # fmt: skip


def _escaped(value: Any) -> Any:
    """Text in charts, which plotly reads as HTML, shown as it is; its own templates keep their tags."""
    if isinstance(value, dict):
        return {key: part if key == "hovertemplate" else _escaped(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_escaped(part) for part in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return _escaped(value.tolist())
    return html.escape(value, quote=False) if isinstance(value, str) else value


def _plotly() -> Markup:
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())  # of the package plotly  # nosec B704
