"""Who is who: people found frame by frame -> people over time.

In each frame the people who are followed are paired with those who were found, so that the sum of their similarities is
largest (the Hungarian method). The similarity is COCO's object keypoint similarity between a person's last joints,
moved on with constant velocity, and the joints that were found. The idea is that of SORT (Bewley et al., ICIP 2016).

Shapes: V joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from .poses import SEEN

REACH = 0.16  # standard deviation of a joint's place from frame to frame, as a share of the body's size
LEAST = 0.1  # similarity, 0 .. 1, under which two are not the same person
LOST = 30  # frames after which somebody who was not seen is somebody else
SURE = 3  # frames in which somebody must be found to be counted
SMOOTH = 0.7  # share of the old velocity that stays


@dataclass(eq=False)
class Person:
    """Somebody who is followed.

    Attributes:
        joints: (V, 3) x, y, score as found last.
        last: the frame of that.
        number: 1, 2, 3, ... in the order in which people are sure; 0 as long as it is not sure that there is somebody.
    """

    joints: np.ndarray
    last: int
    number: int = 0
    found: int = 1  # in how many frames
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))  # pixels a frame

    def expected(self, frame: int) -> np.ndarray:
        """(V, 2) where the joints are in a frame, if the person moves on."""
        place: np.ndarray = self.joints[:, :2] + self.velocity * (frame - self.last)
        return place

    def see(self, frame: int, joints: np.ndarray) -> None:
        """The person was found again."""
        both = (self.joints[:, 2] >= SEEN) & (joints[:, 2] >= SEEN)
        moved = (joints[both, :2] - self.joints[both, :2]).mean(axis=0) / (frame - self.last)
        self.velocity = moved if self.found == 1 else SMOOTH * self.velocity + (1 - SMOOTH) * moved
        self.joints, self.last, self.found = joints, frame, self.found + 1


class Tracker:
    """Gives people an identity that they keep over the frames, also when they are not found for up to LOST of them."""

    def __init__(self) -> None:
        self.people: list[Person] = []
        self.counted = 0

    def lose(self, frame: int) -> list[Person]:
        """Forgets the people who were not seen for too long, and returns them. To be called before :meth:`follow`."""
        gone = [person for person in self.people if frame - person.last > LOST]
        self.people = [person for person in self.people if person not in gone]
        return gone

    def follow(self, frame: int, found: Sequence[np.ndarray]) -> list[Person]:
        """The person that each of the found ones is.

        Args:
            frame: its number; grows from call to call.
            found: joints (V, 3) of each: x and y in pixels, score.
        """
        old = list(self.people)
        alike = similarities(old, frame, found)
        rows, columns = linear_sum_assignment(np.where(alike >= LEAST, alike, 0), maximize=True)
        known = {column: old[row] for row, column in zip(rows, columns, strict=True) if alike[row, column] >= LEAST}
        people = []
        for place, joints in enumerate(found):
            if place in known:
                person = known[place]
                person.see(frame, joints)
            else:
                person = Person(joints, frame)
                self.people.append(person)
            if not person.number and person.found >= SURE:
                self.counted += 1
                person.number = self.counted
            people.append(person)
        return people


def similarities(people: Sequence[Person], frame: int, found: Sequence[np.ndarray]) -> np.ndarray:
    """(n, m) object keypoint similarity, 0 .. 1, of n people and m found joints (V, 3).

    With one spread for all joints, that grows with the frames since a person was found last.
    """
    if not people or not found:
        return np.zeros((len(people), len(found)))
    old, new = np.stack([person.joints for person in people])[:, None], np.stack(found)[None]
    both = (old[..., 2] >= SEEN) & (new[..., 2] >= SEEN)
    place = np.stack([person.expected(frame) for person in people])[:, None]
    sizes = [np.array([body_size(joints) for joints in several]) for several in (old[:, 0], new[0])]
    size = np.maximum.outer(*sizes)
    since = np.array([frame - person.last for person in people])[:, None]
    spread = 2 * (REACH * size) ** 2 * since
    alike = np.exp(-((place - new[..., :2]) ** 2).sum(axis=-1) / spread[..., None])
    return np.asarray((alike * both).sum(axis=-1) / np.maximum(both.sum(axis=-1), 1))


def body_size(joints: np.ndarray) -> float:
    """The longer side of the box around the joints (V, 3) that are seen, over the square root of 2; 1 at least."""
    seen = joints[joints[:, 2] >= SEEN, :2]
    return max(float(np.ptp(seen, axis=0).max()) / 2**0.5, 1.0) if len(seen) else 1.0
