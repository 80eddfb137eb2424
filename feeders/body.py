"""A made-up human body that performs twelve actions: the people of ``feeders.synthetic``.

A body is 25 joints (layout ``ntu25``) that hang on each other by bones of fixed length. An action is a set of
joint-angle curves for the joints of one or two body parts; forward kinematics turns the angles into positions.

Frame of the body: x to the person's left, y up, z forward; the origin is the base of the spine. Metres, frames and
degrees throughout.

Shapes: T frames, V = 25 joints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from shapmix.skeleton import SkeletonLayout

LAYOUT = SkeletonLayout.get("ntu25")
FRAME_RATE = 30.0  # frames a second

# One joint's angles (bend, twist, spread) in degrees; each is a number or an array (T,). On both sides of the body bend
# is the natural way (forward; a knee backward), twist turns about the limb's own axis and spread leads sideways, both
# positive away from the midline. For joints of the trunk, twist is to the person's left and spread to the right.
Angles = tuple[np.ndarray | float, np.ndarray | float, np.ndarray | float]
Curve = Callable[[np.ndarray, np.ndarray], dict[str, Angles]]


@dataclass(frozen=True)
class Action:
    """One class of the data set. ``curve(hold, cycle)``: angles of the joints that move, added to the resting posture.

    ``hold`` (T,) rises from 0 to 1 as the action begins and falls back as it ends; ``cycle`` (T,) counts the
    repetitions, from 0 to their number.
    """

    name: str
    parts: tuple[str, ...]  # of the layout, which carry the action
    curve: Curve


def _swing(cycle: np.ndarray) -> np.ndarray:
    """(T,) in -1 .. 1: back and forth once per repetition, 0 at its start and end."""
    return np.sin(2 * np.pi * cycle)


def _pulse(cycle: np.ndarray, centre: float = 0.5, sharpness: float = 1.0) -> np.ndarray:
    """(T,) in 0 .. 1: one bump per repetition, with its top at ``centre`` of the repetition; sharper is shorter."""
    return (0.5 + 0.5 * np.cos(2 * np.pi * (cycle - centre))) ** sharpness


def _wave(side: str, hold: np.ndarray, cycle: np.ndarray) -> dict[str, Angles]:
    """The upper arm out to the side, the forearm up and swinging from left to right."""
    return {
        f"{side}_shoulder": (0.0, 90 * hold, 75 * hold),
        f"{side}_elbow": (hold * (75 + 32 * _swing(cycle)), 0.0, 0.0),
        f"{side}_wrist": (hold * 15 * _swing(cycle - 0.1), 0.0, 0.0),
    }


def _throw(side: str, hold: np.ndarray, cycle: np.ndarray) -> dict[str, Angles]:
    """The arm raised and drawn back as for a wave, then thrown forward and stretched."""
    cock, fling = hold * _pulse(cycle, 0.35), hold * _pulse(cycle, 0.65, 2.0)
    return {
        f"{side}_shoulder": (75 * fling, 90 * cock * (1 - fling), 80 * cock * (1 - 0.8 * fling)),
        f"{side}_elbow": (100 * cock * (1 - fling), 0.0, 0.0),
        f"{side}_wrist": (30 * (fling - cock), 0.0, 0.0),
    }


def _punch(side: str, hold: np.ndarray, cycle: np.ndarray) -> dict[str, Angles]:
    """The fist drawn back at the ribs, then the arm stretched forward."""
    reach = _pulse(cycle, sharpness=1.5)
    return {
        f"{side}_shoulder": (hold * (-20 + 105 * reach), 0.0, hold * (15 - 15 * reach)),
        f"{side}_elbow": (hold * (105 - 105 * reach), 0.0, 0.0),
    }


def _both_arms(shoulder: Angles, elbow: Angles) -> dict[str, Angles]:
    arm = {"shoulder": shoulder, "elbow": elbow}
    return {f"{side}_{joint}": angles for side in ("left", "right") for joint, angles in arm.items()}


def _clap(hold: np.ndarray, cycle: np.ndarray) -> dict[str, Angles]:
    """Both forearms raised before the chest, the hands meeting once per repetition."""
    apart = 0.5 + 0.5 * _swing(cycle)
    shoulder = (50 * hold, hold * (-29 + 50 * apart), hold * (-8 + 18 * apart))
    return _both_arms(shoulder, elbow=(65 * hold, 0.0, 0.0))


def _raise_arms(hold: np.ndarray, cycle: np.ndarray) -> dict[str, Angles]:
    """Both arms lifted forward above the head and lowered again."""
    lift = hold * _pulse(cycle)
    return _both_arms(shoulder=(145 * lift, 0.0, 8 * lift), elbow=(25 * lift, 0.0, 0.0))


def _kick(side: str, hold: np.ndarray, cycle: np.ndarray) -> dict[str, Angles]:
    """The leg drawn back with the knee bent, then swung forward and stretched."""
    draw, strike = hold * _pulse(cycle, 0.3, 2.0), hold * _pulse(cycle, 0.6, 1.5)
    return {
        f"{side}_hip": (75 * strike - 20 * draw, 0.0, 0.0),
        f"{side}_knee": (70 * draw * (1 - 0.5 * strike), 0.0, 0.0),
        f"{side}_ankle": (-20 * strike, 0.0, 0.0),
    }


def _lift_knee(side: str, hold: np.ndarray, cycle: np.ndarray) -> dict[str, Angles]:
    """The thigh lifted forward, the shank hanging from the knee."""
    lift = hold * _pulse(cycle)
    return {f"{side}_hip": (80 * lift, 0.0, 0.0), f"{side}_knee": (80 * lift, 0.0, 0.0)}


def _march(hold: np.ndarray, cycle: np.ndarray) -> dict[str, Angles]:
    """Steps on the spot: once per repetition the left knee is lifted, then the right."""
    angles: dict[str, Angles] = {}
    for side, sign in (("left", 1), ("right", -1)):
        lift = hold * np.maximum(sign * _swing(cycle), 0.0) ** 2
        angles[f"{side}_hip"], angles[f"{side}_knee"] = (75 * lift, 0.0, 0.0), (85 * lift, 0.0, 0.0)
    return angles


def _bow(hold: np.ndarray, cycle: np.ndarray) -> dict[str, Angles]:
    """The upper back and the head bent forward and raised again, the arms staying where they are."""
    bend = hold * _pulse(cycle)
    return {"spine_mid": (45 * bend, 0.0, 0.0), "spine_shoulder": (20 * bend, 0.0, 0.0), "neck": (15 * bend, 0.0, 0.0)}


def _lean(hold: np.ndarray, cycle: np.ndarray) -> dict[str, Angles]:
    """The upper back and the head leaned to one side, then to the other, the arms staying where they are."""
    lean = hold * _swing(cycle)
    return {"spine_mid": (0.0, 0.0, 45 * lean), "spine_shoulder": (0.0, 0.0, 15 * lean), "neck": (0.0, 0.0, 10 * lean)}


# Training counts fall with the index. The order mixes the parts, and of two similar actions (wave and throw, kick and
# knee lift, bow and lean, clap and raise, punch and wave) one is more frequent than the other.
ACTIONS: tuple[Action, ...] = (
    Action("wave_right", ("right_arm",), partial(_wave, "right")),
    Action("kick_left", ("left_leg",), partial(_kick, "left")),
    Action("bow", ("trunk",), _bow),
    Action("clap", ("right_arm", "left_arm"), _clap),
    Action("lean", ("trunk",), _lean),
    Action("punch_left", ("left_arm",), partial(_punch, "left")),
    Action("kick_right", ("right_leg",), partial(_kick, "right")),
    Action("throw_right", ("right_arm",), partial(_throw, "right")),
    Action("march", ("right_leg", "left_leg"), _march),
    Action("raise_arms", ("right_arm", "left_arm"), _raise_arms),
    Action("lift_knee_left", ("left_leg",), partial(_lift_knee, "left")),
    Action("wave_left", ("left_arm",), partial(_wave, "left")),
)

STATURE = 1.75  # metres, of the body in the table
ROOT = "spine_base"
# Joint -> (the joint that carries it, offset from it at rest), carriers first; the right side mirrors the left. The
# shoulders hang on the root, so that a turn of spine_mid moves the upper back and the head without the arms.
_HALF_BODY: dict[str, tuple[str, tuple[float, float, float]]] = {
    "spine_mid": (ROOT, (0.0, 0.29, 0.0)),
    "spine_shoulder": ("spine_mid", (0.0, 0.23, 0.0)),
    "neck": ("spine_shoulder", (0.0, 0.09, 0.0)),
    "head": ("neck", (0.0, 0.14, 0.02)),
    "left_shoulder": (ROOT, (0.18, 0.49, 0.0)),
    "left_elbow": ("left_shoulder", (0.0, -0.28, 0.0)),
    "left_wrist": ("left_elbow", (0.0, -0.25, 0.0)),
    "left_hand": ("left_wrist", (0.0, -0.08, 0.0)),
    "left_hand_tip": ("left_hand", (0.0, -0.08, 0.0)),
    "left_thumb": ("left_hand", (0.0, -0.02, 0.05)),
    "left_hip": (ROOT, (0.09, -0.05, 0.0)),
    "left_knee": ("left_hip", (0.0, -0.42, 0.0)),
    "left_ankle": ("left_knee", (0.0, -0.40, 0.0)),
    "left_foot": ("left_ankle", (0.0, -0.07, 0.14)),
}
# Angles at rest, of both sides.
_REST: dict[str, Angles] = {"shoulder": (0, 0, 7), "elbow": (14, 0, 0), "hip": (0, 8, 3), "knee": (5, 0, 0)}


def _sign(joint: str) -> tuple[float, float, float]:
    """Factors from (bend, twist, spread) of a joint to its angles about the axes x, y, z of the body."""
    hangs = joint.startswith(("left", "right"))  # what makes the spine lean back makes a hanging limb swing forward
    side = -1.0 if joint.startswith("right") else 1.0
    return -1.0 if hangs and not joint.endswith("knee") else 1.0, side, side


_SIGNS = np.array([_sign(joint) for joint in LAYOUT.joint_names])


def sample_body(rng: np.random.Generator) -> dict[str, tuple[str, np.ndarray]]:
    """A body of random height and proportions, left and right alike, in the form of ``_HALF_BODY``."""
    scale = np.clip(rng.normal(1.70, 0.10), 1.45, 1.95) / STATURE
    body: dict[str, tuple[str, np.ndarray]] = {}
    for joint, (carrier, offset) in _HALF_BODY.items():
        bone = scale * np.clip(rng.normal(1.0, 0.05), 0.85, 1.15) * np.array(offset)
        body[joint] = carrier, bone
        if joint.startswith("left"):
            body[joint.replace("left", "right")] = carrier.replace("left", "right"), bone * (-1.0, 1.0, 1.0)
    return body


def rotations(angles: np.ndarray) -> np.ndarray:
    """(..., 3) degrees about x, y, z -> (..., 3, 3): first about y (a limb's own axis), then z, then x."""
    (cx, cy, cz), (sx, sy, sz) = (np.moveaxis(f(np.deg2rad(angles)), -1, 0) for f in (np.cos, np.sin))
    rows = (
        (cz * cy, -sz, cz * sy),
        (cx * sz * cy + sx * sy, cx * cz, cx * sz * sy - sx * cy),
        (sx * sz * cy - cx * sy, sx * cz, sx * sz * sy + cx * cy),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def forward_kinematics(body: Mapping[str, tuple[str, np.ndarray]], angles: np.ndarray) -> np.ndarray:
    """Bend, twist and spread (T, V, 3) in degrees -> positions (T, V, 3) in metres, in the frame of the body.

    Each joint is turned by its own angles and by those of all joints that carry it.
    """
    turns = rotations(angles * _SIGNS)
    positions = np.zeros_like(angles)
    for joint, (carrier, offset) in body.items():
        own, base = LAYOUT.joint(joint), LAYOUT.joint(carrier)
        positions[:, own] = positions[:, base] + turns[:, base] @ offset
        turns[:, own] = turns[:, base] @ turns[:, own]
    return positions


def _timing(frames: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """``hold`` and ``cycle``, both (T,), of an action at a random tempo and moment, with rest before and after."""
    period = rng.uniform(18.0, 32.0)
    repetitions = rng.integers(1, max(1, int(0.8 * frames / period)), endpoint=True)
    begin = (frames - repetitions * period) * rng.uniform(0.25, 0.75)
    end = begin + repetitions * period
    time = np.arange(frames)
    ramp = np.clip(np.minimum(time - begin + 4, end + 4 - time) / 8, 0.0, 1.0)
    return ramp**2 * (3 - 2 * ramp), np.clip((time - begin) / period, 0.0, repetitions)


def sway(frames: int, channels: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """(T, *channels) smooth random curves of standard deviation 1: three slow sines each (0.1 to 0.6 Hz)."""
    rate = rng.uniform(0.1, 0.6, (3, 1, *channels)) * 2 * np.pi / FRAME_RATE
    phase = rng.uniform(0.0, 2 * np.pi, (3, 1, *channels))
    time = np.arange(frames).reshape(-1, *(1 for _ in channels))
    return np.sin(rate * time + phase).sum(axis=0) * np.sqrt(2 / 3)


def joint_angles(action: Action, frames: int, rng: np.random.Generator, distraction: float = 0.0) -> np.ndarray:
    """(T, V, 3) degrees: one person's resting posture, idle sway and performance of an action.

    Args:
        distraction: largest amplitude of another action that other body parts perform at the same time. Each sample's
            is uniform between 0 and this; the action's own is 0.75 .. 1.15, so above 0.75 the other may be larger.
    """
    posture = rng.normal(0.0, 3.0, (LAYOUT.num_joints, 3))
    angles = posture + 1.2 * sway(frames, (LAYOUT.num_joints, 3), rng)
    amplitude = rng.uniform(0.75, 1.15)
    for joint, rest in _REST.items():
        angles[:, [LAYOUT.joint(f"left_{joint}"), LAYOUT.joint(f"right_{joint}")]] += np.array(rest)
    _perform(angles, action, amplitude, rng)
    if distraction > 0:
        others = [other for other in ACTIONS if not set(other.parts) & set(action.parts)]
        _perform(angles, others[rng.integers(len(others))], distraction * rng.random(), rng)
    return angles


def _perform(angles: np.ndarray, action: Action, amplitude: float, rng: np.random.Generator) -> None:
    """Adds an action at a random moment and tempo to the angles (T, V, 3), in place."""
    frames = len(angles)
    for joint, curves in action.curve(*_timing(frames, rng)).items():
        gain = amplitude * rng.uniform(0.9, 1.1)
        angles[:, LAYOUT.joint(joint)] += gain * np.stack(np.broadcast_arrays(*curves, np.zeros(frames))[:3], axis=-1)
