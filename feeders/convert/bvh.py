"""BVH motion capture files -> positions of the joints, by forward kinematics; in the units of the file.

A joint's rotation is the product of its rotation channels in the order in which they are listed. Its position channels
take the place of its offset, as programs that write them for every joint mean it. End sites have no channels: they
move as their parents do, most layouts do not count them, and they are dropped, unless ``Hints.num_joints`` is the
number of joints with them; then they are called NAME_end.

Shapes: L frames, V joints.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .axes import recording_of
from .prepare import Source, Unusable
from .recording import Form, Hints, Recording
from .text import is_numbers, lines_of, numbers_in, shown

END = "_end"
AXES = {"x": 0, "y": 1, "z": 2}
MAX_JOINTS = 1000
BYTES = 6  # of a joint in a frame, at least: three numbers and what separates them


@dataclass
class Joint:
    """One joint, or an end site. ``parent`` is its place among the joints, -1 for the root."""

    name: str
    parent: int
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3))
    channels: tuple[str, ...] = ()  # such as xposition, zrotation
    first: int = 0  # its first channel among those of a frame
    end: bool = False


def read(sources: Sequence[Source], hints: Hints) -> Recording:
    """The joints of a BVH file, their names and bones; Unusable where it is damaged, with the line."""
    if len(sources) != 1:
        raise Unusable(f"several files: {len(sources)} BVH files for one take")
    content = sources[0].read()
    lines = lines_of(content)
    joints, place = parse_hierarchy(lines)
    motion = _motion(lines, place, sum(len(joint.channels) for joint in joints))
    if BYTES * len(motion) * sum(not joint.end for joint in joints) > len(content):
        raise Unusable(f"damaged: {len(joints)} joints with only {motion.shape[1]} channels")
    if np.isinf(motion).any():
        raise Unusable(f"damaged: infinite numbers, first in frame {int(np.isinf(motion).any(axis=1).argmax())}")
    positions = forward(joints, motion)
    whole = hints.num_joints == len(joints)
    kept = [number for number, joint in enumerate(joints) if whole or not joint.end]
    place_of = {number: place for place, number in enumerate(kept)}
    bones = tuple((place_of[number], place_of[joints[number].parent]) for number in kept if joints[number].parent >= 0)
    known = Hints(len(kept), 3, "TVC")
    names = tuple(joints[number].name for number in kept)
    return recording_of(positions[:, kept], known, joint_names=names, bones=bones)


def parse_hierarchy(lines: Sequence[str]) -> tuple[list[Joint], int]:
    """The joints and end sites of a file, parents first, and the place of the line after MOTION.

    Raises:
        Unusable: what is no hierarchy, with the line.
    """
    joints: list[Joint] = []
    around: list[int] = []  # the joints whose braces are open
    declared = False  # the last joint waits for its brace
    for number, part in ((number, part) for number, line in enumerate(lines, 1) for part in _parts(line)):
        word = part.split()[0].lower()
        if declared != (word == "{"):
            raise _damaged(number, part, "wanted {" if declared else "a { without a joint")
        if word == "motion":
            if around or not joints:
                raise _damaged(number, part, "braces are open" if around else "no joint before it")
            return joints, number
        if word in ("root", "joint", "end"):
            if (word == "root") != (not joints) or (word != "root" and not around):
                raise _damaged(number, part, "a joint must lie in the one ROOT")
            joints.append(_joint(number, part, joints, around[-1] if around else -1))
            declared = True
        elif word == "{":
            around.append(len(joints) - 1)
            declared = False
        elif word == "}" and around:
            around.pop()
        elif word in ("offset", "channels") and around:
            _describe(joints[around[-1]], number, part, sum(len(joint.channels) for joint in joints))
        elif word != "hierarchy" or joints:
            raise _damaged(number, part, "not a line of a hierarchy")
    raise Unusable(f"damaged: the file was cut off after line {len(lines)}, before MOTION")


def _parts(line: str) -> list[str]:
    """A line, cut at its braces."""
    return [part.strip() for part in re.split(r"([{}])", line) if part.strip()]


def _damaged(number: int, line: str, reason: str) -> Unusable:
    return Unusable(f"damaged: line {number}: {reason}: {shown(line)}")


def _joint(number: int, line: str, joints: Sequence[Joint], parent: int) -> Joint:
    """The joint or end site that a line declares; an end site is called as its parent."""
    kind, *name_of = line.split(maxsplit=1)
    name, end = "".join(name_of), kind.lower() == "end"
    if len(joints) == MAX_JOINTS:
        raise _damaged(number, line, f"more than {MAX_JOINTS} joints")
    if end:
        same = sum(joint.end and joint.parent == parent for joint in joints)
        name = f"{joints[parent].name}{END}{same + 1 if same else ''}"
    name = name or f"joint{len(joints)}"
    if any(joint.name == name for joint in joints):
        raise _damaged(number, line, f"a second joint {name}")
    return Joint(name, parent, end=end)


def _describe(joint: Joint, number: int, line: str, channels: int) -> None:
    """Takes a joint's OFFSET or CHANNELS; ``channels``: how many the joints before it have."""
    word, *values = line.lower().split()
    if word == "offset":
        if len(values) != 3 or not is_numbers(" ".join(values)):
            raise _damaged(number, line, "wanted three numbers")
        joint.offset = np.array(values, np.float64)
        return
    known = all(value[0] in AXES and value[1:] in ("position", "rotation") for value in values[1:])
    if not values or values[0] != str(len(values) - 1) or not known or len(set(values)) < len(values):
        raise _damaged(number, line, "wanted a number, and so many of Xposition .. Zrotation")
    joint.channels, joint.first = tuple(values[1:]), channels


def _motion(lines: Sequence[str], place: int, channels: int) -> np.ndarray:
    """(L, channels): the frames after the lines Frames: and Frame Time:."""
    there = [number for number in range(place, len(lines)) if lines[number]]
    head = [lines[number].lower().partition(":") for number in there[:2]]
    if [word.strip() for word, _, _ in head] != ["frames", "frame time"] or not head[0][2].strip().isdecimal():
        raise Unusable(f"damaged: line {place + 1}: wanted Frames: and Frame Time: after MOTION")
    number, left = head[0][2].strip(), len(there) - 2
    if number.lstrip("0") != (str(left) if left else ""):
        raise Unusable(f"damaged: {shown(number)} frames announced, {left} there")
    if not left or not channels:
        raise Unusable(f"no numbers: {left} frames of {channels} channels")
    return numbers_in(lines[there[2] :], there[2] + 1, channels)


def forward(joints: Sequence[Joint], motion: np.ndarray) -> np.ndarray:
    """(L, V, 3) positions of all joints in a hierarchy, from their channels (L, channels), angles in degrees."""
    positions = np.zeros((len(motion), len(joints), 3))
    turns: dict[int, np.ndarray] = {}  # joint -> (L, 3, 3)
    for number, joint in enumerate(joints):
        local = np.tile(joint.offset, (len(motion), 1))
        turn = turns[joint.parent] if joint.parent >= 0 else np.eye(3)[None]
        parent_turn = turn
        for channel, values in zip(joint.channels, motion[:, joint.first :].T, strict=False):
            if channel.endswith("position"):
                local[:, AXES[channel[0]]] = values
            else:
                turn = turn @ rotation(channel[0], values)
        before = positions[:, joint.parent] if joint.parent >= 0 else 0.0
        positions[:, number] = before + (parent_turn @ local[..., None])[..., 0]
        turns[number] = turn
    return positions


def rotation(axis: str, degrees: np.ndarray) -> np.ndarray:
    """(L, 3, 3): rotations about x, y or z, counter-clockwise seen from its end."""
    angle = np.deg2rad(degrees)
    one, other = (AXES[axis] + 1) % 3, (AXES[axis] + 2) % 3
    turn = np.tile(np.eye(3), (len(angle), 1, 1))
    sine, cosine = np.sin(angle), np.cos(angle)
    turn[:, one, one] = turn[:, other, other] = cosine
    turn[:, other, one] = sine
    turn[:, one, other] = -sine
    return turn


FORMS = (Form("BVH", lambda name, start: start.lstrip(b"\xef\xbb\xbf \t\r\n")[:9].lower() == b"hierarchy", read),)
