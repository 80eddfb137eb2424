"""Streams of JSON lines -> labels as soon as they are known. A bad line is answered by a problem, and no more.

A line is a whole sequence, ``{"id": "a", "frames": [...]}`` (L, V, C) or (L, M, V, C); or the next frame of a live
stream, ``{"joints": [...]}`` (V, C) of one person, or ``{"people": {"anna": [...], "ben": [...]}}``; or the end of one,
``{"end": true}``. ``null`` stands for a number that is not known. ``size``, [height, width], is that of the image of 2D
poses; with ``id`` several streams are kept apart.

Shapes: L frames, M people, V joints, C coordinates, K classes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import numpy as np

from feeders.store import DataError

from .given import Given, Problem, Size, of_people
from .live import Live, label_windows
from .predict import predict
from .recognizer import Recognizer
from .rows import Row
from .windows import Cut

KINDS = ("frames", "joints", "people", "end")
WANTED = (
    'wanted {"frames": [...]}, {"joints": [[x, y, z], ...]}, {"people": {"name": [[x, y, z], ...]}} or {"end": true}'
)
UNNAMED = "stream"  # the id of live frames that have none
LONGEST = 2**26  # bytes of a line
MOST = 1000  # live streams at once; then the one that has been silent for longest ends


def read_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, one after the other; of one that is longer than LONGEST the first LONGEST + 1 bytes."""
    while line := file.readline(LONGEST + 1):
        yield line
        while len(line) > LONGEST and not line.endswith(b"\n"):
            line = file.readline(LONGEST + 1)


@dataclass(eq=False)
class _LiveStream:
    """A live stream.

    Attributes:
        id: in the lines and their answers.
        size: of its images, of the last line that said it.
        frame: number of the last frame, from 0.
        people: those who were seen in the last frames.
    """

    id: str
    size: Size | None
    frame: int = -1
    people: dict[str | None, Live] = field(default_factory=dict)


class Stream:
    """Labels of a stream of lines.

    Args:
        cut: windows of the live frames.
        whole: windows of whole sequences; None: each is one.
        explain: whether rows have Shapley values. Cost: ``2**P`` forward passes for each.
        each: each person of a whole sequence is a sequence. In a live stream that is always so.
        size: (height, width) of images where lines do not say it.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        cut: Cut,
        whole: Cut | None = None,
        explain: bool = False,
        each: bool = False,
        size: Size | None = None,
    ) -> None:
        self.recognizer, self.cut, self.whole = recognizer, cut, whole
        self.explain, self.each, self.size = explain, each, size
        self._live: dict[str, _LiveStream] = {}  # the one that has been silent for longest comes first

    def rows(self, lines: Iterable[str | bytes]) -> Iterator[Row | Problem]:
        """What the lines are answered with, in order. Lines that complete no window have no answer."""
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            name = None
            try:
                values = _object(line)
                name = _id(values.get("id"))
                yield from self._answer(name, values, number)
            except (DataError, ValueError, TypeError, RecursionError) as error:
                yield Problem.of(name, error, number)
        for name in list(self._live):
            yield from self._end(name)

    def _answer(self, name: str | None, values: Mapping[str, Any], number: int) -> Iterator[Row | Problem]:
        kind, size = _kind(values), _size(values.get("size"))
        if kind == "frames":
            yield from self._whole(name or f"line {number}", values["frames"], size or self.size, number)
            return
        name = name or UNNAMED
        if kind == "end":
            if name not in self._live:
                raise DataError(f"no live stream has the id {name!r}, so it cannot end")
            yield from self._end(name)
            return
        yield from self._next(self._stream(name, size), _people(values), number)
        while len(self._live) > MOST:
            yield from self._end(next(iter(self._live)))

    def _whole(self, name: str, frames: Any, size: Size | None, number: int) -> Iterator[Row | Problem]:
        """A whole sequence."""
        recording = self.recognizer.recording(_numbers(frames), size, name)
        given = of_people(self.recognizer, Given(name, recording=recording), self.each)
        for found in predict(self.recognizer, given, self.whole, self.explain):
            yield replace(found, line=number) if isinstance(found, Problem) else found

    def _stream(self, name: str, size: Size | None) -> _LiveStream:
        """The live stream of this name, which begins with its first frame; DataError where no size is known."""
        live = self._live.get(name) or _LiveStream(name, self.size)
        size = size or live.size
        self.recognizer.check_size(size)
        live.size = size
        self._live.pop(name, None)
        self._live[name] = live
        return live

    def _next(self, live: _LiveStream, people: Mapping[str | None, Any], number: int) -> Iterator[Row | Problem]:
        """The next frame of a live stream, and the windows that it completes; then the people who cannot be used."""
        live.frame += 1
        lost = [person for person, one in live.people.items() if one.last < live.frame - self.cut.window]
        yield from self._rests(live, lost)
        problems = []
        for person, joints in people.items():
            try:
                yield from self._look(live, person, _numbers(joints))
            except (DataError, ValueError, TypeError) as error:
                reason = Problem.of(live.id, error).reason
                problems.append(Problem(live.id, reason if person is None else f"person {person}: {reason}", number))
        yield from problems

    def _look(self, live: _LiveStream, person: str | None, joints: np.ndarray) -> Iterator[Row]:
        """The next frame of a person, and the window that it completes."""
        wanted = self.recognizer.layout.num_joints
        if joints.ndim != 2 or len(joints) != wanted or joints.shape[1] not in {self.recognizer.dims, 3}:
            raise DataError(f"joints have shape {joints.shape}; wanted ({wanted}, {self.recognizer.dims})")
        if joints.shape[1] == 2:
            joints = np.concatenate([joints, np.ones_like(joints[:, :1])], axis=1)
        if not np.isfinite(joints).all(axis=1).any():
            return  # nobody is seen in this frame
        one = live.people.setdefault(person, Live(self.cut, live.frame))
        one.add(live.frame, joints)
        span = one.due(live.frame)
        if span is not None:
            yield self._row(live, person, one, span)

    def _end(self, name: str) -> Iterator[Row | Problem]:
        """A live stream is over."""
        live = self._live.pop(name)
        yield from self._rests(live, list(live.people))

    def _rests(self, live: _LiveStream, people: Iterable[str | None]) -> Iterator[Row | Problem]:
        """The last windows of people of whom no more frames come."""
        for person in people:
            one = live.people.pop(person)
            span = one.rest()
            if span is not None:
                try:
                    yield self._row(live, person, one, span)
                except DataError as error:
                    yield Problem.of(live.id, error)

    def _row(self, live: _LiveStream, person: str | None, one: Live, span: tuple[int, int]) -> Row:
        """What a person does in a window."""
        sample = self.recognizer.sample(one.sequence(*span), live.size, live.id)
        (found,) = label_windows(self.recognizer, [one], [sample], self.explain)
        return Row(live.id, person, *span, found)


def _object(line: str | bytes) -> dict[str, Any]:
    if len(line) > LONGEST:
        raise DataError(
            f"it is longer than {LONGEST >> 20} MB; send fewer frames in a line, or name a file instead of -"
        )
    values = json.loads(line, object_pairs_hook=_once)
    if not isinstance(values, dict):
        raise DataError(f"no object of JSON; {WANTED}")
    return values


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Keys and values; DataError where a key has several values."""
    values = dict(pairs)
    if len(values) < len(pairs):
        again = next(key for key, number in Counter(key for key, _ in pairs).items() if number > 1)
        raise DataError(f"the key {again[:40]!r} occurs more than once")
    return values


def _id(value: Any) -> str | None:
    """The id of a line; None where it has none."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise DataError(f"id is {json.dumps(value)[:40]}; it is a text or a whole number")
    return str(value)


def _kind(values: Mapping[str, Any]) -> str:
    """What a line is."""
    found = [kind for kind in KINDS if values.get(kind) is not None]
    if len(found) != 1:
        raise DataError(f"it has {' and '.join(found) or 'no ' + ', '.join(KINDS[:-1])}; {WANTED}")
    if found == ["end"] and values["end"] is not True:
        raise DataError(f"end is {json.dumps(values['end'])[:40]}; it is true")
    return found[0]


def _people(values: Mapping[str, Any]) -> Mapping[str | None, Any]:
    """The joints of each person of a line."""
    people = values.get("people")
    if people is None:
        return {None: values["joints"]}
    if isinstance(people, list):
        return {str(place): joints for place, joints in enumerate(people, 1)}
    if not isinstance(people, Mapping):
        raise DataError(f"people is {json.dumps(people)[:40]}; {WANTED}")
    return people


def _numbers(values: Any) -> np.ndarray:
    """An array of float32, NaN for ``null``; DataError where lists have different lengths or hold something else."""
    try:
        with np.errstate(over="ignore"):  # what is too large becomes infinite: it is not known
            return np.array(values, dtype=np.float32)
    except (OverflowError, TypeError, ValueError) as error:
        raise DataError(f"these are not numbers in lists of one length: {error}") from error


def _size(value: Any) -> Size | None:
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != 2 or not all(type(one) is int and one > 0 for one in value):
        raise DataError(f"size is {value}; it is [height, width] in pixels")
    return value[0], value[1]
