"""What bones tell: on a body of known sizes, and on real data where it is there."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import astuple
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from feeders.anatomy import (
    choose_layout,
    fit,
    height,
    order_problem,
    sides_swapped,
    units,
    upright_axis,
)
from feeders.synthetic import synthesize
from feeders.synthetic_pose import coco_joints, detect
from shapmix import LAYOUTS, SkeletonLayout

TWENTY = [LAYOUTS[name] for name in ("ucla20", "msr20", "utd20")]
KINECTS = {"hip_center": "spine_base", "spine": "spine_mid", "shoulder_center": "spine_shoulder"}
STICKS = SkeletonLayout(
    "sticks", ("mid", "left_arm", "right_arm", "left_hand"), ((1, 0), (2, 0), (3, 1)), {"a": (0, 1, 3), "b": (2,)}
)


def bodies(number: int = 4) -> list[np.ndarray]:
    """Moving bodies (L, 1, 25, 3) in metres that face a Kinect."""
    rng = np.random.default_rng(0)
    return [synthesize(action, rng) for action in range(number)]


def in_layout(layout: SkeletonLayout, number: int = 4) -> list[np.ndarray]:
    """The same bodies with the joints of one of the layouts of 20."""
    ntu = LAYOUTS["ntu25"]
    renamed = KINECTS | ({"neck": "spine_shoulder"} if layout.name == "ucla20" else {})
    order = [ntu.joint(renamed.get(joint, joint)) for joint in layout.joint_names]
    return [body[:, :, order] for body in bodies(number)]


def test_fit_in_closed_form():
    """A right arm twice as long as the left one; a left hand that is 1, 2 and 3 away from its arm."""
    layout = SkeletonLayout("t", ("mid", "left_arm", "right_arm"), ((1, 0), (2, 0)), {"a": (0, 1), "b": (2,)})
    still = np.zeros((5, 1, 3, 3)) + 5
    still[:, 0, 1, 0] += 1
    still[:, 0, 2, 0] -= 2
    assert astuple(fit([still], layout)) == pytest.approx((0, np.log(2), 0))
    crossed = SkeletonLayout("t", ("left_arm", "mid", "right_arm"), ((0, 1), (2, 1)), {"a": (0, 1), "b": (2,)})
    assert astuple(fit([still], crossed)) == pytest.approx((0, np.log(3 / 1), np.log(4 / 3)))
    moving = np.zeros((3, 1, 4, 3)) + 5
    moving[:, 0, 1, 0] += 1
    moving[:, 0, 2, 0] -= 1
    moving[:, 0, 3, 0] += 1
    moving[:, 0, 3, 1] += [1, 2, 3]
    layout = SkeletonLayout("s", ("a", "b", "c", "d"), ((1, 0), (2, 0), (3, 1)), {"a": (0, 1, 3), "b": (2,)})
    assert astuple(fit([moving], layout)) == pytest.approx((1.4826 * 0.5 / 3, 0, 0))


@pytest.mark.parametrize("layout", TWENTY, ids=lambda layout: layout.name)
def test_the_order_is_found(layout):
    samples = in_layout(layout)
    found, certain, scores = choose_layout(samples, TWENTY)
    assert (found, certain, set(scores)) == (layout, True, {one.name for one in TWENTY})
    assert order_problem(samples, layout) is None
    for other in TWENTY:
        if other != layout:
            assert f"does not look like {other.name}; {layout.name} fits" in order_problem(samples, other)


def test_the_order_of_twenty_five_and_of_poses():
    assert choose_layout(bodies(), [LAYOUTS["body25"], LAYOUTS["ntu25"]])[:2] == (LAYOUTS["ntu25"], True)
    rng, coco = np.random.default_rng(1), LAYOUTS["coco17"]
    poses = [detect(coco_joints(body[:, 0]), rng) for body in bodies()]
    assert order_problem(poses, coco, 2) is None
    shuffled = [pose[:, :, rng.permutation(17)] for pose in poses[:1]]
    assert "its bones are too long" in order_problem(shuffled, coco, 2)
    assert upright_axis(poses, coco, 2)[:2] == (1, -1)
    assert upright_axis([pose * (1, -1, 1) for pose in poses], coco, 2)[:2] == (1, 1)


def test_two_that_cannot_be_told():
    """The same bones in another order of left and right."""
    ntu = LAYOUTS["ntu25"]
    other = ntu.mirrored()
    twin = SkeletonLayout("twin", tuple(ntu.joint_names[joint] for joint in other), ntu.bones, ntu.parts)
    found, certain, scores = choose_layout(bodies(), [ntu, twin])
    assert not certain
    assert scores["twin"] == pytest.approx(scores["ntu25"], abs=0.02)
    assert found in (ntu, twin)


def test_left_and_right():
    ntu, samples = LAYOUTS["ntu25"], bodies(8)
    assert sides_swapped(samples, ntu) < 0.1
    swapped = [body[:, :, ntu.mirrored()] for body in samples]
    assert sides_swapped(swapped, ntu) > 0.9
    assert sides_swapped([body * (-1, 1, 1) for body in samples], ntu) > 0.9, "a mirrored axis"
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)  # any rotation
    assert sides_swapped([body @ turn for body in samples], ntu) == pytest.approx(sides_swapped(samples, ntu))
    for layout in TWENTY:
        assert sides_swapped(in_layout(layout), layout) < 0.1
    assert sides_swapped(samples, STICKS) is None
    assert sides_swapped([body[:, :, :21] for body in samples], LAYOUTS["hand21"]) is None


def test_left_and_right_of_a_face():
    """Of poses only clear faces tell, and only where other frames have none."""
    coco, pose = LAYOUTS["coco17"], np.ones((4, 1, 17, 3))
    pose[:, :, 1, 0], pose[:, :, 2, 0] = 110, 90  # the left eye is to the right in the image
    assert sides_swapped([pose], coco, 2) is None
    pose[3, :, :5, 2] = 0.2
    assert sides_swapped([pose], coco, 2) == 0
    pose[2, :, 1, 0] = 80
    assert sides_swapped([pose], coco, 2) == pytest.approx(1 / 3)
    assert sides_swapped([pose], LAYOUTS["penn13"], 2) is None


def test_upright():
    ntu, samples = LAYOUTS["ntu25"], bodies()
    assert upright_axis(samples, ntu) == (1, 1, 1.0)
    assert upright_axis([body * (1, -1, 1) for body in samples], ntu) == (1, -1, 1.0)
    assert upright_axis([body[..., [0, 2, 1]] for body in samples], ntu) == (2, 1, 1.0)
    somersaults = [body * (1, 1 - 2 * (number % 2), 1) for number, body in enumerate([*samples, samples[0]])]
    assert upright_axis(somersaults, ntu)[2] < 0.8
    assert upright_axis(samples, STICKS) is None


def test_height_and_units():
    ntu, samples = LAYOUTS["ntu25"], bodies()
    size = height(samples, ntu)
    assert 1.4 < size < 1.9
    assert height([1000 * body for body in samples], ntu) == pytest.approx(1000 * size)
    assert height(samples, STICKS) is None
    names = [units(value) for value in (1.7, 170, 1700, 17, 0, None)]
    assert names == ["metres", "centimetres", "millimetres", "unknown", "unknown", "unknown"]
    assert [units(value, 2) for value in (0.7, 240)] == ["shares", "pixels"]
    line = SkeletonLayout(
        "line", ("head", "mid", "left_foot", "right_foot"), ((0, 1), (2, 1), (3, 1)), {"a": (0, 1), "b": (2, 3)}
    )
    still = np.zeros((2, 1, 4, 3)) + 1
    still[:, 0, 0, 1] += 3
    still[:, 0, 2, 1] -= 4
    still[:, 0, 3, 1] -= 2
    assert height([still], line) == pytest.approx(3 + (4 + 2) / 2)


def test_absent_people_and_joints_that_are_not_seen():
    ntu, body = LAYOUTS["ntu25"], bodies(1)[0]
    empty = np.zeros_like(body)
    alone, together = fit([body], ntu), fit([np.concatenate([body, empty], axis=1), empty, empty[:0]], ntu)
    assert alone == together
    gaps = body.copy()
    gaps[::3, 0, 5] = np.nan
    assert astuple(fit([gaps], ntu)) == pytest.approx(astuple(alone), abs=0.02)
    gaps[:, 0, 5] = np.nan
    for nobody in ([], [empty], [gaps]):
        assert fit(nobody, ntu) is None
        assert choose_layout(nobody, [ntu]) == (ntu, False, {})
        assert order_problem(nobody, ntu) is sides_swapped(nobody, ntu) is upright_axis(nobody, ntu) is None


def members(path: Path, wanted: Callable[[str], bool], number: int = 12) -> list[bytes]:
    """Some files of an archive of real data."""
    with tarfile.open(path) as packed:  # read from the front: the first ones
        files = (packed.extractfile(one) for one in packed if one.isfile() and wanted(one.name))
        return [file.read() for file in islice(files, number) if file is not None]


def judged(samples: list[np.ndarray], right: str) -> None:
    layout = LAYOUTS[right]
    assert choose_layout(samples, TWENTY)[:2] == (layout, True)
    for sample in samples:
        assert choose_layout([sample], TWENTY)[0] == layout, "one sequence tells"
    assert order_problem(samples, layout) is None
    assert sides_swapped(samples, layout) < 0.3
    assert sides_swapped([sample[:, :, layout.mirrored()] for sample in samples], layout) > 0.7
    assert upright_axis(samples, layout) == (1, 1, 1.0)
    assert units(height(samples, layout)) == "metres"
    for other in TWENTY:
        if other != layout:
            assert f"; {right} fits" in order_problem(samples, other)


def test_utd_mhad(own_sets):
    files = members(own_sets / "utd_mhad.tar.xz", lambda name: name.endswith("_skeleton.mat"))
    judged([loadmat(BytesIO(file))["d_skel"].transpose(2, 0, 1)[:, None] for file in files], "utd20")


def test_msr_action3d(own_sets):
    files = members(own_sets / "msr_action3d.tar.xz", lambda name: name.endswith("_skeleton3D.txt"))
    judged([np.loadtxt(BytesIO(file))[:, :3].reshape(-1, 1, 20, 3) for file in files], "msr20")


def test_nw_ucla(ucla):
    files = sorted(Path(ucla).glob("*.json"))[::60]
    judged([np.array(json.loads(file.read_text())["skeletons"])[:, None] for file in files], "ucla20")


def test_penn_action(own_sets):
    files = members(own_sets / "penn_action.tar.xz", lambda name: name.endswith(".mat"))
    poses = [loadmat(BytesIO(file)) for file in files]
    samples = [np.stack([one["x"], one["y"], one["visibility"]], axis=-1)[:, None] for one in poses]
    assert order_problem(samples, LAYOUTS["penn13"], 2) is None
    assert upright_axis(samples, LAYOUTS["penn13"], 2)[:2] == (1, -1)
    assert "too long" in order_problem([sample[:, :, ::-1] for sample in samples], LAYOUTS["penn13"], 2)
    assert units(height(samples, LAYOUTS["penn13"], 2), 2) == "pixels"
