"""CTR-GCN the straightforward way: one call for each operation of the paper, nothing merged, folded or reordered.

A reference: tests compare ``model.ctrgcn`` with it, ``tools.benchmark`` measures against it. Names, shapes and numbers
of its state dict are those of ``model.ctrgcn.Model``.

Shapes: N batch (in a block: samples times people), C channels, T frames, V joints, M people, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model import ctrgcn
from model.layers import PLAN, MultiScaleTemporalConv, TemporalConv


class PlainRefinement(ctrgcn.RefinedGraphConv):
    """One subset: relations of all frames, then their mean; a topology for every channel; the product by einsum."""

    def forward(self, x: Tensor, adjacency: Tensor, alpha: Tensor) -> Tensor:
        to, of, values = self.conv1(x).mean(-2), self.conv2(x).mean(-2), self.conv3(x)
        relation = torch.tanh(to.unsqueeze(-1) - of.unsqueeze(-2))
        topology = self.conv4(relation) * alpha + adjacency
        return torch.einsum("ncuv,nctv->nctu", topology, values)


class PlainGraphConv(ctrgcn.GraphConv):
    """The subsets one after the other, their sum, batch norm, residual, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, adjacency: Tensor, adaptive: bool = True) -> None:
        super().__init__(in_channels, out_channels, adjacency, adaptive)
        self.convs = nn.ModuleList([PlainRefinement(in_channels, out_channels) for _ in adjacency])
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        total = sum(conv(x, adjacency, self.alpha) for conv, adjacency in zip(self.convs, self.PA, strict=True))
        return self.relu(self.bn(total) + self.down(x))


class PlainTemporalConv(nn.Module):
    """Convolution, then batch norm."""

    def __init__(self, conv: TemporalConv) -> None:
        super().__init__()
        self.conv, self.bn = conv.conv, conv.bn

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class PlainMultiScale(MultiScaleTemporalConv):
    """Branch after branch."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(channels, channels, stride=stride)
        for branch in self.branches:
            if isinstance(branch[-1], TemporalConv):
                branch[-1] = PlainTemporalConv(branch[-1])

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class PlainBlock(nn.Module):
    """Graph convolution, temporal convolution, residual, ReLU."""

    def __init__(self, gcn: nn.Module, tcn: nn.Module, residual: nn.Module | None) -> None:
        super().__init__()
        self.gcn1, self.tcn1, self.residual, self.relu = gcn, tcn, residual, nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        features = self.tcn1(self.gcn1(x))
        return self.relu(features if self.residual is None else features + self.residual(x))


class PlainCTRGCN(ctrgcn.Model):
    """CTR-GCN: x (N, C, T, V, M) -> logits (N, K); arguments as model.ctrgcn.Model."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        for number in range(1, len(PLAN) + 1):
            block = getattr(self, f"l{number}")
            residual = block.residual
            if isinstance(residual, TemporalConv):
                residual = PlainTemporalConv(residual)
            setattr(self, f"l{number}", PlainBlock(block.gcn1, block.tcn1, residual))

    def units(self, in_channels: int, out_channels: int, stride: int, adjacency: Tensor) -> tuple[nn.Module, nn.Module]:
        return PlainGraphConv(in_channels, out_channels, adjacency, self.adaptive), PlainMultiScale(
            out_channels, stride
        )

    def forward(self, x: Tensor) -> Tensor:
        n, c, t, v, m = x.shape
        x = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(n, m * v * c, t))
        x = x.view(n, m, v, c, t).permute(0, 1, 3, 4, 2).reshape(n * m, c, t, v)
        for number in range(1, len(PLAN) + 1):
            x = getattr(self, f"l{number}")(x)
        x = x.reshape(n, m, x.shape[1], -1).mean((1, 3))
        return self.fc(self.drop_out(x))
