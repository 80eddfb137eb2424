"""ST-GCN, ST-GCN++ and AAGCN: sizes, symmetries, and their layers against plain loops."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from model import aagcn, stgcn, stgcnpp
from model.graph import spatial_adjacency
from model.layers import shortcut
from processor.info import multiply_adds
from shapmix import SkeletonLayout, exact_contributions

BODY = {
    "name": "mine",
    "joint_names": list("abcd"),
    "bones": [[1, 0], [2, 1], [3, 1]],
    "parts": {"low": [0, 1], "high": [2, 3]},
}
NETWORKS = {"stgcn": stgcn, "stgcnpp": stgcnpp, "aagcn": aagcn}
every_network = pytest.mark.parametrize("name", NETWORKS)


def make(name, layout=BODY, num_person=2, num_class=5, **args) -> nn.Module:
    return NETWORKS[name].Model(num_class, layout, num_person, **{"base_channel": 4, **args})


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def randomised(module: nn.Module, *shape: int) -> nn.Module:
    """Double precision, evaluation mode, no weight at its initial value; statistics of an input of ``shape``."""
    rng = torch.Generator().manual_seed(1)
    module.double().train()
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = max(1, parameter[0].numel()) if parameter.dim() > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=rng, dtype=torch.double) / math.sqrt(fan_in))
        norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)]
        for norm in norms:
            norm.weight.add_(1)
            norm.momentum = 0.9
        module(draw(*shape, seed=3))
    return module.eval()


def normalised(x: Tensor, norm: nn.Module) -> Tensor:
    """Batch norm in evaluation mode, written out."""
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return (x - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]


def pointwise(x: Tensor, conv: nn.Module) -> Tensor:
    """1x1 convolution as a matrix product over channels."""
    return torch.einsum("oc,nctv->notv", conv.weight[:, :, 0, 0], x) + conv.bias[:, None, None]


def close(ours: Tensor, want: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(ours, want, rtol=tolerance, atol=tolerance)


# --- the networks -----------------------------------------------------------------------------------------------------


@every_network
@pytest.mark.parametrize("layout", ["ntu25", "ucla20", "coco17", BODY], ids=str)
@pytest.mark.parametrize(("width", "people", "channels", "frames"), [(4, 1, 3, 17), (8, 3, 2, 4)])
def test_any_layout_and_width(name, layout, width, people, channels, frames):
    model = make(name, layout, people, 7, in_channels=channels, base_channel=width)
    x = torch.randn(2, channels, frames, model.layout.num_joints, people)
    logits = model(x)
    assert logits.shape == (2, 7)
    logits.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())
    assert model.l1(torch.randn(1, channels, frames, model.layout.num_joints)).shape[1:3] == (width, frames)
    assert model.l4.gcn1.conv.out_channels == 3 * width
    assert model.l10.gcn1.conv.out_channels == 3 * 4 * width


@every_network
@pytest.mark.parametrize("width", [5, 6, 7, 11, 13])
def test_odd_widths(name, width):
    assert make(name, base_channel=width)(torch.randn(2, 3, 9, 4, 2)).isfinite().all()


@pytest.mark.parametrize(
    ("name", "parameters", "published", "adds"),
    [
        ("stgcn", {60: 3_088_806, 400: 3_176_186}, 3.1, (3811.8, 3646.5)),
        ("stgcnpp", {60: 1_393_118, 400: 1_480_498}, 1.39, (1940.1, 1884.9)),
        ("aagcn", {60: 3_757_412, 400: 3_844_792}, 3.7, (4371.7, 4188.8)),
    ],
)
def test_cost_at_full_width(name, parameters, published, adds):
    """Exact sizes, those of the docstring, and the published ones, which are measured with NTU's 60 classes."""
    text = " ".join(NETWORKS[name].Model.__doc__.split())
    coco = {count: make(name, "coco17", 2, count, base_channel=64).to("meta") for count in (60, 400)}
    ntu = make(name, "ntu25", 2, 60, base_channel=64).to("meta")
    samples = [torch.empty(1, *shape, device="meta") for shape in ((3, 100, 17, 2), (3, 64, 25, 2))]
    found_adds = [multiply_adds(model, x) for model, x in zip((coco[400], ntu), samples, strict=True)]
    found = {count: sum(parameter.numel() for parameter in model.parameters()) for count, model in coco.items()}
    assert found == parameters
    assert found[60] / 1e6 == pytest.approx(published, rel=0.02)
    assert f"{found[60] / 1e6:.3f} M parameters with coco17 and 60 classes, {found[400] / 1e6:.3f} M with 400" in text
    assert [round(count / 1e6, 1) for count in found_adds] == list(adds)
    assert f"{adds[0] / 1e3:.2f} G multiply-adds for a sample (3, 100, 17, 2), {adds[1] / 1e3:.2f} G for" in text


@every_network
def test_ten_blocks(name):
    model = make(name)
    lengths = [
        model.get_submodule(f"l{number}").tcn1(torch.randn(1, width, 9, 4)).shape[1:3]
        for number, width in enumerate([4] * 4 + [8] * 3 + [16] * 3, start=1)
    ]
    assert lengths == [(4, 9)] * 4 + [(8, 5)] + [(8, 9)] * 2 + [(16, 5)] + [(16, 9)] * 2
    shortcuts = [type(model.get_submodule(f"l{number}").residual).__name__ for number in range(2, 11)]
    assert model.l1.residual is None
    assert [number for number, kind in enumerate(shortcuts, start=2) if kind != "Identity"] == [5, 8]


@every_network
@pytest.mark.parametrize("width", [4, 8])
def test_gradients_reach_every_parameter(name, width):
    """Away from the initial zeros and with fixed statistics, no parameter is without influence on the logits."""
    model = randomised(make(name, base_channel=width), 4, 3, 16, 4, 2)
    for module in model.modules():
        if hasattr(module, "relu"):
            module.relu = nn.Softplus()  # no unit is always off
    (model(draw(4, 3, 16, 4, 2)) * draw(4, 5, seed=2)).sum().backward()
    dead = [key for key, parameter in model.named_parameters() if not parameter.grad.abs().max() > 1e-9]
    assert dead == []


@every_network
def test_people_are_averaged(name):
    """Logits of two people (one of them may be absent: zeros) are the mean of their own, each with its own input norm;
    with the same input norm their order does not matter."""
    two, x = randomised(make(name), 4, 3, 16, 4, 2), draw(2, 3, 16, 4, 2)
    x[1, ..., 1] = 0
    alone = []
    for person in range(2):
        state = {
            key: value.chunk(2)[person] if key.startswith("data_bn") and value.dim() else value
            for key, value in two.state_dict().items()
        }
        one = make(name, num_person=1).double().eval()
        one.load_state_dict(state)
        alone.append(one(x[..., [person]]))
    close(two(x), (alone[0] + alone[1]) / 2)
    assert (two(x) - two(x.flip(-1))).abs().max() > 1e-6
    for value in (*two.data_bn.parameters(), two.data_bn.running_mean, two.data_bn.running_var):
        value.data = value.data[: len(value) // 2].repeat(2)
    close(two(x), two(x.flip(-1)))


@every_network
def test_a_batch_is_its_samples(name):
    model, x = randomised(make(name), 4, 3, 16, 4, 2), draw(4, 3, 10, 4, 2)
    close(model(x), torch.cat([model(sample) for sample in x.split(1)]))


@every_network
@pytest.mark.parametrize("training", [True, False])
def test_fused_as_plain(name, training):
    """Both networks have the same keys and give the same logits and gradients."""
    shape = (4, 3, 18, 4, 2)  # frames that the strides do not divide
    ours = randomised(make(name), *shape).train(training)
    plain = make(name, fused=False).double().train(training)
    plain.load_state_dict(ours.state_dict())
    x, logits = draw(*shape), []
    for network in (ours, plain):
        logits.append(network(x))
        (logits[-1] * draw(4, 5, seed=2)).sum().backward()
    close(logits[0], logits[1], 1e-9)
    for (key, parameter), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(
            parameter.grad, other.grad, rtol=1e-7, atol=1e-9, msg=lambda text, key=key: key + text
        )


@every_network
def test_precisions(name):
    """float32 and bfloat16 (by autocast and throughout) stay near double precision; bfloat16 trains."""
    model, x = randomised(make(name, base_channel=8), 4, 3, 16, 4, 2), draw(2, 3, 16, 4, 2)
    with torch.no_grad():
        want = model(x)
        assert want.dtype == torch.double
        model.float()
        close(model(x.float()).double(), want, 1e-4)
        scale = want.abs().max()
        with torch.autocast("cpu", torch.bfloat16):
            assert (model(x.float()).double() - want).abs().max() < 0.1 * scale
        half = copy.deepcopy(model).bfloat16()(x.bfloat16())
        assert half.dtype == torch.bfloat16
        assert (half.double() - want).abs().max() < 0.1 * scale
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.train()(x.float())
    logits.float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@every_network
def test_one_graph_for_the_compiler(name):
    """No branch depends on data: a single graph, which gives the same numbers."""
    model, x = randomised(make(name), 4, 3, 16, 4, 2), draw(2, 3, 8, 4, 2)
    close(torch.compile(model, backend="eager", fullgraph=True)(x), model(x))


@every_network
def test_contributions_of_parts_are_efficient(name):
    model, layout = randomised(make(name, "coco17", 1), 4, 3, 16, 17, 1), SkeletonLayout.get("coco17")
    x, y, baseline = draw(3, 3, 8, 17, 1), torch.tensor([0, 3, 4]), draw(3, 8, 17, 1, seed=5)
    parts = exact_contributions(model, x, y, baseline, layout, [(part,) for part in range(5)])
    probability = [model(given).softmax(-1)[torch.arange(3), y] for given in (x, baseline.expand_as(x))]
    close(parts.sum(1), probability[0] - probability[1])
    assert parts.abs().min() > 1e-9


@every_network
def test_clear_errors(name):
    with pytest.raises(ValueError, match="base_channel must be at least 4, got 3"):
        make(name, base_channel=3)
    with pytest.raises(ValueError, match="num_point 20, but layout 'ntu25' has 25 joints"):
        make(name, "ntu25", num_point=20)
    with pytest.raises(ValueError, match="no skeleton layout 'kinect'"):
        make(name, "kinect")


# --- the layers -------------------------------------------------------------------------------------------------------


def topology_of(name: str, layer: nn.Module, skeleton: Tensor, x: Tensor) -> Tensor:
    """(N, S, V, V) written out entry by entry, [source, target]."""
    n, _, frames, joints = x.shape
    if name == "stgcn":
        return (skeleton * layer.PA).expand(n, -1, -1, -1)
    topology = layer.A.repeat(n, 1, 1, 1)
    if name == "stgcnpp":
        return topology
    subsets, width = len(skeleton), layer.embed.out_channels // (2 * len(skeleton))
    embedded = pointwise(x, layer.embed)
    for subset in range(subsets):
        source = embedded[:, subset * width : (subset + 1) * width]
        target = embedded[:, (subsets + subset) * width : (subsets + subset + 1) * width]
        for to in range(joints):
            for of in range(joints):
                product = (target[..., to] * source[..., of]).sum((1, 2)) / (width * frames)
                topology[:, subset, of, to] += layer.gate * torch.tanh(product)
    return topology


@every_network
@pytest.mark.parametrize(("inputs", "width"), [(3, 8), (8, 8)])
def test_graph_convolution_by_loops(name, inputs, width):
    skeleton = torch.from_numpy(spatial_adjacency(SkeletonLayout.get(BODY)))
    layer, x = randomised(NETWORKS[name].GraphConv(inputs, width, skeleton), 4, inputs, 6, 4), draw(2, inputs, 6, 4)
    if name == "aagcn":
        layer.attention = nn.Identity()
    with torch.no_grad():
        topology = topology_of(name, layer, skeleton, x)
        values = torch.einsum("oc,nctv->notv", layer.conv.weight[:, :, 0, 0], x)
        if name != "aagcn":
            values += layer.conv.bias[:, None, None]
        total = torch.zeros(2, width, 6, 4, dtype=torch.double)
        for subset in range(3):
            for to in range(4):
                for of in range(4):
                    weight = topology[:, subset, of, to, None, None]
                    total[..., to] += weight * values[:, subset * width : (subset + 1) * width, :, of]
        if name == "aagcn":
            total += layer.bias[:, None, None]
        want = normalised(total, layer.bn)
        if name != "stgcn":
            want += x if inputs == width else normalised(pointwise(x, layer.residual.conv), layer.residual.bn)
        close(layer(x), want.clamp(min=0))


@every_network
def test_the_graph_starts_as_the_skeleton(name):
    """Every layer's first topology is the skeleton's, of which ST-GCN trains the weights of edges."""
    model = make(name, "ntu25")
    skeleton = torch.from_numpy(spatial_adjacency(model.layout)).float()
    layers = [model.get_submodule(f"l{number}.gcn1") for number in range(1, 11)]
    for layer in layers:
        assert torch.equal(layer.A, skeleton)
        assert isinstance(layer.A, nn.Parameter) == (name != "stgcn")
        assert name != "stgcn" or torch.equal(layer.PA, torch.ones_like(skeleton))


@every_network
def test_norms_start_at_one(name):
    """... but for AAGCN's graph convolutions, which start as their residual."""
    small = "gcn1.bn.weight" if name == "aagcn" else "none"
    for key, module in make(name).named_modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            scale = 1e-6 if f"{key}.weight".endswith(small) else 1.0
            assert torch.equal(module.weight, torch.full_like(module.weight, scale)), key
            assert not module.bias.any(), key


@pytest.mark.parametrize(("inputs", "width", "stride"), [(4, 4, 1), (4, 4, 2), (4, 8, 1), (4, 8, 2)])
def test_shortcut_fits(inputs, width, stride):
    layer, x = shortcut(inputs, width, stride), torch.randn(2, inputs, 7, 3)
    assert layer(x).shape == (2, width, math.ceil(7 / stride), 3)
    assert (layer(x) is x) == (inputs == width and stride == 1)


def test_edge_importance_adds_no_edge():
    skeleton = torch.from_numpy(spatial_adjacency(SkeletonLayout.get(BODY)))
    layer = randomised(stgcn.GraphConv(3, 4, skeleton), 4, 3, 5, 4)
    x = draw(1, 3, 5, 4)
    changed = x.clone()
    changed[..., 3] += 1  # joint 3 is joined to joint 1 alone
    moved = (layer(changed) - layer(x)).abs().amax((0, 1, 2)) > 0
    assert moved.tolist() == [False, True, False, True]


def test_aagcn_starts_static():
    """With the gates at 0 the first forward pass is the skeleton's graph convolution, whatever the embeddings are."""
    model, x = make("aagcn").double(), draw(2, 3, 16, 4, 2)
    assert all(model.get_submodule(f"l{number}.gcn1").gate.item() == 0 for number in range(1, 11))
    for number in range(1, 11):
        nn.init.ones_(model.get_submodule(f"l{number}.gcn1").bn.weight)
    first = model(x)
    for number in range(1, 11):
        nn.init.normal_(model.get_submodule(f"l{number}.gcn1").embed.weight)
    assert torch.equal(model(x), first)
    nn.init.ones_(model.l7.gcn1.gate)
    assert (model(x) - first).abs().max() > 1e-6


def test_attention_by_hand():
    layer, x = randomised(aagcn.Attention(6, 5), 2, 6, 7, 5), draw(2, 6, 7, 5)

    def gate(conv: nn.Module, signal: Tensor) -> Tensor:
        """sigmoid of a convolution (N, C, L) -> (N, L) with zeros beyond both ends."""
        half = conv.weight.shape[2] // 2
        padded = nn.functional.pad(signal, (half, half))
        windows = [conv.weight[0] * padded[..., at : at + 2 * half + 1] for at in range(signal.shape[2])]
        return torch.sigmoid(conv.bias + torch.stack([window.sum((1, 2)) for window in windows], 1))

    with torch.no_grad():
        assert (layer.joints.weight.shape[2], layer.frames.weight.shape[2]) == (5, 9)
        want = x * (1 + gate(layer.joints, x.mean(2)))[:, None, None, :]
        want = want * (1 + gate(layer.frames, want.mean(3)))[:, None, :, None]
        hidden = (want.mean((2, 3)) @ layer.squeeze.weight.T + layer.squeeze.bias).clamp(min=0)
        channels = torch.sigmoid(hidden @ layer.excite.weight.T + layer.excite.bias)
        close(layer(x), want * (1 + channels)[:, :, None, None])


def test_attention_starts_even():
    x = draw(2, 6, 7, 4)
    close(aagcn.Attention(6, 4).double()(x), x * 1.5**3)


@pytest.mark.parametrize(
    ("channels", "widths"),
    [
        (64, (14, 10, 10, 10, 10, 10)),
        (128, (23, 21, 21, 21, 21, 21)),
        (256, (46, 42, 42, 42, 42, 42)),
        (16, (6, 2, 2, 2, 2, 2)),
        (12, (2, 2, 2, 2, 2, 2)),
        (8, (3, 1, 1, 1, 1, 1)),
        (5, (5, 0, 0, 0, 0, 0)),
    ],
)
def test_branch_widths(channels, widths):
    layer = stgcnpp.BranchedTemporalConv(channels)
    assert layer.widths == widths
    assert sum(widths) == channels
    convs = [branch for branch in layer.branches if isinstance(branch, nn.Conv2d)]
    assert [(conv.in_channels, conv.out_channels) for conv in convs] == [(size, size) for size in widths[:4] if size]
    assert [conv.dilation[0] for conv in convs] == [1, 2, 3, 4][: len(convs)]
    assert layer.bn_reduce.num_features == channels - widths[-1]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("channels", "frames"), [(4, 5), (8, 9), (14, 12)])
def test_branches_by_loops(channels, frames, stride):
    layer, x = (
        randomised(stgcnpp.BranchedTemporalConv(channels, stride), 4, channels, frames, 3),
        draw(2, channels, frames, 3),
    )
    with torch.no_grad():
        reduced = pointwise(x, layer.reduce)
        last = channels - layer.widths[-1]
        active = normalised(reduced[:, :last], layer.bn_reduce).clamp(min=0)
        steps = range(0, frames, stride)
        merged = torch.zeros(2, channels, len(steps), 3, dtype=torch.double)
        begin = 0
        for number, size in enumerate(layer.widths):
            here = slice(begin, begin + size)
            for place, step in enumerate(steps):
                if not size:
                    continue
                if number == 5:
                    merged[:, here, place] = reduced[:, here, step]
                elif number == 4:
                    merged[:, here, place] = active[:, here, max(0, step - 1) : step + 2].amax(2)
                else:
                    conv = layer.branches[number]
                    merged[:, here, place] = conv.bias[:, None]
                    for column in range(3):
                        frame = step + (column - 1) * (number + 1)
                        if 0 <= frame < frames:
                            merged[:, here, place] += conv.weight[:, :, column, 0] @ active[:, here, frame]
            begin += size
        want = normalised(pointwise(normalised(merged, layer.bn_branches).clamp(min=0), layer.mix), layer.bn)
        close(layer(x), want)
