"""One ``.skeleton`` file of NTU RGB+D -> one sequence, as CTR-GCN prepares it (docs/method.md, "NTU preparation").

Shapes: L frames, B bodies, M = 2 actors, V = 25 joints, C = 3 coordinates (metres, camera coordinates).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from ..ntu_protocols import COLUMNS, LAYOUT, NAME, NTU60_SETUPS, NUM_CLASS, parse_names
from ..store import DataError, Sample
from .prepare import FOREIGN, LeftOut, Source, Unusable

NUM_ACTORS = 2
JOINTS = LAYOUT.num_joints
CENTRE = LAYOUT.joint("spine_mid")
JOINT_COLUMNS = 12  # x y z, depth and colour place, orientation, state
BODY_COLUMNS = 10
MAX_GHOST_FRAMES = 11  # where there are other bodies, one with so few frames is a ghost
MAX_WIDTH = 0.8  # of a frame, as a share of its height; wider ones are noise
MAX_NOISY_SHARE = 0.69754  # of a body's frames
MAX_DIGITS = 9  # of a count


@dataclass(eq=False)
class Body:
    """One tracked body: joints (L, V, C) of consecutive frames from ``start`` on, and how much they move."""

    start: int
    joints: np.ndarray
    motion: float

    @property
    def end(self) -> int:
        """Its last frame."""
        return self.start + len(self.joints) - 1


def read_source(source: Source) -> Sample:
    """One raw file, prepared; an error in it becomes the sample's ``problem``."""
    columns = {key: int(values[0]) for key, values in parse_names([source.name]).items()}
    label = columns["action"] - 1
    try:
        frames, actors = read_sequence(source.read())
    except DataError as error:
        return Sample(source.name, label, problem=str(error), columns={**columns, "actors": 0})
    return Sample(source.name, label, frames, columns={**columns, "actors": actors})


def choose_sources(sources: Sequence[Source], dataset: str, missing: Collection[str]) -> tuple[list[Source], LeftOut]:
    """The raw files of ntu60 or ntu120 without those on the ``missing`` list, and what was left out."""
    left_out: LeftOut = {}
    chosen = []
    for source in sources:
        match = NAME.fullmatch(source.name)
        number = dict(zip(COLUMNS, map(int, match.groups()), strict=True)) if match else {}
        if not number:
            left_out.setdefault("bad name", {})[str(source)] = "not SsssCcccPpppRrrrAaaa"
        elif not 1 <= number["action"] <= NUM_CLASS[dataset] or (dataset == "ntu60" and number["setup"] > NTU60_SETUPS):
            left_out.setdefault(f"{FOREIGN}{dataset}", {})[source.name] = "by its set-up or action number"
        elif source.name in missing:
            left_out.setdefault("on the missing list", {})[source.name] = "its skeletons are missing or wrong"
        else:
            chosen.append(source)
    return chosen, left_out


def read_sequence(text: bytes) -> tuple[np.ndarray, int]:
    """The whole preparation of one file.

    Returns:
        frames (L, M, V, C) float32, with actor 1's first spine_mid at the origin, and the number of actors, 1 or 2.
        Where there is one, the second is 0.

    Raises:
        Unusable: empty, damaged (with the line), no body, or no actor.
    """
    bodies, num_frames = parse(text)
    if not bodies:
        raise Unusable("no body: in none of its frames")
    if len(bodies) == 1:
        return translate(_one_actor(bodies[0], num_frames)), 1
    bodies = denoise(bodies)
    if not bodies:
        raise Unusable(f"no actor: all bodies are seen in {MAX_GHOST_FRAMES} frames or fewer")
    joints = _one_actor(bodies[0], num_frames) if len(bodies) == 1 else two_actors(bodies, num_frames)
    joints = joints[joints.reshape(num_frames, -1).sum(axis=1) != 0]
    return translate(joints), min(len(bodies), NUM_ACTORS)


def parse(text: bytes) -> tuple[list[Body], int]:
    """Bodies in the order in which they appear, and the number of frames that have any. LF or CRLF.

    Raises:
        Unusable: the text is empty, no skeleton file, cut off, or its counts contradict its lines.
    """
    if not text.strip():
        raise Unusable(f"empty: {len(text)} bytes")
    lines = _Lines(text)
    starts: dict[bytes, int] = {}
    places: dict[bytes, list[int]] = {}  # of the first joint in each of a body's frames, among the lines
    frames, valid = lines.number("the number of frames"), 0
    for frame in range(frames):
        count = lines.number(f"the number of bodies of frame {frame}")
        seen: set[bytes] = set()
        for _ in range(count):
            what = f"a body of frame {frame} ({BODY_COLUMNS} columns, {count} bodies announced)"
            body = lines.words(what, BODY_COLUMNS)[0]  # a string: the numbers are too large for a float
            if body in seen:
                raise lines.damaged(f"body {_shown(body)} is twice in frame {frame}")
            seen.add(body)
            joints = lines.number(f"the number of joints of a body of frame {frame}")
            if joints != JOINTS:
                raise lines.damaged(f"{joints} joints, wanted {JOINTS}")
            starts.setdefault(body, valid)
            places.setdefault(body, []).append(lines.place)
            what = f"a joint of frame {frame} ({JOINT_COLUMNS} columns)"
            for _ in range(JOINTS):
                lines.words(what, JOINT_COLUMNS)
        valid += count > 0
    if lines.place < len(lines.all):
        lines.place += 1
        raise lines.damaged(f"text after the last of {frames} frames: {_shown(lines.all[lines.place - 1])}")
    coordinates = [(starts[body], _coordinates(lines.all, places[body])) for body in places]
    return [Body(start, joints, _motion(joints)) for start, joints in coordinates], valid


class _Lines:
    """The lines of a file, read one after the other; a wrong one raises Unusable with its number."""

    def __init__(self, text: bytes) -> None:
        self.all = text.rstrip().splitlines()
        self.place = 0  # of the next one

    def damaged(self, reason: str) -> Unusable:
        """The error in the line that was read last."""
        return Unusable(f"damaged: line {self.place}: {reason}")

    def words(self, what: str, columns: int) -> list[bytes]:
        """The next line's words."""
        if self.place >= len(self.all):
            raise Unusable(f"damaged: the file was cut off after line {self.place}, where {what} should follow")
        words = self.all[self.place].split()
        self.place += 1
        if len(words) != columns:
            found = f"{len(words)} columns, {_shown(self.all[self.place - 1])}"
            raise self.damaged(f"expected {what}, found {found}; is a count wrong?")
        return words

    def number(self, what: str) -> int:
        """The next line, a whole number."""
        (word,) = self.words(what, 1)
        if not word.isdigit() or len(word) > MAX_DIGITS:
            raise self.damaged(f"expected {what}, found {_shown(word)}")
        return int(word)


def _shown(line: bytes) -> str:
    return repr(line[:40].decode("ascii", "replace"))


def _coordinates(lines: list[bytes], places: list[int]) -> np.ndarray:
    """(L, V, C): x y z of a body's joints, which begin at ``places`` among the lines."""
    numbers = [first + joint for first in places for joint in range(JOINTS)]
    rows = [lines[number] for number in numbers]
    joints = _numbers(rows)
    wrong = np.flatnonzero(~np.isfinite(joints).all(axis=1))
    if len(wrong):
        raise Unusable(
            f"damaged: line {numbers[wrong[0]] + 1}: x y z are not finite numbers: {_shown(rows[wrong[0]])} "
            f"({len(wrong)} such lines)"
        )
    return joints.reshape(-1, JOINTS, 3)


def _numbers(rows: list[bytes]) -> np.ndarray:
    """The first three numbers of each line; NaN where it has none."""
    try:
        return np.loadtxt(rows, dtype=np.float32, usecols=(0, 1, 2), comments=None, ndmin=2)
    except ValueError:
        alone = np.full((1, 3), np.nan, np.float32)
        return alone if len(rows) == 1 else np.concatenate([_numbers([row]) for row in rows])


def _motion(joints: np.ndarray) -> float:
    """Variance of x, y and z over all frames and joints (L, V, C), summed."""
    return float(joints.reshape(-1, 3).var(axis=0).sum())


def denoise(bodies: list[Body]) -> list[Body]:
    """The actors among several bodies, largest motion first: without ghosts and bodies too wide for their height."""
    bodies = [body for body in bodies if len(body.joints) > MAX_GHOST_FRAMES]
    for body in list(bodies):
        if len(bodies) == 1:
            break
        x, y = np.ptp(body.joints[..., 0], axis=1), np.ptp(body.joints[..., 1], axis=1)
        noisy = x > MAX_WIDTH * y
        if noisy.mean() >= MAX_NOISY_SHARE:
            bodies.remove(body)
        elif noisy.any():
            body.motion = min(body.motion, _motion(body.joints[~noisy]))
    return sorted(bodies, key=lambda body: -body.motion)


def _one_actor(body: Body, num_frames: int) -> np.ndarray:
    """(L, 1, V, C) with zeros where the body is not seen."""
    joints = np.zeros((num_frames, 1, JOINTS, 3), np.float32)
    joints[body.start : body.end + 1, 0] = body.joints
    return joints


def two_actors(bodies: list[Body], num_frames: int) -> np.ndarray:
    """(L, 2, V, C): a body joins actor 1 where they do not overlap in time, else actor 2; else it is dropped."""
    joints = np.zeros((num_frames, NUM_ACTORS, JOINTS, 3), np.float32)
    first, *others = bodies
    joints[first.start : first.end + 1, 0] = first.joints
    intervals = [(first.start, first.end), (0, 0)]
    for body in others:
        for actor, (start, end) in enumerate(intervals):
            if min(end, body.end) - max(start, body.start) <= 0:
                joints[body.start : body.end + 1, actor] = body.joints
                intervals[actor] = min(start, body.start), max(end, body.end)
                break
    return joints


def translate(joints: np.ndarray) -> np.ndarray:
    """(L, 1 or 2, V, C) -> (L, 2, V, C) with actor 1's first spine_mid at the origin; an absent second actor is 0."""
    there = joints[:, 0].any(axis=(1, 2))
    if not there.any():
        raise Unusable("no actor: all coordinates are 0")
    moved = joints - joints[there.argmax(), 0, CENTRE]
    if joints.shape[1] == 1:
        return np.concatenate([moved, np.zeros_like(moved)], axis=1)
    moved[joints.sum(axis=(2, 3)) == 0] = 0
    return moved
