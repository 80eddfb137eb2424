"""What is printed of predictions: lines, CSV or JSON.

Shapes: K classes, P body parts.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from feeders.files import replacing
from feeders.store import DataError

from ..host import plain, put, say, spreadsheet_text
from .given import Problem
from .recognizer import Prediction

Style = Literal["text", "csv", "json"]


@dataclass(frozen=True, eq=False)
class Row:
    """A prediction of frames ``first`` to ``last`` of a sequence, counted from 0; of one ``person``, or of all.

    None stands for what is not known.
    """

    id: str
    person: int | str | None
    first: int | None
    last: int | None
    prediction: Prediction
    more: dict[str, Any] = field(default_factory=dict)


def check_out(path: Path | None, inputs: Iterable[str]) -> None:
    """DataError where what is written would take the place of what is read."""
    for one in map(Path, inputs):
        if path is not None and path.exists() and one.exists() and path.samefile(one):
            raise DataError(f"--out {path} is one of FILES; give another name")


def write(
    rows: Iterable[Row | Problem], path: Path | None, style: Style, top: int, part_names: Sequence[str] = ()
) -> int:
    """Prints rows as they come, or writes a file that is there when it is whole; problems go to standard error too.

    Returns:
        the number of problems.

    Raises:
        UnreadError: nobody reads what is printed.
    """
    problems = 0

    def noted() -> Iterator[Row | Problem]:
        nonlocal problems
        for row in rows:
            if isinstance(row, Problem):
                problems += 1
                say(f"error: {row.name}: {row.reason}", sys.stderr)
            yield row

    with _output(path) as out:
        for line in lines(noted(), style, top, part_names):
            put(line, out)
    return problems


@contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    if path is None:
        yield sys.stdout
        return
    with replacing(path) as beside, beside.open("w", encoding="utf-8") as file:
        yield file


def as_json(row: Row | Problem, top: int) -> str:
    """One line of JSON."""
    if isinstance(row, Problem):
        where = {} if row.line is None else {"line": row.line}
        return json.dumps({"id": row.id, **where, "error": row.reason})
    found = row.prediction
    values: dict[str, Any] = {"id": row.id, "person": row.person, "first_frame": row.first, "last_frame": row.last}
    values |= {"label": found.label, "probability": round(found.probability, 6)}
    values["top"] = [{"label": label, "probability": round(value, 6)} for label, value in found.top(top)]
    if found.parts is not None:
        values["parts"] = {name: round(float(v), 6) for name, v in zip(found.part_names, found.parts, strict=True)}
    return json.dumps({**values, **row.more})


def lines(rows: Iterable[Row | Problem], style: Style, top: int, part_names: Sequence[str] = ()) -> Iterator[str]:
    """The rows one after the other, with a header for CSV, which leaves out problems."""
    if style == "csv":
        header = ["id", "person", "first_frame", "last_frame", "label", "probability"]
        header += [f"{what}_{place}" for place in range(2, top + 1) for what in ("label", "probability")]
        yield _csv([*header, *(f"shapley_{name}" for name in part_names)])
    for row in rows:
        if style == "json":
            yield as_json(row, top)
        elif isinstance(row, Row):
            yield _csv_row(row, top) if style == "csv" else _text(row, top)


def _csv_row(row: Row, top: int) -> str:
    best = row.prediction.top(top)
    numbers = [word for label, value in best for word in (label, f"{value:.6f}")]
    numbers += [""] * (2 * top - len(numbers))
    parts = row.prediction.parts
    values = [] if parts is None else [f"{value:.6f}" for value in parts]
    facts = ["" if value is None else str(value) for value in (row.person, row.first, row.last)]
    return _csv([row.id, *facts, *numbers, *values])


def _csv(cells: Sequence[str]) -> str:
    content = io.StringIO()
    csv.writer(content, lineterminator="").writerow([spreadsheet_text(cell) for cell in cells])
    return content.getvalue()


def _text(row: Row, top: int) -> str:
    who = "" if row.person is None else f"  person {row.person}"
    best = "  ".join(f"{label} {100 * value:.1f} %" for label, value in row.prediction.top(top))
    text = f"{row.id}{who}  frames {row.first}-{row.last}  {best}"
    parts = row.prediction.parts
    if parts is not None:
        text += "  (" + ", ".join(f"{n} {v:+.2f}" for n, v in zip(row.prediction.part_names, parts, strict=True)) + ")"
    return plain(text)
