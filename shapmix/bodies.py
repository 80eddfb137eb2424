"""Pasting that keeps bodies whole: bones of the partner on the sample's own skeleton, and absent people stay absent.

A plain paste writes joints of another person into a skeleton: limbs are torn off, and a second person who is absent
appears, or is erased. :func:`graft` takes the partner's bones instead, the vectors from a joint's neighbour nearer the
centre, scaled to the length of the own bones, and places all joints again from the centre outwards.

All works on whole batches, on any device, without waiting for it.

Shapes: N batch, C coordinates, T frames of a clip, t frames of a segment, V joints, M people. The first ``dims`` of the
C coordinates are a place; the others, such as a score, are not.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from . import mixing
from .checks import choice, require
from .skeleton import SkeletonLayout


def present(x: Tensor) -> Tensor:
    """(N, T, M) bool: in which frames of x (N, C, T, V, M) is a person there? Who is absent has zeros only."""
    return (x != 0).any(3).any(1)


def paths_to_centre(layout: SkeletonLayout) -> Tensor:
    """(V, V) float32: row v is 1 at every joint on the way from joint v to the centre, both included, else 0."""
    nearer = torch.tensor(layout.parents())
    steps = torch.nn.functional.one_hot(nearer, len(nearer)).float()  # row v: its neighbour nearer the centre
    paths = itself = torch.eye(len(nearer))
    for _ in nearer:
        paths = (itself + paths @ steps).clamp(max=1)
    return paths


def sides(layout: SkeletonLayout) -> tuple[int, int]:
    """The left and the right shoulder of a layout, or hip; ValueError where it has neither."""
    found = find_sides(layout)
    if found is None:
        raise ValueError(f"layout {layout.name!r} has no joints left_shoulder and right_shoulder, nor hips, to face by")
    return found


def find_sides(layout: SkeletonLayout) -> tuple[int, int] | None:
    """As :func:`sides`; None where it has neither."""
    for joint in ("shoulder", "hip", "hipjoint"):
        if {f"left_{joint}", f"right_{joint}"} <= set(layout.joint_names):
            return layout.joint(f"left_{joint}"), layout.joint(f"right_{joint}")
    return None


def facing(x: Tensor, between: tuple[int, int], up: int = 1) -> Tensor:
    """(N,) angle in radians, in the plane across the axis ``up``, of the line between two joints of x (N, 3, T, V, M).

    Of the first person in the first frame.
    """
    left, right = between
    line = x[:, :, 0, left, 0] - x[:, :, 0, right, 0]
    first, second = level_axes(up)
    return torch.atan2(line[:, second], line[:, first])


def level_axes(up: int) -> tuple[int, int]:
    """The two axes that are not ``up``."""
    first, second = (axis for axis in range(3) if axis != up)
    return first, second


def bone_lengths(x: Tensor, parents: Tensor, dims: int) -> Tensor:
    """(N, V, M) mean length of each bone of x (N, C, T, V, M) over the frames in which the person is there.

    The centre has no bone: 0. So has a person who is never there.
    """
    length = (x - x.index_select(3, parents))[:, :dims].norm(dim=1)  # (N, T, V, M)
    frames = present(x).sum(1)  # (N, M)
    return length.sum(1) / frames.clamp(min=1).unsqueeze(1)


def scale_of(own: Tensor, other: Tensor, dims: int) -> Tensor:
    """(N, 1, 1, V or 1, M): by what the partner's bones are multiplied, from mean bone lengths (N, V, M) of both.

    In three dimensions each bone gets its own factor. In two, lengths change with the direction that a bone points in,
    so all bones of a person get one: the ratio of the summed lengths. A partner's bone without length stays as it is.
    """
    if dims < 3:
        own, other = own.sum(1, keepdim=True), other.sum(1, keepdim=True)
    ratio = torch.where(other > 0, own / torch.where(other > 0, other, 1), 1)
    return ratio[:, None, None]


def graft(
    x: Tensor, source: Tensor, joints: Tensor, scale: Tensor, parents: Tensor, paths: Tensor, dims: int
) -> Tensor:
    """The sample's segment with the partner's bones at the given joints.

    The centre's place is the partner's where it is among the joints, else the sample's own. Coordinates beyond ``dims``
    (a score) are taken joint by joint.

    Args:
        x: own segment (N, C, t, V, M).
        source: the partner's, of the same shape.
        joints: bool, broadcast over (N, 1, t, V, M): which bones are the partner's.
        scale: of :func:`scale_of`.
        parents: (V,) int64, for each joint its neighbour nearer the centre; the centre: itself.
        paths: (V, V) of :func:`paths_to_centre`.

    Returns:
        a new tensor (N, C, t, V, M).
    """
    centre = (parents == torch.arange(len(parents), device=parents.device))[:, None]  # (V, 1)
    own, theirs = x[:, :dims], source[:, :dims]
    own_bones = torch.where(centre, own, own - own.index_select(3, parents))
    their_bones = torch.where(centre, theirs, (theirs - theirs.index_select(3, parents)) * scale)
    bones = torch.where(joints, their_bones, own_bones)
    placed = torch.einsum("nctum,vu->nctvm", bones, paths.to(bones))
    return torch.cat([placed, torch.where(joints, source[:, dims:], x[:, dims:])], dim=1)


class Paste(nn.Module):
    """Writes the partner's segment over the sample's, joint by joint as published, or so that bodies stay whole.

    Args:
        layout: of the joints.
        body: ``joints``: a pasted joint gets the partner's place, as published. ``bones``: the partner's bone, see
            :func:`graft`, where both have that person, in that frame; for joint positions, not for bone or motion
            streams.
        people: ``all``: a person of the partner is pasted whether the sample has it or not, as published. ``present``:
            only where both have that person, in that frame, with ``joints`` too.
        dims: how many of the C coordinates are a place: 3, or 2.
        same_facing: the partner is first turned about the vertical axis so that in the first frame its first person
            faces as the sample's does, by the line through the shoulders, or the hips. In three dimensions, for joint
            positions before the view is turned. ``auto``: only where there are three, and such joints.
        up: the vertical axis: 0, 1 or 2.

    Raises:
        ValueError: an argument out of range; same_facing in two dimensions, or for a layout without these joints.
    """

    def __init__(
        self,
        layout: SkeletonLayout,
        body: Literal["joints", "bones"] = "joints",
        people: Literal["all", "present"] = "all",
        dims: int = 3,
        same_facing: bool | Literal["auto"] = False,
        up: int = 1,
    ) -> None:
        super().__init__()
        choice("same_facing", same_facing, True, False, "auto")
        choice("body", body, "joints", "bones")
        choice("people", people, "all", "present")
        require(dims in (2, 3), f"dims is 2 or 3, got {dims!r}")
        choice("up", up, 0, 1, 2)
        self.body, self.people, self.dims, self.up = body, people, dims, up
        require(
            same_facing is not True or dims == 3, "same_facing turns bodies about the vertical axis, in 3D; set auto"
        )
        self.sides = None
        if same_facing and dims == 3:
            self.sides = find_sides(layout) if same_facing == "auto" else sides(layout)
        self.parents: Tensor
        self.paths: Tensor
        self.register_buffer("parents", torch.tensor(layout.parents()), persistent=False)
        self.register_buffer("paths", paths_to_centre(layout), persistent=False)

    @torch.no_grad()
    def faced(self, x: Tensor, x_partner: Tensor) -> Tensor:
        """The partner (N, C, T, V, M), with ``same_facing`` a new tensor that faces as the sample does."""
        if self.sides is None:
            return x_partner
        angle = facing(x, self.sides, self.up) - facing(x_partner, self.sides, self.up)
        cos, sin = (value[:, None, None, None] for value in (angle.cos(), angle.sin()))
        first, second = level_axes(self.up)
        turned = x_partner.clone()
        turned[:, first] = cos * x_partner[:, first] - sin * x_partner[:, second]
        turned[:, second] = sin * x_partner[:, first] + cos * x_partner[:, second]
        return turned

    @torch.no_grad()
    def forward(self, x: Tensor, x_partner: Tensor, joints: Tensor, draws: mixing.MixDraws) -> tuple[Tensor, Tensor]:
        """The mixed batch, a new tensor (N, C, T, V, M), and the partner's share (N,).

        With ``people: present``, and with bones, the share is that of the joints of people who are there.

        Args:
            x, x_partner: (N, C, T, V, M).
            joints: (N, V) bool, the joints that are pasted.
            draws: of the batch.
        """
        if self.body == "joints" and self.people == "all":
            return mixing.paste(x, x_partner, joints, draws)
        mixed = x.clone()
        segment = mixed.narrow(2, draws.target_start, draws.target_len)
        source = mixing.source_segment(mixed, x_partner, draws)
        own = present(x)  # (N, T, M)
        both = own.narrow(1, draws.target_start, draws.target_len) & present(source)
        pasted = joints[:, None, None, :, None] & both[:, None, :, None, :]
        if self.body == "joints":
            new = torch.where(pasted, source, segment)
        else:
            own_lengths, their_lengths = (bone_lengths(one, self.parents, self.dims) for one in (x, x_partner))
            scale = scale_of(own_lengths, their_lengths, self.dims)
            new = graft(segment, source, pasted, scale, self.parents, self.paths, self.dims)
        segment.copy_(new)
        where = mixing.target_dtype(x)
        there = own.sum((1, 2)).to(where).clamp(min=1) * x.shape[3]
        return mixed, joints.sum(1).to(where) * (both.sum((1, 2)) / there)  # rounds as mixing.pasted_share
