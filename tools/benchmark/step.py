"""A whole training step, Shap-Mix and cross-entropy alone, beside the same written plainly: float32, bf16, compiled.

A step of Shap-Mix estimates contributions, mixes, passes clean and mixed samples forward and backward, and updates the
weights. "Plain" does that with the plain network, a loop over the samples that are mixed, two forward calls for the
contribution, and figures read at every step; "ours" is the step of processor.engine as the Processor builds it. Samples
are of NTU's shape (3, 64, 25, 2), 60 classes, long-tailed. Multiply-adds are those of the PLAIN network, a backward
pass counts as two forward passes: 8 forward units a sample for Shap-Mix, 3 for cross-entropy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from feeders.loader import Batch
from feeders.longtail import exponential_counts
from processor.config import Config
from processor.engine import Trainer
from processor.info import forward_units
from processor.processor import Processor
from shapmix import ShapMix
from shapmix.draws import generator, uniform_int
from shapmix.shapley import draw_context

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
from .mixing import plain_mixing
from .network import CLASSES, PLAIN, SHAPE, data, plain_cost, plain_like, stir

COUNTS = exponential_counts(600, 100, CLASSES)
LEARNING_RATE = 1e-4  # small: the made-up labels have nothing to learn, and the weights should stay finite
METHODS = {"Shap-Mix": "shap_mix", "cross-entropy": "none"}
PRECISIONS = {"float32": "fp32", "bf16": "bf16", "float64": "fp64"}


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of ``python -m tools.benchmark step``."""
    device_options(command)


class MadeUp(Dataset):
    """Two noisy samples of each class, for the Processor's baseline and counts; steps are given other batches."""

    def __init__(self) -> None:
        rng = generator(0, "benchmark", "set")
        self.x = torch.randn(2 * CLASSES, *SHAPE, generator=rng)
        self.labels = torch.arange(len(self.x)) % CLASSES

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> tuple[Tensor, int, int]:
        return self.x[row], int(self.labels[row]), row


def ours(options: argparse.Namespace, mixing: str, precision: str, compiled: bool = False) -> Trainer:
    """What the Processor trains with, without data: guided mixing from the first step on."""
    keys: dict[str, Any] = {"compile": True} if compiled else {}
    processor = Processor(
        Config(
            feeder=f"{__name__}.{MadeUp.__name__}",
            plugins=["tools"],
            layout="ntu25",
            model_args={"num_class": CLASSES, "base_channel": options.width},
            device=torch.device(options.device).type,  # type: ignore[arg-type]
            mixing=mixing,  # type: ignore[arg-type]
            precision=PRECISIONS[precision],  # type: ignore[arg-type]
            naive_mix_epoch=0,
            naive_estimate_epoch=0,
            batch_size=options.batch,
            **keys,
        )
    )
    processor.load_data(("train", "test"))
    processor.class_counts = COUNTS
    processor.build_model(None)
    stir(processor.network.cpu(), generator(0, "benchmark", "weights"))
    processor.network.to(processor.device)
    processor.build_training(None)
    trainer = processor.trainer
    trainer.learning_rate = lambda epoch, step: LEARNING_RATE
    trainer.model.train()
    return trainer


def batch_of(options: argparse.Namespace, dtype: torch.dtype = torch.float32) -> Batch:
    """The batch that all steps are about."""
    x, y = data(options.batch, torch.device(options.device))
    return Batch(x.to(dtype), y, torch.arange(len(x)))


class Plain:
    """The comparison: the step of a trainer with the plain network, from the same weights, one thing after another."""

    def __init__(self, trainer: Trainer, width: int) -> None:
        self.model: nn.Module = plain_like(trainer.model, width).train()
        assert trainer.mixer is None or isinstance(trainer.mixer, ShapMix)
        self.mixer = trainer.mixer
        self.criterion = trainer.criterion
        group = trainer.optimizer.param_groups[0]
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            LEARNING_RATE,
            group["momentum"],
            weight_decay=group["weight_decay"],
            nesterov=group["nesterov"],
        )

    def step(self, batch: Batch, epoch: int, step: int) -> tuple[float, float, int]:
        """One update of the weights; returns the clean loss, the mixed loss and how many samples were right."""
        loss, mix_loss, correct = self.losses(batch, epoch, step)
        self.optimizer.zero_grad()
        (loss + mix_loss).backward()
        self.optimizer.step()
        return loss.item(), mix_loss.item(), int(correct.item())

    def losses(self, batch: Batch, epoch: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Clean loss, mixed loss, and how many clean samples were right."""
        x, y, mixer = batch.x, batch.y, self.mixer
        if mixer is None:
            logits = self.model(x)
            loss = self.criterion(logits, y)
            return loss, torch.zeros_like(loss), (logits.argmax(1) == y).sum()
        mixer.start_step(epoch, step)
        self.observe(mixer, x, y)
        x_mix, y_mix = plain_mixing(mixer, x, y)
        logits, logits_mix = self.model(torch.cat([x, x_mix])).chunk(2)
        return self.criterion(logits, y), self.criterion(logits_mix, y_mix), (logits.argmax(1) == y).sum()

    def observe(self, mixer: ShapMix, x: Tensor, y: Tensor) -> None:
        """The contribution of the coalition that the mixer would draw, with and without it one call each."""
        assert mixer.baseline is not None
        rng = generator(mixer.seed, mixer.epoch, mixer.step, "estimate")
        column = uniform_int(0, len(mixer.saliency.coalitions) - 1, rng)
        coalition = mixer.saliency.coalitions[column]
        context = draw_context(mixer.layout.num_parts, coalition, rng)
        parts = list(mixer.layout.parts.values())
        chances = []
        self.model.eval()
        with torch.no_grad():
            for present in ({*coalition, *context}, {*context}):
                joints = [joint for part in present for joint in parts[part]]
                masked = mixer.baseline.expand_as(x).clone()
                masked[:, :, :, joints] = x[:, :, :, joints]
                chances.append(self.model(masked).softmax(1)[torch.arange(len(y), device=y.device), y])
        self.model.train()
        mixer.saliency.update(column, y, chances[0] - chances[1], mixer.ema)


def check(options: argparse.Namespace) -> None:
    """AssertionError where losses, table or next weights of the plain step are not ours: same draws, float64."""
    few = argparse.Namespace(**{**vars(options), "batch": min(options.batch, 4)})
    batch = batch_of(few, torch.float64)
    for mixing in METHODS.values():
        trainer = ours(few, mixing, "float64")
        plain = Plain(ours(few, mixing, "float64"), few.width)
        if trainer.mixer is not None:
            trainer.mixer.start_step(0, 0)
        torch.testing.assert_close(trainer.losses(batch), plain.losses(batch, 0, 0), rtol=1e-6, atol=1e-6)
        trainer.step(batch, 0, 1)
        plain.step(batch, 0, 1)
        for weight, other in zip(trainer.model.parameters(), plain.model.parameters(), strict=True):
            torch.testing.assert_close(weight, other, rtol=1e-6, atol=1e-8)
        if trainer.mixer is not None and plain.mixer is not None:
            torch.testing.assert_close(trainer.mixer.saliency.table, plain.mixer.saliency.table, rtol=1e-6, atol=1e-9)


def variants_of(mixing: str, options: argparse.Namespace) -> dict[str, Variant]:
    """The steps of one method."""
    device, batch = torch.device(options.device), batch_of(options)

    def variant(trainer: Trainer, step: Callable[[Batch, int, int], object], precision: str, keep: bool) -> Variant:
        cost = forward_units(trainer) * options.batch * plain_cost(options.width)
        peak = "bf16" if precision == "bf16" else float32_peak(device)
        return Variant(lambda repeat: step(batch, 0, repeat), options.batch, cost, peak, keep)

    def plain(keep: bool) -> Variant:
        trainer = ours(options, mixing, "float32")
        return variant(trainer, Plain(trainer, options.width).step, "float32", keep)

    found = {PLAIN: plain(False)}
    if device.type == "cpu":
        found["plain float32, memory kept"] = plain(True)
    for compiled in (False, True) if options.compile else (False,):
        for precision in ("float32", "bf16"):
            trainer = ours(options, mixing, precision, compiled)
            name = f"ours compiled {precision}" if compiled else f"ours {precision}"
            found[name] = variant(trainer, trainer.step, precision, True)
    return found


def measure(options: argparse.Namespace) -> Figures:
    """Figures of the steps of each method, its forward units, and the device's peak."""
    device = choose(options)
    check(options)
    peak = device_peak(options, device)
    figures: Figures = {"peak": peak}
    for method, mixing in METHODS.items():
        torch.compiler.reset()
        figures[method] = timed(partial(variants_of, mixing), options, peak, PLAIN)
    figures["forward_units"] = {
        method: forward_units(ours(options, mixing, "float32")) for method, mixing in METHODS.items()
    }
    if options.profile:
        steps = variants_of("shap_mix", options)
        trace(options.profile, {name: step for name, step in steps.items() if name.startswith("ours")}, device)
    return figures


def table(figures: Figures, options: argparse.Namespace) -> str:
    """The peak, then a line for each variant of each method."""
    lines = [peak_line(figures["peak"])]
    for method in METHODS:
        lines.append(variant_table(figures[method], f"{method}: {figures['forward_units'][method]:.1f} units"))
    lines.append(f"times as fast: as {PLAIN}; units: forward passes a sample, of the plain network's multiply-adds")
    return "\n".join(lines)
