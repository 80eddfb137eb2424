"""Text of numbers without a header, and NTU RGB+D's ``.skeleton`` files.

Numbers, separated by blanks, tabs, commas or semicolons:

* V lines of 2 to 4 numbers a frame, one line a joint: x, y, z and perhaps a score, as in MSR-Action3D (V = 20);
* one line a frame: all numbers of the first joint, then of the second, ...; perhaps with the frame's number in front,
  perhaps one person after the other.

Shapes: L frames, M people, V joints.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .axes import MANY, recording_of
from .ntu_raw import JOINTS, parse
from .prepare import Source, Unusable
from .recording import Form, Hints, Recording
from .text import is_numbers, lines_of, numbers_in

MSR = re.compile(r"a\d+_s\d+_e\d+_skeleton\w*")  # how MSR-Action3D names its files
MSR_JOINTS = 20
COLUMNS = range(2, 5)  # of one joint
NTU_START = re.compile(rb"\s*\d+\r?\n\d+\r?\n")  # frames, and bodies in the first one


def read(sources: Sequence[Source], hints: Hints) -> Recording:
    """A take of a text file; Unusable where a line is not as the others, with the line, or V is not known."""
    table = numbers_in(lines_of(_only(sources).read()))
    rows, columns = table.shape
    joints = hints.num_joints or (MSR_JOINTS if MSR.fullmatch(sources[0].name) else None)
    hints = replace(hints, num_joints=joints)
    if hints.axes:
        return recording_of(table, hints)
    if columns not in COLUMNS:
        return recording_of(table[:, _has_frame_numbers(table, hints) :], replace(hints, axes="TF"))
    if joints and rows % joints:
        raise Unusable(f"damaged: {rows} lines, which is no multiple of {joints} joints")
    return recording_of(table, replace(hints, axes="RC"))


def read_ntu(sources: Sequence[Source], hints: Hints) -> Recording:
    """The bodies of a ``.skeleton`` file as people, in the order in which they appear; frames without any are left out.

    Of more than 10 bodies, those with the most frames are taken. A body that is lost for some frames goes on without a
    gap, as feeders.convert.ntu_raw has it.
    """
    bodies, frames = parse(_only(sources).read())
    if not bodies:
        raise Unusable("no people: in none of its frames")
    longest = sorted(bodies, key=lambda body: -len(body.joints))[:MANY]
    bodies = [body for body in bodies if body in longest]
    people = np.full((frames, len(bodies), JOINTS, 3), np.nan)
    for person, body in enumerate(bodies):
        people[body.start : body.end + 1, person] = body.joints
    return recording_of(people, Hints(JOINTS, 3, "TMVC"))


def _only(sources: Sequence[Source]) -> Source:
    if len(sources) != 1:
        raise Unusable(f"several files: {len(sources)} text files for one take")
    return sources[0]


def _has_frame_numbers(table: np.ndarray, hints: Hints) -> bool:
    """Is the first column the number of the frame: whole numbers one after the other, one more than joints need?"""
    needed = hints.num_joints or hints.dims
    counted = bool((np.diff(table[:, 0]) == 1).all())
    return needed is not None and table.shape[1] % needed == 1 and counted and float(table[0, 0]).is_integer()


def _is_text_of_numbers(name: str, start: bytes) -> bool:
    try:
        lines = lines_of(start)
    except Unusable:
        return False
    whole = [line for line in lines[:-1] or lines if line]  # the last line may be cut off
    return bool(whole) and all(map(is_numbers, whole))


def _is_ntu(name: str, start: bytes) -> bool:
    return name.lower().endswith(".skeleton") or NTU_START.match(start) is not None


FORMS = (Form("NTU skeleton", _is_ntu, read_ntu), Form("text of numbers", _is_text_of_numbers, read, arrays=True))
