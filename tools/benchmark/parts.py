"""Ways to compute the parts of CTR-GCN that were compared when it was made fast; what it does is named first.

A part is measured at the shape of one of its blocks, forward alone and forward with backward. docs/performance.md says
what was made of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.layers import channels_first, channels_last
from processor.host import keep_freed_memory
from shapmix.draws import generator

from .measure import interleaved

JOINTS, SUBSETS = 25, 3
Part = dict[str, Callable[[], Tensor]]


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of ``python -m tools.benchmark parts``."""
    command.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    command.add_argument("--channels", type=int, default=64, choices=[64, 128, 256], help="of the block")
    command.add_argument("--batch", type=int, default=16, help="samples times people")
    command.add_argument("--bf16", action="store_true", help="autocast")
    command.add_argument("--repeats", type=int, default=10, help="timed calls of each variant")


class Made:
    """Random tensors that require gradients, in bf16 where that is asked for."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.rng, self.device = generator(0, "benchmark", "parts"), torch.device(options.device)
        self.dtype = torch.bfloat16 if options.bf16 else torch.float32

    def weight(self, *shape: int) -> Tensor:
        """float32, as weights are."""
        return torch.randn(*shape, generator=self.rng).to(self.device).requires_grad_()

    def features(self, *shape: int) -> Tensor:
        """Activations."""
        return torch.randn(*shape, generator=self.rng).to(self.device, self.dtype).requires_grad_()


def _channels_last(x: Tensor) -> Tensor:
    return x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()


def parts(options: argparse.Namespace) -> dict[str, Part]:
    """Name -> variants, the one in use first."""
    made, n, c = Made(options), options.batch, options.channels
    t, v, s, r = 64 * 64 // c, JOINTS, SUBSETS, c // 8
    first = made.features(n, c, t, v)
    last = _channels_last(first)
    weights, bias = [made.weight(c, c, 1, 1) for _ in range(s)], made.weight(c)
    stacked = torch.cat(weights).detach().requires_grad_()
    norm = nn.BatchNorm2d(c).to(made.device)
    quarter = made.features(n, c // 4, t, v)
    quarter_last = _channels_last(quarter)
    relation, conv4, adjacency, alpha = (
        made.features(n, r, v, v),
        made.weight(c, r, 1, 1),
        made.weight(v, v),
        made.weight(1),
    )
    values = [made.features(n * c, t, v) for _ in range(s)]
    joined = torch.stack(values, 2).detach().requires_grad_()
    turned = [value.detach().transpose(1, 2).contiguous().requires_grad_() for value in values]
    topologies = [made.features(n * c, v, v) for _ in range(s)]

    def by_addition() -> Tensor:
        total = values[0] @ topologies[0]
        for value, topology in zip(values[1:], topologies[1:], strict=True):
            total = total.baddbmm_(value, topology)
        return total

    def by_sum() -> Tensor:
        return (torch.stack(values) @ torch.stack(topologies)).sum(0)

    def in_one_product() -> Tensor:
        return joined.reshape(n * c, t, s * v) @ torch.cat(topologies, 1)

    def joints_first() -> Tensor:
        total = topologies[0].transpose(1, 2) @ turned[0]
        for value, topology in zip(turned[1:], (one.transpose(1, 2) for one in topologies[1:]), strict=True):
            total = total.baddbmm_(topology, value)
        return total.transpose(1, 2)

    def as_product() -> Tensor:
        constant = (adjacency.flatten() + (bias * alpha).unsqueeze(1)).to(relation.dtype)
        return torch.baddbmm(
            constant.expand(n, -1, -1), (conv4 * alpha).flatten(1).expand(n, -1, -1), relation.flatten(2)
        )

    def shifted() -> Tensor:
        padded = F.pad(quarter, (0, 0, 1, 1), value=-torch.inf)
        return torch.maximum(torch.maximum(padded[:, :, :-2], padded[:, :, 1:-1]), padded[:, :, 2:])

    return {
        "values of the three subsets (1x1 convolutions)": {
            "one convolution, stacked": lambda: F.conv2d(first, stacked),
            "three convolutions": lambda: torch.cat([F.conv2d(first, weight) for weight in weights], 1),
            "one, channels last and back": lambda: channels_first(F.conv2d(last, stacked)),
            "one, as a matrix product": lambda: stacked.flatten(1) @ first.flatten(2),
        },
        "topologies": {
            "one product with alpha and adjacency": as_product,
            "convolution, times alpha, plus adjacency": lambda: F.conv2d(relation, conv4, bias) * alpha + adjacency,
        },
        "product of values and topologies": {
            "subset after subset into one sum": by_addition,
            "one batched product, then the sum": by_sum,
            "subsets side by side in one product": in_one_product,
            "joints before frames": joints_first,
        },
        "batch norm": {"channels last": lambda: norm(last), "channels first": lambda: norm(first)},
        "max pooling": {
            "channels last": lambda: F.max_pool2d(quarter_last, (3, 1), 1, (1, 0)),
            "channels first": lambda: F.max_pool2d(quarter, (3, 1), 1, (1, 0)),
            "maximum of shifted copies": shifted,
        },
        "change of memory layout": {"to channels last": lambda: channels_last(first), "copy": lambda: first.clone()},
    }


def measure(options: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Part -> variant -> seconds of the forward pass, and of forward and backward."""
    device = torch.device(options.device)
    keep_freed_memory()
    found: dict[str, dict[str, dict[str, float]]] = {}
    autocast = torch.autocast(device.type, torch.bfloat16) if options.bf16 else nullcontext()

    def with_backward(call: Callable[[], Tensor]) -> Callable[[int], None]:
        gradient = torch.randn_like(call())
        return lambda repeat: call().backward(gradient)

    with autocast:
        for part, variants in parts(options).items():
            with torch.no_grad():
                wanted, *others = (call() for call in variants.values())
            for other in others:
                off = (other.reshape(wanted.shape) - wanted).float().norm() / wanted.float().norm()
                assert off < (0.02 if options.bf16 else 1e-5), f"{part}: variants differ by {off:.1e}"
            forward = interleaved(
                {name: lambda repeat, f=f: f() for name, f in variants.items()}, options.repeats, device
            )
            both = interleaved({name: with_backward(f) for name, f in variants.items()}, options.repeats, device)
            found[part] = {name: {"forward_s": forward[name], "both_s": both[name]} for name in variants}
    return found


def table(figures: dict[str, dict[str, dict[str, float]]], options: argparse.Namespace) -> str:
    """Milliseconds of each variant."""
    lines = [f"{'part, variant':<46}{'forward, ms':>12}{'and backward':>14}"]
    for part, variants in figures.items():
        lines.append(part)
        for name, row in variants.items():
            lines.append(f"    {name:<42}{1e3 * row['forward_s']:>12.2f}{1e3 * row['both_s']:>14.2f}")
    return "\n".join(lines)
