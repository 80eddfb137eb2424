"""One person: frames, cut into windows, and probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from processor.recognition.given import Problem
from processor.recognition.live import Live
from processor.recognition.windows import Cut


def spans(window: int, stride: int, seen: list[int], end: int) -> list[tuple[int, int]]:
    """First and last frames of all windows of somebody who is seen in some frames of a video of ``end`` frames."""
    person, found = Live(Cut(window, stride), seen[0]), []
    for frame in range(seen[0], end):
        if frame in seen:
            person.add(frame, np.full((1, 3), frame))
        found += [span] if (span := person.due(frame)) else []
    return found + ([rest] if (rest := person.rest()) else [])


@pytest.mark.parametrize(
    ("window", "stride", "seen", "expected"),
    [
        (4, 2, range(10), [(0, 3), (2, 5), (4, 7), (6, 9)]),
        (4, 2, range(9), [(0, 3), (2, 5), (4, 7), (5, 8)]),
        (4, 3, range(3, 12), [(3, 6), (6, 9), (8, 11)]),
        (8, 4, range(3), [(0, 2)]),
        (6, 6, range(12), [(0, 5), (6, 11)]),
        (4, 2, [5], []),
        (4, 4, [0, 1, 2, 3, 9, 10, 11], [(0, 3), (7, 10), (8, 11)]),
    ],
)
def test_spans(window, stride, seen, expected):
    assert spans(window, stride, list(seen), 12) == expected


def test_a_sequence_has_gaps():
    person = Live(Cut(4, 2), 0)
    for frame in (0, 1, 3):
        person.add(frame, np.full((2, 3), frame))
    frames = person.sequence(0, 3)
    assert frames.shape == (4, 2, 3)
    assert frames[:, 0, 0].tolist()[:2] == [0, 1]
    assert np.isnan(frames[2]).all()
    assert frames[3, 0, 0] == 3


def test_old_frames_are_forgotten():
    person = Live(Cut(4, 2), 0)
    for frame in range(100):
        person.add(frame, np.zeros((1, 3)))
    assert len(person.seen) == 4


def test_probabilities_are_smoothed_with_those_before():
    person, rows = Live(Cut(4, 2, 3), 0), np.eye(5)
    found = [person.smoothed(row) for row in rows]
    for number, mean in enumerate(found):
        np.testing.assert_allclose(mean, rows[max(0, number - 2) : number + 1].mean(0))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ("s: too short", "too short"),
        ("s has shape (1, 2)", "has shape (1, 2)"),
        ("size is 3; it is [height, width] in pixels", "size is 3; it is [height, width] in pixels"),
    ],
)
def test_a_problem_says_its_name_once(error, reason):
    """A stream may have any name, such as the first letter of a message."""
    assert Problem.of("s", ValueError(error)) == Problem("s", reason)
