"""Names of classes for the labels of somebody's own data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..store import DataError
from .pyskl import read_class_names


def class_names(labels: Sequence[str], path: Path | None) -> list[str]:
    """The names of the K labels, which are in natural order: the labels themselves, or the K lines of a file.

    Raises:
        DataError: the file cannot be read or has another number of names.
    """
    if path is None:
        return list(labels)
    names = read_class_names(path)
    if len(names) != len(labels):
        raise DataError(
            f"{path} names {len(names)} classes, but there are {len(labels)} labels: {', '.join(labels[:5])}, ..."
        )
    return names
