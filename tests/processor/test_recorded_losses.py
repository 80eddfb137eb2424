"""Losses of ten steps of the demo's run in float64, recorded before the computation was made faster (commit 4fc6838).

They were recorded again when the priors of the loss kept float64, and are the old ones to 1e-11 with rounded priors.
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
        (2.191508725107134, 2.250022722412073),
        (2.528621801079547, 2.5087876780932046),
        (2.444547171559174, 2.4559985738493055),
        (2.2748757946515643, 2.264137068558628),
        (2.105967410515713, 2.1153772621458033),
        (2.297660173961819, 2.3078561968882467),
        (2.1369866102474004, 2.073060248684382),
        (1.9433456841036572, 1.8718126128585846),
        (1.7222576880263036, 1.7252613438942408),
        (2.2572707080611374, 2.2703861651842114),
    ],
    "guided": [
        (1.8962974797317882, 1.958923432314671),
        (1.9659568638003426, 1.982349802308025),
        (2.2732447613762874, 2.263125524446646),
        (2.140844377183454, 2.161608324039765),
        (1.9881758446011273, 1.9562738927245984),
        (1.7693881958656354, 1.79794089189539),
        (2.2137206046329982, 2.214936059499519),
        (2.488330432635182, 2.4844130277555068),
        (2.0938886470125104, 2.132854198196588),
        (1.9369145921064468, 1.9068727967044832),
    ],
}
CHANGES = {
    "start": {},
    "guided": {"naive_mix_epoch": 0, "naive_estimate_epoch": 0, "mixing_args": {"bias_correction": False}},
}
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
