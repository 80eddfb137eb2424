"""Weights of a network of another skeleton: what belongs to a joint goes to the joint of the same name.

Shapes: C coordinates, V joints, M people, S = 3 subsets of the graph.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from shapmix.skeleton import SkeletonLayout

from .layers import Backbone

GRAPH, NORM, OVER_JOINTS = (".gcn1.A", ".gcn1.PA"), "data_bn.", ".attention.joints.weight"


def shared_joints(there: SkeletonLayout, here: SkeletonLayout) -> tuple[Tensor, Tensor]:
    """Numbers (n,) in both layouts of the joints whose names are in both."""
    names = [name for name in here.joint_names if name in there.joint_names]
    theirs, ours = ([layout.joint(name) for name in names] for layout in (there, here))
    return torch.tensor(theirs, dtype=torch.int64), torch.tensor(ours, dtype=torch.int64)


def by_joint_names(
    network: Backbone, weights: Mapping[str, Tensor], there: SkeletonLayout, channels: int
) -> dict[str, Tensor]:
    """The weights of a network over the skeleton ``there`` for one over its own; those without joints as they are.

    Of graphs (S, V, V) and the norm of the input (M V C) the joints and people that only this network has are as in it.
    AAGCN's attention over joints, a convolution along their numbers, is left out where those are others.

    Args:
        channels: C, of both.
    """
    own, here = network.state_dict(), network.layout
    theirs, ours = shared_joints(there, here)
    found = {key: value for key, value in weights.items() if not key.endswith(OVER_JOINTS)}
    for key in own.keys() & found.keys():
        if key.endswith(GRAPH):
            found[key] = own[key].clone()
            found[key][:, ours[:, None], ours] = weights[key].to(own[key])[:, theirs[:, None], theirs]
        elif key.startswith(NORM) and own[key].dim():
            mine = own[key].clone().view(-1, here.num_joints, channels)
            other = weights[key].to(mine).view(-1, there.num_joints, channels)
            people = min(len(mine), len(other))
            mine[:people, ours] = other[:people, theirs]
            found[key] = mine.flatten()
    return found
