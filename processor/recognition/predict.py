"""Sequences -> labels, whole or window by window; many of them in one batch.

At most AT_ONCE windows are in memory, however long a sequence is: they are made when they are needed.

Shapes: w windows of a sequence, K classes, P body parts.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise

import numpy as np
from tqdm import tqdm

from feeders.store import DataError, Sample

from .given import Given, Problem
from .recognizer import Prediction, Recognizer
from .rows import Row
from .windows import Cut, Segment, enough, segments, smoothed

log = logging.getLogger(__name__)
AT_ONCE = 256  # windows that are made and labelled together
Span = tuple[int, int]  # first frame and end of a window


@dataclass(eq=False)
class _Sequence:
    """A sequence whose windows are labelled.

    Attributes:
        spans: of all its windows.
        found: (K,) probabilities of those that could be used so far, in order.
        reasons: why the others could not.
    """

    given: Given
    spans: list[Span]
    found: dict[Span, np.ndarray] = field(default_factory=dict)
    reasons: dict[Span, str] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        return len(self.found) + len(self.reasons) == len(self.spans)

    def leave_out(self, span: Span, error: DataError) -> None:
        """A window cannot be used."""
        self.reasons[span] = str(error).removeprefix(f"{self.given.name}: ")


Window = tuple[_Sequence, Span, Sample]


def predict(
    recognizer: Recognizer, given: Iterable[Given | Problem], cut: Cut | None = None, explain: bool = False
) -> Iterator[Row | Problem]:
    """A row for each sequence, in order; with ``cut`` one for each segment. What cannot be used is a Problem.

    Cost: a view forward for each sequence or window; with ``explain`` ``2**P`` more.
    """
    started: deque[_Sequence | Problem] = deque()
    windows, more = _windows(recognizer, given, cut, started), True
    while more:
        more = bool(few := list(islice(windows, AT_ONCE)))
        _label(recognizer, few)
        while started and (isinstance(one := started[0], Problem) or one.done):
            started.popleft()
            yield from [one] if isinstance(one, Problem) else _rows(recognizer, one, cut, explain)


def _windows(
    recognizer: Recognizer, given: Iterable[Given | Problem], cut: Cut | None, started: deque[_Sequence | Problem]
) -> Iterator[Window]:
    """All windows that can be made, one after the other; what they are of is added to ``started``."""
    for one in given:
        if isinstance(one, Problem):
            started.append(one)
            continue
        length = one.length
        if cut is not None and length < cut.window:
            log.warning("%s has %d frames, fewer than a window of %d; it is one window", one.name, length, cut.window)
        sequence, seen = _Sequence(one, [(0, length)] if cut is None else cut.spans(length)), one.seen()
        started.append(sequence)
        for first, end in sequence.spans:
            try:
                if cut is not None and not enough(number := int(seen[first:end].sum()), end - first):
                    raise DataError(f"somebody is in {number} of {end - first} frames; wanted half of them, at least 2")
                yield sequence, (first, end), one.cut(first, end).sample(recognizer, one.name)
            except DataError as error:
                sequence.leave_out((first, end), error)


def _label(recognizer: Recognizer, windows: Sequence[Window]) -> None:
    """Adds the probabilities of windows to their sequences; one that cannot be used spoils no other."""
    try:
        found = recognizer.probabilities([sample for _, _, sample in windows])
        for (sequence, span, _), row in zip(windows, found, strict=True):
            sequence.found[span] = row
    except DataError as error:
        if len(windows) == 1:
            sequence, span, _ = windows[0]
            sequence.leave_out(span, error)
            return
        middle = len(windows) // 2
        _label(recognizer, windows[:middle])
        _label(recognizer, windows[middle:])


def _rows(recognizer: Recognizer, sequence: _Sequence, cut: Cut | None, explain: bool) -> Iterator[Row | Problem]:
    """Of a sequence that is done."""
    given, spans, reasons = sequence.given, list(sequence.found), sequence.reasons
    if not spans:
        yield Problem(given.name, next(iter(reasons.values())))
        return
    if reasons:
        (first, end), reason = next(iter(reasons.items()))
        log.warning(
            "%s: %d of %d windows are left out, such as that of frames %d to %d: %s", given.name, len(reasons),
            len(sequence.spans), first, end - 1, reason,
        )  # fmt: skip
    probabilities, names = np.stack(list(sequence.found.values())), list(recognizer.layout.parts)
    runs = np.cumsum([0, *(now[0] > before[1] for before, now in pairwise(spans))])  # between them lies a hole
    over = 1 if cut is None else cut.smooth
    rows = np.concatenate([smoothed(probabilities[runs == run], over) for run in np.unique(runs)])
    for segment in segments(spans, rows, given.length):
        parts = _shapley(recognizer, given, [spans[row] for row in segment.windows], segment) if explain else None
        prediction = Prediction(segment.probabilities, recognizer.class_names, parts, names)
        yield Row(given.id, given.person, segment.first, segment.last, prediction)


def _shapley(recognizer: Recognizer, given: Given, spans: Sequence[Span], segment: Segment) -> np.ndarray:
    """(P,) the mean over a segment's windows, which are made again."""
    total = np.zeros(recognizer.layout.num_parts)
    with tqdm(total=len(spans), desc=f"explain {given.name}", unit="window", leave=False, disable=None) as bar:
        for place in range(0, len(spans), AT_ONCE):
            few = spans[place : place + AT_ONCE]
            samples = [given.cut(*span).sample(recognizer, given.name) for span in few]
            total += recognizer.shapley(samples, [segment.label] * len(samples)).sum(axis=0)
            bar.update(len(few))
    return total / len(spans)
