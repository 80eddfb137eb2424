"""Statistics over seeds: the mean of a metric with its interval, and the difference of two methods with its interval.

Shapes: n samples, K classes, S seeds, R bootstrap replicates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95
MIN_REPLICATES = 100


@dataclass(frozen=True)
class Summary:
    """A metric over S seeds: mean, standard deviation (with S - 1) and 95 % interval of the mean by Student's t.

    One seed has the mean alone.
    """

    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None


def summarise(values: Sequence[float]) -> Summary:
    """The summary of one metric of S >= 1 seeds."""
    mean = float(np.mean(values))
    if len(values) == 1:
        return Summary(mean)
    sd = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1)) * sd / len(values) ** 0.5
    return Summary(mean, sd, mean - half, mean + half)


@dataclass(frozen=True)
class Difference:
    """How much larger a metric is with one method than with another (a share), with its 95 % interval.

    For one seed the interval covers the choice of the test samples alone, not that of the seed.
    """

    value: float
    low: float
    high: float
    seeds: int

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` where the interval excludes zero; one seed gives no verdict."""
        if self.seeds == 1:
            return "one seed: samples only"
        return "better" if self.low > 0 else "worse" if self.high < 0 else "interval includes zero"


def top1_weights(labels: np.ndarray) -> np.ndarray:
    """(n,) weights with which the sum over correct samples is the top-1 accuracy."""
    return np.full(len(labels), 1 / len(labels))


def class_weights(labels: np.ndarray, classes: Sequence[int] | None = None) -> np.ndarray:
    """(n,) weights with which the sum over correct samples is the mean accuracy of the ``classes`` that occur.

    Args:
        labels: (n,) classes.
        classes: of a group; by default all of them, which gives the mean class accuracy.
    """
    counts = np.bincount(labels)
    counted = counts > 0
    if classes is not None:
        counted &= np.isin(np.arange(len(counts)), classes)
    return counted[labels] / (max(1, counted.sum()) * counts[labels])


def compare(
    correct_a: np.ndarray,
    correct_b: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    replicates: int = 2000,
    seed: int = 0,
) -> Difference:
    """The difference A - B of a metric, with its 95 % interval by a bootstrap over seeds and samples.

    A replicate draws S seeds, and from each class as many samples as it has, with replacement, the same for A and B
    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993). For few seeds, percentiles of the replicates are far
    too narrow. So this is a t interval, with the variance of the replicates. Its degrees of freedom are those of
    Satterthwaite (1946), var^2 / (var_seeds^2 / (S-1)): S - 1 where only seeds vary, many where only samples vary. For
    one seed only samples are drawn, and the quantile is the normal one.

    Two seeds are too few: if they differ much, the interval of two equal methods excludes zero in one case of eight,
    instead of one of twenty. With three seeds or more it is rather too wide than too narrow.

    Args:
        correct_a, correct_b: (S, n) bool, which samples are right; rows are the same seeds, columns the same samples.
        labels, weights: (n,) classes, and weights of the metric: :func:`top1_weights`, :func:`class_weights`.
        replicates, seed: R, and the seed of the draws.

    Raises:
        ValueError: the shapes do not fit together, or R is less than 100.

    Cost: samples of a class that are equal in all seeds are drawn together; about 3 s and 5 MB for n = 50,000, K = 400,
    S = 5, R = 2000.
    """
    if correct_a.shape != correct_b.shape or correct_a.shape[1:] != labels.shape or labels.shape != weights.shape:
        shapes = f"{correct_a.shape} and {correct_b.shape} with labels {labels.shape} and weights {weights.shape}"
        raise ValueError(f"cannot compare {shapes}; wanted twice (seeds, samples) and twice (samples,)")
    if replicates < MIN_REPLICATES:
        raise ValueError(f"{replicates} bootstrap replicates are too few; give {MIN_REPLICATES} or more")
    rng = np.random.default_rng(seed)
    gain = (weights * (correct_a.astype(np.int8) - correct_b.astype(np.int8))).T  # (n, S)
    seeds = gain.shape[1]
    by_seed = gain.sum(0)
    value = float(by_seed.mean())

    drawn = np.zeros((replicates, seeds))  # the difference that each seed has on the drawn samples
    for label in np.unique(labels):
        kinds, counts = np.unique(gain[labels == label], axis=0, return_counts=True)
        drawn += rng.multinomial(counts.sum(), counts / counts.sum(), size=replicates) @ kinds
    of_seeds = by_seed.var(ddof=1) / seeds if seeds > 1 else 0.0
    share = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=replicates) / seeds  # (R, S)
    variance = (share * drawn).sum(1).var() + of_seeds / seeds  # a bootstrap of S values lacks 1/S of their variance
    freedom = (seeds - 1) * (variance / of_seeds) ** 2 if of_seeds > 0 else np.inf
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom) * variance**0.5)
    return Difference(value, value - half, value + half, seeds)
