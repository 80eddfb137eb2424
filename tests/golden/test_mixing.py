"""Contribution and mixing against the published implementation, for given draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shapmix.mixing import MixDraws, blend, partner_is_rarer, paste, pasted_parts, soft_target
from shapmix.shapley import sampled_contribution
from shapmix.skeleton import SkeletonLayout


def parts_mask(names, layout):
    mask = torch.zeros(len(names), layout.num_parts, dtype=torch.bool)
    for row, name in zip(mask, names, strict=True):
        row[[int(digit) for digit in str(name)]] = True
    return mask


def test_contribution(golden):
    want = golden("contribution_ntu25")
    x = torch.from_numpy(want["x"]).double()
    weight = np.random.RandomState(int(want["linear_weight_seed"])).standard_normal((10, 9600)) * 0.03
    weight = torch.from_numpy(weight)

    def network(clip):
        return clip.flatten(1) @ weight.T

    y, baseline = torch.from_numpy(want["y"]), torch.from_numpy(want["baseline"]).double()
    layout = SkeletonLayout.get("ntu25")
    for coalition, context, contribution in zip(want["coalition"], want["context"], want["contribution"], strict=True):
        drawn = [tuple(int(digit) for digit in str(text)) for text in (coalition, context)]
        ours = sampled_contribution(network, x, y, baseline, layout, *drawn)
        np.testing.assert_allclose(ours.clamp(min=0).numpy(), contribution, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layout_name", ["ntu25", "coco17"])
@pytest.mark.parametrize("mode", ["uniform", "guided"])
def test_mixing(mode, layout_name, golden):
    want = golden(f"mixing_{mode}_{layout_name}")
    layout = SkeletonLayout.get(layout_name)
    kinds = set()
    for number in range(int(want["cases"])):
        case = {key.split("_", 1)[1]: value for key, value in want.items() if key.startswith(f"case{number}_")}
        x, y = torch.from_numpy(case["x"]), torch.from_numpy(case["y"])
        num_class = len(case["table"])
        partner, y_partner = x.roll(-int(case["shift"]), 0), y.roll(-int(case["shift"]), 0)
        before = x.clone()
        kinds.add(str(case["kind"]))
        if case["kind"] == "blend":
            mixed, share = blend(x, partner, float(case["lam"])), torch.full((len(x),), float(case["lam"]))
            np.testing.assert_allclose(mixed.numpy(), case["mixed"], rtol=0, atol=1e-6)
        else:
            parts = parts_mask(case["pasted_parts"], layout)
            if mode == "guided":
                abundance = torch.arange(num_class, 0, -1)  # classes are ordered by falling count
                drawn = parts_mask(case["drawn_coalition"], layout)
                assert torch.equal(pasted_parts(drawn, partner_is_rarer(y, y_partner, abundance)), parts)
            draws = MixDraws(
                shift=int(case["shift"]),
                kind="paste",
                lam=0.0,
                **{key: int(case[key]) for key in ("target_start", "target_len", "source_start", "source_len")},
                coalition=parts[0],
                uniform=torch.zeros(len(x)),
            )
            joints = (parts.unsqueeze(-1) & layout.membership()).any(1)
            mixed, share = paste(x, partner, joints, draws)
            assert np.array_equal(mixed.numpy(), case["mixed"])
        np.testing.assert_allclose(share.numpy(), case["partner_share"], rtol=0, atol=1e-6)
        target = soft_target(y, y_partner, share, num_class)
        np.testing.assert_allclose(target.sum(1).numpy(), 1.0, atol=1e-6)
        assert torch.equal(x, before)
    assert kinds == {"blend", "paste"}
