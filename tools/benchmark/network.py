"""CTR-GCN's forward and backward pass, fused beside plain (``model_args.fused: false``): float32, bf16, compiled.

Samples are of NTU's shape (3, 64, 25, 2), 60 classes. Multiply-adds are those that the plain network needs, whatever a
variant does; a backward pass counts as two forward passes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.ctrgcn import Model
from processor.info import multiply_adds
from shapmix.draws import generator

from .measure import Rows, Variant, compare, device_peak, no_tf32
from .mixing import CLASSES, SHAPE

DEFAULTS = {"device": "cpu", "width": 64, "batch": (16, 64), "repeats": (3, 5), "compile": False}
Call = Callable[[nn.Module, Tensor, Tensor], Tensor]


@torch.no_grad()
def stir(network: nn.Module) -> None:
    """Weights that are the same each time; alpha, batch norms and biases without values that have no effect."""
    rng = generator(0, "benchmark", "weights")
    for name, values in network.state_dict().items():
        if name.endswith("running_var") or (values.ndim == 1 and name.endswith(("alpha", "weight"))):
            values.copy_(0.3 + 0.5 * torch.rand(values.shape, generator=rng))
        elif name.endswith(("running_mean", "bias")):
            values.copy_(0.1 * torch.randn(values.shape, generator=rng))
        elif name.endswith("weight"):  # of a convolution, or the last layer
            values.copy_(torch.randn(values.shape, generator=rng) / values[0].numel() ** 0.5)


@cache
def weights(width: int) -> dict[str, Tensor]:
    """The weights of all networks of this width."""
    made = Model(CLASSES, base_channel=width)
    stir(made)
    return made.state_dict()


def ctrgcn(options: argparse.Namespace, fused: bool) -> Model:
    """A network on the device."""
    made = Model(CLASSES, base_channel=options.width, fused=fused)
    made.load_state_dict(weights(options.width))
    return made.to(options.device)


def data(options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """A batch: x (N, C, T, V, M), y (N,)."""
    rng = generator(0, "benchmark", "data")
    x, y = torch.randn(options.batch, *SHAPE, generator=rng), torch.randint(CLASSES, (options.batch,), generator=rng)
    return x.to(options.device), y.to(options.device)


@cache
def plain_cost(width: int) -> int:
    """Multiply-adds of the plain network's forward pass, of one sample."""
    return multiply_adds(Model(CLASSES, base_channel=width, fused=False), torch.zeros(1, *SHAPE))


@torch.no_grad()
def evaluate(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """A forward pass; logits."""
    return network(x)


def train(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """A forward and a backward pass; the loss."""
    network.zero_grad(set_to_none=True)
    loss = F.cross_entropy(network(x).float(), y)
    loss.backward()
    return loss.detach()


def check(options: argparse.Namespace) -> None:
    """AssertionError where logits in evaluation, or the loss in training, are not the plain network's (float32)."""
    plain, fused = ctrgcn(options, False), ctrgcn(options, True)
    x, y = (values[:4] for values in data(options))
    for call in (evaluate, train):
        with no_tf32():
            expected, found = (call(made.train(call is train), x, y) for made in (plain, fused))
        torch.testing.assert_close(found, expected, rtol=0, atol=5e-3 * float(expected.abs().max()))


def variants(options: argparse.Namespace, call: Call, units: int) -> dict[str, Variant]:
    """Plain and ours; a call costs ``units`` forward passes."""
    x, y = data(options)

    def variant(precision: str, fused: bool, compiled: bool = False) -> Variant:
        made = ctrgcn(options, fused).train(call is train)
        if compiled:
            made.compile(dynamic=False)

        def run(repeat: int) -> None:
            with torch.autocast(options.device, torch.bfloat16, enabled=precision == "bf16"):
                call(made, x, y)

        return Variant(run, len(x), units * len(x) * plain_cost(options.width), precision)

    found = {}
    for precision in ("float32", "bf16"):
        found[f"plain {precision}"] = variant(precision, False)
        found[f"ours {precision}"] = variant(precision, True)
    if options.compile:
        found["ours compiled bf16"] = variant("bf16", True, compiled=True)
    return found


def measure(options: argparse.Namespace) -> dict[str, Rows]:
    """The device's peak, and the variants in evaluation and in training."""
    check(options)
    peak = device_peak(options.device)
    return {
        "measured peak": peak,
        "evaluation: forward": compare(variants(options, evaluate, 1), options, peak),
        "training: forward + backward": compare(variants(options, train, 3), options, peak),
    }
