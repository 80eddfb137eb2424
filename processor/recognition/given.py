"""Sequences to label, from whatever somebody has: a store, a whole set, single files in any form that is known.

Shapes: L frames, M people, V joints, C coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from feeders.convert.forms import FORMS
from feeders.convert.recording import Hints, Recording
from feeders.convert.sequences import read_take
from feeders.convert.takes import Take, find_takes
from feeders.convert.understand import Wishes
from feeders.convert.whole_sets import find_whole_set, open_whole_set
from feeders.store import DataError, Sample, SkeletonStore
from shapmix import SkeletonLayout

from .recognizer import Recognizer


@dataclass(frozen=True, eq=False)
class Given:
    """Somebody's sequence.

    Attributes:
        id: of the file or sample.
        person: 1, 2, ... where each person of a file is a sequence; None where they are one together.
        recording: as the file has it; None where ``stored`` is known.
        stored: as the data set stores it already.
    """

    id: str
    person: int | None = None
    recording: Recording | None = None
    stored: Sample | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return self.id if self.person is None else f"{self.id}, person {self.person}"

    @property
    def length(self) -> int:
        """L, frames."""
        frames = self.recording.frames if self.recording is not None else self.stored.frames if self.stored else ()
        return len(frames)

    def seen(self) -> np.ndarray:
        """(L,) bool: in which frames is somebody?"""
        frames = self.recording.frames if self.recording is not None else self.stored.frames if self.stored else None
        assert frames is not None
        found: np.ndarray = (np.nan_to_num(frames) != 0).any(axis=(1, 2, 3))
        return found

    def cut(self, first: int, end: int) -> Given:
        """Frames ``first`` to ``end - 1``."""
        if self.recording is None:
            assert self.stored is not None
            return replace(self, stored=replace(self.stored, frames=self.stored.frames[first:end]))
        score = self.recording.score
        part = replace(
            self.recording, frames=self.recording.frames[first:end], score=None if score is None else score[first:end]
        )
        return replace(self, recording=part)

    def sample(self, recognizer: Recognizer, name: str) -> Sample:
        """As the recogniser takes it, under another name; DataError where it cannot be used."""
        given = self.recording or self.stored
        assert given is not None
        return recognizer.as_stored(given, name)


@dataclass(frozen=True)
class Problem:
    """A file or sample that cannot be labelled, and why."""

    id: str
    reason: str


def read_given(
    recognizer: Recognizer, place: Path, each: bool, axes: str | None = None, size: tuple[int, int] | None = None
) -> Iterator[Given | Problem]:
    """The sequences of a place, one after the other: a store, a whole set (CTR-GCN's .npz, PYSKL's pickle), or files.

    A place without any is a Problem.

    Args:
        each: each person of a file is a sequence.
        axes: of arrays, such as TVC.
        size: (height, width) of the images of 2D poses, where the files do not say it.
    """
    try:
        yield from _read(recognizer, place, each, axes, size)
    except DataError as error:
        yield Problem(str(place), str(error))


def _read(
    recognizer: Recognizer, place: Path, each: bool, axes: str | None, size: tuple[int, int] | None
) -> Iterator[Given | Problem]:
    """DataError: nothing there, or nothing of a known form; a store of another layout."""
    if (place / "meta.json").is_file():
        yield from _of_store(recognizer, SkeletonStore(place))
        return
    whole = find_whole_set(place) if place.exists() else None
    if whole is not None:
        found = open_whole_set(whole, Wishes(recognizer.layout, None, recognizer.dims, recognizer.people, size))
        samples = (found.read(item) for item in found.items)
        for sample in samples:
            known = {key: sample.columns[key] for key in ("height", "width") if key in sample.columns}
            stored = replace(sample, columns=known)
            yield Problem(sample.id, sample.problem) if sample.problem else Given(sample.id, stored=stored)
        return
    takes, single = find_takes(place, FORMS), place.is_file()
    for reasons in takes.left_out.values():
        yield from (Problem(name, reason) for name, reason in reasons.items())
    hints = Hints(recognizer.layout.num_joints, recognizer.dims, axes, recognizer.layout.joint_names)
    for take in takes.takes:
        take = replace(take, id=str(place)) if single and len(takes.takes) == 1 else take
        try:
            yield from _of_take(recognizer, take, hints, each, size)
        except DataError as error:
            yield Problem(take.id, str(error))


def _of_take(
    recognizer: Recognizer, take: Take, hints: Hints, each: bool, size: tuple[int, int] | None
) -> Iterator[Given]:
    reader = raw_reader(recognizer, take)
    if reader is not None:
        yield Given(take.id, stored=Sample(take.id, 0, reader(take.sources[0].read())))
        return
    recording = read_take(take, hints)
    if recording.size is None:
        recording = replace(recording, size=size)
    people = recording.frames.shape[1]
    if not each:
        yield Given(take.id, recording=recording)
        return
    there = [person for person in range(people) if np.isfinite(recording.frames[:, person]).any()]
    for number, person in enumerate(there, 1):
        score = None if recording.score is None else recording.score[:, [person]]
        alone = replace(recording, frames=recording.frames[:, [person]], score=score)
        yield Given(take.id, number if len(there) > 1 else None, alone)


def raw_reader(recognizer: Recognizer, take: Take) -> Callable[[bytes], np.ndarray] | None:
    """How the recogniser's data set itself reads such a file; None where it has no way of its own."""
    suffix = Path(take.sources[0].member or take.sources[0].path).suffix.lower()
    return recognizer.raw_readers.get(suffix) if len(take.sources) == 1 else None


def _of_store(recognizer: Recognizer, store: SkeletonStore) -> Iterator[Given | Problem]:
    layout = SkeletonLayout.get(store.meta["layout"]) if "layout" in store.meta else recognizer.layout
    if layout.joint_names != recognizer.layout.joint_names or store.dims != recognizer.dims:
        raise DataError(
            f"{store.path} has joints of {layout.name} in {store.dims} dimensions, the network was trained on "
            f"{recognizer.layout.name} in {recognizer.dims}; convert this data with python -m "
            f"tools.convert FOLDER --layout {recognizer.layout.name} --out FOLDER"
        )
    names = [name for name in store.columns if name in ("height", "width")]
    for row, name in enumerate(store.ids):
        if name in store.problems:
            yield Problem(name, store.problems[name])
            continue
        columns = {key: int(store.columns[key][row]) for key in names}
        yield Given(name, stored=Sample(name, 0, np.array(store.sequence(row)), columns=columns))
