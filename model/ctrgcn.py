"""CTR-GCN: channel-wise topology refinement (Chen et al., ICCV 2021). State-dict keys as in the official code.

Every ``forward`` has the paper's equation; by default model.fused computes the same in less time.

Shapes: N batch (in a layer: samples times people), C channels, T frames, V joints, M people, S = 3 subsets of the
graph, R channels of a relation, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shapmix.skeleton import SkeletonLayout

from . import fused
from .layers import Backbone, Fusible, MultiScaleTemporalConv, init_conv, init_norm

RAW_CHANNELS = (2, 3, 4, 9)  # numbers of inputs that are coordinates, not features


class RefinedGraphConv(nn.Module):
    """Graph convolution of one subset, with a topology for each sample and output channel (the paper's CTR-GC).

    For target joint v, source joint w, adjacency A and the learnt scalar alpha, with means over frames in phi and psi:

        relation[v, w] = tanh(phi(x)[v] - psi(x)[w])                      (N, R, V, V)
        topology[v, w] = alpha * xi(relation)[v, w] + A[v, w]             (N, C', V, V)
        output[v] = sum over w of topology[v, w] * values(x)[w]           (N, C', T, V)

    phi, psi, values and xi are 1x1 convolutions; ``conv1`` to ``conv4`` are their names in the official weights.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        relation = 8 if in_channels in RAW_CHANNELS else max(1, in_channels // 8)
        self.conv1 = nn.Conv2d(in_channels, relation, 1)
        self.conv2 = nn.Conv2d(in_channels, relation, 1)
        self.conv3 = nn.Conv2d(in_channels, out_channels, 1)
        self.conv4 = nn.Conv2d(relation, out_channels, 1)
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            init_conv(conv)

    def forward(self, x: Tensor, adjacency: Tensor, alpha: Tensor) -> Tensor:
        """x (N, C, T, V), adjacency (V, V) with entry [target, source], alpha (1,) -> (N, C', T, V)."""
        phi, psi, values = self.conv1(x).mean(2), self.conv2(x).mean(2), self.conv3(x)
        relation = torch.tanh(phi.unsqueeze(3) - psi.unsqueeze(2))
        topology = alpha * self.conv4(relation) + adjacency
        return torch.einsum("ncvw,nctw->nctv", topology, values)


class GraphConv(Fusible):
    """Sum of the refined convolutions over the three subsets of the graph, batch norm, residual, ReLU.

    (N, C, T, V) -> (N, C', T, V). ``PA`` (S, V, V), the adjacency of all samples, starts as the skeleton's and is
    learnt unless ``adaptive`` is false. ``alpha`` starts at 0: the first topology is the skeleton's.
    """

    def __init__(self, in_channels: int, out_channels: int, adjacency: Tensor, adaptive: bool = True) -> None:
        super().__init__()
        self.convs = nn.ModuleList([RefinedGraphConv(in_channels, out_channels) for _ in adjacency])
        self.down: nn.Module = nn.Identity()
        if in_channels != out_channels:
            conv, norm = nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels)
            init_conv(conv)
            init_norm(norm)
            self.down = nn.Sequential(conv, norm)
        self.PA: Tensor
        if adaptive:
            self.PA = nn.Parameter(adjacency.clone())
        else:
            self.register_buffer("PA", adjacency.clone(), persistent=False)
        self.alpha = nn.Parameter(torch.zeros(1))
        self.bn = nn.BatchNorm2d(out_channels)
        init_norm(self.bn, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        if self.fused:
            return fused.graph_conv(self, x)
        y = sum(conv(x, adjacency, self.alpha) for conv, adjacency in zip(self.convs, self.PA.unbind(), strict=True))
        return F.relu(self.bn(y) + self.down(x))


class Model(Backbone):
    """CTR-GCN: x (N, C, T, V, M) -> logits (N, K). Ten blocks of widths 1, 1, 1, 1, 2, 2, 2, 4, 4, 4 x base_channel.

    Cost at full width (in_channels 3, num_person 2): 1.436 M parameters with coco17 and 60 classes, 1.524 M with 400;
    1.75 G multiply-adds for a sample (3, 100, 17, 2), 1.77 G for (3, 64, 25, 2).

    Arguments and errors as in model.layers.Backbone, but base_channel divides by 4.

    Args:
        adaptive: learn the adjacency (as published), or keep the skeleton's.
    """

    def __init__(
        self,
        num_class: int,
        layout: str | Mapping[str, Any] | SkeletonLayout = "ntu25",
        num_person: int = 2,
        in_channels: int = 3,
        base_channel: int = 64,
        drop_out: float = 0.0,
        adaptive: bool = True,
        num_point: int | None = None,
        classifier: Literal["linear", "cosine"] = "linear",
        fused: bool = True,
    ) -> None:
        if base_channel < 4 or base_channel % 4:
            raise ValueError(f"base_channel must be a multiple of 4, got {base_channel}")
        self.adaptive = adaptive
        super().__init__(
            num_class, layout, num_person, in_channels, base_channel, drop_out, num_point, classifier, fused
        )

    def units(self, in_channels: int, out_channels: int, stride: int, adjacency: Tensor) -> tuple[nn.Module, nn.Module]:
        gcn = GraphConv(in_channels, out_channels, adjacency, self.adaptive)
        return gcn, MultiScaleTemporalConv(out_channels, out_channels, stride=stride)
