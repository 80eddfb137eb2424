"""``--phase info``: the network's size and cost, the data, and the throughput of one training step."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from feeders.loader import Batch, Loader
from shapmix import Mixer, ShapMix

from .engine import Trainer

STEPS = 3


def multiply_adds(network: nn.Module, x: torch.Tensor) -> int:
    """Multiply-adds of one forward pass over x (convolutions and matrix products)."""
    network.eval()
    with FlopCounterMode(display=False) as counter:
        network.forward(x)  # not its compiled form, whose operations are not counted
    return counter.get_total_flops() // 2


def forward_units(trainer: Trainer) -> float:
    """Cost of a training step in forward passes a sample, as a mean; a backward pass counts as two."""
    both = trainer.mixer is not None and trainer.mixer.with_clean
    return (6.0 if both else 3.0) + _estimate(trainer.mixer)[0]


def estimate_line(trainer: Trainer) -> str:
    """How often contributions are estimated, for which share of the batch, and what that costs of a step."""
    units, when = _estimate(trainer.mixer)
    return f"{when}: {units:.1f} of {forward_units(trainer):.1f} forward units" if units else "none"


def _estimate(mixer: Mixer | None) -> tuple[float, str]:
    if not isinstance(mixer, ShapMix) or not mixer.guided:
        return 0.0, ""
    interval, fraction = mixer.estimate_interval, mixer.estimate_fraction
    return 2.0 * fraction / interval, f"every {interval} step(s), {100 * fraction:.4g} % of the batch"


def step_seconds(trainer: Trainer, batch: Batch) -> tuple[float, float]:
    """Durations of a training step with its data ready: of the first, which also compiles, and the median of three."""
    trainer.start_epoch()
    seconds = []
    for step in range(1 + STEPS):
        begun = perf_counter()
        trainer.step(batch, 0, step).tolist()  # waits for the device
        seconds.append(perf_counter() - begun)
    return seconds[0], float(np.median(seconds[1:]))


def describe(trainer: Trainer, network: nn.Module, train: Loader, test: Loader) -> str:
    """The page that ``--phase info`` prints. Changes the network's weights."""
    batch = next(train.shuffled(0))
    shape = "x".join(map(str, batch.x.shape[1:]))
    counts = train.class_counts
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    macs = multiply_adds(network, batch.x[:1]) / 1e6
    first, seconds = step_seconds(trainer, batch)
    lines = [
        f"data        {len(train.ids)} training samples, {len(counts)} classes of {min(counts)} to {max(counts)}, "
        f"{len(test.ids)} test samples",
        f"epoch       {train.steps} steps of {train.batch_size} samples",
        f"network     {type(network).__module__}.{type(network).__name__}: {millions:.3f} M parameters",
        f"sample      {shape} (C, T, V, M): {macs:.1f} M multiply-adds forward",
        f"step        {forward_units(trainer):.1f} forward units a sample (cross-entropy alone: 3)",
        f"estimate    {estimate_line(trainer)}",
        f"throughput  {1e3 * seconds:.1f} ms a step, {train.batch_size / seconds:.0f} samples/s on {train.device}, "
        f"{torch.get_num_threads()} thread(s) "
        f"(median of {STEPS} steps, data ready; the first step took {first:.1f} s)",
    ]
    return "\n".join(lines)
