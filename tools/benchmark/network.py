"""CTR-GCN's forward and backward pass, beside the plain network: float32, bf16, compiled.

The samples are of NTU's shape (3, 64, 25, 2), 60 classes. Multiply-adds are those that the PLAIN network needs,
whatever a variant does (ours needs fewer for the same result); a backward pass counts as two forward passes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.ctrgcn import Model
from processor.info import multiply_adds
from shapmix.draws import generator

from .measure import (
    Figures,
    Variant,
    choose,
    device_options,
    device_peak,
    float32_peak,
    peak_line,
    timed,
    trace,
    variant_table,
)

SHAPE, CLASSES = (3, 64, 25, 2), 60  # (C, T, V, M), K
PLAIN = "plain float32"


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of ``python -m tools.benchmark network``."""
    device_options(command)


def stir(network: nn.Module, rng: torch.Generator) -> None:
    """Moves what training would move from the values at which parts of the network have no effect on the logits."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("alpha"):
                parameter.copy_(0.2 + 0.3 * torch.rand(parameter.shape, generator=rng))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.copy_(0.1 * torch.randn(module.running_mean.shape, generator=rng))
                module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=rng))
                module.weight.copy_(0.5 + 0.5 * torch.rand(module.weight.shape, generator=rng))
                module.bias.copy_(0.1 * torch.randn(module.bias.shape, generator=rng))


def plain_like(ours: nn.Module, width: int) -> Model:
    """The plain network with the same weights, on the same device and in the same dtype."""
    weight = next(ours.parameters())
    plain = Model(CLASSES, base_channel=width, fused=False).to(weight.device, weight.dtype)
    plain.load_state_dict(ours.state_dict())
    return plain


def networks(options: argparse.Namespace, device: torch.device) -> tuple[Model, Model]:
    """Ours and the plain one with the same weights."""
    ours = Model(CLASSES, base_channel=options.width)
    stir(ours, generator(0, "benchmark", "weights"))
    ours.to(device)
    return ours, plain_like(ours, options.width)


def data(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """A batch: x (N, C, T, V, M), y (N,)."""
    rng = generator(0, "benchmark", "data")
    x, y = torch.randn(size, *SHAPE, generator=rng), torch.randint(CLASSES, (size,), generator=rng)
    return x.to(device), y.to(device)


@cache
def plain_cost(width: int) -> int:
    """Multiply-adds of the plain network's forward pass, of one sample."""
    return multiply_adds(Model(CLASSES, base_channel=width, fused=False), torch.zeros(1, *SHAPE))


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """bf16, or float32 as it is."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def loss(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy in training mode."""
    if not network.training:
        network.train()
    return F.cross_entropy(network(x).float(), y)


def check(options: argparse.Namespace, device: torch.device) -> None:
    """AssertionError where logits in evaluation, or the loss in training, are not the plain network's (float32)."""
    ours, plain = networks(options, device)
    x, y = data(min(options.batch, 4), device)
    with torch.no_grad():
        logits, expected = ours.eval()(x), plain.eval()(x)
    scale = float(expected.abs().max())
    torch.testing.assert_close(logits, expected, rtol=0, atol=5e-3 * scale)
    torch.testing.assert_close(loss(ours, x, y), loss(plain, x, y), rtol=5e-3, atol=0)


def evaluation(options: argparse.Namespace) -> dict[str, Variant]:
    """Forward passes without gradients."""

    def call(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if network.training:
            network.eval()
        with torch.no_grad():
            return network(x)

    return _variants(options, call, 1)


def training(options: argparse.Namespace) -> dict[str, Variant]:
    """Forward and backward passes."""

    def call(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        network.zero_grad(set_to_none=True)
        value = loss(network, x, y)
        value.backward()
        return value

    return _variants(options, call, 3)


def _variants(
    options: argparse.Namespace, call: Callable[[nn.Module, Tensor, Tensor], Tensor], units: int
) -> dict[str, Variant]:
    device = torch.device(options.device)
    x, y = data(options.batch, device)
    cost = units * options.batch * plain_cost(options.width)

    def variant(network: nn.Module, precision: str, keep_memory: bool) -> Variant:
        def run(repeat: int) -> None:
            with autocast(device, precision):
                call(network, x, y)

        peak = "bf16" if precision == "bf16" else float32_peak(device)
        return Variant(run, options.batch, cost, peak, keep_memory)

    ours, plain = networks(options, device)
    found = {PLAIN: variant(plain, "float32", False)}
    if device.type == "cpu":
        found["plain float32, memory kept"] = variant(plain, "float32", True)
    found |= {
        "plain bf16": variant(plain, "bf16", False),
        "ours float32": variant(ours, "float32", True),
        "ours bf16": variant(ours, "bf16", True),
    }
    for precision in ("float32", "bf16") if options.compile else ():
        compiled, _ = networks(options, device)
        compiled.compile(dynamic=False)
        found[f"ours compiled {precision}"] = variant(compiled, precision, True)
    return found


def measure(options: argparse.Namespace) -> Figures:
    """Figures of the variants in evaluation and in training, and the device's peak."""
    device = choose(options)
    check(options, device)
    peak = device_peak(options, device)
    figures: Figures = {"peak": peak}
    for name, build in {"evaluation": evaluation, "training": training}.items():
        torch.compiler.reset()
        figures[name] = timed(build, options, peak, PLAIN)
    if options.profile:
        ours = {name: variant for name, variant in training(options).items() if name.startswith("ours")}
        trace(options.profile, ours, device)
    return figures


def table(figures: Figures, options: argparse.Namespace) -> str:
    """The peak, then a line for each variant in evaluation and in training."""
    return "\n".join(
        [
            peak_line(figures["peak"]),
            variant_table(figures["evaluation"], "evaluation: forward"),
            variant_table(figures["training"], "training: forward + backward"),
            f"times as fast: as {PLAIN}; multiply-adds are the plain network's, backward = 2 forward",
        ]
    )
