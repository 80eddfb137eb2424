"""CTR-GCN: channel-wise topology refinement (Chen et al., ICCV 2021). State-dict keys as in the official code.

Shapes: N batch, C channels, T frames, V joints, M people, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shapmix.skeleton import SkeletonLayout

from .layers import (
    Backbone,
    MultiScaleTemporalConv,
    affine,
    channels_first,
    channels_last,
    conv_norm,
    init_conv,
    init_norm,
    is_fixed,
)

RAW_CHANNELS = 9  # a layer with at most so many inputs sees coordinates, not features


class TopologyRefinement(nn.Module):
    """The four 1x1 convolutions of one subset's graph convolution (the paper's CTR-GC); GraphConv computes with them.

    ``conv1`` and ``conv2`` give relations of target and source joints, ``conv4`` a topology from their difference for
    every output channel, ``conv3`` the values that are passed on.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        relation = 8 if in_channels in (2, 3, 4, RAW_CHANNELS) else max(1, in_channels // 8)
        self.conv1 = nn.Conv2d(in_channels, relation, 1)
        self.conv2 = nn.Conv2d(in_channels, relation, 1)
        self.conv3 = nn.Conv2d(in_channels, out_channels, 1)
        self.conv4 = nn.Conv2d(relation, out_channels, 1)
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            init_conv(conv)


class GraphConv(nn.Module):
    """Sum of the refined convolutions over the three subsets of the graph, batch norm, residual, ReLU.

    (N, C, T, V) -> (N, C', T, V). The same as the paper's formula, computed with less work: relations are of the mean
    over time, which commutes with a 1x1 convolution; ``alpha``, the adjacency and a fixed batch norm go into the
    weights; the convolutions of the subsets are one.
    """

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

    @property
    def subsets(self) -> list[Any]:
        """The S modules of ``convs``."""
        return list(self.convs)

    def relations(self, x: Tensor) -> tuple[Tensor, ...]:
        """x (N, C, T, V) -> for each subset tanh of target minus source, (N, R, V V), targets next to each other."""
        convs = [subset.conv1 for subset in self.subsets] + [subset.conv2 for subset in self.subsets]
        weight, bias = torch.cat([conv.weight for conv in convs]), torch.cat([conv.bias for conv in convs])
        to, of = F.conv1d(x.mean(2), weight.squeeze(-1), bias).chunk(2, 1)
        return torch.tanh(to.unsqueeze(-2) - of.unsqueeze(-1)).flatten(2).chunk(len(self.convs), 1)

    def topology(self, relation: Tensor, conv: Any, adjacency: Tensor) -> Tensor:
        """alpha * conv(relation) + adjacency as one product: relation (N, R, V V) -> (N C', V, V) [source, target]."""
        n, joints = len(relation), len(adjacency)
        constant = (adjacency.t().flatten() + (conv.bias * self.alpha).unsqueeze(1)).to(relation.dtype)
        weight = (conv.weight * self.alpha).flatten(1)
        product = torch.baddbmm(constant.expand(n, -1, -1), weight.expand(n, -1, -1), relation)
        return product.view(-1, joints, joints)

    def values(self, x: Tensor, scale: Tensor | None) -> tuple[Tensor, ...]:
        """x (N, C, T, V) -> for each subset its values (N C', T, V), times ``scale`` (C',): one convolution."""
        convs = [subset.conv3 for subset in self.subsets]
        weight = torch.stack([conv.weight for conv in convs], 1)
        bias = torch.stack([conv.bias for conv in convs], 1)
        if scale is not None:
            weight, bias = weight * scale.view(-1, 1, 1, 1, 1), bias * scale.unsqueeze(1)
        y = F.conv2d(x, weight.flatten(0, 1), bias.flatten())  # channel c of subset s is at c S + s
        return y.view(-1, len(self.convs), *x.shape[2:]).unbind(1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, t, v = x.shape
        scale, shift = affine(self.bn) if is_fixed(self.bn) else (None, None)
        first = channels_first(x)
        total: Tensor | None = None
        for subset, adjacency, relation, values in zip(
            self.subsets, self.PA, self.relations(first), self.values(first, scale), strict=True
        ):
            topology = self.topology(relation, subset.conv4, adjacency)
            if total is not None:
                total = total.baddbmm_(values, topology)
            elif shift is None:
                total = torch.bmm(values, topology)
            else:
                total = torch.baddbmm(shift.to(values.dtype).repeat(n).view(-1, 1, 1), values, topology)
        assert total is not None
        y = channels_last(total.view(n, -1, t, v))
        down: Any = self.down
        shortcut = x if isinstance(down, nn.Identity) else conv_norm(down[0], down[1], x)
        return (self.bn(y) if shift is None else y).add_(shortcut).relu_()


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
        classifier: linear, or cosine (see model.classifier; for LDAM).

    Raises:
        ValueError: a width that does not divide by 4, num_point that is not the layout's, or another classifier.
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
    ) -> None:
        if base_channel < 4 or base_channel % 4:
            raise ValueError(f"base_channel must be a multiple of 4, got {base_channel}")
        self.adaptive = adaptive
        super().__init__(num_class, layout, num_person, in_channels, base_channel, drop_out, num_point, classifier)

    def units(self, in_channels: int, out_channels: int, stride: int, adjacency: Tensor) -> tuple[nn.Module, nn.Module]:
        gcn = GraphConv(in_channels, out_channels, adjacency, self.adaptive)
        return gcn, MultiScaleTemporalConv(out_channels, out_channels, stride=stride)
