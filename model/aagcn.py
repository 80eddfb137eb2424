"""AAGCN: adaptive graph convolution with attention (Shi et al., IEEE TIP 2020; 2s-AGCN, CVPR 2019, lacks attention).

Shapes: N batch (in a layer: samples times people), C channels, T frames, V joints, M people, S = 3 subsets, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Backbone, TemporalConv, aggregate, init_conv, init_norm, shortcut

TEMPORAL_KERNEL = 9


class Attention(nn.Module):
    """Scales joints, then frames, then channels by 1 + a gate in 0 .. 1: (N, C, T, V) -> the same shape.

    Each gate reads the mean over the other two axes. All gates start at 0.5.
    """

    def __init__(self, channels: int, num_joints: int) -> None:
        super().__init__()
        kernel = num_joints - 1 + num_joints % 2  # the largest odd one
        self.joints = nn.Conv1d(channels, 1, kernel, padding=kernel // 2)
        self.frames = nn.Conv1d(channels, 1, TEMPORAL_KERNEL, padding=TEMPORAL_KERNEL // 2)
        self.squeeze = nn.Linear(channels, channels // 2)
        self.excite = nn.Linear(channels // 2, channels)
        self.relu = nn.ReLU()
        nn.init.kaiming_normal_(self.squeeze.weight)
        nn.init.zeros_(self.squeeze.bias)
        for last in (self.joints, self.frames, self.excite):
            nn.init.zeros_(last.weight)
            if last.bias is not None:
                nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x * (1 + self.joints(x.mean(2)).sigmoid().unsqueeze(2))
        x = x * (1 + self.frames(x.mean(3)).sigmoid().unsqueeze(3))
        return x * (1 + self.excite(self.relu(self.squeeze(x.mean((2, 3))))).sigmoid()[:, :, None, None])


class GraphConv(nn.Module):
    """Graph convolution with a topology for each sample, batch norm, residual, ReLU, attention.

    (N, C, T, V) -> (N, C', T, V). The topology (N, S, V, V), entry [n, s, source, target], is ``A`` (S, V, V), which is
    learnt and starts as the skeleton's adjacency, + ``gate``, which starts at 0, times the similarity of source and
    target joint: tanh of the mean product of their embeddings over frames and a quarter of C' channels. ``bias`` (C')
    is added after the sum over joints and subsets.

    Attributes:
        values_bias: (S C'), added before that sum. It is not trained and 0, but in weights of older versions of this
            network, which had their bias there (see model.foreign).
    """

    def __init__(self, in_channels: int, out_channels: int, adjacency: Tensor) -> None:
        super().__init__()
        self.A = nn.Parameter(adjacency.clone())
        self.gate = nn.Parameter(torch.zeros(1))
        subsets = len(adjacency)
        self.embed = nn.Conv2d(in_channels, 2 * subsets * (out_channels // 4), 1)
        self.conv = nn.Conv2d(in_channels, subsets * out_channels, 1, bias=False)
        self.values_bias: Tensor
        self.register_buffer("values_bias", torch.zeros(subsets * out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.bn = nn.BatchNorm2d(out_channels)
        self.residual = shortcut(in_channels, out_channels)
        self.relu = nn.ReLU()
        self.attention = Attention(out_channels, adjacency.shape[-1])
        init_conv(self.embed)
        init_conv(self.conv)
        init_norm(self.bn, 1e-6)

    def similarity(self, x: Tensor) -> Tensor:
        """x (N, C, T, V) -> (N, S, V, V) within -1 .. 1, entry [n, s, source, target]."""
        n, _, _, v = x.shape
        source, target = self.embed(x).reshape(n, 2, self.A.shape[0], -1, v).unbind(1)
        return torch.tanh(torch.matmul(source.transpose(-1, -2), target) / source.shape[2])

    def forward(self, x: Tensor) -> Tensor:
        topology = self.A + self.gate * self.similarity(x)
        total = aggregate(F.conv2d(x, self.conv.weight, self.values_bias), topology) + self.bias[:, None, None]
        return self.attention(self.relu(self.bn(total) + self.residual(x)))


class Model(Backbone):
    """AAGCN, one stream: x (N, C, T, V, M) -> logits (N, K). Widths 1, 1, 1, 1, 2, 2, 2, 4, 4, 4 x base_channel.

    Cost at full width (in_channels 3, num_person 2): 3.757 M parameters with coco17 and 60 classes, 3.845 M with 400;
    4.37 G multiply-adds for a sample (3, 100, 17, 2), 4.19 G for (3, 64, 25, 2). PYSKL reports 3.7 M.

    Differs from the paper: the similarity is tanh of a mean product, as in the authors' code, not a softmax; every
    attention gate starts at 0.5, the joints' too. PYSKL's weights mean the same here, see model.foreign.

    Arguments and errors as in model.layers.Backbone.
    """

    def units(self, in_channels: int, out_channels: int, stride: int, adjacency: Tensor) -> tuple[nn.Module, nn.Module]:
        gcn = GraphConv(in_channels, out_channels, adjacency)
        return gcn, TemporalConv(out_channels, out_channels, TEMPORAL_KERNEL, stride)
