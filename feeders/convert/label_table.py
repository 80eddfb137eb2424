"""A table of labels: one row a take, with a column ``id``, a column ``label``, and perhaps subject, view and split."""

from __future__ import annotations

from collections.abc import Mapping

from ..store import DataError
from .tables import read_cells

FACTS = ("label", "subject", "view", "split")
CALLED = {  # how people call the columns
    "id": "id", "name": "id", "file": "id", "filename": "id", "file_name": "id", "path": "id", "video": "id",
    "video_name": "id", "sample": "id", "sample_name": "id", "sequence": "id", "take": "id", "frame_dir": "id",
    "label": "label", "labels": "label", "class": "label", "action": "label", "activity": "label", "gesture": "label",
    "subject": "subject", "person": "subject", "actor": "subject", "performer": "subject", "participant": "subject",
    "view": "view", "camera": "view", "split": "split", "set": "split", "subset": "split",
}  # fmt: skip


def read_table(where: str, content: bytes) -> dict[str, Mapping[str, str]]:
    """id -> label and what else its row says.

    Raises:
        DataError: no columns of ids and labels, an id that occurs twice, an id without label.
    """
    try:
        cells = read_cells(content, header=True)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error
    columns = {
        called: name for name in reversed(list(cells.columns)) if (called := CALLED.get(str(name).strip().lower()))
    }
    if not {"id", "label"} <= columns.keys():
        there = ", ".join(str(name) for name in cells.columns)
        raise DataError(f"{where} has the columns {there}; it needs id and label (subject, view and split may follow)")
    rows: dict[str, Mapping[str, str]] = {}
    known = [fact for fact in ("id", *FACTS) if fact in columns]
    for line, values in enumerate(cells[[columns[fact] for fact in known]].to_numpy()):
        row = {fact: str(value).strip() for fact, value in zip(known, values, strict=True)}
        name = row.pop("id")
        if not name or not row["label"]:
            raise DataError(
                f"{where}, line {line + 2}: {'no label' if name else 'no id'}; fill it in or remove the line"
            )
        if name in rows:
            raise DataError(f"{where}, line {line + 2}: {name} has a label already; name each take once")
        rows[name] = {fact: value for fact, value in row.items() if value}
    if not rows:
        raise DataError(f"{where} has a header, but no rows")
    return rows
