"""docs/plugin.md: its scripts train as they stand, and its short pieces of code run."""

from __future__ import annotations

import os
import re
import runpy
import sys
import textwrap
from unittest import mock

import pytest
import torch

import shapmix

from .documents import FENCE, ROOT

PAGE = (ROOT / "docs" / "plugin.md").read_text(encoding="utf-8")
BLOCKS = [textwrap.dedent(block) for _, language, block in FENCE.findall(PAGE) if language == "python"]
SHARED, *MORE = [block for block in BLOCKS if block.startswith('"""skeletons.py')]
SCRIPTS = {  # what it needs: the script
    next((name for name in ("lightning", "accelerate", "torch_geometric") if f"{name}" in block), "torch"): block
    for block in BLOCKS
    if "from skeletons import" in block
}
PIECES = [block for block in BLOCKS if block not in (SHARED, *SCRIPTS.values())]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs code as a reader would, in a folder with skeletons.py; gives its names."""
    (tmp_path / "skeletons.py").write_text(SHARED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "skeletons", raising=False)

    def run(code, **given):
        (tmp_path / "script.py").write_text(code)
        with mock.patch.dict(os.environ), torch.random.fork_rng():
            return runpy.run_path("script.py", given, "__main__")

    yield run
    sys.modules.pop("skeletons", None)


def test_the_page_has_what_it_promises():
    assert not MORE
    assert list(SCRIPTS) == ["torch", "lightning", "accelerate", "torch_geometric"]
    assert len(PIECES) == 8


@pytest.mark.parametrize("needs", SCRIPTS)
def test_scripts(needs, run, capsys):
    pytest.importorskip(needs)
    names = run(SCRIPTS[needs])
    said = capsys.readouterr().out
    (accuracy,) = re.findall(r"^mean class accuracy (\S+) %$", said, re.MULTILINE)
    assert float(accuracy) > 90
    mixer = names["mixer"]
    assert (mixer.epoch, mixer.step) == (7, 5)
    moved = (mixer.saliency.table != 1e-6).any(1)
    assert moved.all(), "every class has evidence"
    if needs == "torch_geometric":
        values = names["values"].view(4, 10, 5).mean(1)
        assert values.argmax(1).tolist() == [1, 2, 3, 4], "each class moves one limb"


def test_pieces(run):
    rng = torch.Generator().manual_seed(0)
    x, labels = torch.randn(6, 3, 16, 25, 2, generator=rng), [0, 1, 2, 3, 0, 1]
    y, counts, baseline = torch.tensor(labels), [60, 24, 10, 5], x.mean(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(x[0].numel(), 4))
    given = {name: getattr(shapmix, name) for name in shapmix.__all__} | {
        "torch": torch, "nn": torch.nn, "network": network, "COUNTS": counts, "baseline": baseline, "x": x,
        "y": y, "labels": labels, "num_class": 4, "num_samples": 6, "epoch": 5, "step": 0,
        "test_view_of_training_set": [(x[:4], y[:4]), (x[4:], y[4:])], "logits": network(x), "counts": counts,
        "mixer": shapmix.ShapMix("ntu25", counts, baseline), "criterion": shapmix.LogitAdjustedLoss(counts),
    }  # fmt: skip
    calls, layout, bincount, total, other_mixers, adjusted, refreshed, picked = (run(code, **given) for code in PIECES)
    assert calls["loss"].isfinite()
    assert layout["mixer"](x[:, :, :, :7], y)[0].shape == (6, 3, 16, 7, 2)
    assert bincount["counts"].tolist() == [2, 2, 1, 1]
    assert torch.allclose(total["baseline"], baseline, atol=1e-6)
    assert other_mixers["loss"].isfinite()
    assert torch.allclose(adjusted["logits"], network(x) - (torch.tensor(counts) / 99).log(), atol=1e-6)
    assert (refreshed["mixer"].saliency.initial == 0).all(), "every row is computed"
    assert picked["Logits"](lambda x: (network(x), None))(x).shape == (6, 4)
