"""BVH: forward kinematics against closed forms and scipy, the round trip of a made-up body, and damaged files."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from feeders.convert import bvh
from feeders.convert.prepare import Source, Unusable
from feeders.convert.recording import Hints

ARM = """HIERARCHY
ROOT shoulder
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT elbow
  {
    OFFSET 2 0 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 1 0 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.033
0 0 0 0 0 0 0 0 0
10 20 30 90 0 0 90 0 0
"""


HINTS = Hints()


def take(tmp_path, text, hints=HINTS):
    path = tmp_path / "take.bvh"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return bvh.read([Source(str(path), "")], hints)


def bvh_text(positions: np.ndarray, parents: list[int], names: list[str]) -> str:
    """A body (L, V, 3) as BVH whose joints all have position channels; parents come before their children."""

    def describe(joint: int) -> str:
        children = [child for child, parent in enumerate(parents) if parent == joint]
        inner = "".join(map(describe, children)) or "End Site\n{\nOFFSET 0 1 0\n}\n"
        channels = "CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation"
        return f"{'JOINT' if joint else 'ROOT'} {names[joint]}\n{{\nOFFSET 1 2 3\n{channels}\n{inner}}}\n"

    hierarchy = describe(0)
    listed = [line.split(maxsplit=1)[1] for line in hierarchy.splitlines() if line.startswith(("ROOT", "JOINT"))]
    local = positions.copy()
    local[:, 1:] -= positions[:, parents[1:]]
    moved = np.zeros((len(positions), len(names), 6))
    moved[..., :3] = local[:, [names.index(name) for name in listed]]
    rows = "\n".join(" ".join(map(str, frame.ravel().tolist())) for frame in moved)
    return f"HIERARCHY\n{hierarchy}MOTION\nFrames: {len(positions)}\nFrame Time: 0.1\n{rows}\n"


def test_an_arm_that_turns_by_90_degrees(tmp_path):
    recording = take(tmp_path, ARM, Hints(num_joints=3))
    assert recording.joint_names == ("shoulder", "elbow", "elbow_end")
    assert recording.bones == ((1, 0), (2, 1))
    np.testing.assert_allclose(recording.frames[0, 0], [[0, 0, 0], [2, 0, 0], [3, 0, 0]])
    np.testing.assert_allclose(recording.frames[1, 0], [[10, 20, 30], [10, 22, 30], [9, 22, 30]], atol=1e-12)
    assert recording.frames.dtype == np.float64


def test_end_sites_are_dropped(tmp_path):
    recording = take(tmp_path, ARM)
    assert recording.joint_names == ("shoulder", "elbow")
    assert recording.bones == ((1, 0),)
    assert recording.frames.shape == (2, 1, 2, 3)


@pytest.mark.parametrize("order", ["xyz", "xzy", "yxz", "yzx", "zxy", "zyx", "zxz", "x", "zy"])
def test_rotation_orders(tmp_path, order):
    if len(set(order)) < len(order):
        with pytest.raises(Unusable, match="wanted a number, and so many of Xposition"):
            take(tmp_path, arm_of(order, np.zeros((1, 2, 3))))
        return
    angles = np.random.default_rng(0).uniform(-180, 180, size=(5, 2, len(order)))
    recording = take(tmp_path, arm_of(order, angles), Hints(num_joints=3))
    for frame, (first, second) in enumerate(angles):
        shoulder, elbow = (Rotation.from_euler(order.upper(), turn.squeeze(), degrees=True) for turn in (first, second))
        tip = shoulder.apply(np.array([2, 0, 0]) + elbow.apply([1, 0, 0]))
        wanted = np.stack([np.zeros(3), shoulder.apply([2, 0, 0]), tip])
        np.testing.assert_allclose(recording.frames[frame, 0], wanted, atol=1e-12)


def arm_of(order: str, angles: np.ndarray) -> str:
    """The arm with other channels (L, 2, channels), some braces on other lines, and Windows' line ends."""
    channels = f"CHANNELS {len(order)} " + " ".join(f"{axis.upper()}rotation" for axis in order)
    head = ARM.partition("MOTION")[0].replace("CHANNELS 3 Zrotation Xrotation Yrotation", channels)
    head = head.replace("CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation", channels)
    head = head.replace("ROOT shoulder\n{\n", "ROOT shoulder {\n\n")
    rows = "\n".join(" ".join(map(str, frame.ravel().tolist())) for frame in angles)
    return f"{head}MOTION\nFrames: {len(angles)}\nFrame Time: 0.1\n{rows}\n\n".replace("\n", "\r\n")


def test_round_trip_of_a_body(tmp_path):
    parents, names = [-1, 0, 1, 1, 3, 0], ["hips", "chest", "head", "arm", "Left Hand", "knee"]
    positions = np.random.default_rng(0).normal(size=(7, 6, 3))
    recording = take(tmp_path, bvh_text(positions, parents, names))
    places = [recording.joint_names.index(name) for name in names]
    np.testing.assert_allclose(recording.frames[:, 0, places], positions, atol=1e-12)
    assert {(recording.joint_names[a], recording.joint_names[b]) for a, b in recording.bones} == {
        (names[joint], names[parent]) for joint, parent in enumerate(parents) if parent >= 0
    }


DEEP = "HIERARCHY\nROOT r\n{\n" + "".join(f"JOINT j{number}\n{{\n" for number in range(2000))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty: 0 bytes"),
        (b"HIER\0", "no text"),
        ("HIERARCHY", "damaged: the file was cut off after line 1, before MOTION"),
        (ARM[:150], "damaged: the file was cut off"),
        (ARM[:-4], "damaged: line 20 has 7 numbers, wanted 9"),
        (ARM.replace("90 0 0\n", "90 0 x\n"), "damaged: line 20 is not 9 numbers"),
        (ARM.rsplit("\n", 2)[0] + "\n", "damaged: '2' frames announced, 1 there"),
        (ARM.replace("Frames: 2", "Frames: 1000000000000"), "damaged: '1000000000000' frames announced, 2 there"),
        (ARM.replace("Frames: 2", "Frames: two"), "damaged: line 17: wanted Frames: and Frame Time:"),
        (ARM.partition("Frame Time")[0], "damaged: line 17: wanted Frames: and Frame Time:"),
        (ARM.partition("0 0 0 0 0 0")[0].replace("Frames: 2", "Frames: 0"), "no numbers: 0 frames of 9 channels"),
        (ARM.replace("OFFSET 2 0 0", "OFFSET 2 0"), "damaged: line 8: wanted three numbers: 'OFFSET 2 0'"),
        (ARM.replace("OFFSET 2 0 0", "BONE 2"), "damaged: line 8: not a line of a hierarchy"),
        (ARM.replace("CHANNELS 3", "CHANNELS 4"), "damaged: line 9: wanted a number, and so many of"),
        (ARM.replace("JOINT elbow", "JOINT shoulder"), "damaged: line 6: a second joint shoulder"),
        (ARM.replace("JOINT elbow", "ROOT elbow"), "damaged: line 6: a joint must lie in the one ROOT"),
        (ARM.replace("  JOINT elbow\n", ""), "damaged: line 6: a { without a joint"),
        (ARM.replace("shoulder\n{", "shoulder\n"), "damaged: line 4: wanted {"),
        (ARM.replace("}\nMOTION", "MOTION"), "damaged: line 15: braces are open"),
        (ARM.replace("10 20 30", "inf 0 0"), "damaged: infinite numbers, first in frame 1"),
        (ARM.replace("10 20 30", "nan 0 0").replace("\n0 0 0 0", "\nnan 0 0 0"), "no people: in none of 2 frames"),
        (DEEP, "damaged: line 2002: more than 1000 joints"),
    ],
)
def test_what_is_refused(tmp_path, text, message):
    with pytest.raises(Unusable) as error:
        take(tmp_path, text)
    assert str(error.value).startswith(message)


def test_many_joints_without_channels(tmp_path):
    joints = "".join(f"JOINT j{number} {{ OFFSET 1 0 0\n}}\n" for number in range(900))
    text = (
        f"HIERARCHY\nROOT r {{\nOFFSET 0 0 0\nCHANNELS 1 Xposition\n{joints}}}\nMOTION\nFrames: 9000\nFrame Time: 1\n"
    )
    with pytest.raises(Unusable, match="damaged: 901 joints with only 1 channels"):
        take(tmp_path, text + "0\n" * 9000)


def test_told_by_content():
    (form,) = bvh.FORMS
    assert form.recognises("a.txt", b"\xef\xbb\xbfHIERARCHY\nROOT")
    assert not form.recognises("a.bvh", b"{}")
