"""Statistics over seeds: the mean of a metric with its interval, and the difference of two methods with its interval.

Shapes: n samples, K classes, S seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

LEVEL = 0.95


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

    Attributes:
        variance, freedom: of the difference, and its degrees of freedom.
        seeds: repeats, see :class:`Repeats`.
        p_holm: the p value after Holm's correction for the comparisons that it is shown with (:func:`holm`); None:
            it stands alone.
    """

    value: float
    variance: float
    freedom: float
    seeds: int
    p_holm: float | None = None

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval, by Student's t, for this comparison alone."""
        return self.value - self._half

    @property
    def high(self) -> float:
        """Upper end."""
        return self.value + self._half

    @property
    def _half(self) -> float:
        return float(stats.t.ppf((1 + LEVEL) / 2, self.freedom)) * self.variance**0.5

    @property
    def p(self) -> float:
        """The two-sided p value of no difference."""
        if self.variance == 0:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.value) / self.variance**0.5, self.freedom))

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` where the difference is significant, after Holm's correction where there is one.

        Where only the interval for this comparison alone excludes zero, the verdict says so. One seed gives none.
        """
        if self.seeds == 1:
            return "one seed: samples only"
        if self.p >= 1 - LEVEL:
            return "interval includes zero"
        direction = "better" if self.value > 0 else "worse"
        corrected = self.p if self.p_holm is None else self.p_holm
        return direction if corrected < 1 - LEVEL else f"{direction} alone, not after Holm's correction"


@dataclass(frozen=True, eq=False)
class Repeats:
    """How much larger a metric is with one method than with another, in each of S repeats on the same samples.

    Attributes:
        values: (S,) differences; a repeat is a seed, or a pair of runs.
        of_samples: what the choice of the test samples adds to the variance of their mean.
    """

    values: np.ndarray
    of_samples: float

    def mean(self) -> Difference:
        """The mean with its variance, that of repeats and that of samples.

        Degrees of freedom are (S - 1) * variance / variance of repeats: S - 1 where only repeats vary, many where only
        samples vary. (Those of Satterthwaite, with the square of that ratio, are too many for two and three repeats,
        because the ratio itself is estimated.) For one repeat only samples are counted.
        """
        count = len(self.values)
        of_repeats = float(self.values.var(ddof=1)) / count if count > 1 else 0.0
        variance = of_repeats + self.of_samples
        freedom = (count - 1) * variance / of_repeats if of_repeats > 0 else float("inf")
        return Difference(float(self.values.mean()), variance, freedom, count)


def pooled(sets: Sequence[Repeats]) -> Difference:
    """The mean of differences on several data sets, each with the same weight, with its interval.

    Place s of every set is the same repeat. Runs of one seed on several sets can have initial weights in common, so
    the variance of repeats is that of their means over the sets; samples of different sets are independent. The sets
    are taken as given: the interval is about these sets, not about others.
    """
    share = 1 / len(sets)
    means = share * np.sum([one.values for one in sets], axis=0)
    return Repeats(means, share**2 * sum(one.of_samples for one in sets)).mean()


def holm(differences: Sequence[Difference]) -> list[Difference]:
    """The same differences with ``p_holm``: corrected for being shown together (Holm, Scand. J. Statist. 1979).

    The share of families of equal methods in which any is called better or worse then stays at 5 %. Differences of one
    seed give no verdict and are not counted.
    """
    counted = sorted((place for place, one in enumerate(differences) if one.seeds > 1), key=lambda i: differences[i].p)
    corrected: dict[int, float] = {}
    largest = 0.0
    for rank, place in enumerate(counted):
        largest = max(largest, min(1.0, (len(counted) - rank) * differences[place].p))
        corrected[place] = largest
    return [replace(one, p_holm=corrected.get(place)) for place, one in enumerate(differences)]


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


def compare(correct_a: np.ndarray, correct_b: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> Repeats:
    """The difference A - B of a metric over seeds and samples.

    Seeds and test samples are crossed: every seed is tested on every sample. The variance of the mean difference is
    that of the seeds, plus that of the samples of each class, minus what both contain, their interaction (the two-way
    analysis of variance with random effects; Searle, Casella and McCulloch, Variance Components, 1992). The samples of
    a class count as independent of each other: intervals are about more sequences of the same people, not about others.

    Two equal methods get an interval that excludes zero in 4 to 7 of 100 cases for three seeds or more, and in up to 8
    for two (simulated in tests/processor/study/test_statistics.py).

    Args:
        correct_a, correct_b: (S, n) bool, which samples are right; rows are the same seeds, columns the same samples.
        labels, weights: (n,) classes, and weights of the metric: :func:`top1_weights`, :func:`class_weights`. They are
            equal within a class. The samples of a class with a single one add nothing to the variance.

    Raises:
        ValueError: the shapes do not fit together.
    """
    if correct_a.shape != correct_b.shape or correct_a.shape[1:] != labels.shape or labels.shape != weights.shape:
        shapes = f"{correct_a.shape} and {correct_b.shape} with labels {labels.shape} and weights {weights.shape}"
        raise ValueError(f"cannot compare {shapes}; wanted twice (seeds, samples) and twice (samples,)")
    gain = weights * (correct_a.astype(np.int8) - correct_b.astype(np.int8))  # (S, n)
    seeds = len(gain)
    of_samples = 0.0
    for label in np.unique(labels):
        own = gain[:, labels == label]
        size = own.shape[1]
        if size < 2:
            continue
        by_sample = own.mean(0)
        of_samples += size * float(by_sample.var(ddof=1))
        if seeds > 1:  # the variance of a sample's mean over seeds holds 1/S of the interaction, as that of seeds does
            rest = own - by_sample - own.mean(1, keepdims=True) + own.mean()
            of_samples -= size * float((rest**2).sum()) / ((size - 1) * (seeds - 1) * seeds)
    return Repeats(gain.sum(1), max(0.0, of_samples))
