"""Layers that the networks share, and their common structure of ten blocks.

Shapes: N batch (in a block: samples times people), C channels, T frames, V joints, M people, S = 3 subsets of the
graph, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from shapmix.skeleton import SkeletonLayout

from . import fused
from .classifier import CosineClassifier
from .graph import spatial_adjacency

DILATIONS = (1, 2)  # of the temporal branches of MultiScaleTemporalConv
# Width of each block in units of base_channel, and its stride in time (Yan et al., AAAI 2018).
PLAN = ((1, 1),) * 4 + ((2, 2), (2, 1), (2, 1), (4, 2), (4, 1), (4, 1))


def init_conv(conv: nn.Conv2d) -> None:
    """He initialisation by fan-out, zero bias."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def init_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d, scale: float = 1.0) -> None:
    """Constant scale, zero shift."""
    nn.init.constant_(norm.weight, scale)
    nn.init.zeros_(norm.bias)


class Fusible(nn.Module):
    """A layer that model.fused can compute as well, and does while ``fused`` is true (see Backbone)."""

    fused = True


class TemporalConv(Fusible):
    """Convolution over time and batch norm, (N, C, T, V) -> (N, C', ceil(T / stride), V), without activation."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = (kernel - 1) * dilation // 2
        self.conv = nn.Conv2d(in_channels, out_channels, (kernel, 1), (stride, 1), (padding, 0), (dilation, 1))
        self.bn = nn.BatchNorm2d(out_channels)
        init_conv(self.conv)
        init_norm(self.bn)

    def forward(self, x: Tensor) -> Tensor:
        if self.fused:
            return fused.conv_norm(self.conv, self.bn, x)
        return self.bn(self.conv(x))


def shortcut(in_channels: int, out_channels: int, stride: int = 1) -> nn.Module:
    """A residual connection: the identity, or a 1x1 convolution with batch norm where width or length changes."""
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    return TemporalConv(in_channels, out_channels, 1, stride)


def aggregate(values: Tensor, topology: Tensor) -> Tensor:
    """out[n, c, t, w] = sum over subsets s and joints v of values[n, s C + c, t, v] * topology[s, v, w].

    Args:
        values: (N, S C, T, V), the subsets one after the other.
        topology: (S, V, V), entry [s, source, target] as in PYSKL, or (N, S, V, V) with one for each sample.

    Returns:
        (N, C, T, V).
    """
    n, _, t, v = values.shape
    subsets = topology.shape[-3]
    return torch.matmul(values.reshape(n, subsets, -1, v), topology).sum(1).view(n, -1, t, v)


class MultiScaleTemporalConv(Fusible):
    """Four branches over time, concatenated: two dilated convolutions, a max pool, a pointwise convolution.

    (N, C, T, V) -> (N, C', ceil(T / stride), V). After Liu et al., CVPR 2020, as CTR-GCN uses it: every branch has a
    quarter of the channels and begins with a 1x1 convolution; every convolution and the pool have a batch norm.

    Args:
        out_channels: C', divides by 4.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        width = out_channels // (len(DILATIONS) + 2)

        def pointwise(step: int = 1) -> list[nn.Module]:
            return [nn.Conv2d(in_channels, width, 1, stride=(step, 1)), nn.BatchNorm2d(width)]

        branches = [
            nn.Sequential(*pointwise(), nn.ReLU(), TemporalConv(width, width, 5, stride, dilation))
            for dilation in DILATIONS
        ]
        pool = nn.MaxPool2d((3, 1), stride=(stride, 1), padding=(1, 0))
        branches.append(nn.Sequential(*pointwise(), nn.ReLU(), pool, nn.BatchNorm2d(width)))
        branches.append(nn.Sequential(*pointwise(stride)))
        self.branches = nn.ModuleList(branches)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init_conv(module)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.fused:
            return fused.multi_scale(self, x)
        return torch.cat([branch(x) for branch in self.branches], 1)


class Block(nn.Module):
    """Graph convolution, temporal convolution, residual, ReLU: (N, C, T, V) -> (N, C', ceil(T / stride), V).

    The names are those of CTR-GCN's published weights.
    """

    def __init__(self, gcn: nn.Module, tcn: nn.Module, residual: nn.Module | None) -> None:
        super().__init__()
        self.gcn1 = gcn
        self.tcn1 = tcn
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        features = self.tcn1(self.gcn1(x))
        return features.relu() if self.residual is None else (features + self.residual(x)).relu_()


class Backbone(nn.Module):
    """The structure that the networks share: x (N, C, T, V, M) -> logits (N, K).

    Batch norm of the input by person, joint and coordinate; ten blocks for each person (``l1`` .. ``l10``, see PLAN;
    the first has no residual); the mean over people, frames and joints; dropout; the classifier ``fc``.
    A network defines ``units``, the two convolutions of a block.

    Args:
        num_class: K.
        layout: skeleton layout: a name, a dict or a SkeletonLayout.
        num_person: M.
        in_channels: C, 3 for 3D coordinates.
        base_channel: width of the first block, at least 4; 64 as published.
        drop_out: dropout before the classifier, 0 .. 1.
        num_point: V, checked against the layout (CTR-GCN's configs have it).
        classifier: linear, or cosine (for LDAM; see model.classifier).
        fused: model.fused computes the layers, with the same result in less time. False: their plain equations do.

    Raises:
        ValueError: base_channel is under 4, num_point is not the layout's, or classifier is neither of the two.
    """

    def __init__(
        self,
        num_class: int,
        layout: str | Mapping[str, Any] | SkeletonLayout = "ntu25",
        num_person: int = 2,
        in_channels: int = 3,
        base_channel: int = 64,
        drop_out: float = 0.0,
        num_point: int | None = None,
        classifier: Literal["linear", "cosine"] = "linear",
        fused: bool = True,
    ) -> None:
        super().__init__()
        self.layout = SkeletonLayout.get(layout)
        if base_channel < 4:
            raise ValueError(f"base_channel must be at least 4, got {base_channel}")
        if num_point not in (None, self.layout.num_joints):
            raise ValueError(
                f"num_point {num_point}, but layout {self.layout.name!r} has {self.layout.num_joints} joints"
            )
        adjacency = torch.from_numpy(spatial_adjacency(self.layout)).float()
        self.data_bn = nn.BatchNorm1d(num_person * in_channels * self.layout.num_joints)
        before = in_channels
        for number, (multiple, stride) in enumerate(PLAN, start=1):
            width = multiple * base_channel
            gcn, tcn = self.units(before, width, stride, adjacency)
            residual = shortcut(before, width, stride) if number > 1 else None
            self.add_module(f"l{number}", Block(gcn, tcn, residual))
            before = width
        self.drop_out = nn.Dropout(drop_out)
        if classifier not in ("linear", "cosine"):
            raise ValueError(f"classifier is linear or cosine, got {classifier!r}")
        self.fc = nn.Linear(before, num_class) if classifier == "linear" else CosineClassifier(before, num_class)
        nn.init.normal_(self.fc.weight, 0, math.sqrt(2.0 / num_class))
        init_norm(self.data_bn)
        for module in self.modules():
            if isinstance(module, Fusible):
                module.fused = fused

    def units(self, in_channels: int, out_channels: int, stride: int, adjacency: Tensor) -> tuple[nn.Module, nn.Module]:
        """A block's graph convolution over ``adjacency`` (S, V, V), and the temporal one after it, which strides."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        n, c, t, v, m = x.shape
        x = x.permute(0, 4, 3, 1, 2).reshape(n, m * v * c, t)
        x = self.data_bn(x).view(n, m, v, c, t).permute(0, 1, 3, 4, 2).reshape(n * m, c, t, v)
        for number in range(1, len(PLAN) + 1):
            x = getattr(self, f"l{number}")(x)
        x = x.mean((2, 3)).view(n, m, -1).mean(1)
        return self.fc(self.drop_out(x))
