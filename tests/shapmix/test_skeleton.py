"""Layouts against their tables, written out here a second time, and every way to get a layout wrong."""

from __future__ import annotations

import re
from copy import deepcopy

import pytest
import torch

from shapmix.skeleton import LAYOUTS, SkeletonLayout

PARTS = {
    "ntu25": {
        "trunk": (0, 1, 2, 3, 20),
        "right_arm": (8, 9, 10, 11, 23, 24),
        "left_arm": (4, 5, 6, 7, 21, 22),
        "right_leg": (16, 17, 18, 19),
        "left_leg": (12, 13, 14, 15),
    },
    "coco17": {
        "head": (0, 1, 2, 3, 4),
        "left_arm": (5, 7, 9),
        "right_arm": (6, 8, 10),
        "left_leg": (11, 13, 15),
        "right_leg": (12, 14, 16),
    },
    "ucla20": {
        "trunk": (0, 1, 2, 3),
        "left_arm": (4, 5, 6, 7),
        "right_arm": (8, 9, 10, 11),
        "left_leg": (12, 13, 14, 15),
        "right_leg": (16, 17, 18, 19),
    },
}
LIMBS = {(5, 4), (6, 5), (7, 6), (9, 8), (10, 9), (11, 10), (13, 12), (14, 13), (15, 14), (17, 16), (18, 17), (19, 18)}
KINECT_HIPS = {(0, 1), (3, 2), (12, 0), (16, 0)}
EDGES = {
    "ntu25": LIMBS | KINECT_HIPS | {(1, 20), (2, 20), (4, 20), (8, 20)} | {(21, 22), (22, 7), (23, 24), (24, 11)},
    "ucla20": LIMBS | KINECT_HIPS | {(1, 2), (4, 2), (8, 2)},
    "coco17": {(15, 13), (13, 11), (16, 14), (14, 12), (11, 5), (12, 6), (9, 7), (7, 5), (10, 8), (8, 6)}
    | {(5, 0), (6, 0), (1, 0), (3, 1), (2, 0), (4, 2)},
}
BONES = EDGES | {"coco17": EDGES["coco17"] - {(11, 5), (12, 6)} | {(11, 0), (12, 0)}}
CENTER = {"ntu25": 20, "ucla20": 2, "coco17": 0}
COALITIONS = "01 02 03 04 12 13 14 23 24 34 012 013 014 023 024 034 123 124 134 234"

SMALL = {
    "name": "small",
    "joint_names": ["hip", "hand", "foot"],
    "bones": [[1, 0], [2, 0]],
    "parts": {"upper": [0, 1], "lower": [2]},
}


def small(**changes):
    return deepcopy(SMALL) | changes


def chain(num_parts):
    """A layout of one joint for each part, in a row."""
    return SkeletonLayout(
        name="chain",
        joint_names=tuple(f"joint{joint}" for joint in range(num_parts)),
        bones=tuple((joint, joint - 1) for joint in range(1, num_parts)),
        parts={f"part{part}": (part,) for part in range(num_parts)},
    )


@pytest.mark.parametrize("name", sorted(PARTS))
def test_layout_is_the_table(name):
    layout = SkeletonLayout.get(name)
    assert list(layout.parts.items()) == list(PARTS[name].items())  # the order numbers the parts
    assert set(layout.bones) == BONES[name]
    assert set(layout.edges) == EDGES[name]
    assert layout.center == CENTER[name]
    assert layout.num_joints == int(name[-2:])
    assert layout.num_parts == 5
    assert layout.part_names == tuple(PARTS[name])
    assert len(set(layout.joint_names)) == layout.num_joints


def test_every_layout_is_called_by_its_name_and_joints():
    assert all(layout.name == name for name, layout in LAYOUTS.items())
    joints = {name: layout.num_joints for name, layout in LAYOUTS.items()}
    assert joints == {name: int(re.findall(r"\d+", name)[-1]) for name in joints} | {"hdm05": 31}


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS.values() if layout.name != "hand21"], ids=str)
def test_left_and_right_are_alike(layout):
    """In joints, bones, edges and parts."""
    other = layout.mirrored()
    for pairs in (layout.bones, layout.edges):
        assert {(other[joint], other[neighbour]) for joint, neighbour in pairs} == set(pairs)
    for part, joints in layout.parts.items():
        side, _, limb = part.partition("_")
        sided = f"{({'left': 'right', 'right': 'left'})[side]}_{limb}" if limb else part
        assert {other[joint] for joint in joints} == set(layout.parts[sided])


def test_parts_hang_together():
    """Each part but the legs of a trunk without middle is one piece of the tree."""
    for layout in LAYOUTS.values():
        nearer = layout.parents()
        for joints in layout.parts.values():
            assert sum(nearer[joint] not in joints or nearer[joint] == joint for joint in joints) == 1


@pytest.mark.parametrize(
    ("layout", "joint", "number"),
    [
        ("ntu25", "spine_shoulder", 20),
        ("ntu25", "left_hand_tip", 21),
        ("ntu25", "right_thumb", 24),
        ("ucla20", "right_foot", 19),
        ("coco17", "nose", 0),
        ("coco17", "left_wrist", 9),
    ],
)
def test_joint_names(layout, joint, number):
    assert SkeletonLayout.get(layout).joint(joint) == number


@pytest.mark.parametrize("name", sorted(PARTS))
def test_side_of_names_and_parts_agree(name):
    layout = SkeletonLayout.get(name)
    for part, joints in layout.parts.items():
        side = part.partition("_")[0]
        if side in ("left", "right"):
            assert all(layout.joint_names[joint].startswith(side) for joint in joints)


@pytest.mark.parametrize("name", sorted(PARTS))
def test_parents_and_membership(name):
    layout = SkeletonLayout.get(name)
    for joint, parent in enumerate(layout.parents()):
        assert joint == parent == CENTER[name] or (joint, parent) in BONES[name]
    membership = layout.membership()
    assert membership.dtype == torch.bool
    for row, joints in zip(membership, PARTS[name].values(), strict=True):
        assert row.nonzero().flatten().tolist() == sorted(joints)


@pytest.mark.parametrize("name", sorted(PARTS))
def test_coalitions_of_five_parts(name):
    coalitions = SkeletonLayout.get(name).coalitions()
    assert " ".join("".join(map(str, coalition)) for coalition in coalitions) == COALITIONS
    complements = {tuple(part for part in range(5) if part not in coalition) for coalition in coalitions}
    assert complements == set(coalitions)


@pytest.mark.parametrize(
    ("parts", "sizes", "count"), [(2, {1}, 2), (3, {1, 2}, 6), (4, {2}, 6), (6, {3}, 20), (7, {3, 4}, 70), (8, {4}, 70)]
)
def test_default_coalition_sizes(parts, sizes, count):
    coalitions = chain(parts).coalitions()
    assert {len(coalition) for coalition in coalitions} == sizes
    assert len(coalitions) == len(set(coalitions)) == count


def test_chosen_coalition_sizes():
    assert chain(4).coalitions([3, 1]) == ((0,), (1,), (2,), (3,), (0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3))
    assert chain(3).coalitions([2, 2]) == ((0, 1), (0, 2), (1, 2))


@pytest.mark.parametrize("sizes", [[], [0], [4], [1, 4], [-1]])
def test_bad_coalition_sizes(sizes):
    with pytest.raises(ValueError, match=r"coalition sizes must lie in 1\.\.3"):
        chain(4).coalitions(sizes)


def test_from_dict():
    layout = SkeletonLayout.from_dict(small())
    assert layout.parts == {"upper": (0, 1), "lower": (2,)}
    assert layout.bones == layout.edges == ((1, 0), (2, 0))
    assert layout.center == 0
    assert layout.parents() == [0, 0, 0]
    assert SkeletonLayout.from_dict(small(edges=[[1, 0], [2, 1]])).edges == ((1, 0), (2, 1))


def test_get():
    layout = SkeletonLayout.get(small())
    assert layout.name == "small"
    assert SkeletonLayout.get(layout) is layout
    assert SkeletonLayout.get("ntu25") is LAYOUTS["ntu25"]
    with pytest.raises(ValueError, match=r"'ntu26' \(did you mean 'ntu25'\?\); there are ntu25, ucla20, coco17"):
        SkeletonLayout.get("ntu26")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": {"upper": [0], "lower": [2]}}, r"'small'.*exactly one part.*\{1: \[\]\}"),
        ({"parts": {"upper": [0, 1], "lower": [1, 2]}}, r"'small'.*exactly one part.*\{1: \['upper', 'lower'\]\}"),
        ({"parts": {"upper": [0, 1, 1], "lower": [2]}}, r"'small'.*exactly one part.*\{1: \['upper', 'upper'\]\}"),
        ({"parts": {"upper": [0, 1], "lower": [2, 3]}}, "'small'.*'lower' names joint 3, outside"),
        ({"parts": {"upper": [0, 1], "lower": [2, -1]}}, "'small'.*'lower' names joint -1, outside"),
        ({"parts": {"upper": [0, 1, 2], "lower": []}}, "'small'.*'lower' has no joints"),
        ({"parts": {"all": [0, 1, 2]}}, "'small'.*at least two parts, got 1"),
        ({"bones": [[1, 0]]}, r"'small': bones must be 2 pairs.*got 1 pairs, joints without one: \[0, 2\]"),
        ({"bones": [[1, 0], [2, 0], [0, 1]]}, "'small': bones must be 2 pairs.*got 3 pairs"),
        ({"bones": [[1, 0], [1, 2]]}, r"'small': bones must.*joints without one: \[0, 2\]"),
        ({"bones": [[1, 2], [2, 1]]}, "'small': bones are not a tree: joint 1 does not lead to the centre"),
        ({"bones": [[1, 0], [2, 2]]}, "'small': bones are not a tree: joint 2"),
        ({"bones": [[1, 0], [2, 3]]}, "'small': bones are not a tree: joint 2"),
        ({"edges": [[1, 0]]}, "'small': edges must be 2 pairs"),
        ({"edges": [[1, 2], [2, 1]]}, "'small': edges are not a tree"),
        ({"colour": "red"}, r"missing keys \[\], unknown keys \['colour'\]"),
        ({"parts": [[0, 1], [2]]}, "'small'.*parts a mapping"),
        ({"parts": {"upper": 0, "lower": [1, 2]}}, "'small'.*not iterable"),
        ({"joint_names": 3}, "'small'.*joint_names is a list"),
        ({"bones": [1, 2]}, "'small'.*bones a list of pairs"),
        ({"bones": None}, "'small'.*bones a list of pairs"),
    ],
)
def test_bad_layout(changes, message):
    with pytest.raises(ValueError, match=message):
        SkeletonLayout.from_dict(small(**changes))


@pytest.mark.parametrize("changes", [{"bones": [["1", "hip"], [2, 0]]}, {"bones": [[1, 0, 0], [2, 0]]}])
def test_malformed_numbers_name_the_layout(changes):
    with pytest.raises(ValueError, match="'small'"):
        SkeletonLayout.from_dict(small(**changes))


def test_fractional_joint_numbers():
    with pytest.raises(ValueError, match="small"):
        SkeletonLayout.from_dict(small(bones=[[1.7, 0], [2, 0]]))


@pytest.mark.parametrize("key", ["name", "joint_names", "bones", "parts"])
def test_missing_key(key):
    values = small()
    del values[key]
    with pytest.raises(ValueError, match=rf"missing keys \['{key}'\]"):
        SkeletonLayout.from_dict(values)


@pytest.mark.parametrize("name", ["ntu25", "ucla20", "coco17"])
def test_mirrored(name):
    layout = LAYOUTS[name]
    other = layout.mirrored()
    assert [other[joint] for joint in other] == list(range(layout.num_joints)), "twice is once"
    for joint, counterpart in enumerate(other):
        names = layout.joint_names[joint], layout.joint_names[counterpart]
        assert names[0].replace("left", "right") == names[1].replace("left", "right")
        assert (joint == counterpart) == (not names[0].startswith(("left", "right")))


def test_one_side_alone_cannot_be_mirrored():
    values = {"name": "x", "bones": [[1, 0]], "parts": {"a": [0], "b": [1]}}
    for joints in (["left_hand", "hip"], ["a", "b"]):
        with pytest.raises(ValueError, match="no pairs of joints called left_"):
            SkeletonLayout.from_dict({**values, "joint_names": joints}).mirrored()
