"""Logit adjustment against its closed form, for hard and soft targets, and classes without samples."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
import torch.nn.functional as F

from shapmix.losses import LogitAdjustedLoss

COUNTS = [600, 50, 7, 1]


def batch(size=6, num_class=4, seed=0):
    """Logits (N, K) that want gradients, classes (N,) and soft targets (N, K) that sum to 1."""
    rng = torch.Generator().manual_seed(seed)
    logits = (3 * torch.randn(size, num_class, generator=rng)).requires_grad_()
    target = torch.randint(num_class, (size,), generator=rng)
    return logits, target, torch.rand(size, num_class, generator=rng).softmax(-1)


def closed_form(logits, soft, counts, tau):
    """Mean of ``-sum_k soft_k log(n_k^tau e^logit_k / sum_j n_j^tau e^logit_j)``, number by number."""
    total = 0.0
    for row, weights in zip(logits.tolist(), soft.tolist(), strict=True):
        odds = [count**tau * exp(logit) for count, logit in zip(counts, row, strict=True)]
        total -= sum(weight * log(odd / sum(odds)) for weight, odd in zip(weights, odds, strict=True) if weight > 0)
    return total / len(logits)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
def test_closed_form(tau):
    logits, target, soft = batch()
    loss = LogitAdjustedLoss(COUNTS, tau)
    assert loss(logits, soft).item() == pytest.approx(closed_form(logits, soft, COUNTS, tau), rel=1e-5)
    onehot = F.one_hot(target, 4).float()
    assert loss(logits, target).item() == pytest.approx(closed_form(logits, onehot, COUNTS, tau), rel=1e-5)


def test_soft_onehot_equals_hard():
    logits, target, _ = batch()
    loss = LogitAdjustedLoss(COUNTS)
    torch.testing.assert_close(loss(logits, F.one_hot(target, 4).float()), loss(logits, target))


def test_tau_zero_is_cross_entropy():
    logits, target, soft = batch()
    loss = LogitAdjustedLoss([600, 50, 0, 1], tau=0)
    torch.testing.assert_close(loss(logits, target), F.cross_entropy(logits, target))
    torch.testing.assert_close(loss(logits, soft), F.cross_entropy(logits, soft))


def test_equal_counts_are_cross_entropy():
    logits, target, _ = batch()
    torch.testing.assert_close(LogitAdjustedLoss([9] * 4)(logits, target), F.cross_entropy(logits, target))


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_absent_class_leaves_the_denominator(kind):
    logits, target, soft = batch()
    keep = torch.tensor([0, 1, 3])
    target = keep[target % 3]
    soft = soft.index_fill(1, torch.tensor([2]), 0.0)
    goal = target if kind == "hard" else soft
    loss = LogitAdjustedLoss([600, 50, 0, 1])(logits, goal)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.isfinite()
    assert gradient.isfinite().all()
    assert (gradient[:, 2] == 0).all()
    assert (gradient[:, keep] != 0).all()
    without = F.one_hot(target, 4).float() if kind == "hard" else soft
    want = closed_form(logits[:, keep], without[:, keep], [600, 50, 1], 1.0)
    assert loss.item() == pytest.approx(want, rel=1e-5)


def test_weight_on_an_absent_class_costs_infinity():
    logits, _, soft = batch()
    loss = LogitAdjustedLoss([600, 50, 0, 1])
    assert loss(logits, soft) == float("inf")
    assert loss(logits, torch.full((6,), 2)) == float("inf")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_lossless_from_there(dtype):
    logits, target, soft = batch()
    half = logits.detach().to(dtype)
    loss = LogitAdjustedLoss(COUNTS)
    assert loss(half, target).dtype == torch.float32
    for goal in (target, soft):
        torch.testing.assert_close(loss(half, goal), loss(half.float(), goal), rtol=0, atol=0)


def test_buffer_is_saved_and_not_trained():
    loss = LogitAdjustedLoss(torch.tensor(COUNTS))
    assert not list(loss.parameters())
    torch.testing.assert_close(loss.state_dict()["adjustment"], torch.tensor(COUNTS).div(658).log())


@pytest.mark.parametrize(
    ("counts", "tau"),
    [([], 1.0), ([0, 0], 1.0), ([3, -1], 1.0), ([[3, 1]], 1.0), ([3, float("nan")], 1.0), ([3, 1], -0.5)],
)
def test_bad_arguments(counts, tau):
    with pytest.raises(ValueError, match=r"class_counts must be.*tau >= 0"):
        LogitAdjustedLoss(counts, tau)
