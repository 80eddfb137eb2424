"""Networks, streams, mixing and the report follow from the layout, for every layout and number of parts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from feeders.loader import Batch
from feeders.transforms import mirror, pose_stream, to_stream
from model import aagcn, ctrgcn, stgcn, stgcnpp
from processor.study.saliency import class_contributions, contribution_page
from shapmix import LAYOUTS, ShapMix, SkeletonLayout

NETWORKS = (ctrgcn, stgcn, stgcnpp, aagcn)
EVERY = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))


def clips(layout: SkeletonLayout, size: int = 2, frames: int = 8) -> torch.Tensor:
    return torch.randn(size, 3, frames, layout.num_joints, 1, generator=torch.Generator().manual_seed(0))


def star(num_parts: int) -> SkeletonLayout:
    """A body of which every part is one joint."""
    bones = tuple((joint, 0) for joint in range(1, num_parts))
    names = tuple(f"joint{joint}" for joint in range(num_parts))
    return SkeletonLayout("star", names, bones, {f"part{part}": (part,) for part in range(num_parts)})


@EVERY
def test_networks(layout):
    x, y = clips(layout), torch.tensor([0, 1])
    for network in NETWORKS:
        model = network.Model(3, layout.name, num_person=1, base_channel=4)
        nn.functional.cross_entropy(model(x), y).backward()
        assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())


@EVERY
def test_streams_and_sides(layout):
    x = clips(layout)
    bones = to_stream(x, layout, "bone")
    assert torch.equal(pose_stream(x, None, layout, "bone", coordinates=3), bones)
    assert bones.abs().amax(dim=(0, 1, 2, 4)).eq(0).nonzero().flatten().tolist() == [layout.center]
    if layout.name == "hand21":
        with pytest.raises(ValueError, match="no pairs"):
            layout.mirrored()
        return
    both = torch.tensor([True, True])
    assert not torch.equal(mirror(x, both, layout), x)
    torch.testing.assert_close(mirror(mirror(x, both, layout), both, layout), x)
    flipped = to_stream(mirror(x, both, layout), layout, "bone")
    torch.testing.assert_close(flipped, mirror(bones, both, layout))


@EVERY
def test_mixing(layout):
    x, y = clips(layout, size=4), torch.tensor([0, 1, 2, 1])
    model = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 3))
    mixer = ShapMix(layout.name, [9, 4, 2], baseline=torch.zeros(x.shape[1:]), seed=1)
    for epoch in range(mixer.naive_mix_epoch + 2):
        mixer.start_step(epoch, 0)
        mixer.observe(model, x, y)
        mixed, target = mixer(x, y)
        assert mixed.shape == x.shape
        torch.testing.assert_close(target.sum(1), torch.ones(4))
    assert mixer.saliency.table.shape == (3, len(layout.coalitions()))
    assert (mixer.saliency.table != torch.tensor(1e-6)).any()


@pytest.mark.parametrize("parts", [2, 3, 4, 6, 7, 8])
def test_report_for_any_number_of_parts(parts):
    """Joint 1 alone tells the two classes: its part carries all, and the largest contribution holds it."""
    layout = star(parts)
    mixer = ShapMix(layout, [4, 4], baseline=torch.zeros(3, 8, parts, 1), seed=0)
    x = clips(layout, size=6) * 0.01
    y = torch.tensor([0, 1] * 3)
    x[:, 0, :, 1, 0] += (1.0 - 2.0 * y)[:, None]

    class First(nn.Module):
        largest = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.largest = max(self.largest, len(x))
            value = 4 * x[:, 0, :, 1].mean(dim=(1, 2))
            return torch.stack([value, -value], 1)

    batches = [Batch(x[at : at + 3], y[at : at + 3], torch.arange(at, at + 3), 1) for at in (0, 3)]
    data, model = SimpleNamespace(in_order=lambda size: iter(batches), class_counts=[3, 3]), First()
    found = class_contributions(model, mixer, data)
    assert found.parts.shape == (2, parts)
    assert found.parts.argmax(1).tolist() == [1, 1]
    torch.testing.assert_close(found.parts.sum(1), found.parts[:, 1])
    size = min(len(coalition) for coalition in found.coalitions)
    assert all(1 in found.top(found.exact, label, size) for label in (0, 1))
    assert model.largest == min(2**parts, 32) * 3, "more than five parts come in several forward calls"
    page = contribution_page(found, ["wave", "kick"], [4, 4]).splitlines()
    assert len({line.index("0.00 ", 60) >= 0 for line in page[1:]}) == 1
    assert page[0].split()[-1] == f"part{parts - 1}"
