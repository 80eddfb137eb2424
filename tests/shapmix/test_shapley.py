"""Contributions against captum, against a brute force of the definition, and what they leave untouched."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from math import comb

import pytest
import torch
from captum.attr import ShapleyValues
from torch import nn

from shapmix.draws import generator
from shapmix.shapley import (
    contributions,
    draw_context,
    exact_contributions,
    sampled_contribution,
    sampled_terms,
    shapley_values,
)
from shapmix.skeleton import SkeletonLayout

THREE = SkeletonLayout(
    name="three",
    joint_names=("a", "b", "c", "d", "e"),
    bones=((1, 0), (2, 1), (3, 0), (4, 3)),
    parts={"first": (4, 0), "second": (2,), "third": (1, 3)},
)
LAYOUTS = [SkeletonLayout.get("ntu25"), THREE]
layouts = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
N, K = 3, 4


class Network(nn.Module):
    """A small network that is far from additive in the parts."""

    def __init__(self, layout):
        super().__init__()
        rng = torch.Generator().manual_seed(1)
        inputs = 2 * 3 * layout.num_joints
        self.first = nn.Parameter(torch.randn(inputs, 8, generator=rng, dtype=torch.float64) / inputs**0.5)
        self.second = nn.Parameter(3 * torch.randn(8, K, generator=rng, dtype=torch.float64))

    def forward(self, x):
        return (x.flatten(1) @ self.first).tanh() @ self.second


class Spy:
    """A network that keeps the number of samples of every forward call."""

    def __init__(self, network):
        self.network, self.calls = network, []

    def __call__(self, x):
        self.calls.append(len(x))
        return self.network(x)


def problem(layout):
    """Network, x (N, 2, 3, V, 1), true classes (N,) and baseline (2, 3, V, 1), in float64."""
    rng = torch.Generator().manual_seed(2)
    x = torch.randn(N, 2, 3, layout.num_joints, 1, generator=rng, dtype=torch.float64)
    baseline = torch.randn(x.shape[1:], generator=rng, dtype=torch.float64)
    return Network(layout), x, torch.tensor([2, 0, 3]), baseline


def value(layout, present):
    """v(present) (N,), with the absent parts' joints replaced one by one."""
    network, x, target, baseline = problem(layout)
    for part, joints in enumerate(layout.parts.values()):
        if part not in present:
            for joint in joints:
                x[:, :, :, joint] = baseline[:, :, joint]
    with torch.no_grad():
        return network(x).softmax(-1)[torch.arange(N), target]


def contexts_by_size(layout, coalition):
    others = [part for part in range(layout.num_parts) if part not in coalition]
    return [list(combinations(others, size)) for size in range(len(others) + 1)]


@layouts
def test_shapley_values_are_captums(layout):
    network, x, target, baseline = problem(layout)
    groups = torch.zeros(1, 1, 1, layout.num_joints, 1, dtype=torch.long)
    for part, joints in enumerate(layout.parts.values()):
        groups[..., list(joints), :] = part
    ours = shapley_values(network, x, target, baseline, layout)
    with torch.no_grad():
        attribution = ShapleyValues(lambda clip: network(clip).softmax(-1)).attribute(
            x, baselines=baseline[None], target=target, feature_mask=groups
        )
    captums = torch.stack([attribution[:, 0, 0, joints[0], 0] for joints in layout.parts.values()], 1)
    assert ours.shape == (N, layout.num_parts)
    assert captums.abs().max() > 0.05
    torch.testing.assert_close(ours, captums.double(), rtol=0, atol=1e-6)  # captum adds up in float32


@layouts
def test_efficiency(layout):
    ours = shapley_values(*problem(layout), layout)
    everything, nothing = value(layout, range(layout.num_parts)), value(layout, ())
    torch.testing.assert_close(ours.sum(1), everything - nothing, rtol=0, atol=1e-12)


@layouts
def test_exact_contributions_are_the_definition(layout):
    subsets = [subset for size in range(layout.num_parts + 1) for subset in combinations(range(layout.num_parts), size)]
    coalitions = subsets[1:-1]
    ours = exact_contributions(*problem(layout), layout, coalitions)
    values = {frozenset(subset): value(layout, subset) for subset in subsets}
    for column, coalition in enumerate(coalitions):
        means = []
        for contexts in contexts_by_size(layout, coalition):
            gains = [values[frozenset({*coalition, *context})] - values[frozenset(context)] for context in contexts]
            means.append(torch.stack(gains).mean(0))
        torch.testing.assert_close(ours[:, column], torch.stack(means).mean(0), rtol=0, atol=1e-12)
    assert ours.min() < -0.01  # nothing is clipped here


@layouts
def test_sampled_contribution_is_one_difference(layout):
    coalition, context = (0, 1), (2,)
    ours = sampled_contribution(*problem(layout), layout, coalition, context)
    want = value(layout, {0, 1, 2}) - value(layout, {2})
    torch.testing.assert_close(ours, want, rtol=0, atol=1e-12)


@layouts
def test_samples_have_the_exact_value_as_their_mean(layout):
    coalition = (0, 2)
    mean = torch.zeros(N, dtype=torch.float64)
    sizes = contexts_by_size(layout, coalition)
    for contexts in sizes:
        probability = 1 / len(sizes) / len(contexts)
        for context in contexts:
            mean += probability * sampled_contribution(*problem(layout), layout, coalition, context)
    exact = exact_contributions(*problem(layout), layout, [coalition])[:, 0]
    torch.testing.assert_close(mean, exact, rtol=0, atol=1e-12)


def test_contexts_are_drawn_by_size_then_uniformly():
    rng, draws = generator("contexts"), 8000
    seen = Counter(draw_context(5, (1, 3), rng) for _ in range(draws))
    sizes = [list(combinations((0, 2, 4), size)) for size in range(4)]
    assert set(seen) == {context for contexts in sizes for context in contexts}
    for size, contexts in enumerate(sizes):
        for context in contexts:
            probability = 1 / 4 / comb(3, size)
            spread = (draws * probability * (1 - probability)) ** 0.5
            assert abs(seen[context] - draws * probability) < 5 * spread


def test_context_of_all_but_one():
    rng = generator("one other")
    assert {draw_context(4, (0, 1, 3), rng) for _ in range(50)} == {(), (2,)}


def test_number_of_forward_calls():
    layout = LAYOUTS[0]
    network, *rest = problem(layout)
    for function, arguments, evaluations in [
        (sampled_contribution, ((0, 1), (2,)), 2),
        (exact_contributions, ([(0, 1)],), 16),
        (exact_contributions, ([(0, 1, 4)],), 8),
        (exact_contributions, (layout.coalitions(),), 32),
        (shapley_values, (), 32),
    ]:
        spy = Spy(network)
        function(spy, *rest, layout, *arguments)
        assert spy.calls == [evaluations * N], function.__name__


def test_number_of_forward_calls_for_three_parts():
    network, *rest = problem(THREE)
    spy = Spy(network)
    shapley_values(spy, *rest, THREE)
    assert spy.calls == [8 * N]


@pytest.mark.parametrize(("max_batch", "calls"), [(7, [7, 7, 7, 3]), (24, [24]), (100, [24]), (1, [1] * 24)])
def test_chunks_give_the_same(max_batch, calls):
    network, *rest = problem(THREE)
    spy = Spy(network)
    chunked = shapley_values(spy, *rest, THREE, max_batch=max_batch)
    assert spy.calls == calls
    torch.testing.assert_close(chunked, shapley_values(network, *rest, THREE), rtol=0, atol=1e-12)


def test_several_terms_share_their_evaluations():
    network, *rest = problem(THREE)
    spy = Spy(network)
    terms = [sampled_terms((0,), (1,)), sampled_terms((2,), (1,)), sampled_terms((0, 1), ())]
    together = contributions(spy, *rest, THREE, terms)
    assert spy.calls == [4 * N]  # {0, 1}, {1}, {1, 2} and {}
    for column, (coalition, context) in enumerate([((0,), (1,)), ((2,), (1,)), ((0, 1), ())]):
        alone = sampled_contribution(network, *rest, THREE, coalition, context)
        torch.testing.assert_close(together[:, column], alone, rtol=0, atol=1e-12)


class Stateful(nn.Module):
    """Batch norm, dropout, and flags of which some are off; notes the mode of its modules in forward."""

    def __init__(self, fail=False):
        super().__init__()
        self.norm, self.frozen = nn.BatchNorm1d(30), nn.BatchNorm1d(30)
        self.block = nn.Sequential(nn.Linear(30, K), nn.Dropout(0.5))
        self.fail, self.modes = fail, []
        self.frozen.eval()
        self.block.eval()
        self.block[1].train()

    def forward(self, x):
        self.modes = [module.training for module in self.modules()]
        logits = self.block(self.frozen(self.norm(x.flatten(1))))
        if self.fail:
            raise RuntimeError("no more memory")
        return logits


@pytest.mark.parametrize("fail", [False, True])
def test_network_is_left_as_it_was(fail):
    _, x, target, baseline = problem(THREE)
    network = Stateful(fail).double()
    network(x + 1).sum().backward() if not fail else None
    flags = [module.training for module in network.modules()]
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    grads = [None if weight.grad is None else weight.grad.clone() for weight in network.parameters()]
    random, x_before = torch.get_rng_state(), x.clone()
    arguments = (network, x, target, baseline, THREE, (0,), (2,))
    if fail:
        with pytest.raises(RuntimeError, match="no more memory"):
            sampled_contribution(*arguments)
    else:
        first = sampled_contribution(*arguments)
        assert not first.requires_grad
        assert torch.equal(first, sampled_contribution(*arguments))  # no dropout
    assert len(network.modes) == len(flags)
    assert not any(network.modes)
    assert [module.training for module in network.modules()] == flags
    assert len(set(flags)) == 2
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    for weight, grad in zip(network.parameters(), grads, strict=True):
        assert (weight.grad is None) == (grad is None) == fail
        assert grad is None or torch.equal(weight.grad, grad)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(x, x_before)
    assert torch.is_grad_enabled()


class Noisy(nn.Module):
    """Adds noise by a flag of its own, which ``train`` sets, as DropPath and merged weights do."""

    def __init__(self):
        super().__init__()
        self.noisy = True

    def train(self, mode=True):
        self.noisy = mode
        return super().train(mode)

    def forward(self, x):
        return x + torch.randn_like(x) if self.noisy else x


@pytest.mark.parametrize("root", [True, False], ids=["training", "evaluation"])
def test_modules_with_their_own_idea_of_modes(root):
    _, x, target, baseline = problem(THREE)
    network = nn.Sequential(
        Noisy(), nn.Flatten(), nn.Sequential(Noisy(), nn.BatchNorm1d(30)), Noisy(), nn.Linear(30, K)
    )
    network.double().train(root)
    network[2].train(not root)
    network[2][1].train(root)
    network[3].eval()
    flags = [(module.training, getattr(module, "noisy", None)) for module in network.modules()]
    values = [shapley_values(network, x, target, baseline, THREE) for _ in range(2)]
    assert torch.equal(*values)
    assert [(module.training, getattr(module, "noisy", None)) for module in network.modules()] == flags
    compiled = torch.compile(network, backend="eager")
    torch.testing.assert_close(shapley_values(compiled, x, target, baseline, THREE), values[0])
    assert [(module.training, getattr(module, "noisy", None)) for module in network.modules()] == flags


def test_network_that_does_not_return_logits():
    network, x, target, baseline = problem(THREE)
    for output in (lambda z: (z, z), lambda z: z[:, None]):
        with pytest.raises(ValueError, match=r"must return logits \(N, K\)"):
            shapley_values(lambda clip, output=output: output(network(clip)), x, target, baseline, THREE)


def test_target_outside_the_logits():
    network, x, target, baseline = problem(THREE)
    with pytest.raises(ValueError, match=rf"y\[0\] is {K}, outside the classes"):
        shapley_values(network, x, target.index_fill(0, torch.tensor(0), K), baseline, THREE)


class Lazy(nn.Module):
    """Makes its weights and a constant in its first forward call, as networks of others do."""

    def __init__(self):
        super().__init__()
        self.linear, self.scale = nn.LazyLinear(K, dtype=torch.float64), None

    def forward(self, x):
        if self.scale is None:
            self.scale = torch.full((K,), 0.5, dtype=torch.float64)
        return self.linear(x.flatten(1)) * self.scale


def test_network_whose_first_call_this_is_can_be_trained():
    _, x, target, baseline = problem(THREE)
    network = Lazy()
    sampled_contribution(network, x, target, baseline, THREE, (0,), (2,))
    network(x).logsumexp(1).sum().backward()
    assert (network.linear.weight.grad != 0).any()


def test_running_statistics_are_used():
    """In evaluation mode a sample's values do not depend on its batch."""
    _, x, target, baseline = problem(THREE)
    network = Stateful().double().train()
    together = shapley_values(network, x, target, baseline, THREE)
    alone = [shapley_values(network, x[[i]], target[[i]], baseline, THREE) for i in range(N)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_have_a_float32_softmax(dtype):
    network, x, target, baseline = problem(THREE)
    ours = shapley_values(lambda clip: network(clip).to(dtype), x, target, baseline, THREE)
    assert ours.dtype == torch.float32
    want = shapley_values(lambda clip: network(clip).to(dtype).float(), x, target, baseline, THREE)
    assert torch.equal(ours, want)


@pytest.mark.parametrize(
    "cut",
    [
        lambda x, baseline: (x[:, :, :, :4], baseline[:, :, :4]),
        lambda x, baseline: (x[..., 0], baseline[..., 0]),
        lambda x, baseline: (x, baseline[:, :2]),
        lambda x, baseline: (x, baseline[None]),
        lambda x, baseline: (x[:, :1], baseline),
    ],
    ids=["joints", "no people", "frames of baseline", "batch of baselines", "coordinates"],
)
def test_shapes_that_do_not_fit(cut):
    network, x, target, baseline = problem(THREE)
    x, baseline = cut(x, baseline)
    with pytest.raises(ValueError, match=r"V = 5 joints of layout 'three'.*baseline.*\(C, T, V, M\)"):
        sampled_contribution(network, x, target, baseline, THREE, (0,), ())


def test_target_of_another_length():
    network, x, target, baseline = problem(THREE)
    with pytest.raises(ValueError, match="target"):
        sampled_contribution(network, x, target[:2], baseline, THREE, (0,), ())


def test_autocast_keeps_the_digits_of_small_differences():
    """Probabilities near 1 differ by less than bf16 resolves; only the network may be rounded, not their difference."""
    layout = SkeletonLayout.get("ucla20")
    x, y = torch.randn(4, 3, 8, 20, 1), torch.zeros(4, dtype=torch.int64)

    def network(clip):
        logits = torch.zeros(len(clip), 3)
        logits[:, 0] = 5 + clip.flatten(1).mean(1)
        return logits

    arguments = (network, x, y, torch.zeros(3, 8, 20, 1), layout, (0, 1), (2,))
    plain = sampled_contribution(*arguments)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = sampled_contribution(*arguments)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, plain)
