"""CTR-GCN at other widths, layouts and inputs than the golden ones."""

from __future__ import annotations

import pytest
import torch

from model.ctrgcn import Model
from shapmix import SkeletonLayout

BODY = SkeletonLayout("mine", tuple("abcd"), ((1, 0), (2, 1), (3, 1)), {"low": (0, 1), "high": (2, 3)})


@pytest.mark.parametrize("layout", ["ntu25", "ucla20", "coco17", BODY])
@pytest.mark.parametrize(("width", "people", "channels"), [(4, 1, 3), (8, 2, 2)])
def test_any_layout_and_width(layout, width, people, channels):
    model = Model(7, layout, people, channels, base_channel=width)
    joints = SkeletonLayout.get(layout).num_joints
    logits = model(torch.randn(3, channels, 17, joints, people))
    assert logits.shape == (3, 7)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.l10.tcn1.branches[0][0].out_channels == width


def test_people_are_averaged():
    """Swapping the two people changes only what the input's batch norm sees, which is the same for both here."""
    model = Model(5, BODY, 2, base_channel=4).eval()
    x = torch.randn(2, 3, 16, 4, 2)
    torch.testing.assert_close(model(x), model(x.flip(-1)))


def test_fixed_adjacency_is_no_parameter():
    learnt, fixed = Model(5, BODY, base_channel=4), Model(5, BODY, base_channel=4, adaptive=False)
    names = {name for name, _ in learnt.named_parameters()} - {name for name, _ in fixed.named_parameters()}
    assert names == {f"l{number}.gcn1.PA" for number in range(1, 11)}


def test_clear_errors():
    with pytest.raises(ValueError, match="multiple of 4, got 10"):
        Model(5, base_channel=10)
    with pytest.raises(ValueError, match="num_point 20, but layout 'ntu25' has 25 joints"):
        Model(5, "ntu25", num_point=20)
    with pytest.raises(ValueError, match="no skeleton layout 'kinect'"):
        Model(5, "kinect")
