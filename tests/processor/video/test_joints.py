"""The joints of a pose estimator as a recogniser wants them."""

from __future__ import annotations

import numpy as np
import pytest

from feeders.store import DataError
from processor.video.joints import JointMap, stand_in_weights, upwards
from processor.video.poses import Pose, PoseBackend
from shapmix import LAYOUTS, SkeletonLayout

from .figures import COCO, DrawnPoses, standing


class InSpace(PoseBackend):
    """33 joints with places in space."""

    name, layout, dims = "in space", LAYOUTS["mediapipe33"], 3

    def __call__(self, picture: np.ndarray, seconds: float) -> list[Pose]:
        return []


def test_the_same_joints_are_taken_as_they_are():
    pose = Pose(standing(100, 50, 200))
    joints = JointMap(DrawnPoses([]), COCO, 2)
    assert np.array_equal(joints.values(pose), pose.joints)
    assert np.array_equal(joints.drawn(pose), pose.joints)


def test_the_middle_of_two_joints_stands_for_one_between_them():
    layout = LAYOUTS["openpose18"]
    pose = Pose(standing(100, 50, 200))
    pose.joints[5, 2] = 0.4  # the left shoulder
    found = JointMap(DrawnPoses([]), layout, 2).values(pose)
    neck, nose = layout.joint("neck"), layout.joint("nose")
    assert found[neck] == pytest.approx([*pose.joints[[5, 6], :2].mean(axis=0), 0.4])
    assert np.array_equal(found[nose], pose.joints[0])


def test_other_spellings_of_names():
    layout = SkeletonLayout(
        "mine", ("Pelvis", "LeftHip", "RightHip"), ((1, 0), (2, 0)), {"left": (0, 1), "right": (2,)}
    )
    weights, missing = stand_in_weights(COCO, layout)
    assert missing == []
    assert weights[0, [11, 12]].tolist() == [0.5, 0.5]
    assert weights[1].argmax() == COCO.joint("left_hip")


@pytest.mark.parametrize("name", ["ntu25", "ucla20", "utd20", "msr20", "h36m17", "coco17", "mediapipe33"])
def test_layouts_that_fit_mediapipe(name):
    weights, missing = stand_in_weights(LAYOUTS["mediapipe33"], LAYOUTS[name])
    assert missing == []
    assert np.allclose(weights.sum(axis=1), 1)


def test_joints_that_are_missing_are_named():
    with pytest.raises(DataError, match=r"ntu25 has .*: left_hand, right_hand, left_foot") as error:
        JointMap(DrawnPoses([]), LAYOUTS["ntu25"], 2)
    assert "coco17" in str(error.value).partition("can be used")[2]
    assert "ntu25" not in str(error.value).partition("can be used")[2]


def test_flat_poses_are_not_enough_for_a_3d_recogniser():
    with pytest.raises(DataError, match=r"3D skeletons, drawn finds 2D poses.*mediapipe"):
        JointMap(DrawnPoses([]), COCO, 3)


def test_places_in_space():
    layout = LAYOUTS["ntu25"]
    space = np.random.default_rng(0).normal(size=(33, 3)).astype(np.float32)
    pose = Pose(np.ones((33, 3), np.float32), space)
    found = JointMap(InSpace(), layout, 3).values(pose)
    assert found[layout.joint("left_knee")] == pytest.approx(space[25])
    assert found[layout.joint("spine_base")] == pytest.approx(space[[23, 24]].mean(axis=0))
    down = JointMap(InSpace(), layout, 3, up=(1, -1)).values(pose)
    assert down[:, 1] == pytest.approx(-found[:, 1])


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("sign", [1, -1])
def test_up_is_turned_and_not_mirrored(axis, sign):
    turn = upwards(axis, sign)
    assert (turn @ np.array([0, 1, 0])).tolist() == (sign * np.eye(3)[axis]).tolist()
    assert np.linalg.det(turn) == pytest.approx(1)
