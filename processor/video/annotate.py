"""A video or a camera: what each person does, window by window, and a video that shows it.

Pictures are read one after the other and forgotten, except for those that wait to be drawn: at most a window, a stride
and the frames after which a person is lost.

Shapes: n windows, L frames of each, W joints, K classes, P parts.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from feeders.anatomy import upright_axis
from feeders.store import DataError

from ..host import StopSignals
from ..recognition import Prediction, Recognizer
from ..recognition.live import Live, label_windows
from ..recognition.windows import Cut
from .drawing import Drawn, draw_people
from .framing import Framing
from .joints import JointMap
from .poses import SEEN, PoseBackend
from .reading import Frame, Source
from .tracking import LOST, Person, Tracker
from .writing import Writer, check_output, small, writing_video

log = logging.getLogger(__name__)
STEADY = 0.9  # share of the old place of a person's text that stays from frame to frame


@dataclass(frozen=True, eq=False)
class Seen:
    """What a person did in a window.

    Attributes:
        person: 1, 2, ...
        first, last: frames of the video.
        start, end: in seconds.
        what: with the mean of the probabilities of the person's last windows, where these are smoothed.
    """

    person: int
    first: int
    last: int
    start: float
    end: float
    what: Prediction


@dataclass(eq=False)
class _Life:
    """One person's windows, and what is to be drawn of them."""

    person: Person
    live: Live
    over: bool = False
    seen: deque[Seen] = field(default_factory=deque)  # those that are still to be drawn
    head: np.ndarray | None = None  # where the text stands, see Drawn; it follows the person slowly

    def shown(self, frame: int) -> Seen | None:
        """The window whose middle is nearest to a frame; older ones are forgotten, so frames must not go back."""
        while len(self.seen) > 1 and abs(_middle(self.seen[1]) - frame) <= abs(_middle(self.seen[0]) - frame):
            self.seen.popleft()
        return self.seen[0] if self.seen else None

    def text_place(self, joints: np.ndarray) -> tuple[float, float]:
        """Where the text of the person with these joints (W, 3) stands, without the trembling of the joints."""
        seen = joints[joints[:, 2] >= SEEN, :2]
        if len(seen):
            now = np.array([(seen[:, 0].min() + seen[:, 0].max()) / 2, seen[:, 1].min()])
            self.head = now if self.head is None else STEADY * self.head + (1 - STEADY) * now
        x, y = (0.0, 0.0) if self.head is None else self.head
        return float(x), float(y)

    def decided(self, frame: int) -> bool:
        """Can no later window be nearer to this frame? Windows that were not recognised count too."""
        ended = self.live.ended
        return self.over or (ended is not None and ended - (self.live.cut.window - 1) / 2 >= frame)


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A picture that waits to be drawn."""

    seconds: float
    number: int
    picture: Any
    size: tuple[int, int]  # (height, width) before it was made smaller
    people: Sequence[tuple[_Life, np.ndarray]]


class Annotator:
    """Follows people through pictures and recognises what they do.

    Args:
        recognizer: of single people.
        backend: finds poses.
        cut: windows of a person.
        explain: whether the windows have Shapley values; they cost ``2**P`` forward passes each.

    Raises:
        DataError: the poses do not fit the recogniser.
    """

    def __init__(self, recognizer: Recognizer, backend: PoseBackend, cut: Cut, explain: bool = False) -> None:
        self.recognizer, self.backend, self.cut, self.explain = recognizer, backend, cut, explain
        self.joints = JointMap(backend, recognizer.layout, recognizer.dims, up_of(recognizer))
        self.framing = Framing(recognizer.card)
        self.tracker = Tracker()
        self.lives: dict[Person, _Life] = {}
        self.times: deque[float] = deque(maxlen=cut.window + LOST + 2)  # of the last frames
        self.last, self.size = -1, (0, 0)
        self.recognised, self.unusable = 0, 0  # windows that were, and that could not be
        self.reason = ""  # why the first one could not be

    def look(self, frame: Frame) -> tuple[list[Seen], list[tuple[_Life, np.ndarray]]]:
        """The next picture.

        Returns:
            the windows that end with it, and the people in it with their joints (W, 3) in pixels.
        """
        self.last, self.size = frame.number, (frame.picture.shape[0], frame.picture.shape[1])
        self.times.append(frame.seconds)
        lost = [self.lives.pop(person) for person in self.tracker.lose(self.last)]
        poses = self.backend(frame.picture, frame.seconds)
        people = []
        for person, pose in zip(self.tracker.follow(self.last, [pose.joints for pose in poses]), poses, strict=True):
            if person not in self.lives:
                self.lives[person] = _Life(person, Live(self.cut, self.last))
            self.lives[person].live.add(self.last, self.joints.values(pose))
            people.append((self.lives[person], self.joints.drawn(pose)))
        due = [(life, span) for life in self.lives.values() if (span := life.live.due(self.last))]
        return self._recognise([*_rests(lost), *due]), people

    def end(self) -> list[Seen]:
        """The windows of all people that are left when there are no more pictures."""
        lives, self.lives = list(self.lives.values()), {}
        return self._recognise(_rests(lives))

    def _recognise(self, due: Sequence[tuple[_Life, tuple[int, int]]]) -> list[Seen]:
        """All windows at once; people of whom it is not sure that they are there have none."""
        samples, usable = [], []
        size = self.size if self.recognizer.dims == 2 else None
        for life, (first, last) in due:
            if life.person.number:
                name = f"person {life.person.number} in frames {first} to {last}"
                try:
                    frames = self.framing(life.live.sequence(first, last), self.size)
                    samples.append(self.recognizer.sample(frames, size, name))
                    usable.append((life, first, last))
                except DataError as error:
                    self.unusable, self.reason = self.unusable + 1, self.reason or str(error)
        if not samples:
            return []
        found, seen = label_windows(self.recognizer, [life.live for life, _, _ in usable], samples, self.explain), []
        for (life, first, last), what in zip(usable, found, strict=True):
            start, end = (self.times[frame - self.last - 1] for frame in (first, last))
            seen.append(Seen(life.person.number, first, last, start, end, what))
            life.seen.append(seen[-1])
        self.recognised += len(seen)
        return seen

    def why_nothing(self) -> str:
        """Why no window at all was recognised."""
        if self.unusable:
            return f"none of its {self.unusable} windows could be recognised; the first: {self.reason}"
        if self.tracker.counted:
            return "nobody was seen long enough: in at least half of the frames of a window"
        return f"nobody was found in its {self.last + 1} frames"


def annotate(annotator: Annotator, source: Source, out: Path | None = None) -> Iterator[Seen]:
    """Watches a video to its end, or a camera until Ctrl-C, and gives what people do as soon as it is known.

    Args:
        out: where to write the annotated video; the annotator must explain, or its parts have no colours.

    Raises:
        DataError: the video cannot be read, or nobody was recognised in it; then ``out`` is as it was.
    """
    if out is not None:
        check_output(out)
    waiting: deque[_Waiting] = deque()
    with writing_video(out) as writer, closing(annotator.backend), _stopping(source) as stop:
        for frame in source.frames():
            seen, people = annotator.look(frame)
            yield from seen
            if writer is not None:
                waiting.append(_Waiting(frame.seconds, frame.number, small(frame.picture), annotator.size, people))
                _draw_ready(waiting, writer, annotator)
            if stop.received is not None:
                break
        yield from annotator.end()
        if not annotator.recognised and not source.live:
            raise DataError(f"{source.name}: {annotator.why_nothing()}")
        if annotator.unusable:
            log.warning("%d windows were not recognised; the first: %s", annotator.unusable, annotator.reason)
        if writer is not None:
            _draw_ready(waiting, writer, annotator, everything=True)


def up_of(recognizer: Recognizer) -> tuple[int, int]:
    """The axis and the sign of what is up in a recogniser's 3D data, by the mean of its training set; else y."""
    card = recognizer.card
    if card.baseline is None or card.dims != 3 or (card.view or {}).get("stream") != "joint":
        return 1, 1
    found = upright_axis([card.baseline[:3].permute(1, 3, 2, 0).numpy()], recognizer.layout)
    return (1, 1) if found is None else found[:2]


def _draw_ready(waiting: deque[_Waiting], writer: Writer, annotator: Annotator, everything: bool = False) -> None:
    """Draws the first pictures whose labels are decided."""
    while waiting and (everything or all(life.decided(waiting[0].number) for life, _ in waiting[0].people)):
        one = waiting.popleft()
        share = one.picture.height / one.size[0], one.picture.width / one.size[1]
        people = []
        for life, joints in one.people:
            if not life.person.number:
                continue
            seen = life.shown(one.number)
            scaled = joints * np.array([share[1], share[0], 1], np.float32)
            person = Drawn(scaled, life.text_place(scaled), life.person.number)
            if seen is not None:
                what = seen.what
                person = replace(person, label=what.label, probability=what.probability, parts=what.parts)
            people.append(person)
        picture = one.picture.to_ndarray(format="rgb24")
        writer.write(draw_people(picture, people, annotator.recognizer.layout), one.seconds)


def _rests(lives: Sequence[_Life]) -> list[tuple[_Life, tuple[int, int]]]:
    """What is left of people who are gone."""
    for life in lives:
        life.over = True
    return [(life, span) for life in lives if (span := life.live.rest())]


def _middle(seen: Seen) -> float:
    return (seen.first + seen.last) / 2


def _stopping(source: Source) -> AbstractContextManager[StopSignals]:
    """A live source ends with the first Ctrl-C, and what was seen is kept."""
    return StopSignals() if source.live else nullcontext(StopSignals())
