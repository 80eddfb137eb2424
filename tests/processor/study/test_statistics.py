"""Statistics over seeds: against closed forms, and against what happens when two equal methods are compared."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from processor.metrics import classification_metrics
from processor.study.statistics import Difference, Summary, class_weights, compare, summarise, top1_weights


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


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("weighting", [top1_weights, class_weights])
def test_interval_against_the_closed_form_of_the_bootstrap(seeds, weighting):
    a, b, _ = made_up(seeds, spread=0.3)
    labels = np.repeat(np.arange(4), [120, 70, 40, 10])
    weights = weighting(labels)
    found = compare(a, b, labels, weights, replicates=40_000)
    gain = weights * (a.astype(int) - b)
    of_seeds = gain.sum(1).var(ddof=1) / seeds
    spread = sum(members.sum() * np.cov(gain[:, members], bias=True) for members in (labels == k for k in range(4)))
    variance = of_seeds + (np.trace(spread) + (1 - 1 / seeds) * spread.sum()) / seeds**2
    freedom = variance**2 / (of_seeds**2 / (seeds - 1))
    half = stats.t.ppf(0.975, freedom) * variance**0.5
    assert found.value == pytest.approx((a @ weights - b @ weights).mean())
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.03)
    assert (found.high + found.low) / 2 == pytest.approx(found.value)
    assert found.seeds == seeds


def test_one_seed_has_the_samples_alone():
    a, b, labels = made_up(1)
    found = compare(a, b, labels, top1_weights(labels), replicates=20_000)
    gain = a[0].astype(int) - b[0]
    within = sum(60 * gain[labels == k].var() for k in range(4))
    assert found.seeds == 1
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * within**0.5 / 240, rel=0.03)


def percentile_says_different(a: np.ndarray, b: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> bool:
    """The plain bootstrap over seeds and samples, by indices."""
    gain = a.astype(int) - b
    drawn = rng.integers(0, len(a), size=(400, len(a)))
    samples = np.concatenate(
        [rng.choice(np.flatnonzero(labels == k), size=(400, (labels == k).sum())) for k in np.unique(labels)], axis=1
    )
    values = gain[drawn[:, :, None], samples[:, None, :]].mean((1, 2))
    low, high = np.percentile(values, [2.5, 97.5])
    return bool(low > 0 or high < 0)


def test_the_interval_of_equal_methods_rarely_excludes_zero():
    """Three seeds that differ much: the plain percentiles would find a difference in far too many cases."""
    rng = np.random.default_rng(0)
    found, plain = 0, 0
    for case in range(400):
        a, b, labels = made_up(3, n=120, spread=2.0, seed=case)
        verdict = compare(a, b, labels, top1_weights(labels), replicates=400, seed=case).verdict
        found += verdict != "interval includes zero"
        plain += percentile_says_different(a, b, labels, rng)
    assert found / 400 <= 0.08
    assert plain / 400 > 0.15
    assert found > 0, "nor is the interval so wide that it says nothing"


def test_two_seeds_are_too_few():
    """As the docstring of ``compare`` says: about one case of eight, where the seeds differ much."""
    found = 0
    for case in range(400):
        a, b, labels = made_up(2, n=120, spread=2.0, seed=case)
        found += compare(a, b, labels, top1_weights(labels), replicates=400).verdict != "interval includes zero"
    assert 0.08 < found / 400 < 0.2


@pytest.mark.parametrize("seeds", [3, 5])
def test_a_large_difference_is_found(seeds):
    for case in range(20):
        a, b, labels = made_up(seeds, spread=0.1, gain=2.0, seed=case)
        weights = class_weights(labels)
        assert compare(a, b, labels, weights).verdict == "better"
        assert compare(b, a, labels, weights).verdict == "worse"


def test_the_same_twice_has_no_difference():
    a, _, labels = made_up(3)
    assert compare(a, a, labels, top1_weights(labels)) == Difference(0, 0, 0, 3)


def test_one_seed_gives_no_verdict():
    a, b, labels = made_up(1, spread=0.1, gain=2.0)
    found = compare(a, b, labels, top1_weights(labels))
    assert found.low > 0
    assert found.verdict == "one seed: samples only"


def test_draws_repeat():
    a, b, labels = made_up(3)
    weights = top1_weights(labels)
    assert compare(a, b, labels, weights) == compare(a, b, labels, weights)
    assert compare(a, b, labels, weights, seed=1) != compare(a, b, labels, weights)


def test_what_cannot_be_compared():
    a, b, labels = made_up(3)
    weights = top1_weights(labels)
    with pytest.raises(ValueError, match=r"cannot compare \(2, 240\) and \(3, 240\)"):
        compare(a[:2], b, labels, weights)
    with pytest.raises(ValueError, match="wanted twice"):
        compare(a, b, labels[1:], weights[1:])
    with pytest.raises(ValueError, match="99 bootstrap replicates are too few"):
        compare(a, b, labels, weights, replicates=99)
