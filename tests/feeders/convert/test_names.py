"""Names of joints in many spellings, and drafts of layouts that nobody named."""

from __future__ import annotations

import pytest
import yaml

from feeders.convert.names import draft_layout, find_layout, layout_text, match_names
from shapmix import LAYOUTS, SkeletonLayout

EVERY = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
SPELLINGS = {
    "as it is": lambda side, words: "_".join([side, *words] if side else words),
    "camel": lambda side, words: side.title() + "".join(word.title() for word in words),
    "Kinect": lambda side, words: "".join(word.title() for word in words) + side.title(),
    "short camel": lambda side, words: side[:1].upper() + "".join(word.title() for word in words),
    "short": lambda side, words: "_".join([side[:1], *words] if side else words),
    "glued": lambda side, words: side[:1] + "_".join(words),
    "suffix": lambda side, words: "_".join([*words, side[:1]] if side else words),
    "Blender": lambda side, words: " ".join(word.title() for word in words) + (f".{side[0].upper()}" if side else ""),
    "blanks": lambda side, words: " ".join([side, *words] if side else words),
    "capitals": lambda side, words: "-".join([side, *words] if side else words).upper(),
    "Mixamo": lambda side, words: "mixamorig:" + side.title() + "".join(word.title() for word in words),
    "3ds Max": lambda side, words: "Bip01 " + " ".join([side[:1].upper(), *words] if side else words),
    "ending": lambda side, words: "_".join([side, *words, "joint"] if side else [*words, "joint"]),
}


def spelt(layout: SkeletonLayout, spelling: str) -> list[str]:
    names = []
    for joint in layout.joint_names:
        side, _, rest = joint.partition("_")
        sided = side in ("left", "right")
        names.append(SPELLINGS[spelling](side if sided else "", (rest if sided else joint).split("_")))
    return names


@EVERY
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_spellings(layout, spelling):
    """In another order, beside a column that is no joint."""
    names = spelt(layout, spelling)[::-1]
    assert match_names(names, layout) == list(range(len(names)))[::-1]
    assert find_layout(names) is not None
    assert set(find_layout(names).joint_names) == set(layout.joint_names)
    assert find_layout(names[::-1]) == layout, "of two layouts with the same joints, the one in this order"
    assert match_names([*spelt(layout, "as it is"), "frame"], layout) == list(range(len(names)))


def test_what_does_not_match():
    names = list(LAYOUTS["ucla20"].joint_names)
    assert match_names(names[1:], LAYOUTS["ucla20"]) is None
    assert match_names([*names[1:], "Spine"], LAYOUTS["ucla20"]) is None, "one name twice, one not at all"
    assert match_names([], LAYOUTS["ucla20"]) is None
    assert find_layout(names[1:]) is None
    assert find_layout([f"joint {number}" for number in range(20)]) is None
    assert find_layout([]) is None


def test_one_hand_of_two():
    assert find_layout([f"left_{joint}" for joint in LAYOUTS["hand21"].joint_names]) == LAYOUTS["hand21"]
    assert find_layout([f"RightHand{joint.title()}" for joint in LAYOUTS["hand21"].joint_names]) == LAYOUTS["hand21"]


MIXAMO = (
    "Hips:- Spine:0 Spine1:1 Neck:2 Head:3 LeftEye:4 RightEye:4 LeftShoulder:2 LeftArm:7 LeftForeArm:8 LeftHand:9 "
    "LeftHandThumb1:10 LeftHandThumb2:11 LeftHandIndex1:10 LeftHandIndex2:13 RightShoulder:2 RightArm:15 "
    "RightForeArm:16 RightHand:17 RightHandThumb1:18 RightHandThumb2:19 RightHandIndex1:18 RightHandIndex2:21 "
    "LeftUpLeg:0 LeftLeg:23 LeftFoot:24 LeftToeBase:25 RightUpLeg:0 RightLeg:27 RightFoot:28 RightToeBase:29"
)


def tree(text: str) -> tuple[list[str], list[tuple[int, int]]]:
    pairs = [word.split(":") for word in text.split()]
    bones = [(joint, int(pair[1])) for joint, pair in enumerate(pairs) if pair[1] != "-"]
    return [pair[0] for pair in pairs], bones


def test_draft_of_a_character():
    names, bones = tree(MIXAMO)
    layout = draft_layout("walker", [f"mixamorig:{name}" for name in names], bones)
    assert layout.bones == tuple(bones)
    assert " ".join(layout.joint_names[:8]) == "hips spine spine1 neck head left_eye right_eye left_shoulder"
    assert {part: len(joints) for part, joints in layout.parts.items()} == {
        "trunk": 3,
        "head": 4,
        "left_arm": 8,
        "right_arm": 8,
        "left_leg": 4,
        "right_leg": 4,
    }
    assert layout.mirrored()[layout.joint("left_toe_base")] == layout.joint("right_toe_base")
    assert match_names(names, layout) == list(range(len(names)))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a:- b:0 c:1 d:2", {"trunk": (0,), "b": (1, 2, 3)}),  # a chain has no branch
        ("a:- b:0 c:0", {"trunk": (0,), "b": (1,), "c": (2,)}),
        ("body:- tail_1:0 tail_2:1 wing_1:0 wing_2:3", {"trunk": (0,), "tail_1": (1, 2), "wing_1": (3, 4)}),
        ("a:- b:0 c:1 d:2 e:3 f:2 g:5 h:0 i:7", {"trunk": (0, 1, 2), "d": (3, 4), "f": (5, 6), "h": (7, 8)}),
        ("pelvis:- l:0 knee.l:1 r:0 knee.r:3", {"trunk": (0,), "left_leg": (1, 2), "right_leg": (3, 4)}),
    ],
)
def test_draft_by_the_tree(text, parts):
    names, bones = tree(text)
    assert dict(draft_layout("x", names, bones).parts) == parts


@EVERY
def test_drafts_of_known_layouts_are_layouts(layout):
    """They have few parts, and both sides alike where the layout has."""
    draft = draft_layout(layout.name, layout.joint_names, layout.bones)
    assert 2 <= draft.num_parts <= 8
    assert draft.joint_names == layout.joint_names
    sizes = {part: len(joints) for part, joints in draft.parts.items()}
    assert all(sizes.get(part.replace("left", "right")) == size for part, size in sizes.items() if "left" in part)
    assert len(draft_layout("star", [f"n{i}" for i in range(20)], [(i, 0) for i in range(1, 20)]).parts) == 8


def test_draft_without_bones():
    names = ["Head", "LShoulder", "LHand", "RShoulder", "RHand", "LFoot", "RFoot", "belly"]
    layout = draft_layout("x", names)
    assert dict(layout.parts)["left_arm"] == (1, 2)
    assert dict(layout.parts)["trunk"] == (7,)
    assert layout.bones == ((2, 1), (4, 3), (1, 0), (3, 0), (5, 0), (6, 0), (7, 0))
    with pytest.raises(ValueError, match="layout 'x': neither bones nor the joints' names"):
        draft_layout("x", ["0", "1", "2"])
    with pytest.raises(ValueError, match="bones must be 2 pairs"):
        draft_layout("x", ["a", "b", "c"], [(1, 0)])


@EVERY
def test_text_is_read_again(layout):
    assert SkeletonLayout.get(yaml.safe_load(layout_text(layout, "A draft.\n\nCheck it."))) == layout


def test_text_of_any_names():
    names = ('a"b', "yes", "épaule: gauche", "1", "- x", "#")
    layout = SkeletonLayout("no", names, tuple((joint, 0) for joint in range(1, 6)), {"on": (0, 1, 2), "1": (3, 4, 5)})
    assert SkeletonLayout.get(yaml.safe_load(layout_text(layout))) == layout
