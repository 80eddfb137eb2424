"""Building blocks that the networks share, and the frame of ten blocks that all of them fill.

Shapes: N batch (in a block: samples times people), C channels, T frames, V joints, M people, S = 3 subsets of the
graph, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from shapmix.skeleton import SkeletonLayout

from .classifier import CosineClassifier
from .graph import spatial_adjacency

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


class _InMemory(torch.autograd.Function):
    """A tensor in one of the two memory layouts; its gradient in the other, as the layer before it wants it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, channels_last: bool) -> Tensor:
        ctx.channels_last = channels_last
        return x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        before = torch.contiguous_format if ctx.channels_last else torch.channels_last
        return grads[0].contiguous(memory_format=before), None


def channels_first(x: Tensor) -> Tensor:
    """x (N, C, T, V) with joints next to each other in memory, as products over joints want it."""
    return _InMemory.apply(x, False)


def channels_last(x: Tensor) -> Tensor:
    """x (N, C, T, V) with channels next to each other in memory: batch norm and pooling are several times faster."""
    return _InMemory.apply(x, True)


def is_fixed(norm: nn.Module) -> TypeGuard[_BatchNorm]:
    """Is it a batch norm that is an affine map now, because it uses running statistics?"""
    return (
        isinstance(norm, _BatchNorm) and not norm.training and norm.running_var is not None and norm.weight is not None
    )


def affine(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Scale and shift (C,) of a fixed batch norm."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale


def folded(conv: nn.Conv2d, norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that does what ``conv`` and a fixed ``norm`` do; of the present weights."""
    scale, shift = affine(norm)
    return conv.weight * scale.view(-1, 1, 1, 1), shift if conv.bias is None else torch.addcmul(shift, conv.bias, scale)


def convolve(conv: nn.Conv2d, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """``conv(x)``, or with another weight and bias.

    A 1x1 convolution with a stride sees only the frames that it uses: oneDNN's gradient of a strided one with 8 input
    channels or fewer in channels last writes outside its memory (torch 2.13).
    """
    if weight is None:
        weight, bias = conv.weight, conv.bias
    stride = conv.stride
    if conv.kernel_size == (1, 1) and stride != (1, 1):
        x, stride = F.avg_pool2d(x, 1, stride), (1, 1)  # as a slice, but its gradient keeps the memory layout
    return F.conv2d(x, weight, bias, stride, conv.padding, conv.dilation, conv.groups)


def conv_norm(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """``norm(conv(x))``; one convolution where the norm is fixed."""
    if is_fixed(norm):
        return convolve(conv, x, *folded(conv, norm))
    return norm(convolve(conv, x))


def conv_norms(convs: Sequence[nn.Conv2d], norms: Sequence[Any], x: Tensor) -> Tensor:
    """The outputs of several 1x1 convolutions of x, each with its norm, along the channels: one convolution."""
    fixed = all(is_fixed(norm) for norm in norms)
    pairs = [folded(*pair) if fixed else (pair[0].weight, pair[0].bias) for pair in zip(convs, norms, strict=True)]
    weights, biases = zip(*pairs, strict=True)
    y = F.conv2d(x, torch.cat(weights), torch.cat(biases))
    return y if fixed else batch_norms(norms, y)


def _is_plain(norm: nn.Module) -> bool:
    """Does it train as nn.BatchNorm2d does by default?"""
    if type(norm) is not nn.BatchNorm2d or not norm.training or not norm.track_running_stats:
        return False
    return norm.running_mean is not None and norm.weight is not None and norm.momentum is not None


def batch_norms(norms: Sequence[Any], x: Tensor) -> Tensor:
    """Each norm on its own channels of x (N, C, T, V), one after the other along C; in one call in training.

    SyncBatchNorm, which talks to other processes, and norms that differ or are not as nn.BatchNorm2d makes them are
    called one by one.
    """
    widths = [norm.num_features for norm in norms]
    kind = norms[0].momentum, norms[0].eps
    if not all(_is_plain(norm) and (norm.momentum, norm.eps) == kind for norm in norms):
        return torch.cat([norm(part) for norm, part in zip(norms, x.split(widths, 1), strict=True)], 1)
    names = ("running_mean", "running_var", "weight", "bias")
    mean, var, weight, bias = (torch.cat([getattr(norm, name) for norm in norms]) for name in names)
    y = F.batch_norm(x, mean, var, weight, bias, True, norms[0].momentum, norms[0].eps)
    with torch.no_grad():
        for norm, *statistics in zip(norms, mean.split(widths), var.split(widths), strict=True):
            norm.running_mean.copy_(statistics[0])
            norm.running_var.copy_(statistics[1])
            norm.num_batches_tracked.add_(1)
    return y


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
        return conv_norm(self.conv, self.bn, x)


def shortcut(in_channels: int, out_channels: int, stride: int = 1) -> nn.Module:
    """What a residual adds: the input, or a 1x1 convolution with batch norm where width or length changes."""
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    return TemporalConv(in_channels, out_channels, 1, stride)


def aggregate(values: Tensor, topology: Tensor) -> Tensor:
    """out[n, c, t, v] = sum over subsets s and joints w of values[n, s C + c, t, w] * topology[s, v, w].

    Args:
        values: (N, S C, T, V), the subsets one after the other.
        topology: (S, V, V), entry [s, target, source], or (N, S, V, V) with one for each sample.

    Returns:
        (N, C, T, V).
    """
    n, _, t, v = values.shape
    subsets = topology.shape[-3]
    return torch.matmul(values.reshape(n, subsets, -1, v), topology.transpose(-1, -2)).sum(1).view(n, -1, t, v)


class MultiScaleTemporalConv(nn.Module):
    """Four branches over time, concatenated: two dilated convolutions, a max pool, a pointwise convolution.

    After Liu et al., CVPR 2020, as CTR-GCN uses it; every branch has a quarter of the channels. What the branches have
    in common is computed in one call: the 1x1 convolutions before the ReLU, and batch norms.

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
        branches: list[Any] = list(self.branches)
        *dilated, pooled, plain = branches
        before = [*dilated, pooled]
        y = conv_norms([branch[0] for branch in before], [branch[1] for branch in before], x).relu_()
        *parts, last = y.chunk(len(before), 1)
        pool = pooled[3](last)
        norms = [*(branch[3].bn for branch in dilated), pooled[4], plain[1]]
        if not all(is_fixed(norm) for norm in norms):
            outputs = [branch[3].conv(part) for branch, part in zip(dilated, parts, strict=True)]
            return batch_norms(norms, torch.cat([*outputs, pool, convolve(plain[0], x)], 1))
        outputs = [branch[3](part) for branch, part in zip(dilated, parts, strict=True)]
        scale, shift = (value.to(pool.dtype).view(1, -1, 1, 1) for value in affine(pooled[4]))
        return torch.cat([*outputs, torch.addcmul(shift, pool, scale), conv_norm(plain[0], plain[1], x)], 1)


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
    """What the networks have in common: x (N, C, T, V, M) -> logits (N, K).

    Batch norm of the input by person, joint and coordinate; every person through ten blocks (``l1`` .. ``l10``, see
    PLAN; the first has no residual); the mean over people, frames and joints; dropout; a classifier ``fc``.
    A network defines ``units``, the two convolutions of a block.

    Args:
        num_class: K.
        layout: skeleton layout: a name, a dict or a SkeletonLayout.
        num_person: M.
        in_channels: C, 3 for 3D coordinates.
        base_channel: width of the first block, at least 4; 64 as published.
        drop_out: dropout before the classifier, 0 .. 1.
        num_point: V, only to be checked against the layout (CTR-GCN's configs name it).
        classifier: linear, or cosine (see model.classifier; for LDAM).

    Raises:
        ValueError: a width under 4, num_point that is not the layout's, or another classifier.
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

    def units(self, in_channels: int, out_channels: int, stride: int, adjacency: Tensor) -> tuple[nn.Module, nn.Module]:
        """Graph convolution over ``adjacency`` (S, V, V), and the temporal convolution after it, with the stride."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        n, c, t, v, m = x.shape
        x = x.permute(0, 4, 3, 1, 2).reshape(n, m * v * c, t)
        x = self.data_bn(x).view(n, m, v, c, t).permute(0, 1, 3, 4, 2).reshape(n * m, c, t, v)
        for number in range(1, len(PLAN) + 1):
            x = getattr(self, f"l{number}")(x)
        x = x.mean((2, 3)).view(n, m, -1).mean(1)
        return self.fc(self.drop_out(x))
