"""Losses of ten steps of the demo's run in float64, recorded before the computation was made faster (commit 4fc6838).

The demo's labels, order and mixes; but its frames, weights and baseline are numbers that every machine makes alike, to
the last digit: what is computed in float32 differs in it from one processor to the next.
"""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from processor.build import Parts
from processor.config_files import load_config
from tests.conftest import ROOT, build_training

RECORDED = {  # clean and mixed loss of each step
    "start": [
        (2.19150876023908, 2.2500227565653885),
        (2.5286218292955733, 2.5087877062445427),
        (2.4445471875083213, 2.455998589842493),
        (2.27487583462473, 2.264137107649289),
        (2.1059674264248374, 2.1153772768105616),
        (2.29766021776888, 2.3078562413895294),
        (2.136986620261921, 2.073060257318356),
        (1.9433457108116803, 1.8718126403985644),
        (1.722257691184488, 1.7252613469340243),
        (2.2572706889788403, 2.270386149299335),
    ],
    "guided": [
        (1.896297521015481, 1.9589234742527957),
        (1.9659569065049063, 1.982349844786584),
        (2.273220171807077, 2.2631377642511152),
        (2.1412250294393154, 2.1614655849380044),
        (1.9886602331346659, 1.9567414007099106),
        (1.7696353857795104, 1.7984107191830931),
        (2.215139686881769, 2.2186225419936507),
        (2.4840363929325484, 2.4809125169475963),
        (2.097942072095938, 2.1325466061394827),
        (1.9326027379043795, 1.9111432382868574),
    ],
}
CHANGES = {"start": {}, "guided": {"naive_mix_epoch": 0, "naive_estimate_epoch": 0}}
EPOCH = {"start": 0, "guided": 1}


def numbers(shape: torch.Size, key: str) -> Tensor:
    """Uniform in -1 .. 1, by key."""
    rng = np.random.RandomState(zlib.crc32(key.encode()))
    return torch.from_numpy(2 * rng.random_sample(tuple(shape)) - 1)


@torch.no_grad()
def fill(parts: Parts) -> None:
    """Gives weights and baseline such numbers."""
    for name, value in parts.network.named_parameters():
        drawn = numbers(value.shape, name)
        if value.ndim > 1 and not name.endswith("PA"):
            value.copy_(drawn * (3 / value[0].numel()) ** 0.5)
        elif name.endswith("weight"):
            value.copy_(1 + 0.02 * drawn)
        elif name.endswith("bias"):
            value.copy_(0.1 * drawn)
    baseline = parts.mixer.baseline
    baseline.copy_(numbers(baseline.shape, "baseline"))


@pytest.mark.parametrize("part", RECORDED)
def test_recorded_losses(part, tmp_path, monkeypatch):
    """With uniform mixes, and with guided ones."""
    monkeypatch.chdir(ROOT)
    keys = {"device": "cpu", "precision": "fp64", "work_dir": str(tmp_path), **CHANGES[part]}
    data, parts, trainer = build_training(load_config("config/demo.yaml", keys))
    fill(parts)
    epoch, losses = EPOCH[part], []
    trainer.start_epoch()
    batches = data.loaders["train"].shuffled(epoch)
    for step in range(len(RECORDED[part])):
        batch = next(batches)
        batch = replace(batch, x=numbers(batch.x.shape, f"x/{step}"))
        losses.append(trainer.step(batch, epoch, step)[:2])
    torch.testing.assert_close(torch.stack(losses), torch.tensor(RECORDED[part], dtype=torch.double), rtol=0, atol=1e-8)
