"""Guided mixing of a batch, beside a loop over its samples."""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor

from shapmix import ShapMix
from shapmix.draws import generator

from .measure import Rows, Variant, compare

SHAPE, CLASSES = (3, 64, 25, 2), 60  # (C, T, V, M), K
DEFAULTS = {"device": "cpu", "batch": 64, "repeats": 30}


class PlainShapMix(ShapMix):
    """ShapMix in a loop over the samples: the same draws and the same results."""

    @torch.no_grad()
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Draws the coalition on the host, resizes the segment by ``F.interpolate``, copies joint after joint."""
        draws = self.draw(len(x), x)
        parts = list(self.layout.parts.values())
        x_mix, y_mix = x.clone(), x.new_zeros(len(x), self.num_class)
        for i in range(len(x)):
            j = (i + draws.shift) % len(x)
            own, other = int(y[i]), int(y[j])
            if draws.kind == "blend":
                x_mix[i] = (1 - draws.lam) * x[i] + draws.lam * x[j]
                share = draws.lam
            else:
                partner_is_rarer = bool(self.abundance[other] < self.abundance[own])
                row = self.saliency.table[other if partner_is_rarer else own]
                cdf = (row / self.saliency.temperature).softmax(0).cumsum(0)
                column = min(int((cdf <= draws.uniform[i]).sum()), len(cdf) - 1)
                drawn = self.saliency.coalitions[column]
                pasted = [part for part in range(len(parts)) if (part in drawn) == partner_is_rarer]
                joints = [joint for part in pasted for joint in parts[part]]
                segment = x[j, :, draws.source_start : draws.source_start + draws.source_len].flatten(2).mT
                resized = F.interpolate(segment, size=draws.target_len).mT.unflatten(2, x.shape[3:])
                target = slice(draws.target_start, draws.target_start + draws.target_len)
                for joint in joints:
                    x_mix[i, :, target, joint] = resized[:, :, joint]
                share = draws.target_len * len(joints) / (x.shape[2] * x.shape[3])
            y_mix[i, own] += 1 - share
            y_mix[i, other] += share
        return x_mix, y_mix


def measure(options: argparse.Namespace) -> dict[str, Rows]:
    """Guided mixing: 3 in 4 batches are pasted, the others blended."""
    rng = generator(0, "benchmark")
    counts = (600 * 0.01 ** torch.linspace(0, 1, CLASSES)).long()
    saliency = torch.rand(CLASSES, 20, generator=rng)
    x = torch.randn(options.batch, *SHAPE, generator=rng).to(options.device)
    y = torch.randint(CLASSES, (options.batch,), generator=rng).to(options.device)
    mixers = {"sample by sample": PlainShapMix("ntu25", counts), "ours": ShapMix("ntu25", counts)}
    for mixer in mixers.values():
        mixer.saliency.table.copy_(saliency)
        mixer.to(options.device)

    def mix(mixer: ShapMix, step: int) -> tuple[Tensor, Tensor]:
        mixer.start_step(mixer.naive_mix_epoch, step)
        return mixer(x, y)

    for step in range(8):
        torch.testing.assert_close(*(mix(mixer, step) for mixer in mixers.values()))
    variants = {
        name: Variant(lambda step, mixer=mixer: mix(mixer, step), options.batch)  # type: ignore[misc]
        for name, mixer in mixers.items()
    }
    return {"mixing": compare(variants, options)}
