"""The skeleton graph that the networks convolve over."""

from __future__ import annotations

import numpy as np

from shapmix.skeleton import SkeletonLayout


def spatial_adjacency(layout: SkeletonLayout) -> np.ndarray:
    """(3, V, V) float64 matrices of the "spatial" strategy: self, inward, outward (Yan et al., AAAI 2018).

    Inward has the entries [neighbour nearer the centre, joint], outward the opposite ones; both are divided by the
    column's sum. CTR-GCN reads an entry as [target, source], so that every joint hands out 1; PYSKL's networks (ST-GCN,
    ST-GCN++, AAGCN) as [source, target], so that every joint gets a mean over its neighbours.
    """
    inward = np.zeros((layout.num_joints, layout.num_joints))
    for joint, neighbour in layout.edges:
        inward[neighbour, joint] = 1.0
    outward = inward.T
    return np.stack([np.eye(layout.num_joints), _columns_to_one(inward), _columns_to_one(outward)])


def _columns_to_one(matrix: np.ndarray) -> np.ndarray:
    """Each column divided by its sum; a column of zeros stays."""
    total = matrix.sum(axis=0, keepdims=True)
    return matrix / np.where(total > 0, total, 1.0)
