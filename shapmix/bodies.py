"""Pasting that keeps bodies whole: bones of the partner on the sample's own skeleton, and absent people stay absent.

A plain paste writes joints of another person into a skeleton: limbs are torn off, and a second person who is absent
appears, or is erased. :func:`graft` takes the partner's bones instead, the vectors from a joint's neighbour nearer the
centre, scaled to the length of the own bones, and places all joints again from the centre outwards.

Pure functions on whole batches, on any device, without waiting for it.

Shapes: N batch, C coordinates, T frames of a clip, t frames of a segment, V joints, M people. The first ``dims`` of the
C coordinates are a place; the others, such as a score, are not.
"""

from __future__ import annotations

import torch
from torch import Tensor

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
