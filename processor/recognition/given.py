"""Sequences to label, from whatever somebody has: stores, whole sets, single files in any form that is known.

Shapes: L frames, M people, V joints, C coordinates.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from feeders.convert.forms import FORMS
from feeders.convert.prepare import Unusable
from feeders.convert.recording import Hints, Recording
from feeders.convert.sequences import damage_named, read_take
from feeders.convert.takes import Take, find_takes
from feeders.convert.understand import Wishes
from feeders.convert.whole_sets import find_whole_sets, open_whole_set
from feeders.store import DataError, Sample, SkeletonStore
from shapmix import SkeletonLayout

from .recognizer import Recognizer

log = logging.getLogger(__name__)
Size = tuple[int, int]  # (height, width) of an image in pixels


@dataclass(frozen=True, eq=False)
class Given:
    """Somebody's sequence.

    Attributes:
        id: of the file or sample.
        person: 1, 2, ... where each person of a file is a sequence; None where they are one together.
        recording: as the file has it; None where ``stored`` is known.
        stored: as the data set stores it already.
        ready: ``stored`` is whole, and as the network's own data set stores it.
    """

    id: str
    person: int | None = None
    recording: Recording | None = None
    stored: Sample | None = None
    ready: bool = False

    @property
    def name(self) -> str:
        """For messages."""
        return self.id if self.person is None else f"{self.id}, person {self.person}"

    @property
    def frames(self) -> np.ndarray:
        """(L, M, V, C), zero or NaN where nobody is."""
        given = self.recording or self.stored
        assert given is not None
        return given.frames

    @property
    def length(self) -> int:
        """L, frames."""
        return len(self.frames)

    def there(self) -> np.ndarray:
        """(L, M) bool: who is there in which frames?"""
        return np.asarray((np.nan_to_num(self.frames) != 0).any(axis=(2, 3)))

    def seen(self) -> np.ndarray:
        """(L,) bool: in which frames is somebody?"""
        return np.asarray(self.there().any(axis=1))

    def cut(self, first: int, end: int) -> Given:
        """Frames ``first`` to ``end - 1``."""
        if self.recording is None:
            assert self.stored is not None
            part = replace(self.stored, frames=self.stored.frames[first:end])
            return replace(self, stored=part, ready=self.ready and end - first == self.length)
        frames, score = self.recording.frames[first:end], self.recording.score
        score = None if score is None else score[first:end]
        return replace(self, recording=replace(self.recording, frames=frames, score=score))

    def of_size(self, size: Size | None) -> Given:
        """With the size of its images, where it does not say it itself."""
        if size is None:
            return self
        if self.recording is not None:
            return replace(self, recording=replace(self.recording, size=self.recording.size or size))
        assert self.stored is not None
        known = self.stored.columns
        if min(known.get("height", 0), known.get("width", 0)) > 0:
            return self
        return replace(self, stored=replace(self.stored, columns={"height": size[0], "width": size[1]}))

    def unprepared(self, dims: int) -> Given:
        """As a file would have it, with 2 or 3 coordinates."""
        if self.stored is None:
            return self
        frames, known = self.stored.frames.astype(np.float64), self.stored.columns
        height, width = known.get("height", 0), known.get("width", 0)
        size = (height, width) if min(height, width) > 0 else None
        recording = Recording(frames[..., :dims], frames[..., 2] if dims == 2 else None, size=size)
        return replace(self, recording=recording, stored=None, ready=False)

    def only(self, place: int, person: int) -> Given:
        """The person in this place of the M people of a recording."""
        assert self.recording is not None
        frames, score = self.recording.frames[:, [place]], self.recording.score
        alone = replace(self.recording, frames=frames, score=None if score is None else score[:, [place]])
        return replace(self, person=person, recording=alone)

    def sample(self, recognizer: Recognizer, name: str) -> Sample:
        """As the recogniser takes it, under another name; DataError where it cannot be used."""
        given = self.recording or self.stored
        assert given is not None
        return recognizer.as_stored(given, name, self.ready)


@dataclass(frozen=True)
class Problem:
    """A file, a sample or a line of a stream that cannot be labelled, and why.

    Attributes:
        id: of the file, sample or stream; None for a line of which it is not known.
        line: number of the line of standard input, from 1.
    """

    id: str | None
    reason: str
    line: int | None = None

    @classmethod
    def of(cls, id: str | None, error: Exception, line: int | None = None) -> Problem:
        """Of an error, which may begin with the name, as ``NAME: ...`` or ``NAME has ...``."""
        return cls(id, str(error).removeprefix(f"{id}: ").removeprefix(f"{id} "), line)

    @property
    def name(self) -> str:
        """For messages."""
        known = [self.id, None if self.line is None else f"line {self.line}"]
        return ", ".join(dict.fromkeys(one for one in known if one is not None))


def read_given(
    recognizer: Recognizer, place: Path, each: bool, axes: str | None = None, size: Size | None = None
) -> Iterator[Given | Problem]:
    """The sequences of a place, one after the other: a store, whole sets (CTR-GCN's .npz, PYSKL's pickle), or files.

    A place without any is a Problem.

    Args:
        each: each person is a sequence, see :func:`of_people`.
        axes: of arrays, such as TVC.
        size: (height, width) of the images of 2D poses, where the files do not say it.
    """
    try:
        for one in _read(recognizer, place, axes, size):
            yield from [one] if isinstance(one, Problem) else of_people(recognizer, one.of_size(size), each)
    except DataError as error:
        yield Problem.of(str(place), error)


def of_people(recognizer: Recognizer, given: Given, each: bool) -> Iterator[Given]:
    """A sequence for each of its people, or one of all; the network takes as many people as it was trained on."""
    there = np.flatnonzero(given.there().any(axis=0))
    if each and len(there) > 1:
        given = given.unprepared(recognizer.dims)
        yield from (given.only(place, person) for person, place in enumerate(there.tolist(), 1))
    else:
        fits = given.frames.shape[1] == recognizer.people
        yield given if fits else given.unprepared(recognizer.dims)


def _read(recognizer: Recognizer, place: Path, axes: str | None, size: Size | None) -> Iterator[Given | Problem]:
    """DataError: nothing there, or nothing of a known form; a store of another layout."""
    if (place / "meta.json").is_file():
        _without_axes(place, axes)
        store = SkeletonStore(place)
        yield from _of_samples(recognizer, place, _layout_of(recognizer, store), _samples(store))
        return
    whole = find_whole_sets(place)
    for path in whole:
        try:
            _without_axes(path, axes)
            yield from _of_whole_set(recognizer, path, size)
        except DataError as error:
            yield Problem.of(str(path), error)
    for inside in _stores_in(place):
        log.warning("the store %s is not read with the other files of %s; name it beside them", inside, place)
    takes = find_takes(place, FORMS, labelled=False, skip=whole)
    for reasons in takes.left_out.values():
        yield from (Problem(name, reason) for name, reason in reasons.items())
    for form in FORMS:
        if not form.arrays and any(take.form == form.name for take in takes.takes):
            _without_axes(place, axes, form.name)
    hints = Hints(recognizer.layout.num_joints, recognizer.dims, axes, recognizer.layout.joint_names)
    for take in takes.takes:
        take = replace(take, id=str(take.sources[0]) if len(take.sources) == 1 else str(place / take.id))
        try:
            yield _of_take(recognizer, take, hints)
        except DataError as error:
            yield Problem.of(take.id, error)


def _stores_in(folder: Path) -> list[Path]:
    """Stores that somebody prepared; what a run packed for itself is of data that lie beside it."""
    found = sorted(path.parent for path in folder.rglob("frames.npy") if (path.parent / "meta.json").is_file())
    return [store for store in found if ".store-" not in store.name]


def _without_axes(place: Path, axes: str | None, form: str = "") -> None:
    """Warns where axes are named of what says them itself."""
    if axes is not None:
        log.warning("%s says its axes itself%s: --axes has no effect on it", place, f" ({form})" if form else "")


def _of_take(recognizer: Recognizer, take: Take, hints: Hints) -> Given:
    """A file as the recogniser's data set itself reads it, where it does; else in a form that is known."""
    suffix = Path(take.sources[0].member or take.sources[0].path).suffix.lower()
    reader = recognizer.raw_readers.get(suffix) if len(take.sources) == 1 else None
    if reader is None:
        return Given(take.id, recording=read_take(take, hints))
    with damage_named():
        return Given(take.id, stored=Sample(take.id, 0, reader(take.sources[0].read())))


def _of_whole_set(recognizer: Recognizer, path: Path, size: Size | None) -> Iterator[Given | Problem]:
    """As the recogniser's data set itself reads it, where it does; else as it is converted."""
    samples = recognizer.whole_set(path, size)
    if samples is not None:
        yield from _of_samples(recognizer, path, recognizer.layout, samples, ready=True)
        return
    found = open_whole_set(path, Wishes(recognizer.layout, labelled=False))
    _check_kind(recognizer, path, recognizer.layout, found.meta["dims"])
    assert found.recording is not None
    for name, item in zip(found.ids, found.items, strict=True):
        try:
            yield Given(name, recording=found.recording(item))
        except Unusable as error:
            yield Problem(name, str(error))


def _of_samples(
    recognizer: Recognizer, place: Path, layout: SkeletonLayout, samples: Iterable[Sample], ready: bool = False
) -> Iterator[Given | Problem]:
    for sample in samples:
        _check_kind(recognizer, place, layout, 2 if "height" in sample.columns else 3)
        yield Problem(sample.id, sample.problem) if sample.problem else Given(sample.id, stored=sample, ready=ready)


def _check_kind(recognizer: Recognizer, place: Path, layout: SkeletonLayout, dims: int) -> None:
    """DataError where a place has other joints or coordinates than the network was trained on."""
    if layout.joint_names != recognizer.layout.joint_names or dims != recognizer.dims:
        raise DataError(
            f"{place} has joints of {layout.name} in {dims} dimensions, the network was trained on "
            f"{recognizer.layout.name} in {recognizer.dims}; convert this data with python -m "
            f"tools.convert FOLDER --layout {recognizer.layout.name} --out FOLDER"
        )


def _layout_of(recognizer: Recognizer, store: SkeletonStore) -> SkeletonLayout:
    return SkeletonLayout.get(store.meta["layout"]) if "layout" in store.meta else recognizer.layout


def _samples(store: SkeletonStore) -> Iterator[Sample]:
    """All sequences of a store, whose columns are the size of the image."""
    known: Sequence[str] = [name for name in ("height", "width") if name in store.columns]
    for row, name in enumerate(store.ids):
        columns = {key: int(store.columns[key][row]) for key in known}
        if name in store.problems:
            yield Sample(name, 0, problem=store.problems[name], columns=columns)
        else:
            yield Sample(name, 0, np.array(store.sequence(row)), columns=columns)
