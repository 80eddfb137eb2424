"""CTR-GCN: channel-wise topology refinement (Chen et al., ICCV 2021). State-dict keys as in the official code.

Shapes: N batch, C channels, T frames, V joints, M people, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from shapmix.skeleton import SkeletonLayout

from .layers import Backbone, MultiScaleTemporalConv, init_conv, init_norm

RAW_CHANNELS = 9  # a layer with at most so many inputs sees coordinates, not features


class TopologyRefinement(nn.Module):
    """One subset's graph convolution with a topology of its own for every channel (the paper's CTR-GC)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        relation = 8 if in_channels in (2, 3, 4, RAW_CHANNELS) else max(1, in_channels // 8)
        self.conv1 = nn.Conv2d(in_channels, relation, 1)
        self.conv2 = nn.Conv2d(in_channels, relation, 1)
        self.conv3 = nn.Conv2d(in_channels, out_channels, 1)
        self.conv4 = nn.Conv2d(relation, out_channels, 1)
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            init_conv(conv)

    def forward(self, x: Tensor, adjacency: Tensor, alpha: Tensor) -> Tensor:
        """x (N, C, T, V), adjacency (V, V), alpha (1,) -> (N, C', T, V)."""
        pooled = x.mean(2, keepdim=True)  # a 1x1 convolution and the mean over time commute
        to, of = self.conv1(pooled).squeeze(2), self.conv2(pooled).squeeze(2)  # (N, R, V)
        relation = torch.tanh(to.unsqueeze(-1) - of.unsqueeze(-2))  # (N, R, V, V)
        topology = self.conv4(relation) * alpha + adjacency  # (N, C', V, V)
        return torch.matmul(self.conv3(x), topology.transpose(-1, -2))


class GraphConv(nn.Module):
    """Sum of the refined convolutions over the three subsets of the graph, batch norm, residual, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, adjacency: Tensor, adaptive: bool = True) -> None:
        super().__init__()
        self.convs = nn.ModuleList([TopologyRefinement(in_channels, out_channels) for _ in adjacency])
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
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        total = sum(conv(x, adjacency, self.alpha) for conv, adjacency in zip(self.convs, self.PA, strict=True))
        return self.relu(self.bn(total) + self.down(x))


class Model(Backbone):
    """CTR-GCN: x (N, C, T, V, M) -> logits (N, K). Ten blocks of widths 1, 1, 1, 1, 2, 2, 2, 4, 4, 4 x base_channel.

    Cost at full width (in_channels 3, num_person 2): 1.436 M parameters with coco17 and 60 classes, 1.524 M with 400;
    1.75 G multiply-adds for a sample (3, 100, 17, 2), 1.77 G for (3, 64, 25, 2).

    Args:
        num_class: K.
        layout: skeleton layout: a name, a dict or a SkeletonLayout.
        num_person: M.
        in_channels: C, 3 for 3D coordinates.
        base_channel: width of the first block, divides by 4; 64 as published.
        drop_out: dropout before the classifier, 0 .. 1.
        adaptive: learn the adjacency (as published), or keep the skeleton's.
        num_point: V, only to be checked against the layout (CTR-GCN's configs name it).

    Raises:
        ValueError: a width that does not divide by 4, or num_point that is not the layout's.
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
    ) -> None:
        if base_channel < 4 or base_channel % 4:
            raise ValueError(f"base_channel must be a multiple of 4, got {base_channel}")
        self.adaptive = adaptive
        super().__init__(num_class, layout, num_person, in_channels, base_channel, drop_out, num_point)

    def units(self, in_channels: int, out_channels: int, stride: int, adjacency: Tensor) -> tuple[nn.Module, nn.Module]:
        gcn = GraphConv(in_channels, out_channels, adjacency, self.adaptive)
        return gcn, MultiScaleTemporalConv(out_channels, out_channels, stride=stride)
