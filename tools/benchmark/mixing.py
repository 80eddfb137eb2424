"""Guided mixing of one batch, beside a loop over its samples."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from shapmix.draws import generator
from shapmix.mixing import draw_mix
from shapmix.shapmix import ShapMix
from shapmix.skeleton import LAYOUTS

from .measure import interleaved
from .measure import table as measure_table

CLASSES = 60
COLUMNS = {
    "seconds": ("ms per batch", 1e3, ".3f"),
    "samples_per_s": ("samples/s", 1, ".0f"),
    "ratio": ("ratio", 1, ".2f"),
}


def plain_mixing(mixer: ShapMix, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The comparison: the guided mix of ``mixer`` with the same draws, one sample after another.

    For each sample the coalition is drawn with numbers fetched from the device, the source segment is resized by
    ``F.interpolate``, and the parts are copied joint by joint. Same arguments and results as ``mixer(x, y)``.
    """
    layout, counts, table = mixer.layout, mixer.abundance, mixer.saliency.table
    rng = generator(mixer.seed, mixer.epoch, mixer.step, "mix")
    draws = draw_mix(len(x), x.shape[2], layout.num_parts, mixer.coalition_sizes, rng, mixer.paste_probability)
    parts = list(layout.parts.values())
    x_mix, y_mix = x.clone(), x.new_zeros(len(x), mixer.num_class)
    for i in range(len(x)):
        j = (i + draws.shift) % len(x)
        own, other = y[i].item(), y[j].item()
        if draws.kind == "blend":
            x_mix[i] = (1 - draws.lam) * x[i] + draws.lam * x[j]
            share = draws.lam
        else:
            partner_is_rarer = counts[other].item() < counts[own].item()
            chances = (table[other if partner_is_rarer else own] / mixer.temperature).softmax(0).cumsum(0)
            column = min(int((chances <= draws.uniform[i]).sum().item()), len(chances) - 1)
            drawn = mixer.saliency.coalitions[column]
            pasted = [part for part in range(len(parts)) if (part in drawn) == partner_is_rarer]
            segment = x[j, :, draws.source_start : draws.source_start + draws.source_len].flatten(2).transpose(1, 2)
            resized = F.interpolate(segment, size=draws.target_len, mode="nearest").transpose(1, 2)
            resized = resized.unflatten(2, x.shape[3:])
            joints = [joint for part in pasted for joint in parts[part]]
            for joint in joints:
                end = draws.target_start + draws.target_len
                x_mix[i, :, draws.target_start : end, joint] = resized[:, :, joint]
            share = draws.target_len * len(joints) / (x.shape[2] * x.shape[3])
        y_mix[i, own] += 1 - share
        y_mix[i, other] += share
    return x_mix, y_mix


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Seconds for a batch of guided mixing (3 in 4 batches are pasted, the others blended), ours and by sample."""
    device, layout, rng = torch.device(options.device), LAYOUTS[options.layout], generator(0, "benchmark")
    counts = (600 * 0.01 ** torch.linspace(0, 1, CLASSES)).long()
    mixer = ShapMix(layout, counts)
    mixer.saliency.table.copy_(torch.rand(mixer.saliency.table.shape, generator=rng))
    mixer.to(device)
    x = torch.randn(options.batch, 3, options.frames, layout.num_joints, options.persons, generator=rng).to(device)
    y = torch.randint(CLASSES, (options.batch,), generator=rng).to(device)

    def run(mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], step: int) -> tuple[Tensor, Tensor]:
        mixer.start_step(mixer.naive_mix_epoch, step)
        return mix(x, y)

    variants = {
        "ShapMix": lambda step: run(mixer, step),
        "sample by sample": lambda step: run(lambda x, y: plain_mixing(mixer, x, y), step),
    }
    for step in range(8):
        for ours, plain in zip(*(variant(step) for variant in variants.values()), strict=True):
            torch.testing.assert_close(ours, plain)
    return interleaved(variants, options.repeats, device)


def table(seconds: dict[str, float], options: argparse.Namespace) -> str:
    """One line for each variant; the ratio is to the first."""
    first = next(iter(seconds.values()))
    rows = {
        name: {"seconds": value, "samples_per_s": options.batch / value, "ratio": value / first}
        for name, value in seconds.items()
    }
    return measure_table(rows, COLUMNS)


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of ``python -m tools.benchmark mixing``."""
    command.add_argument("--layout", default="ntu25", choices=sorted(LAYOUTS))
    command.add_argument("--frames", type=int, default=64)
    command.add_argument("--persons", type=int, default=2)
    command.add_argument("--batch", type=int, default=64, help="samples")
    command.add_argument("--repeats", type=int, default=30, help="timed calls of each variant")
    command.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
