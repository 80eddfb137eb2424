"""A page of sections as one self-contained HTML file. Text is escaped; nothing is loaded from elsewhere."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from .charts import Chart

TEMPLATES = files(__package__) / "templates"


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
        return [bool(column) and all(cell[:1].isdigit() or cell in ("", "-") for cell in column) for column in columns]


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
    scripts: Sequence[str] = field(default=("player.js", "page.js"))

    def html(self) -> str:
        """The whole file."""
        charts = [chart for section in self.sections for chart in section.charts]
        motions = [motion for section in self.sections for panel in section.panels for motion in panel.motions]
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        template, styles = environment.from_string(text_of("report.html.j2")), Markup(text_of("page.css", "player.css"))
        return template.render(
            title=self.title, sections=self.sections, footer=self.footer, styles=styles,
            charts=[{"key": chart.key, "json": as_script(_escaped(chart.figure))} for chart in charts],
            motions=[{"key": motion.key, "json": as_script(motion.content)} for motion in motions],
            scripts=[*([_plotly()] if charts else []), *(Markup(_inside_script(name)) for name in self.scripts)],
        )  # fmt: skip


def text_of(*names: str) -> str:
    """Files of the templates' folder, one after the other."""
    return "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)


def _inside_script(name: str) -> str:
    """A script that may stand in a page, whatever its comments say."""
    return text_of(name).replace("</script", r"<\/script")


def as_script(content: Any) -> Markup:
    """JSON that may stand in a script element."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _plain(value: Any) -> Any:
    """Arrays and numbers of numpy, as JSON has them."""
    return value.tolist()


def _escaped(value: Any) -> Any:
    """Text in charts, which plotly reads as HTML, shown as it is; its own templates keep their tags."""
    if isinstance(value, dict):
        return {key: part if key == "hovertemplate" else _escaped(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_escaped(part) for part in value]
    return html.escape(value, quote=False) if isinstance(value, str) else value


def _plotly() -> Markup:
    from plotly.offline import get_plotlyjs

    return Markup(get_plotlyjs())
