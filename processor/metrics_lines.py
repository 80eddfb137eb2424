"""The lines of metrics.jsonl: how they are read, and whether they are those that a checkpoint of the run knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from feeders.files import SEAL, parse_json, sealed, unsealed

SHOWN = 5  # ranges of epochs in a message

Line = dict[str, Any]
Recorded = dict[int, int | None]  # epoch -> checksum of its line, None where that is not known


def read_lines(path: Path) -> tuple[list[Line], list[int]]:
    """The lines, and the numbers, from 1, of those that cannot be read: a crash may have cut off the last."""
    lines: list[Line] = []
    damaged: list[int] = []
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for number, row in enumerate(text.split("\n"), 1):
        if not row:
            continue
        try:
            line = unsealed(parse_json(row))
        except ValueError:
            line = {}
        if isinstance(line.get("epoch"), int):
            lines.append(line)
        else:
            damaged.append(number)
    return lines, damaged


def checksum_of(line: Mapping[str, Any]) -> int:
    """The checksum that a line is written with."""
    checksum: int = sealed(line)[SEAL]
    return checksum


def recorded_by(state: Mapping[str, Any]) -> Recorded:
    """The lines that were there when a checkpoint was saved. One of an older version knows only how many."""
    return dict(state["metrics"]) if "metrics" in state else dict.fromkeys(range(state["epoch"]))


def differences(lines: Sequence[Mapping[str, Any]], recorded: Recorded) -> str:
    """What is wrong with lines, such as "missing: epochs 3 to 7, 9; more than once: epochs 2"; empty where nothing is.

    Args:
        recorded: the lines that there should be, no more and no less.
    """
    counts = Counter(line["epoch"] for line in lines)
    found = {
        "missing": recorded.keys() - counts.keys(),
        "more than once": {epoch for epoch, count in counts.items() if count > 1},
        "changed or of another run": {
            line["epoch"] for line in lines if recorded.get(line["epoch"], -1) not in (None, checksum_of(line))
        },
    }
    return "; ".join(f"{what}: epochs {_ranges(epochs)}" for what, epochs in found.items() if epochs)


def _ranges(epochs: Iterable[int]) -> str:
    """0, 1, 2, 5 -> "0 to 2, 5"."""
    ranges: list[list[int]] = []
    for epoch in sorted(epochs):
        if ranges and epoch == ranges[-1][-1] + 1:
            ranges[-1] = [ranges[-1][0], epoch]
        else:
            ranges.append([epoch])
    return ", ".join(" to ".join(map(str, one)) for one in ranges[:SHOWN]) + ", ..." * (len(ranges) > SHOWN)
