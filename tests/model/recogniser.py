"""ST-GCN, ST-GCN++ and AAGCN with PYSKL's names of weights and equations, written out to compare with.

Shapes: N batch (in a layer: samples times people), C channels, T frames, V joints, M people, S subsets, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StaticGraph(nn.Module):
    """ST-GCN (``free`` false: A weighted by PA, no residual) and ST-GCN++ (A learnt, residual)."""

    def __init__(self, inputs: int, width: int, graph: Tensor, free: bool) -> None:
        super().__init__()
        self.free = free
        if free:
            self.A = nn.Parameter(graph.clone())
            if inputs != width:
                self.down = nn.Sequential(nn.Conv2d(inputs, width, 1), nn.BatchNorm2d(width))
        else:
            self.register_buffer("A", graph.clone())
            self.PA = nn.Parameter(graph.clone())
        self.bn = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(inputs, len(graph) * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        graph = self.A if self.free else self.A * self.PA
        values = self.conv(x).unflatten(1, (len(graph), -1))
        y = self.bn(torch.einsum("nsctv,svw->nctw", values, graph))
        return torch.relu(y + (getattr(self, "down", nn.Identity())(x) if self.free else 0))


class AdaptiveGraph(nn.Module):
    """AAGCN's: A plus alpha times tanh of the embeddings' mean product, then three attentions."""

    def __init__(self, inputs: int, width: int, graph: Tensor) -> None:
        super().__init__()
        subsets, joints = graph.shape[:2]
        self.A = nn.Parameter(graph.clone())
        self.alpha = nn.Parameter(torch.zeros(1))
        self.conv_a = nn.ModuleList(nn.Conv2d(inputs, width // 4, 1) for _ in range(subsets))
        self.conv_b = nn.ModuleList(nn.Conv2d(inputs, width // 4, 1) for _ in range(subsets))
        self.conv_d = nn.ModuleList(nn.Conv2d(inputs, width, 1) for _ in range(subsets))
        kernel = joints if joints % 2 else joints - 1
        self.conv_ta = nn.Conv1d(width, 1, 9, padding=4)
        self.conv_sa = nn.Conv1d(width, 1, kernel, padding=kernel // 2)
        self.fc1c = nn.Linear(width, width // 2)
        self.fc2c = nn.Linear(width // 2, width)
        if inputs != width:
            self.down = nn.Sequential(nn.Conv2d(inputs, width, 1), nn.BatchNorm2d(width))
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros(())
        for subset, graph in enumerate(self.A):
            source, target = self.conv_a[subset](x), self.conv_b[subset](x)
            product = torch.einsum("nctv,nctw->nvw", source, target) / (source.shape[1] * source.shape[2])
            joined = torch.einsum("nctv,nvw->nctw", x, graph + self.alpha * torch.tanh(product))
            y = y + self.conv_d[subset](joined)
        y = torch.relu(self.bn(y) + getattr(self, "down", nn.Identity())(x))
        y = y + y * torch.sigmoid(self.conv_sa(y.mean(2)))[:, :, None]
        y = y + y * torch.sigmoid(self.conv_ta(y.mean(3)))[..., None]
        gate = torch.sigmoid(self.fc2c(torch.relu(self.fc1c(y.mean((2, 3))))))
        return y + y * gate[:, :, None, None]


class Temporal(nn.Module):
    """Convolution over time, and a norm where there is one."""

    def __init__(self, inputs: int, width: int, kernel: int, stride: int, dilation: int = 1, norm: bool = True) -> None:
        super().__init__()
        padding = (kernel - 1) * dilation // 2
        self.conv = nn.Conv2d(inputs, width, (kernel, 1), (stride, 1), (padding, 0), (dilation, 1))
        self.bn = nn.BatchNorm2d(width) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class Branches(nn.Module):
    """ST-GCN++'s: kernel 3 with dilations 1 to 4, a max pool, a pointwise convolution."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        part = width // 6
        first = width - 5 * part
        self.branches = nn.ModuleList()
        for dilation in range(1, 6):
            size = first if dilation == 1 else part
            last: nn.Module = Temporal(size, size, 3, stride, dilation, norm=False)
            if dilation == 5:
                last = nn.MaxPool2d((3, 1), (stride, 1), (1, 0))
            self.branches.append(nn.Sequential(nn.Conv2d(width, size, 1), nn.BatchNorm2d(size), nn.ReLU(), last))
        self.branches.append(nn.Conv2d(width, part, 1, (stride, 1)))
        self.transform = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, width, 1))
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.transform(torch.cat([branch(x) for branch in self.branches], 1)))


class Block(nn.Module):
    """Graph, time, residual."""

    def __init__(self, kind: str, inputs: int, width: int, stride: int, graph: Tensor, first: bool) -> None:
        super().__init__()
        adaptive = kind == "aagcn"
        self.gcn = (
            AdaptiveGraph(inputs, width, graph) if adaptive else StaticGraph(inputs, width, graph, kind == "stgcnpp")
        )
        self.tcn = Branches(width, stride) if kind == "stgcnpp" else Temporal(width, width, 9, stride)
        self.first = first
        if not first and (inputs != width or stride > 1):
            self.residual = Temporal(inputs, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.tcn(self.gcn(x))
        return torch.relu(y if self.first else y + getattr(self, "residual", nn.Identity())(x))


class Body(nn.Module):
    """Ten blocks over x (N, M, T, V, C); the input's norm is of V C values, AAGCN's of M V C."""

    def __init__(self, kind: str, width: int, graph: Tensor, people: int) -> None:
        super().__init__()
        self.shared = kind != "aagcn"
        self.data_bn = nn.BatchNorm1d((1 if self.shared else people) * 3 * graph.shape[1])
        self.gcn = nn.ModuleList([Block(kind, 3, width, 1, graph, True)])
        for number in range(2, 11):
            inputs, wider = width, number in (5, 8)
            width = 2 * width if wider else width
            self.gcn.append(Block(kind, inputs, width, 2 if wider else 1, graph, False))

    def forward(self, x: Tensor) -> Tensor:
        n, m, t, v, c = x.shape
        rows = x.permute(0, 1, 3, 4, 2)  # N M V C T
        rows = self.data_bn(rows.flatten(0, 1).flatten(1, 2) if self.shared else rows.flatten(1, 3))
        y = rows.reshape(n * m, v, c, t).permute(0, 2, 3, 1)
        for block in self.gcn:
            y = block(y)
        return y.unflatten(0, (n, m))


class Head(nn.Module):
    """The mean over frames, joints and people, and the classifier."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.fc_cls = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc_cls(x.mean((3, 4)).mean(1))


class Recogniser(nn.Module):
    """x (N, C, T, V, M) as in this repository -> logits (N, K)."""

    def __init__(self, kind: str, width: int, graph: Tensor, people: int, classes: int) -> None:
        super().__init__()
        self.backbone = Body(kind, width, graph, people)
        self.cls_head = Head(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.cls_head(self.backbone(x.permute(0, 4, 2, 3, 1)))
