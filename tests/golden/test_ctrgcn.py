"""CTR-GCN against the published implementation: keys, graph, logits, loss, gradients, running statistics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model.ctrgcn import Model
from model.graph import spatial_adjacency
from shapmix.skeleton import SkeletonLayout


def close(ours, golden, rtol=1e-9):
    golden = np.asarray(golden)
    np.testing.assert_allclose(np.asarray(ours), golden, rtol=rtol, atol=rtol * max(1e-30, np.abs(golden).max()))


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", ["ntu25", "coco17", "ucla20"])
def test_network(name, fused, golden, golden_weights):
    want = golden(f"ctrgcn_{name}")
    layout = SkeletonLayout.get(name)
    _, channels, _, joints, people = want["x"].shape
    assert joints == layout.num_joints
    close(spatial_adjacency(layout), want["adjacency"])

    model = Model(int(want["num_class"]), layout, people, channels, fused=fused).double()
    state = model.state_dict()
    assert list(state) == want["keys"].tolist()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    listed = ["x".join(map(str, shapes[key])) for key in want["keys"]]
    assert [tuple(int(n) for n in "".join(c if c.isdigit() else " " for c in s).split()) for s in want["shapes"]] == [
        shapes[key] for key in want["keys"]
    ], listed

    model.load_state_dict(golden_weights.fill(state, int(want["seed"])))
    x, y = torch.from_numpy(want["x"]).double(), torch.from_numpy(want["y"])
    model.eval()
    with torch.no_grad():
        close(model(x), want["logits_eval"])
    model.train()
    logits = model(x)
    close(logits.detach(), want["logits_train"])
    loss = F.cross_entropy(logits, y)
    close(loss.item(), want["loss_train"])
    loss.backward()
    parameters = dict(model.named_parameters())
    close(parameters["l1.gcn1.PA"].grad, want["grad_l1_gcn1_PA"])
    close(parameters["l5.gcn1.alpha"].grad, want["grad_l5_gcn1_alpha"])
    close(parameters["fc.bias"].grad, want["grad_fc_bias"])
    assert sorted(parameters) == sorted(want["grad_norm_names"].tolist())
    for key, norm in zip(want["grad_norm_names"], want["grad_norms"], strict=True):
        ours = parameters[key].grad.norm().item()
        if norm < 1e-10:  # biases in front of a batch norm: zero up to rounding
            assert ours < 1e-10, key
        else:
            assert ours == pytest.approx(norm, rel=1e-9), key
    statistics = model.l3.tcn1.branches[0][1]
    close(statistics.running_mean, want["running_mean_l3"])
    close(statistics.running_var, want["running_var_l3"])
