"""Building blocks that the networks share.

Shapes: N batch (here samples times people), C channels, T frames, V joints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def init_conv(conv: nn.Conv2d) -> None:
    """He initialisation by fan-out, zero bias."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)


def init_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d, scale: float = 1.0) -> None:
    """Constant scale, zero shift."""
    nn.init.constant_(norm.weight, scale)
    nn.init.zeros_(norm.bias)


class TemporalConv(nn.Module):
    """Convolution over time and batch norm, (N, C, T, V) -> (N, C', ceil(T / stride), V), without activation."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            (kernel_size, 1),
            stride=(stride, 1),
            padding=((kernel_size - 1) * dilation // 2, 0),
            dilation=(dilation, 1),
        )
        self.bn = nn.BatchNorm2d(out_channels)
        init_conv(self.conv)
        init_norm(self.bn)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class MultiScaleTemporalConv(nn.Module):
    """Four branches over time, concatenated: two dilated convolutions, a max pool, a pointwise convolution.

    After Liu et al., CVPR 2020, as CTR-GCN uses it; every branch has a quarter of the channels.

    Args:
        in_channels, out_channels: out_channels must divide by the number of branches (dilations + 2).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 5,
        stride: int = 1,
        dilations: tuple[int, ...] = (1, 2),
    ) -> None:
        super().__init__()
        width = out_channels // (len(dilations) + 2)

        def pointwise(step: int = 1) -> list[nn.Module]:
            return [nn.Conv2d(in_channels, width, 1, stride=(step, 1)), nn.BatchNorm2d(width)]

        branches = [
            nn.Sequential(*pointwise(), nn.ReLU(), TemporalConv(width, width, kernel_size, stride, dilation))
            for dilation in dilations
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
        return torch.cat([branch(x) for branch in self.branches], dim=1)
