"""ST-GCN++: ST-GCN with a free adjacency and temporal convolutions in branches (PYSKL; Duan et al., ACM MM 2022).

Shapes: N batch (in a layer: samples times people), C channels, T frames, V joints, M people, S = 3 subsets, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layers import Backbone, aggregate, init_conv, init_norm, shortcut

DILATIONS = (1, 2, 3, 4)


class GraphConv(nn.Module):
    """Sum of a 1x1 convolution's values over all joints in each subset, batch norm, residual, ReLU.

    (N, C, T, V) -> (N, C', T, V). ``A`` (S, V, V), entry [s, source, target], is learnt and starts as the skeleton's
    adjacency.
    """

    def __init__(self, in_channels: int, out_channels: int, adjacency: Tensor) -> None:
        super().__init__()
        self.A = nn.Parameter(adjacency.clone())
        self.conv = nn.Conv2d(in_channels, len(adjacency) * out_channels, 1)
        self.bn = nn.BatchNorm2d(out_channels)
        self.residual = shortcut(in_channels, out_channels)
        self.relu = nn.ReLU()
        init_conv(self.conv)
        init_norm(self.bn)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(aggregate(self.conv(x), self.A)) + self.residual(x))


class BranchedTemporalConv(nn.Module):
    """Six branches over time, mixed by a 1x1 convolution: (N, C, T, V) -> (N, C, ceil(T / stride), V).

    One 1x1 convolution makes the input of all branches: four convolutions of kernel 3 with dilations 1 to 4 and a max
    pool over 3 frames see it after batch norm and ReLU, the sixth branch is its last channels as they are. Then batch
    norm, ReLU, the mixing convolution, batch norm.

    Attributes:
        widths: channels of the branches: ``channels // 6`` each, and what remains in the first. Under 6 channels all
            are the first branch's, and the others are left out.
    """

    def __init__(self, channels: int, stride: int = 1) -> None:
        super().__init__()
        width = channels // (len(DILATIONS) + 2)
        self.widths = (channels - width * (len(DILATIONS) + 1), *(width,) * (len(DILATIONS) + 1))
        self.stride = stride
        self.reduce = nn.Conv2d(channels, channels, 1)
        self.bn_reduce = nn.BatchNorm2d(channels - width)
        self.branches = nn.ModuleList(
            nn.Conv2d(size, size, (3, 1), stride=(stride, 1), padding=(dilation, 0), dilation=(dilation, 1))
            for size, dilation in zip(self.widths, DILATIONS, strict=False)
            if size
        )
        if width:
            self.branches.append(nn.MaxPool2d((3, 1), stride=(stride, 1), padding=(1, 0)))
        self.bn_branches = nn.BatchNorm2d(channels)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                init_conv(module)
            elif isinstance(module, nn.BatchNorm2d):
                init_norm(module)

    def forward(self, x: Tensor) -> Tensor:
        inputs, plain = self.reduce(x).split((sum(self.widths[:-1]), self.widths[-1]), 1)
        parts = self.relu(self.bn_reduce(inputs)).split(self.widths[:-1], 1)
        parts = parts[: len(self.branches)]  # no branch, no channels
        outputs = [branch(part) for branch, part in zip(self.branches, parts, strict=True)]
        merged = torch.cat([*outputs, plain[:, :, :: self.stride]], 1)
        return self.bn(self.mix(self.relu(self.bn_branches(merged))))


class Model(Backbone):
    """ST-GCN++: x (N, C, T, V, M) -> logits (N, K). Ten blocks of widths 1, 1, 1, 1, 2, 2, 2, 4, 4, 4 x base_channel.

    Cost at full width (in_channels 3, num_person 2): 1.393 M parameters with coco17 and 60 classes, 1.480 M with 400;
    1.94 G multiply-adds for a sample (3, 100, 17, 2), 1.88 G for (3, 64, 25, 2). PYSKL reports 1.39 M.

    Differs from PYSKL's: the input's batch norm keeps people apart; the branches' six 1x1 convolutions are one; He
    initialisation. PYSKL's weights mean the same here, see model.foreign.

    Arguments and errors as in model.layers.Backbone. A base_channel under 24 gives narrow temporal branches, see
    BranchedTemporalConv; with 4 or 5 the first four blocks have only the undilated one.
    """

    def units(self, in_channels: int, out_channels: int, stride: int, adjacency: Tensor) -> tuple[nn.Module, nn.Module]:
        return GraphConv(in_channels, out_channels, adjacency), BranchedTemporalConv(out_channels, stride)
