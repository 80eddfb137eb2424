"""Losses of the demo's first steps in float64, recorded before the computation was made faster (commit 4fc6838).

The demo's pasted and resting frames give max pooling equal values up to rounding; which of them gets the gradient is
then decided by the last digit, and AdamW makes a step of that. So ten steps are compared with average pooling in place
of max pooling, and the first step as it is.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from processor.config import load_config
from processor.processor import Processor
from tests.conftest import ROOT

RECORDED = {  # clean and mixed loss of each step, with average pooling
    "start": [
        (7.067463380252889, 7.789250833797885),
        (3.883364783465289, 4.056880031899175),
        (5.494235225502388, 5.9563625370465765),
        (4.458779595260933, 4.741081148245773),
        (4.202309318747838, 4.465290279342644),
        (4.770551320509961, 4.954228421066233),
        (4.488887635124315, 5.099162109558384),
        (4.150091595357949, 3.5922667021093657),
        (3.6366653403659703, 3.900820644183839),
        (5.039188156840158, 5.189410115775845),
    ],
    "guided": [
        (4.764749825876499, 4.66637947325804),
        (5.165545830813126, 5.661706791514719),
        (4.904912328001758, 5.5552129085600335),
        (3.9128284004158553, 4.1172811475514255),
        (3.044722927991342, 2.8093508410159997),
        (3.524080418050418, 3.6049472873564032),
        (2.430353053994031, 2.669097265636848),
        (3.7991273852255807, 4.475642793925887),
        (2.804851894750387, 3.38990969520795),
        (4.225944030286351, 3.1201095081011876),
    ],
}
FIRST = {"start": (6.571972891952531, 7.889651564868483), "guided": (4.260463419035988, 4.604390357159149)}  # as it is
CHANGES = {"start": {}, "guided": {"naive_mix_epoch": 0, "naive_estimate_epoch": 0}}
EPOCH = {"start": 0, "guided": 1}


def average_pooling(network: nn.Module) -> None:
    """Max pools of the temporal convolutions become average pools."""
    for number in range(1, 11):
        branch = getattr(network, f"l{number}").tcn1.branches[2]
        branch[3] = nn.AvgPool2d(branch[3].kernel_size, branch[3].stride, branch[3].padding)


@pytest.mark.parametrize("part", RECORDED)
@pytest.mark.parametrize("pooling", ["average", "max"])
def test_recorded_losses(part, pooling, tmp_path, monkeypatch):
    """From the initial weights: with uniform mixes, and with guided ones."""
    monkeypatch.chdir(ROOT)
    keys = {"device": "cpu", "precision": "fp64", "work_dir": str(tmp_path), **CHANGES[part]}
    processor = Processor(load_config("config/demo.yaml", keys))
    processor.load_data(("train", "test"))
    processor.build_model(None)
    processor.build_training(None)
    recorded = RECORDED[part] if pooling == "average" else [FIRST[part]]
    if pooling == "average":
        average_pooling(processor.network)
    trainer, epoch = processor.trainer, EPOCH[part]
    trainer.model.train()
    batches = processor.loaders["train"].train(epoch)
    losses = torch.stack([trainer.step(next(batches), epoch, step)[:2] for step in range(len(recorded))])
    torch.testing.assert_close(losses, torch.tensor(recorded, dtype=torch.double), rtol=0, atol=1e-8)
