"""The quick form of the layers: the same results and weights as their plain equations, in fewer passes over memory.

Each function takes a layer, whose ``forward`` has the plain equation, and its input. A fixed batch norm (one that uses
its running statistics) becomes part of the convolution before it. Layers that read the same input are computed in one
call, and so are batch norms side by side. Batch norm and pooling see channels next to each other in memory, products
over joints see joints next to each other.

Nothing is kept from one call to the next: weights may change in between. ``model_args: {fused: false}`` turns it off.

Shapes: N batch (in a layer: samples times people), C channels, T frames, V joints, S subsets of the graph, R channels
of a relation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

# --- the layers -------------------------------------------------------------------------------------------------------


def graph_conv(layer: Any, x: Tensor) -> Tensor:
    """model.ctrgcn.GraphConv: (N, C, T, V) -> (N, C', T, V).

    Relations are of the mean over time, which commutes with a 1x1 convolution. ``alpha``, the adjacency and a fixed
    batch norm become part of the weights. The convolutions of the subsets are one convolution.
    """
    n, _, t, v = x.shape
    scale, shift = affine(layer.bn) if is_fixed(layer.bn) else (None, None)
    first = joints_adjacent(x)
    total: Tensor | None = None
    subsets = zip(layer.convs, layer.PA.unbind(), _relations(layer, first), _values(layer, first, scale), strict=True)
    for conv, adjacency, relation, values in subsets:
        topology = _topology(conv.conv4, layer.alpha, adjacency, relation)
        if total is not None:
            total = total.baddbmm_(values, topology)
        elif shift is None:
            total = torch.bmm(values, topology)
        else:
            total = torch.baddbmm(shift.to(values.dtype).repeat(n).view(-1, 1, 1), values, topology)
    assert total is not None
    y = channels_adjacent(total.view(n, -1, t, v))
    shortcut = x if isinstance(layer.down, nn.Identity) else conv_norm(layer.down[0], layer.down[1], x)
    return (layer.bn(y) if shift is None else y).add_(shortcut).relu_()


def _relations(layer: Any, x: Tensor) -> tuple[Tensor, ...]:
    """x (N, C, T, V) -> for each subset tanh of target minus source, (N, R, V V), targets next to each other."""
    convs = [subset.conv1 for subset in layer.convs] + [subset.conv2 for subset in layer.convs]
    weight, bias = torch.cat([conv.weight for conv in convs]), torch.cat([conv.bias for conv in convs])
    target, source = F.conv1d(x.mean(2), weight.squeeze(-1), bias).chunk(2, 1)
    return torch.tanh(target.unsqueeze(-2) - source.unsqueeze(-1)).flatten(2).chunk(len(layer.convs), 1)


def _topology(conv: Any, alpha: Tensor, adjacency: Tensor, relation: Tensor) -> Tensor:
    """alpha * conv(relation) + adjacency as one product: relation (N, R, V V) -> (N C', V, V) [source, target]."""
    n, joints = relation.shape[0], adjacency.shape[0]  # a trace takes len(relation) for a constant
    constant = (adjacency.t().flatten() + (conv.bias * alpha).unsqueeze(1)).to(relation.dtype)
    weight = (conv.weight * alpha).flatten(1)
    product = torch.baddbmm(constant.expand(n, -1, -1), weight.expand(n, -1, -1), relation)
    return product.view(-1, joints, joints)


def _values(layer: Any, x: Tensor, scale: Tensor | None) -> tuple[Tensor, ...]:
    """x (N, C, T, V) -> for each subset its values (N C', T, V), times ``scale`` (C',): one convolution."""
    convs = [subset.conv3 for subset in layer.convs]
    weight = torch.stack([conv.weight for conv in convs], 1)
    bias = torch.stack([conv.bias for conv in convs], 1)
    if scale is not None:
        weight, bias = weight * scale.view(-1, 1, 1, 1, 1), bias * scale.unsqueeze(1)
    y = F.conv2d(x, weight.flatten(0, 1), bias.flatten())  # channel c of subset s is at c S + s
    return y.view(-1, len(convs), *x.shape[2:]).unbind(1)


def multi_scale(layer: Any, x: Tensor) -> Tensor:
    """model.layers.MultiScaleTemporalConv: (N, C, T, V) -> (N, C', ceil(T / stride), V).

    The 1x1 convolutions before the ReLU are one convolution, and the last batch norms of the branches one call.
    """
    *dilated, pooled, plain = layer.branches
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


# --- convolution and batch norm ---------------------------------------------------------------------------------------


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


def batch_norms(norms: Sequence[Any], x: Tensor) -> Tensor:
    """Each norm on its own channels of x (N, C, T, V), one after the other along C; in one call in training.

    SyncBatchNorm, which talks to other processes, and norms that differ or are not as nn.BatchNorm2d makes them are
    called one by one.
    """
    widths = [norm.num_features for norm in norms]
    kind = norms[0].momentum, norms[0].eps
    if not all(_is_default(norm) and (norm.momentum, norm.eps) == kind for norm in norms):
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


def _is_default(norm: nn.Module) -> bool:
    """Does it train as nn.BatchNorm2d does by default?"""
    if type(norm) is not nn.BatchNorm2d or not norm.training or not norm.track_running_stats:
        return False
    return norm.running_mean is not None and norm.weight is not None and norm.momentum is not None


# --- order in memory --------------------------------------------------------------------------------------------------


class _InMemory(torch.autograd.Function):
    """A tensor in one of the two memory layouts; its gradient in the other, as the layer before it wants it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, channels_last: bool) -> Tensor:
        ctx.channels_last = channels_last
        return _contiguous(x, channels_last)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        before = torch.contiguous_format if ctx.channels_last else torch.channels_last
        return grads[0].contiguous(memory_format=before), None


def joints_adjacent(x: Tensor) -> Tensor:
    """x (N, C, T, V) with joints next to each other in memory, as products over joints want it."""
    return _in_memory(x, False)


def channels_adjacent(x: Tensor) -> Tensor:
    """x (N, C, T, V) with channels next to each other in memory: batch norm and pooling are several times faster."""
    return _in_memory(x, True)


def _in_memory(x: Tensor, channels_last: bool) -> Tensor:
    """x in one of the two layouts; its gradient in the other, but in a trace, which cannot hold a Python function."""
    return _contiguous(x, channels_last) if torch.jit.is_tracing() else _InMemory.apply(x, channels_last)


def _contiguous(x: Tensor, channels_last: bool) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
