"""The README's loop runs as it stands, with every layout and every mixer that it names."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch
from torch import nn

from shapmix import FocalLoss, LDAMLoss, Mixup, Remix, ShapMix, SkeletonLayout, TemporalCutMix

README = Path(__file__).parents[2] / "README.md"
OWN = {
    "name": "own",
    "joint_names": ["hip", "left", "right", "head"],
    "bones": [[1, 0], [2, 0], [3, 0]],
    "parts": {"left": [1], "right": [2], "trunk": [0, 3]},
}
NAMED = ("ntu25", "ucla20", "coco17")
COUNTS = [9, 4, 2]


def snippet():
    (block,) = (
        code
        for code in re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
        if "from shapmix import" in code
    )
    return block


def run(code, folder, layout):
    """The names of the code after it ran; what the README leaves to its reader is made up."""
    rng = torch.Generator().manual_seed(0)
    shape = (2, 16, SkeletonLayout.get(layout).num_joints, 1)
    loader = [(torch.randn(6, *shape, generator=rng), torch.arange(6) % 3) for _ in range(2)]
    given = {
        "torch": torch,
        "counts": COUNTS,
        "mean_sequence": torch.zeros(shape),
        "epochs": 7,  # guided mixing begins with the sixth
        "loader": loader,
        "model": nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), 3)),
        "layout": layout,
    }
    script = folder / "snippet.py"
    script.write_text(code)
    return runpy.run_path(str(script), given)


def check(names):
    assert (names["epoch"], names["step"]) == (6, 1)
    assert names["x_mix"].shape == names["x"].shape
    assert not torch.equal(names["x_mix"], names["x"])
    assert names["y_mix"].shape == (6, 3)
    assert names["loss"].isfinite()
    assert names["loss"].requires_grad


def test_snippet(tmp_path):
    names = run(snippet(), tmp_path, "ntu25")
    check(names)
    assert isinstance(names["mixer"], ShapMix)
    moved = names["mixer"].saliency.table != torch.tensor(1e-6)
    assert moved.any(), "the loop estimates contributions"


@pytest.mark.parametrize("layout", [*NAMED, OWN, SkeletonLayout.get(OWN)], ids=[*NAMED, "dict", "object"])
def test_layouts(layout, tmp_path):
    code = snippet()
    assert code.count('ShapMix("ntu25"') == 1
    check(run(code.replace('"ntu25"', "layout"), tmp_path, layout))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("mixer", Mixup), ("mixer", TemporalCutMix), ("mixer", Remix), ("criterion", FocalLoss), ("criterion", LDAMLoss)],
)
def test_other_mixers_and_losses_take_the_same_place(name, kind, tmp_path):
    other = f"from shapmix import {kind.__name__}\n{name} = {kind.__name__}(counts)"
    code, found = re.subn(rf"^{name} = .*$", other, snippet(), flags=re.MULTILINE)
    assert found == 1
    names = run(code, tmp_path, "ntu25")
    check(names)
    assert isinstance(names[name], kind)
