"""Losses against their closed forms, for hard and soft targets, and classes without samples."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
import torch.nn.functional as F

from shapmix.losses import (
    FocalLoss,
    LDAMLoss,
    LogitAdjustedLoss,
    effective_number_weights,
    post_hoc_adjustment,
)

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
    wanted = torch.tensor(COUNTS).double().div(658).log()
    torch.testing.assert_close(loss.state_dict()["adjustment"], wanted, rtol=1e-15, atol=0)


@pytest.mark.parametrize(
    ("counts", "tau"),
    [([], 1.0), ([0, 0], 1.0), ([3, -1], 1.0), ([[3, 1]], 1.0), ([3, float("nan")], 1.0), ([3, 1], -0.5)],
)
def test_bad_arguments(counts, tau):
    with pytest.raises(ValueError, match=r"class_counts must be|tau must be >= 0"):
        LogitAdjustedLoss(counts, tau)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_closed_form(gamma):
    logits, target, soft = batch()
    loss, total, mixed = FocalLoss(COUNTS, gamma), 0.0, 0.0
    for row, label, weights in zip(logits.tolist(), target.tolist(), soft.tolist(), strict=True):
        probabilities = [exp(logit) / sum(map(exp, row)) for logit in row]
        costs = [-((1 - p) ** gamma) * log(p) for p in probabilities]
        total += costs[label]
        mixed += sum(weight * cost for weight, cost in zip(weights, costs, strict=True))
    assert loss(logits, target).item() == pytest.approx(total / len(logits), rel=1e-5)
    assert loss(logits, soft).item() == pytest.approx(mixed / len(logits), rel=1e-5)


def test_focal_without_focus_is_cross_entropy():
    logits, target, soft = batch()
    for goal in (target, soft):
        torch.testing.assert_close(FocalLoss(COUNTS, 0)(logits, goal), F.cross_entropy(logits, goal))


def test_focal_gradient_is_finite_where_the_network_is_sure():
    logits = torch.tensor([[90.0, 0, 0, 0], [0, 90.0, 0, 0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(FocalLoss(COUNTS, 0.5)(logits, torch.tensor([0, 0])), logits)
    assert gradient.isfinite().all()
    assert gradient[1, 0] == pytest.approx(-0.5)  # where it is surely wrong, cross-entropy's
    assert gradient[0].abs().max() < 1e-3


@pytest.mark.parametrize("sure", [0.0, 40.0])
def test_ldam_closed_form(sure):
    logits, target, soft = batch()
    logits = logits + sure * F.one_hot(target, 4)
    loss = LDAMLoss(COUNTS, max_margin=0.4, scale=10)
    margins = [10 * 0.4 * (1 / count) ** 0.25 for count in COUNTS]  # the rarest has 1 sample
    torch.testing.assert_close(loss.margins, torch.tensor(margins, dtype=torch.float64))
    costs = torch.empty(6, 4, dtype=torch.float64)
    for row in range(6):
        for label in range(4):
            moved = [
                logit - (margins[label] if other == label else 0) for other, logit in enumerate(logits[row].tolist())
            ]
            costs[row, label] = log(sum(exp(logit - moved[label]) for logit in moved))
    hard = costs.gather(1, target[:, None]).mean().item()
    assert loss(logits, target).item() == pytest.approx(hard, rel=1e-4, abs=1e-12)
    assert loss(logits, soft).item() == pytest.approx((soft * costs).sum(1).mean().item(), rel=1e-4)


def test_ldam_margins():
    margins = LDAMLoss([160_000, 16, 0, 10_000], max_margin=0.5, scale=2).margins
    wanted = torch.tensor([0.1, 1.0, 0.2], dtype=torch.float64)  # n^(-1/4), the rarest has scale / 2
    torch.testing.assert_close(margins[[0, 1, 3]], wanted)
    logits, target, soft = batch()
    for goal in (target, soft):
        torch.testing.assert_close(LDAMLoss(COUNTS, max_margin=0)(logits, goal), F.cross_entropy(logits, goal))


def test_effective_number():
    weights = effective_number_weights([1000, 10, 1, 0], beta=0.9)
    numbers = torch.tensor([sum(0.9**i for i in range(count)) for count in (1000, 10, 1, 1)], dtype=torch.float64)
    torch.testing.assert_close(weights / weights[2], 1 / numbers)
    assert (weights * torch.tensor([1000, 10, 1, 0])).sum().item() == pytest.approx(1011)  # 1 in the mean
    torch.testing.assert_close(effective_number_weights([9, 4], beta=0), torch.ones(2, dtype=torch.float64))
    nearly = effective_number_weights([100, 10], beta=1 - 1e-9)
    assert (nearly[1] / nearly[0]).item() == pytest.approx(10, rel=1e-4)
    for beta in (1, -0.1):
        with pytest.raises(ValueError, match="beta must lie in"):
            effective_number_weights([3, 1], beta)


@pytest.mark.parametrize("kind", [LogitAdjustedLoss, FocalLoss, LDAMLoss])
def test_class_weights(kind):
    logits, target, soft = batch()
    loss, weights = kind(COUNTS), torch.tensor([0.5, 1.0, 2.0, 4.0])
    plain = loss.costs(logits).detach()
    loss.reweight(weights)
    by_hand = (weights[target] * plain.gather(1, target[:, None])[:, 0]).mean()
    torch.testing.assert_close(loss(logits, target).detach(), by_hand)
    torch.testing.assert_close(loss(logits, soft).detach(), (soft * weights * plain).sum(1).mean())
    halves = [loss(logits[half], target[half]) for half in (slice(0, 3), slice(3, 6))]  # two processes
    torch.testing.assert_close(loss(logits, target), sum(halves) / 2)
    loss.reweight(None)
    torch.testing.assert_close(loss(logits, target), plain.gather(1, target[:, None]).mean(), check_dtype=False)


def test_weighted_cross_entropy_is_that_of_torch():
    logits, target, _ = batch()
    loss, weights = LogitAdjustedLoss(COUNTS, 0.0), torch.tensor([0.5, 1.0, 2.0, 4.0])
    loss.reweight(weights)
    wanted = F.cross_entropy(logits, target, weights, reduction="sum") / len(target)
    torch.testing.assert_close(loss(logits, target), wanted)


def test_weight_of_an_absent_class_spoils_nothing():
    logits, target, soft = batch()
    loss = LogitAdjustedLoss([600, 50, 0, 1])
    loss.reweight(effective_number_weights([600, 50, 0, 1]))
    keep = torch.tensor([0, 1, 3])
    soft = soft.index_fill(1, torch.tensor([2]), 0.0)
    for goal in (keep[target % 3], soft):
        value = loss(logits, goal)
        (gradient,) = torch.autograd.grad(value, logits)
        assert value.isfinite()
        assert gradient.isfinite().all()


def test_post_hoc_adjustment():
    logits, _, _ = batch()
    probabilities, prior = logits.softmax(1), torch.tensor(COUNTS).div(658)
    for tau in (0.5, 1.0):
        adjusted = (logits - post_hoc_adjustment(COUNTS, tau).float()).softmax(1)
        wanted = probabilities / prior**tau
        torch.testing.assert_close(adjusted, wanted / wanted.sum(1, keepdim=True))
    absent = post_hoc_adjustment([6, 3, 0, 1])
    assert absent.isfinite().all()
    assert absent[2] == absent[3]


@pytest.mark.parametrize("make", [lambda: FocalLoss(COUNTS, -1), lambda: LDAMLoss(COUNTS, -0.1)])
def test_bad_strength(make):
    with pytest.raises(ValueError, match=r"must be >= 0"):
        make()


@pytest.mark.parametrize("kind", [LogitAdjustedLoss, LDAMLoss])
def test_float64_logits_have_float64_losses(kind):
    """All digits, also those of priors, margins and weights; and float32 logits have losses in float32."""
    logits, target, soft = batch()
    weights, exact = effective_number_weights(COUNTS), kind(COUNTS)
    rounded = kind(COUNTS).to(torch.float32)
    for loss in (exact, rounded):
        loss.reweight(weights)
    costs = exact.costs(logits.double()) * weights
    wanted = costs.gather(1, target[:, None]).mean()
    torch.testing.assert_close(exact(logits.double(), target), wanted, rtol=1e-14, atol=0)
    for goal in (target, soft):
        assert exact(logits, goal).dtype == torch.float32
        assert torch.equal(exact(logits, goal), rounded(logits, goal)), "rounded once, when or where"


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_classes_of_any_integer_dtype(dtype):
    logits, target, _ = batch()
    loss = LogitAdjustedLoss(COUNTS)
    assert torch.equal(loss(logits, target.to(dtype)), loss(logits, target))


def test_class_outside():
    logits, target, _ = batch()
    target[4] = -1
    with pytest.raises(ValueError, match=r"y\[4\] is -1, outside the classes 0\.\.3; 1 of 6"):
        FocalLoss(COUNTS)(logits, target)


def test_label_smoothing_is_torchs():
    """With all classes present and no prior, for classes and for soft targets."""
    logits = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 2, 3, 0, 1])
    ours = LogitAdjustedLoss([5, 4, 3, 2], tau=0, label_smoothing=0.1)
    wanted = torch.nn.functional.cross_entropy(logits, y, label_smoothing=0.1)
    torch.testing.assert_close(ours(logits, y), wanted)
    torch.testing.assert_close(ours(logits, torch.nn.functional.one_hot(y, 4).double()), wanted)


def test_label_smoothing_leaves_absent_classes_out():
    loss = LogitAdjustedLoss([5, 0, 3], label_smoothing=0.2)
    logits = torch.zeros(1, 3, dtype=torch.float64)
    log_five, log_three = (torch.tensor(n / 8, dtype=torch.float64).log() for n in (5, 3))
    torch.testing.assert_close(loss(logits, torch.tensor([0])), -(0.9 * log_five + 0.1 * log_three))
    with pytest.raises(ValueError, match="label_smoothing"):
        LogitAdjustedLoss([5, 3], label_smoothing=1.5)
