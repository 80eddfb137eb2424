"""Statistics over seeds: against closed forms, and against what happens when two equal methods are compared."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from processor.metrics import classification_metrics
from processor.study.statistics import (
    Difference,
    Repeats,
    Summary,
    class_weights,
    compare,
    holm,
    pooled,
    summarise,
    top1_weights,
)


def made_up(
    seeds: int, n: int = 240, num_class: int = 4, spread: float = 0.5, gain: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two methods' right answers (seeds, n) and labels (n,): samples differ in difficulty, seeds in skill by
    ``spread``, and the first method is better by ``gain``, all in logits."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % num_class
    ease = rng.normal(0.5, 2, size=n)
    right = []
    for more in (gain, 0.0):
        logits = ease + more + rng.normal(0, spread, size=(seeds, 1))
        right.append(rng.random((seeds, n)) < 1 / (1 + np.exp(-logits)))
    return right[0], right[1], labels


def test_summary_of_seeds():
    found = summarise([0.5, 0.6, 0.7])
    half = 4.302652729911275 * 0.1 / 3**0.5  # the 97.5 % quantile of Student's t with 2 degrees of freedom
    assert [found.mean, found.sd, found.low, found.high] == pytest.approx([0.6, 0.1, 0.6 - half, 0.6 + half])
    assert summarise([0.5]) == Summary(0.5, None, None, None)
    assert summarise([0.5, 0.5]) == Summary(0.5, 0.0, 0.5, 0.5)


def test_summary_interval_holds_the_mean_in_95_of_100_cases():
    values = np.random.default_rng(0).normal(size=(2000, 3))
    found = [summarise(row) for row in values]
    inside = np.mean([one.low < 0 < one.high for one in found])
    assert inside == pytest.approx(0.95, abs=0.015)


def test_weights_give_the_metrics():
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 3, 4], size=50, p=[0.5, 0.3, 0.1, 0.1])  # class 2 does not occur
    scores = rng.normal(size=(50, 5))
    groups = {"many": [0], "medium": [1, 2], "few": [2], "rest": [3, 4]}
    metrics = classification_metrics(scores, labels, groups)
    correct = scores.argmax(1) == labels
    assert correct @ top1_weights(labels) == pytest.approx(metrics["top1"])
    assert correct @ class_weights(labels) == pytest.approx(metrics["mean_class_accuracy"])
    for group in ("many", "medium", "rest"):
        assert correct @ class_weights(labels, groups[group]) == pytest.approx(metrics[group]), group
    assert not class_weights(labels, groups["few"]).any()


def test_variance_of_a_crossed_table():
    """Two seeds, one class of three samples, by hand."""
    a, b = np.array([[1, 1, 0], [1, 0, 0]], dtype=bool), np.array([[0, 1, 0], [0, 0, 1]], dtype=bool)
    found = compare(a, b, np.zeros(3, dtype=int), np.ones(3)).mean()
    gain = np.array([[1, 0, 0], [1, 0, -1]])  # by seed 1 and 0, by sample 1, 0, -1/2; mean 1/6
    by_seed, by_sample = gain.sum(1), gain.mean(0)
    rest = gain - by_sample - gain.mean(1, keepdims=True) + gain.mean()
    of_seeds, of_samples = by_seed.var(ddof=1) / 2, 3 * by_sample.var(ddof=1) - 3 * (rest**2).sum() / 2 / 2
    assert found.value == pytest.approx(0.5)
    assert (of_seeds, of_samples) == pytest.approx((0.25, 1.5))
    assert found.variance == pytest.approx(1.75)
    assert found.freedom == pytest.approx(1.75 / 0.25)
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, found.freedom) * 1.75**0.5)


def test_one_seed_has_the_samples_alone():
    a, b, labels = made_up(1)
    found = compare(a, b, labels, top1_weights(labels)).mean()
    gain = a[0].astype(int) - b[0]
    within = sum(60 * gain[labels == k].var(ddof=1) for k in range(4))
    assert found.seeds == 1
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * within**0.5 / 240)


def test_classes_of_one_sample_have_no_variance():
    a, b, _ = made_up(3, n=4)
    found = compare(a, b, np.arange(4), np.ones(4)).mean()
    assert found.variance == pytest.approx((a.astype(int) - b).sum(1).var(ddof=1) / 3)


@pytest.mark.parametrize("spread", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("seeds", [3, 5, 10, 20])
def test_the_interval_of_equal_methods_excludes_zero_in_3_to_7_of_100_cases(seeds, spread):
    found, cases = 0, 1000
    for case in range(cases):
        a, b, labels = made_up(seeds, n=120, spread=spread, seed=case)
        found += compare(a, b, labels, top1_weights(labels)).mean().p < 0.05
    assert 0.03 <= found / cases <= 0.07


def test_two_seeds_are_few():
    """As the docstring of ``compare`` says."""
    found = 0
    for case in range(400):
        a, b, labels = made_up(2, n=120, spread=2.0, seed=case)
        found += compare(a, b, labels, top1_weights(labels)).mean().p < 0.05
    assert found / 400 <= 0.09


def test_holm():
    """p 0.01, 0.04, 0.03: corrected 3 * 0.01, then 2 * 0.03 for both others. One seed is not counted."""
    alone = [Difference(float(stats.norm.isf(p / 2)), 1.0, np.inf, 5) for p in (0.01, 0.04, 0.03)]
    found = holm([*alone, Difference(9, 1, np.inf, 1)])
    assert [one.p for one in found[:3]] == pytest.approx([0.01, 0.04, 0.03])
    assert [one.p_holm for one in found] == [pytest.approx(0.03), pytest.approx(0.06), pytest.approx(0.06), None]
    assert [one.verdict for one in found] == [
        "better", "better alone, not after Holm's correction", "better alone, not after Holm's correction",
        "one seed: samples only",
    ]  # fmt: skip
    assert [one.verdict for one in alone] == ["better"] * 3


def test_pooled_over_sets():
    """By hand: means over the sets 0.02, 0.04, 0.06; their mean has the variance 4e-4 / 3, and samples add 9e-4 / 4."""
    found = pooled([Repeats(np.array([0.0, 0.02, 0.1]), 5e-4), Repeats(np.array([0.04, 0.06, 0.02]), 4e-4)])
    assert (found.value, found.seeds) == (pytest.approx(0.04), 3)
    assert found.variance == pytest.approx(4e-4 / 3 + 9e-4 / 4)
    assert found.freedom == pytest.approx(2 * found.variance / (4e-4 / 3))
    assert pooled([Repeats(np.array([0.5, 0.5, 0.5]), 0.0)]).freedom == np.inf


@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_the_interval_over_sets_holds_also_where_seeds_have_much_in_common(shared):
    """Three sets; the skill of a seed is the same on all of them, or another on each."""
    found, cases = 0, 1000
    for case in range(cases):
        rng = np.random.default_rng(case)
        common = rng.normal(0, 1, (2, 10, 1))
        sets = []
        for _ in range(3):
            skill = shared**0.5 * common + (1 - shared) ** 0.5 * rng.normal(0, 1, (2, 10, 1))
            labels = np.arange(60) % 3
            right = rng.random((2, 10, 60)) < 1 / (1 + np.exp(-rng.normal(0.5, 2, 60) - skill))
            sets.append(compare(right[0], right[1], labels, top1_weights(labels)))
        found += pooled(sets).p < 0.05
    assert 0.03 <= found / cases <= 0.07


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_large_difference_is_found(seeds):
    for case in range(20):
        a, b, labels = made_up(seeds, spread=0.1, gain=2.0, seed=case)
        weights = class_weights(labels)
        assert compare(a, b, labels, weights).mean().verdict == "better"
        assert compare(b, a, labels, weights).mean().verdict == "worse"


def test_the_same_twice_has_no_difference():
    a, _, labels = made_up(3)
    found = compare(a, a, labels, top1_weights(labels)).mean()
    assert (found.value, found.low, found.high, found.verdict) == (0, 0, 0, "interval includes zero")


def test_one_seed_gives_no_verdict():
    a, b, labels = made_up(1, spread=0.1, gain=2.0)
    found = compare(a, b, labels, top1_weights(labels)).mean()
    assert found.low > 0
    assert found.verdict == "one seed: samples only"


def test_what_cannot_be_compared():
    a, b, labels = made_up(3)
    weights = top1_weights(labels)
    with pytest.raises(ValueError, match=r"cannot compare \(2, 240\) and \(3, 240\)"):
        compare(a[:2], b, labels, weights)
    with pytest.raises(ValueError, match="wanted twice"):
        compare(a, b, labels[1:], weights[1:])
