"""Skeleton layouts: joint names, bones and body parts (docs/method.md, "Body parts and coalitions").

Everything that depends on the body (graph, bone stream, contributions, mixing) follows from a :class:`SkeletonLayout`,
so a new sensor is one new layout. Only shapmix.layouts, their tables, knows a joint number.

Shapes: V joints, P parts, E sets of parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from itertools import combinations, pairwise
from typing import Any

import torch

from .checks import require
from .layouts import TABLES, Table


@dataclass(frozen=True)
class SkeletonLayout:
    """Joints, bones and parts of one kind of skeleton, checked on construction.

    Args:
        name: what configs and messages call the layout.
        joint_names: V names; sides are the person's own.
        bones: V - 1 pairs ``(joint, neighbour nearer the centre)`` that form a tree; the bone stream is joint
            minus neighbour, and the centre, which has no pair, gets 0.
        parts: part name -> its joints. Their order numbers the parts 0 .. P-1.
        edges: pairs of the graph that the networks convolve over; the bones unless given.

    Raises:
        ValueError: two joints have the same name, a joint is in no part or in two, a number is outside 0 .. V-1, there
            are fewer than two parts, or the bones (or edges) are not a tree.
    """

    name: str
    joint_names: tuple[str, ...]
    bones: tuple[tuple[int, int], ...]
    parts: Mapping[str, tuple[int, ...]]
    edges: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.edges:
            object.__setattr__(self, "edges", self.bones)
        this, joints = f"layout {self.name!r}", range(self.num_joints)
        require(len(set(self.joint_names)) == len(joints), f"{this}: two joints have the same name")
        require(self.num_parts >= 2, f"{this}: mixing by parts needs at least two parts, got {self.num_parts}")
        owners: dict[int, list[str]] = {joint: [] for joint in joints}
        for part, members in self.parts.items():
            require(len(members) > 0, f"{this}: part {part!r} has no joints; leave it out or give it some")
            for joint in members:
                require(joint in owners, f"{this}: part {part!r} names joint {joint}, outside {joints}")
                owners[joint].append(part)
        wrong = {joint: owner for joint, owner in owners.items() if len(owner) != 1}
        require(not wrong, f"{this}: every joint must be in exactly one part; not so: {wrong}")
        _root(f"{this}: bones", self.bones, len(joints))
        _root(f"{this}: edges", self.edges, len(joints))

    @property
    def num_joints(self) -> int:
        """V, the number of joints."""
        return len(self.joint_names)

    @property
    def num_parts(self) -> int:
        """P, the number of parts."""
        return len(self.parts)

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the parts, in the order that numbers them."""
        return tuple(self.parts)

    @property
    def center(self) -> int:
        """The joint that no bone starts from."""
        return _root("bones", self.bones, self.num_joints)

    def joint(self, name: str) -> int:
        """Number of the joint called ``name``."""
        return self.joint_names.index(name)

    def parents(self) -> list[int]:
        """For each joint its neighbour nearer the centre (the centre: itself); bone stream: ``x - x[parents]``."""
        nearer = list(range(self.num_joints))
        for joint, neighbour in self.bones:
            nearer[joint] = neighbour
        return nearer

    def mirrored(self) -> list[int]:
        """For each joint its counterpart on the other side, by names left_... and right_...; others: itself.

        Raises:
            ValueError: no joint has a counterpart, or one of them has none.
        """
        sides = {"left": "right", "right": "left"}
        split = [name.partition("_") for name in self.joint_names]
        names = [f"{sides[side]}_{joint}" if side in sides else side + bar + joint for side, bar, joint in split]
        if names == list(self.joint_names) or not set(names) <= set(self.joint_names):
            raise ValueError(f"layout {self.name!r} has no pairs of joints called left_... and right_... to exchange")
        return [self.joint(name) for name in names]

    def joints_of(self, sets: Sequence[tuple[int, ...]]) -> torch.Tensor:
        """(E, V) bool: True where joint v belongs to a part in set e."""
        parts = list(self.parts.values())
        held = [[joint for part in members for joint in parts[part]] for members in sets]
        return torch.tensor([[joint in joints for joint in range(self.num_joints)] for joints in held])

    def membership(self) -> torch.Tensor:
        """(P, V) bool: True where joint v belongs to part p."""
        return self.joints_of([(part,) for part in range(self.num_parts)])

    def coalitions(self, sizes: Sequence[int] | None = None) -> tuple[tuple[int, ...], ...]:
        """S sets of parts by size, then in lexicographic order; for P = 5 all pairs, then all triples.

        By default there are S = 2, 6, 6, 20, 20, 70, 70 of them for P = 2 .. 8: columns of the saliency table. A step
        of Shap-Mix costs the same for any P. Exact contributions, as in a report, cost 2**P forward passes of each
        sample: 32 for P = 5, 128 for the P = 7 of coco133, 256 for P = 8. Joining parts of your layout saves.

        Args:
            sizes: numbers of parts, each 1 .. P-1; by default floor(P/2) and ceil(P/2).

        Raises:
            ValueError: there are no sizes, or one is out of range.
        """
        parts = self.num_parts
        chosen = sorted({parts // 2, (parts + 1) // 2} if sizes is None else set(sizes))
        fits = chosen and chosen[0] >= 1 and chosen[-1] < parts
        require(bool(fits), f"coalition sizes must lie in 1..{parts - 1} for {parts} parts, got {chosen}")
        return tuple(subset for size in chosen for subset in combinations(range(parts), size))

    def plain(self) -> str | dict[str, Any]:
        """What :meth:`get` makes this layout of: its name, where it is a known one, else plain data."""
        return self.name if LAYOUTS.get(self.name) == self else asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SkeletonLayout:
        """A layout from plain data (YAML, JSON): ``name, joint_names, bones, parts`` and optionally ``edges``.

        Raises:
            ValueError: keys are missing or unknown, or a value is not what the class documents.
        """
        known = {"name", "joint_names", "bones", "parts", "edges"}
        missing, unknown = sorted(known - {"edges"} - set(values)), sorted(set(values) - known)
        require(not missing and not unknown, f"layout: missing keys {missing}, unknown keys {unknown}")
        names = values["joint_names"]
        require(not isinstance(names, str), f"layout {values['name']!r}: joint_names must be a list of names")
        try:
            fields: dict[str, Any] = {
                "joint_names": tuple(str(joint) for joint in names),
                "bones": _pairs(values["bones"]),
                "parts": {str(part): tuple(_whole(joint) for joint in has) for part, has in values["parts"].items()},
                "edges": _pairs(values.get("edges", ())),
            }
        except (TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"layout {values['name']!r}: {error}; joint_names is a list of names, bones a list of pairs of joint "
                "numbers (edges too), parts a mapping of part name to joint numbers"
            ) from error
        return cls(name=str(values["name"]), **fields)

    @classmethod
    def get(cls, layout: str | Mapping[str, Any] | SkeletonLayout) -> SkeletonLayout:
        """A layout by name (see shapmix.layouts), from a plain dict, or itself.

        Raises:
            ValueError: no layout has this name (the nearest one is named), or the dict is not one.
        """
        if isinstance(layout, SkeletonLayout):
            return layout
        if isinstance(layout, Mapping):
            return cls.from_dict(layout)
        if layout not in LAYOUTS:
            near = get_close_matches(str(layout).lower(), LAYOUTS, n=1, cutoff=0.5)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"no skeleton layout {layout!r}{meant}; there are {', '.join(LAYOUTS)}, or give a dict")
        return LAYOUTS[layout]


def _whole(number: Any) -> int:
    """A joint number; ValueError for 1.7 and "hip"."""
    require(int(number) == float(number), f"{number!r} is not a joint number")
    return int(number)


def _pairs(pairs: Any) -> tuple[tuple[int, int], ...]:
    return tuple((_whole(joint), _whole(neighbour)) for joint, neighbour in pairs)


def _root(what: str, pairs: Sequence[tuple[int, int]], num_joints: int) -> int:
    """The centre of a tree of (joint, neighbour nearer the centre) pairs; ValueError where they are not a tree."""
    nearer = dict(pairs)
    roots = set(range(num_joints)) - set(nearer)
    require(
        len(pairs) == len(nearer) == num_joints - 1 and len(roots) == 1,
        f"{what} must be {num_joints - 1} pairs (joint, neighbour nearer the centre), one for each joint but the "
        f"centre; got {len(pairs)} pairs, joints without one: {sorted(roots)}",
    )
    for start in range(num_joints):
        joint = start
        for _ in range(num_joints):
            joint = nearer.get(joint, joint)
        require(joint in roots, f"{what} are not a tree: joint {start} does not lead to the centre")
    return roots.pop()


def _numbers(text: str) -> tuple[int, ...]:
    """Joint numbers of a table: "0 3-5" are 0, 3, 4 and 5."""
    ends = [tuple(map(int, piece.split("-"))) for piece in text.split()]
    return tuple(joint for end in ends for joint in range(end[0], end[-1] + 1))


def _chains(text: str) -> dict[int, int]:
    """Joint -> neighbour nearer the centre, from chains of a table: "7-6-5" is 7 -> 6 and 6 -> 5."""
    chains = [tuple(map(int, chain.split("-"))) for chain in text.split()]
    return {joint: neighbour for chain in chains for joint, neighbour in pairwise(chain)}


def _layout(name: str, table: Table) -> SkeletonLayout:
    bones = _chains(table.bones)
    edges = bones | _chains(table.edges)
    parts = {part: _numbers(joints) for part, joints in table.parts.items()}
    return SkeletonLayout(name, tuple(table.joints.split()), tuple(bones.items()), parts, tuple(edges.items()))


LAYOUTS: dict[str, SkeletonLayout] = {name: _layout(name, table) for name, table in TABLES.items()}
