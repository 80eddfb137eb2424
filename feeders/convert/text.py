"""Lines of numbers: what readers of text files share. Messages name the line."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .prepare import Unusable

SHOWN = 40  # characters of a line in a message


def lines_of(content: bytes) -> list[str]:
    """The lines of a text file, without the blanks around them. Unusable where it is empty or no text."""
    if not content.strip():
        raise Unusable(f"empty: {len(content)} bytes")
    if b"\0" in content:
        raise Unusable("no text: it holds zero bytes")
    return [line.strip() for line in content.decode("utf-8-sig", "replace").splitlines()]


def numbers_in(lines: Sequence[str], first: int = 1, columns: int | None = None) -> np.ndarray:
    """(rows, columns) float64 of lines with the same number of numbers each; empty lines are left out.

    Numbers are separated by blanks, tabs, commas or semicolons.

    Args:
        first: the number of the first line in its file.
        columns: how many numbers each line has, where that is known.

    Raises:
        Unusable: a line with other text, or with more or fewer numbers than the first; no numbers at all.
    """
    places = [place for place, line in enumerate(lines) if line]
    if not places:
        raise Unusable(f"no numbers: nothing from line {first} on")
    rows = [lines[place] for place in places]
    if any(mark in rows[0] for mark in ",;"):
        rows = [row.replace(",", " ").replace(";", " ") for row in rows]
    wanted = columns or len(rows[0].split())
    try:
        table = np.loadtxt(rows, dtype=np.float64, comments=None, ndmin=2)
        if table.shape == (len(rows), wanted):
            return table
    except ValueError:
        pass  # the loop finds the line
    for place, row in zip(places, rows, strict=True):
        number = len(row.split())
        if number != wanted:
            raise Unusable(f"damaged: line {first + place} has {number} numbers, wanted {wanted}: {shown(row)}")
        if not is_numbers(row):
            raise Unusable(f"damaged: line {first + place} is not {wanted} numbers: {shown(row)}")
    raise Unusable(f"damaged: the lines from {first} on are not {wanted} numbers each")


def is_numbers(line: str) -> bool:
    """Does a line hold numbers alone, at least one?"""
    words = line.replace(",", " ").replace(";", " ").split()
    try:
        return bool([float(word) for word in words])
    except ValueError:
        return False


def shown(line: str) -> str:
    """A line for a message."""
    return repr(line if len(line) <= SHOWN else f"{line[:SHOWN]}...")
