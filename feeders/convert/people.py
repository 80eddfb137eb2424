"""People found frame by frame -> one array of a take.

Shapes: L frames, M people, V joints, C numbers of a joint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .axes import MANY

CROWD = 50  # most people of a frame that are looked at
LOST = 30  # frames after which somebody who was not seen is somebody else
REACH = 1.0  # body sizes (diagonals of the box around a body) that somebody moves at most between frames


@dataclass(eq=False)
class Person:
    """One person in one frame: joints (V, C), NaN where not seen; ``track`` says who it is, where the file does."""

    joints: np.ndarray
    track: str | None = None


@dataclass(eq=False)
class _Track:
    """One person over time."""

    name: str | None
    frames: list[int] = field(default_factory=list)
    people: list[Person] = field(default_factory=list)


def join_people(frames: Sequence[Sequence[Person]], dims: int) -> np.ndarray:
    """(L, M, V, C): the same person in the same place in all frames, NaN where absent.

    Where the file says who is who, that holds. Where no frame has more than one person, it is always the same one. Else
    the pair of a person and a track that are nearest to each other (mean distance of the joints that both have) is
    joined first, then the next pair; who is farther than ``REACH`` body sizes from every track begins a new one. Of
    more than 10 tracks, those with the most frames stay.

    Args:
        frames: the people of each frame; all have the same V and C.
        dims: how many of the C numbers are coordinates.
    """
    if all(len(people) < 2 for people in frames):
        frames = [[Person(person.joints, person.track or "") for person in people] for people in frames]
    tracks: list[_Track] = []
    named: dict[str, _Track] = {}
    alive: list[_Track] = []
    for frame, people in enumerate(frames):
        unknown = []
        for person in people[:CROWD]:
            if person.track is None:
                unknown.append(person)
                continue
            if person.track not in named:
                named[person.track] = _Track(person.track)
                tracks.append(named[person.track])
            _add(named[person.track], frame, person)
        alive = [track for track in alive if frame - track.frames[-1] <= LOST]
        for person, track in _pairs(unknown, alive, dims):
            if track is None:
                track = _Track(None)
                tracks.append(track)
                alive.append(track)
            _add(track, frame, person)
    longest = sorted(tracks, key=lambda track: -len(track.frames))[:MANY]
    tracks = [track for track in tracks if track in longest]
    joined = np.full((len(frames), len(tracks), *tracks[0].people[0].joints.shape), np.nan)
    for number, track in enumerate(tracks):
        joined[track.frames, number] = [person.joints for person in track.people]
    return joined


def _add(track: _Track, frame: int, person: Person) -> None:
    """Puts a person into a track; who is twice in a frame counts once."""
    if not track.frames or track.frames[-1] != frame:
        track.frames.append(frame)
        track.people.append(person)


def _pairs(people: Sequence[Person], tracks: Sequence[_Track], dims: int) -> list[tuple[Person, _Track | None]]:
    """Each person with its track, or None."""
    near = []
    for one, person in enumerate(people):
        for other, track in enumerate(tracks):
            here, there = person.joints[:, :dims], track.people[-1].joints[:, :dims]
            both = np.isfinite(here).all(axis=1) & np.isfinite(there).all(axis=1)
            if both.any():
                distance = float(np.linalg.norm(here[both] - there[both], axis=1).mean())
                if distance <= REACH * max(_size(here), _size(there)):
                    near.append((distance, one, other))
    of: dict[int, int] = {}
    for _, one, other in sorted(near):
        if one not in of and other not in of.values():
            of[one] = other
    return [(person, tracks[of[one]] if one in of else None) for one, person in enumerate(people)]


def _size(joints: np.ndarray) -> float:
    """Diagonal of the box around the joints that are seen."""
    seen = joints[np.isfinite(joints).all(axis=1)]
    return float(np.linalg.norm(np.ptp(seen, axis=0))) if len(seen) else 0.0
