"""Joints by their names: columns that somebody named, a skeleton's layout, and a draft for one that is not known.

Names are compared word by word, without regard to case, blanks, dots, hyphens, CamelCase, what stands before a colon,
and words that all names begin or end with; a side is L, R, left or right in any place, or a first letter l or r:
``mixamorig:LeftArm``, ``arm.L`` and ``lArm`` are one name.

Shapes: V joints.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from itertools import takewhile

from shapmix.skeleton import LAYOUTS, SkeletonLayout

from ..store import DataError

MOST_PARTS = 8  # of a draft: exact contributions cost 2**P forward passes
SIDES = {"l": "left", "left": "left", "r": "right", "right": "right"}
WORDS = re.compile(r"[^\W\d_]+\d*|\d+")
CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
LIMBS = {  # a limb's name -> what is in the name of one of its joints
    "arm": ("arm", "elbow", "wrist", "hand", "clavicle", "collar", "humer", "shoulder"),
    "leg": ("leg", "knee", "ankle", "foot", "toe", "thigh", "shin", "femur", "tibia", "hip"),
    "head": ("head", "neck", "nose"),
    "thumb": ("thumb",),
    "index_finger": ("index", "forefinger"),
    "middle_finger": ("middle",),
    "ring_finger": ("ring",),
    "pinky": ("pinky", "little"),
}
NOT_TEXT = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")  # words that YAML reads as something else
Key = tuple[str, str]  # side ("left", "right" or "") and the other words, as one


def match_names(names: Sequence[str], layout: SkeletonLayout) -> list[int] | None:
    """Where the joints of a layout are among ``names``.

    Returns:
        for each of the layout's V joints the place of its name: ``[names[i] for i in order]`` is in the layout's order.
        Names that are no joint of it are passed over. None where a joint has no name, or two.
    """
    split = [_words(name) for name in names]
    for words in (split, _without_common(split)):
        order = _order([_key(one) for one in words], layout)
        if order is not None:
            return order
    return None


def find_layout(names: Sequence[str], layouts: Iterable[SkeletonLayout] = LAYOUTS.values()) -> SkeletonLayout | None:
    """The layout whose V joints these names are, all of them; one that has them in this order comes first."""
    found = [
        (match_names(names, layout) != list(range(len(names))), layout)
        for layout in layouts
        if layout.num_joints == len(names) and match_names(names, layout) is not None
    ]
    return min(found, key=lambda one: one[0])[1] if found else None


def draft_layout(name: str, joint_names: Sequence[str], bones: Sequence[tuple[int, int]] = ()) -> SkeletonLayout:
    """A layout for a skeleton that is not known, for a person to check and change.

    The trunk is what lies between the branches of the tree; each limb that hangs from it is a part. Where names have
    sides, nothing with a side is trunk, so that fingers stay with their arm. A part is called by the words in its
    joints' names (left_arm, head), or like its first joint. Sides come to the front of the joints' names.

    Args:
        bones: V - 1 pairs (joint, neighbour nearer the centre). Without them, the names decide: joints of one side and
            limb are a part, and hang from its first joint.

    Raises:
        DataError: fewer than two joints, bones that are no tree, or no bones and names that do not say the parts.
    """
    keys = [_sided(words) for words in _without_common([_words(joint) for joint in joint_names])]
    names = ["_".join([side, *words] if side else words) for side, words in keys]
    if len(set(names)) < len(names):
        names = list(joint_names)
    keyed = [(side, "".join(words)) for side, words in keys]
    if bones:
        parts = _by_tree(names, keyed, bones)
    else:
        parts = _by_names(keyed)
        if len(parts) < 2:
            raise DataError(f"layout {name!r}: neither bones nor the joints' names say what its parts are")
        bones = _stars(list(parts.values()))
    members = {part: tuple(sorted(has)) for part, has in parts.items()}
    try:
        return SkeletonLayout(name, tuple(names), tuple(bones), members)
    except ValueError as error:
        raise DataError(str(error)) from error


def joint_key(name: str) -> Key:
    """The side and the words of a joint's name: ``LeftHip``, ``hip.L`` and ``left_hip`` have the same."""
    return _key(_words(name))


def layout_text(layout: SkeletonLayout, comment: str = "") -> str:
    """A layout as YAML that ``--layout`` reads, with a number beside each joint."""
    lines = [f"# {line}".rstrip() for line in comment.splitlines()]
    lines += [f"name: {_quoted(layout.name)}", "joint_names:"]
    lines += [f"  - {_quoted(joint)}  # {number}" for number, joint in enumerate(layout.joint_names)]
    lines += ["bones:  # joint, neighbour nearer the centre"]
    lines += [f"  - [{joint}, {neighbour}]" for joint, neighbour in layout.bones]
    lines += ["parts:  # every joint in exactly one"]
    lines += [f"  {_quoted(part)}: [{', '.join(map(str, joints))}]" for part, joints in layout.parts.items()]
    if set(layout.edges) != set(layout.bones):
        lines += ["edges:  # of the networks' graph", *(f"  - [{one}, {other}]" for one, other in layout.edges)]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return text if re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", text) and text not in NOT_TEXT else json.dumps(text)


def _words(name: str) -> list[str]:
    """``mixamorig:LeftForeArm1`` -> left, fore, arm1."""
    pieces = [CAMEL.sub(" ", piece).split() for piece in WORDS.findall(name.rpartition(":")[2])]
    return [{"centre": "center"}.get(word.lower(), word.lower()) for piece in pieces for word in piece]


def _without_common(split: Sequence[list[str]]) -> list[list[str]]:
    """The words without those that all names begin, or end, with; each keeps one at least."""
    for _ in range(2):  # the beginning; then, turned around, the end
        shortest = min(map(len, split), default=0)
        same = [len(set(column)) == 1 for column in zip(*split, strict=False)] if len(split) > 1 else []
        common = max(min(len(list(takewhile(bool, same))), shortest - 1), 0)
        split = [words[common:][::-1] for words in split]
    return list(split)


def _sided(words: Sequence[str]) -> tuple[str, list[str]]:
    """The side, and the other words: left shoulder -> left, [shoulder]; a lone "left" is no side of anything."""
    places = [place for place, word in enumerate(words) if word in SIDES]
    if not places or len(words) == 1:
        return "", list(words)
    return SIDES[words[places[0]]], [word for place, word in enumerate(words) if place != places[0]]


def _key(words: Sequence[str]) -> Key:
    side, others = _sided(words)
    return side, "".join(others)


def _order(keys: Sequence[Key], layout: SkeletonLayout) -> list[int] | None:
    wanted = [joint_key(joint) for joint in layout.joint_names]
    known = set(wanted)
    places: dict[Key, list[int]] = {}
    for place, (side, word) in enumerate(keys):
        first = (SIDES[word[0]], word[1:]) if not side and word[:1] in SIDES else (side, word)  # lfemur: left femur
        key = first if first in known and (side, word) not in known else (side, word)
        places.setdefault(key, []).append(place)
    if all(len(places.get(key, ())) == 1 for key in wanted):
        return [places[key][0] for key in wanted]
    return None


def _by_tree(names: Sequence[str], keys: Sequence[Key], bones: Sequence[tuple[int, int]]) -> dict[str, list[int]]:
    """Parts of a tree: the trunk and the limbs that hang from it."""
    nearer = dict(bones)
    chains = [_chain(joint, nearer) for joint in range(len(names))]  # from each joint to the centre
    inside = [sum(joint in chain for chain in chains) for joint in range(len(names))]  # how many joints hang from it
    both = {"left", "right"} <= {side for side, _ in keys}
    depth = sorted(range(len(names)), key=lambda joint: len(chains[joint]))
    centre = depth[0]

    def branches(smallest: int) -> list[int]:
        """Joints without a side from which at least two limbs of so many joints hang; those near the centre first."""
        large = [joint for joint in nearer if inside[joint] >= smallest]
        return [
            joint
            for joint in depth
            if sum(nearer[other] == joint for other in large) >= 2 and not (both and keys[joint][0])
        ]

    forks = branches(2) or branches(1)
    while True:
        trunk = {centre, *(joint for fork in forks for joint in chains[fork])}
        limbs = [joint for joint in nearer if joint not in trunk and nearer[joint] in trunk]
        if len(limbs) < MOST_PARTS or not forks:
            break
        forks = forks[:-1]
    while len(limbs) >= MOST_PARTS:  # the smallest ones are trunk, all of one size together where that leaves some
        smallest = min(inside[joint] for joint in limbs)
        limbs = [joint for joint in limbs if inside[joint] > smallest] or limbs[: MOST_PARTS - 1]
    members = [[joint for joint in range(len(names)) if limb in chains[joint]] for limb in limbs]
    taken = {joint for has in members for joint in has}
    parts = {"trunk": [joint for joint in range(len(names)) if joint not in taken]}
    for limb, has in zip(limbs, members, strict=True):
        part = _limb_name([keys[joint] for joint in has]) or names[limb]
        while part in parts:
            part += "_2"
        parts[part] = has
    return parts


def _chain(joint: int, nearer: dict[int, int]) -> list[int]:
    """The joint and all on its way to the centre."""
    chain = [joint]
    while chain[-1] in nearer and len(chain) <= len(nearer):
        chain.append(nearer[chain[-1]])
    return chain


def _limb_name(keys: Sequence[Key]) -> str:
    """left_arm, head; empty where the words of its joints do not say."""
    sides = {side for side, _ in keys if side}
    for limb, words in LIMBS.items():
        if any(word in name for _, name in keys for word in words):
            return "_".join([*(sides if len(sides) == 1 else ()), limb])
    return ""


def _by_names(keys: Sequence[Key]) -> dict[str, list[int]]:
    """Parts by what is in each joint's name; the trunk is the rest."""
    parts: dict[str, list[int]] = {}
    for joint, key in enumerate(keys):
        parts.setdefault(_limb_name([key]) if key[0] or "head" in key[1] else "trunk", []).append(joint)
    if "" in parts:
        parts.setdefault("trunk", []).extend(parts.pop(""))
    return parts


def _stars(parts: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Bones where none are known: the joints of a part hang from its first one, these from the very first."""
    centre = parts[0][0]
    bones = [(joint, has[0]) for has in parts for joint in has[1:]]
    return bones + [(has[0], centre) for has in parts[1:]]
