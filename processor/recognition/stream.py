"""A stream of JSON lines -> labels as soon as they are known. A bad line is answered by a problem, and no more.

A line is a whole sequence, ``{"id": "a", "frames": [...]}`` (L, V, C) or (L, M, V, C); or one frame of a live stream,
``{"joints": [...]}`` (V, C) of one person, or ``{"people": {"anna": [...], "ben": [...]}}``. ``null`` stands for a
number that is not known. ``size``, [height, width], is needed for 2D poses in pixels; with ``id`` several streams are
kept apart.

Shapes: L frames, M people, V joints, C coordinates, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from feeders.store import DataError

from .given import Given, Problem, of_people
from .live import Live, label_windows
from .predict import predict
from .recognizer import Recognizer
from .rows import Row
from .windows import Cut

WANTED = 'a line is {"frames": [...]}, {"joints": [[x, y, z], ...]} or {"people": {"name": [[x, y, z], ...]}}'
Key = tuple[str, str | None]  # stream, person


class Stream:
    """Labels of a stream of lines.

    Args:
        cut: windows of the live frames.
        explain: whether rows have Shapley values. Cost: ``2**P`` forward passes for each.
        each: each person of a whole sequence is a sequence. In a live stream that is always so.
    """

    def __init__(self, recognizer: Recognizer, cut: Cut, explain: bool = False, each: bool = False) -> None:
        self.recognizer, self.cut, self.explain, self.each = recognizer, cut, explain, each
        self._live: dict[Key, Live] = {}
        self._frames: dict[str, int] = {}  # of each stream so far
        self._size: dict[str, tuple[int, int] | None] = {}

    def rows(self, lines: Iterable[str | bytes]) -> Iterator[Row | Problem]:
        """What the lines are answered with, in order. Lines that complete no window have no answer."""
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            name = f"line {number}"
            try:
                yield from self._answer(line, name)
            except (DataError, ValueError, TypeError, RecursionError) as error:
                yield Problem.of(name, error)
        yield from self._ended(self._live)

    def _ended(self, keys: Iterable[Key]) -> Iterator[Row | Problem]:
        """The last windows of people of whom no more frames come."""
        for key in list(keys):
            live = self._live.pop(key)
            span = live.rest()
            if span is not None:
                try:
                    yield self._row(key, live, span, self._size.get(key[0]))
                except DataError as error:
                    yield Problem.of(key[0], error)

    def _answer(self, line: str | bytes, name: str) -> Iterator[Row | Problem]:
        values = json.loads(line)
        if not isinstance(values, dict):
            raise DataError(f"it is a {type(values).__name__}; {WANTED}")
        stream, size = str(values.get("id", name if "frames" in values else "stream")), _size(values.get("size"))
        if "frames" in values:
            recording = self.recognizer.recording(_numbers(values["frames"]), size, stream)
            given = of_people(self.recognizer, Given(stream, recording=recording), self.each)
            yield from predict(self.recognizer, given, None, self.explain)
            return
        people = values.get("people", {None: values["joints"]} if "joints" in values else None)
        if isinstance(people, list):
            people = {str(place): joints for place, joints in enumerate(people, 1)}
        if not isinstance(people, Mapping):
            raise DataError(f"it has no frames, joints or people; {WANTED}")
        frame = self._frames[stream] = self._frames.get(stream, -1) + 1
        self._size[stream] = size
        lost = [key for key, live in self._live.items() if key[0] == stream and live.last < frame - self.cut.window]
        yield from self._ended(lost)
        problems = []
        for person, joints in people.items():
            try:
                yield from self._look((stream, person), frame, _numbers(joints), size)
            except (DataError, ValueError, TypeError) as error:
                problems.append(Problem(name, f"{error}" if person is None else f"person {person}: {error}"))
        yield from problems

    def _look(self, key: Key, frame: int, joints: np.ndarray, size: tuple[int, int] | None) -> Iterator[Row]:
        """The next frame of a person, and the window that it completes."""
        wanted = self.recognizer.layout.num_joints
        if joints.ndim != 2 or len(joints) != wanted or joints.shape[1] not in {self.recognizer.dims, 3}:
            raise DataError(f"joints have shape {joints.shape}; wanted ({wanted}, {self.recognizer.dims})")
        if joints.shape[1] == 2:
            joints = np.concatenate([joints, np.ones_like(joints[:, :1])], axis=1)
        if not np.isfinite(joints).all(axis=1).any():
            return  # nobody is seen in this frame
        live = self._live.setdefault(key, Live(self.cut, frame))
        live.add(frame, joints)
        span = live.due(frame)
        if span is not None:
            yield self._row(key, live, span, size)

    def _row(self, key: Key, live: Live, span: tuple[int, int], size: tuple[int, int] | None) -> Row:
        """What a person does in a window."""
        sample = self.recognizer.sample(live.sequence(*span), size, key[0])
        (found,) = label_windows(self.recognizer, [live], [sample], self.explain)
        return Row(key[0], key[1], *span, found)


def _numbers(values: Any) -> np.ndarray:
    """An array of float32, NaN for ``null``; DataError where lists have different lengths or hold something else."""
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite: it is not known
            return np.array(values, dtype=np.float32)
    except (OverflowError, TypeError, ValueError) as error:
        raise DataError(f"these are not numbers in lists of one length: {error}") from error


def _size(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(one, int) and one > 0 for one in value):
        raise DataError(f"size is {value}; it is [height, width] in pixels")
    return value[0], value[1]
