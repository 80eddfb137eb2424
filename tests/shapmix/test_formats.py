"""Batches in other orders of dimensions: every result is the permuted one of the default, bit for bit."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from shapmix import Mixup, Remix, ShapMix, SkeletonLayout, TemporalCutMix, exact_contributions, shapley_values
from shapmix.formats import InputFormat
from shapmix.shapley import sampled_contribution

LAYOUT = SkeletonLayout.get("ucla20")
COUNTS = [20, 6, 2]
ORDERS = ["NMTVC", "NTVC", "NCTV", "NVMCT"]
KINDS = {
    "mixup": Mixup,
    "temporal cutmix": TemporalCutMix,
    "remix": Remix,
    "st-mix": lambda counts, **more: ShapMix(LAYOUT, counts, guided=False, **more),
    "whole bodies": lambda counts, **more: ShapMix(
        LAYOUT, counts, guided=False, paste_probability=1.0, body="bones", people="present", same_facing=True, **more
    ),
    "tail over head": lambda counts, **more: ShapMix(LAYOUT, counts, guided=False, tail_over_head=True, **more),
}
OPTIONS = {"published": {}, "some samples": {"estimate_fraction": 0.4}, "people": {"people": "present"}}


def permuted(x: torch.Tensor, order: str) -> torch.Tensor:
    """x (N, C, T, V, M), or a sequence without N, in another order."""
    letters = "NCTVM" if x.ndim == 5 else "CTVM"
    wanted = [letters.index(letter) for letter in (order if "M" in order else order + "M") if letter in letters]
    x = x.permute(wanted)
    return x if "M" in order else x[..., 0]


class Takes(nn.Module):
    """A network of (N, C, T, V, M) as one that takes another order."""

    def __init__(self, network: nn.Module, order: str) -> None:
        super().__init__()
        self.network, self.order = network, order

    def forward(self, x):
        assert x.is_contiguous(), "networks may call view"
        x = x if "M" in self.order else x.unsqueeze(-1)
        letters = self.order if "M" in self.order else self.order + "M"
        return self.network(x.permute([letters.index(letter) for letter in "NCTVM"]).contiguous())


def problem(order: str):
    """Batches x, classes y, a baseline and a network, with one person where the order has no M."""
    rng = torch.Generator().manual_seed(0)
    people = 2 if "M" in order else 1
    batches = [torch.randn(7, 3, 12, 20, people, generator=rng) for _ in range(3)]
    batches[0][:4, ..., -1] = 0  # absent
    y = torch.tensor([0, 1, 2, 0, 1, 0, 2])
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 20 * people, 5), nn.Dropout(0.5), nn.Linear(5, 3))
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randn(weight.shape, generator=rng) * 0.2)
    return batches, y, torch.randn(3, 12, 20, people, generator=rng), network


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", KINDS)
def test_mixers(kind, order):
    batches, y, _, _ = problem(order)
    default, other = KINDS[kind](COUNTS), KINDS[kind](COUNTS, input_format=order)
    for step, x in enumerate(batches):
        partner = batches[step - 1]
        for more, permuted_more in (((), ()), ((partner, y.flip(0)), (permuted(partner, order), y.flip(0)))):
            for mixer in (default, other):
                mixer.start_step(6, step)
            expected, found = default(x, y, *more), other(permuted(x, order), y, *permuted_more)
            assert torch.equal(found[0], permuted(expected[0], order))
            assert found[0].is_contiguous()
            assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("options", OPTIONS)
def test_shap_mix_observes(options, order):
    batches, y, baseline, network = problem(order)
    default = ShapMix(LAYOUT, COUNTS, baseline, **OPTIONS[options])
    other = ShapMix(LAYOUT, COUNTS, permuted(baseline, order), **OPTIONS[options], input_format=order)
    for epoch in (0, 6):
        for step, x in enumerate(batches):
            for mixer in (default, other):
                mixer.start_step(epoch, step)
            expected, found = (
                default.observe(network, x, y),
                other.observe(Takes(network, order), permuted(x, order), y),
            )
            assert torch.equal(expected.nan_to_num(9), found.nan_to_num(9))  # NaN: not estimated
            expected, found = default(x, y), other(permuted(x, order), y)
            assert torch.equal(found[0], permuted(expected[0], order))
            assert torch.equal(found[1], expected[1])
    assert torch.equal(default.saliency.table, other.saliency.table)
    assert not torch.equal(default.saliency.table, torch.full_like(default.saliency.table, 1e-6))
    restored = ShapMix(LAYOUT, COUNTS, torch.zeros_like(other.baseline), input_format=order)
    restored.load_state_dict(copy.deepcopy(other).state_dict())
    assert torch.equal(restored.baseline, permuted(baseline, order))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("people", ["all", "present"])
def test_shap_mix_refreshes(people, order):
    batches, y, baseline, network = problem(order)
    default = ShapMix(LAYOUT, COUNTS, baseline, people=people)
    other = ShapMix(LAYOUT, COUNTS, permuted(baseline, order), people=people, input_format=order)
    default.refresh(network, [(x, y) for x in batches], max_batch=50)
    other.refresh(Takes(network, order), [(permuted(x, order), y) for x in batches], max_batch=50)
    assert torch.equal(default.saliency.table, other.saliency.table)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("function", "args"),
    [
        (shapley_values, ()),
        (exact_contributions, (LAYOUT.coalitions()[:3],)),
        (sampled_contribution, (LAYOUT.coalitions()[0], (3,))),
    ],
)
def test_shapley(function, args, order):
    (x, other, _), y, baseline, network = problem(order)
    for absent in (baseline, other):  # one for all, and one for each sample
        expected = function(network, x, y, absent, LAYOUT, *args)
        found = function(
            Takes(network, order), permuted(x, order), y, permuted(absent, order), LAYOUT, *args, input_format=order
        )
        assert torch.equal(found, expected)


def test_the_default_copies_nothing():
    x = torch.zeros(2, 3, 8, 20, 1).transpose(1, 2).transpose(1, 2)
    assert InputFormat().inward(x) is x
    assert InputFormat().outward(x) is x


@pytest.mark.parametrize("order", ["CNTVM", "NCTVMM", "NCTVX", "NTV", "nctvm", "", None, 5])
def test_wrong_orders(order):
    with pytest.raises(ValueError, match="input_format"):
        Mixup(COUNTS, input_format=order)
    (x, *_), y, baseline, network = problem("NCTVM")
    with pytest.raises(ValueError, match="input_format"):
        shapley_values(network, x, y, baseline, LAYOUT, input_format=order)


def test_wrong_shapes():
    (x, *_), y, baseline, network = problem("NCTVM")
    for mixer in (Mixup(COUNTS, input_format="NTVC"), ShapMix(LAYOUT, COUNTS, guided=False, input_format="NTVC")):
        with pytest.raises(ValueError, match=r"\(7, 3, 12, 20, 2\) must be \(N, T, V, C\)"):
            mixer(x, y)
    mixer, x = ShapMix(LAYOUT, COUNTS, baseline, input_format="NMTVC"), x[:, :, :, :19]
    for call in (mixer, lambda x, y: mixer.observe(network, x, y)):
        with pytest.raises(ValueError, match=r"\(7, 3, 12, 19, 2\) must be \(N, M, T, V, C\) with V = 20 .*'ucla20'"):
            call(x, y)
