"""ST-GCN: spatial temporal graph convolution (Yan et al., AAAI 2018), in the form that PYSKL measures.

Shapes: N batch (in a layer: samples times people), C channels, T frames, V joints, M people, S = 3 subsets, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layers import Backbone, TemporalConv, aggregate, init_conv, init_norm


class GraphConv(nn.Module):
    """Sum of a 1x1 convolution's values over the neighbours in each subset, batch norm, ReLU.

    (N, C, T, V) -> (N, C', T, V). ``A`` (S, V, V), entry [s, source, target], is the skeleton's adjacency, or that of
    the weights that were loaded. ``PA`` starts at 1 and weights each entry of A, whose zeros stay zero.
    """

    def __init__(self, in_channels: int, out_channels: int, adjacency: Tensor) -> None:
        super().__init__()
        self.A: Tensor
        self.register_buffer("A", adjacency.clone())
        self.PA = nn.Parameter(torch.ones_like(adjacency))
        self.conv = nn.Conv2d(in_channels, len(adjacency) * out_channels, 1)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        init_conv(self.conv)
        init_norm(self.bn)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn(aggregate(self.conv(x), self.A * self.PA)))


class Model(Backbone):
    """ST-GCN: x (N, C, T, V, M) -> logits (N, K). Ten blocks of widths 1, 1, 1, 1, 2, 2, 2, 4, 4, 4 x base_channel.

    Cost at full width (in_channels 3, num_person 2): 3.089 M parameters with coco17 and 60 classes, 3.176 M with 400;
    3.81 G multiply-adds for a sample (3, 100, 17, 2), 3.65 G for (3, 64, 25, 2). PYSKL reports 3.1 M.

    Differs from the paper's code and PYSKL's: each subset's matrix is normalised by itself, as in CTR-GCN, not the sum
    of the three; the input's batch norm keeps people apart; no dropout inside the blocks. PYSKL's weights bring their
    own matrices and norm, see model.foreign.

    Arguments and errors as in model.layers.Backbone.
    """

    def units(self, in_channels: int, out_channels: int, stride: int, adjacency: Tensor) -> tuple[nn.Module, nn.Module]:
        return GraphConv(in_channels, out_channels, adjacency), TemporalConv(out_channels, out_channels, 9, stride)
