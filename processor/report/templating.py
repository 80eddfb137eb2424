"""The files of ``templates/``, and pages made of them: jinja2 with every value escaped."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from .motion import in_script


def template(name: str) -> str:
    """The text of a file in ``templates/``."""
    return files(__package__).joinpath("templates", name).read_text(encoding="utf-8")


def render(name: str, **values: Any) -> str:
    """A page of the template ``name``.

    Every value is escaped as text. In the template, ``asset("player.js")`` is a file of ours as it is, and
    ``data | in_script`` is JSON for a script element.
    """
    pages = Environment(
        loader=FunctionLoader(template), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    pages.globals["asset"] = lambda asset: Markup(template(asset))  # our own file  # nosec B704
    pages.filters["in_script"] = lambda data: Markup(in_script(data))  # escaped  # nosec B704
    return pages.get_template(name).render(**values)
