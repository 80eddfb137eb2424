"""Sequences -> labels, whole or window by window; many of them in one batch.

Shapes: w windows of a sequence, K classes, P body parts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from feeders.store import DataError, Sample

from .given import Given, Problem
from .recognizer import Prediction, Recognizer
from .rows import Row
from .windows import Cut, segments, smoothed

log = logging.getLogger(__name__)
LEAST_SEEN = 0.5  # share of a window's frames in which somebody must be
AT_ONCE = 256  # windows whose probabilities are computed together
Labelled = tuple[Given, list[tuple[int, int]], list[Sample]]  # with the spans of its windows, and the windows


def predict(
    recognizer: Recognizer, given: Iterable[Given | Problem], cut: Cut | None = None, explain: bool = False
) -> Iterator[Row | Problem]:
    """A row for each sequence, in order; with ``cut`` one for each segment. What cannot be used is a Problem.

    Cost: a view forward for each sequence or window; with ``explain`` ``2**P`` more.
    """
    for group in _groups(recognizer, given, cut):
        windows = [sample for one in group if not isinstance(one, Problem) for sample in one[2]]
        try:
            found = recognizer.probabilities([replace(one, id=f"{one.id}#{n}") for n, one in enumerate(windows)])
        except DataError:  # of one of them: each by itself
            yield from _one_by_one(recognizer, group, cut, explain)
            continue
        place = 0
        for one in group:
            if isinstance(one, Problem):
                yield one
                continue
            yield from _rows(recognizer, one, found[place : place + len(one[2])], cut, explain)
            place += len(one[2])


def _one_by_one(
    recognizer: Recognizer, group: list[Labelled | Problem], cut: Cut | None, explain: bool
) -> Iterator[Row | Problem]:
    for one in group:
        if isinstance(one, Problem):
            yield one
            continue
        try:
            windows = [replace(sample, id=f"{one[0].name}, window {n}") for n, sample in enumerate(one[2])]
            yield from _rows(recognizer, one, recognizer.probabilities(windows), cut, explain)
        except DataError as error:
            yield Problem(one[0].name, str(error))


def _groups(
    recognizer: Recognizer, given: Iterable[Given | Problem], cut: Cut | None
) -> Iterator[list[Labelled | Problem]]:
    """Sequences with their windows, about AT_ONCE windows at once."""
    group: list[Labelled | Problem] = []
    number = 0
    for one in given:
        group.append(one if isinstance(one, Problem) else _cut(recognizer, one, cut))
        last = group[-1]
        number += 0 if isinstance(last, Problem) else len(last[2])
        if number >= AT_ONCE:
            yield group
            group, number = [], 0
    if group:
        yield group


def _cut(recognizer: Recognizer, given: Given, cut: Cut | None) -> Labelled | Problem:
    """The windows in which somebody is seen."""
    length = given.length
    if cut is not None and length < cut.window:
        log.warning("%s has %d frames, fewer than a window of %d; it is one window", given.name, length, cut.window)
    spans = [(0, length)] if cut is None else cut.spans(length)
    seen, kept, samples, reasons = given.seen(), [], [], {}
    for first, end in spans:
        try:
            if cut is not None and seen[first:end].mean() < LEAST_SEEN:
                raise DataError("somebody is in less than half of the frames")
            samples.append(given.cut(first, end).sample(recognizer, given.name))
            kept.append((first, end))
        except DataError as error:
            reasons[first, end] = str(error).removeprefix(f"{given.name}: ")
    if not samples:
        return Problem(given.name, next(iter(reasons.values())))
    if reasons:
        (first, end), reason = next(iter(reasons.items()))
        log.warning(
            "%s: %d of %d windows are left out, such as that of frames %d to %d: %s", given.name, len(reasons),
            len(spans), first, end - 1, reason,
        )  # fmt: skip
    return given, kept, samples


def _rows(
    recognizer: Recognizer, labelled: Labelled, probabilities: np.ndarray, cut: Cut | None, explain: bool
) -> Iterator[Row]:
    given, spans, samples = labelled
    over = 1 if cut is None else cut.smooth
    names = list(recognizer.layout.parts)
    runs = np.cumsum([0, *(now[0] > before[1] for before, now in pairwise(spans))])  # between them lies a hole
    rows = np.concatenate([smoothed(probabilities[runs == run], over) for run in np.unique(runs)])
    for segment in segments(spans, rows, given.length):
        parts = None
        if explain:
            own = [replace(samples[row], id=str(row)) for row in segment.windows]
            parts = recognizer.shapley(own, [segment.label] * len(own)).mean(axis=0)
        prediction = Prediction(segment.probabilities, recognizer.class_names, parts, names)
        yield Row(given.id, given.person, segment.first, segment.last, prediction)
