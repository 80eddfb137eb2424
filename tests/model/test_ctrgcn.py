"""CTR-GCN at other widths, layouts and inputs than the golden ones."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from model.ctrgcn import Model
from model.fused import is_fixed
from shapmix import SkeletonLayout
from tests.conftest import ROOT

BODY = SkeletonLayout("mine", tuple("abcd"), ((1, 0), (2, 1), (3, 1)), {"low": (0, 1), "high": (2, 3)})


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("layout", ["ntu25", "ucla20", "coco17", BODY])
@pytest.mark.parametrize(("width", "people", "channels"), [(4, 1, 3), (8, 2, 2)])
def test_any_layout_and_width(layout, width, people, channels, fused):
    model = Model(7, layout, people, channels, base_channel=width, fused=fused)
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


def pair(**args) -> tuple[Model, Model]:
    """The fused network and the plain one with the same weights, none at its initial value, in double precision."""
    torch.manual_seed(3)
    ours, plain = (Model(6, BODY, 2, **args, fused=fused).double() for fused in (True, False))
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.normal_(module.bias)
    for number in range(1, 11):
        nn.init.uniform_(getattr(ours, f"l{number}").gcn1.alpha, 0.2, 0.8)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


def agree(ours: nn.Module, plain: nn.Module, x: torch.Tensor) -> None:
    """Logits, gradients of input and weights, and running statistics."""
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    logits = [network(values) for network, values in zip((ours, plain), inputs, strict=True)]
    torch.testing.assert_close(*logits, rtol=1e-9, atol=1e-9)
    for values in logits:
        values.log_softmax(1)[:, 0].sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-7, atol=1e-9)
    for (name, own), (other, theirs) in zip(ours.named_parameters(), plain.named_parameters(), strict=True):
        assert name == other
        torch.testing.assert_close(own.grad, theirs.grad, rtol=1e-7, atol=1e-9, msg=lambda text, name=name: name + text)
    for (name, own), theirs in zip(ours.state_dict().items(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(own, theirs, rtol=1e-9, atol=1e-12, msg=lambda text, name=name: name + text)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("adaptive", [True, False])
def test_fused_as_plain(training, adaptive):
    """Frames that the two strides do not divide; twice, so that statistics and folded weights follow the weights."""
    ours, plain = pair(base_channel=8, adaptive=adaptive)
    for network in (ours, plain):
        network.train(training)
    for seed in range(2):
        x = torch.randn(4, 3, 18, 4, 2, dtype=torch.double, generator=torch.Generator().manual_seed(seed))
        agree(ours, plain, x)
        with torch.no_grad():
            for network in (ours, plain):
                for parameter in network.parameters():
                    parameter.mul_(1.01).sub_(0.01)
                    parameter.grad = None


def test_some_batch_norms_fixed():
    """Frozen norms in a network that trains: those of one branch, and of one graph convolution."""
    ours, plain = pair(base_channel=4)
    for network in (ours, plain):
        network.train()
        network.l2.tcn1.branches[1][1].eval()
        network.l3.tcn1.branches[0][3].bn.eval()
        network.l4.gcn1.bn.eval()
    assert is_fixed(ours.l4.gcn1.bn)
    agree(ours, plain, torch.randn(3, 3, 16, 4, 2, dtype=torch.double))


def test_other_batch_norms():
    """Norms as a user may have changed them: own momenta, a cumulative mean, no statistics, no weights."""
    ours, plain = pair(base_channel=4)
    for network in (ours, plain):
        network.train()
        network.l2.tcn1.branches[0][1].momentum = 0.3
        network.l3.tcn1.branches[2][4].momentum = None
        network.l4.tcn1.branches[1][1] = nn.BatchNorm2d(1, track_running_stats=False).double()
        network.l5.tcn1.branches[3][1] = nn.BatchNorm2d(2, affine=False).double()
    x = torch.randn(3, 3, 16, 4, 2, dtype=torch.double)
    agree(ours, plain, x)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(x), plain.eval()(x), rtol=1e-9, atol=1e-9)


def test_half_precision_is_close():
    ours, plain = pair(base_channel=8)
    ours.float().eval(), plain.eval()
    x = torch.randn(4, 3, 16, 4, 2)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = ours(x)
        assert half.dtype == torch.bfloat16
    with torch.no_grad():
        full = plain(x.double())
    assert (half.double() - full).norm() < 0.1 * full.norm()


NARROW = """
import torch
from model import aagcn, ctrgcn, stgcn, stgcnpp

torch.set_num_threads(1)
for network in (ctrgcn, stgcn, stgcnpp, aagcn):
    for width, fused in ((4, True), (8, True), (4, False), (8, False)):
        model = network.Model(5, "ntu25", 1, base_channel=width, fused=fused)
        model(torch.randn(3, 3, 64, 25, 1)).sum().backward()
print("done")
"""


def test_narrow_networks_stay_within_their_memory():
    """glibc's checks of its heap: oneDNN's gradient of a strided 1x1 convolution writes outside (torch 2.13)."""
    try:
        ctypes.CDLL("libc_malloc_debug.so.0")
    except OSError:
        pytest.skip("no libc_malloc_debug.so.0")
    checks = {"LD_PRELOAD": "libc_malloc_debug.so.0", "GLIBC_TUNABLES": "glibc.malloc.check=3"}
    words = [sys.executable, "-c", NARROW]
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, **checks}, capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr
