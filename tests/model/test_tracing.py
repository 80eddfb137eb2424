"""torch.jit.trace and torch.export give the network's logits, also for other batch sizes than the example's."""

from __future__ import annotations

import importlib
import io
import warnings

import pytest
import torch
from torch import nn

from model import layers

from .test_backbones import BODY, close, draw, randomised

FORMS = [("ctrgcn", True), ("ctrgcn", False), ("stgcn", True), ("stgcnpp", True), ("aagcn", True)]
every_form = pytest.mark.parametrize(("name", "fused"), FORMS)


@pytest.fixture(autouse=True)
def _three_blocks(monkeypatch):
    """Tracing ten takes long and shows no more: one block of each kind."""
    monkeypatch.setattr(layers, "PLAN", ((1, 1), (2, 2), (2, 1)))


def network(name: str, fused: bool) -> nn.Module:
    module = importlib.import_module(f"model.{name}")
    return randomised(module.Model(5, BODY, 2, base_channel=4, fused=fused), 4, 3, 16, 4, 2)


@every_form
def test_trace(name, fused):
    """... and a trace can be saved."""
    model, x, file = network(name, fused), draw(5, 3, 12, 4, 2), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error", torch.jit.TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(model, x[:2]), file)
        file.seek(0)
        traced = torch.jit.load(file)
        for size in (1, 2, 5):
            close(traced(x[:size]), model(x[:size]))


@every_form
def test_export(name, fused):
    model, x = network(name, fused), draw(5, 3, 12, 4, 2)
    with torch.no_grad():  # torch 2.6 needs it
        exported = torch.export.export(model, (x[:2],), dynamic_shapes=({0: torch.export.Dim("n", min=1)},))
    for size in (1, 2, 5):
        close(exported.module()(x[:size]), model(x[:size]))
