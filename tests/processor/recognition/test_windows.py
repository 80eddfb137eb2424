"""Windows, smoothing and segments against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from feeders.store import DataError
from processor.recognition.windows import Cut, segments, smoothed


@pytest.mark.parametrize(
    ("length", "window", "stride", "wanted"),
    [
        (10, 4, 3, [(0, 4), (3, 7), (6, 10)]),
        (11, 4, 3, [(0, 4), (3, 7), (6, 10), (7, 11)]),
        (4, 4, 3, [(0, 4)]),
        (3, 4, 3, [(0, 3)]),
        (5, 4, 4, [(0, 4), (1, 5)]),
    ],
)
def test_spans(length, window, stride, wanted):
    """Every frame is in a window, and the last window ends with the last frame."""
    assert Cut(window, stride).spans(length) == wanted


@pytest.mark.parametrize(
    ("cut", "wanted"),
    [
        ((1, 1, 1), "window .* got 1"),
        ((4, 0, 1), "stride .* got 0"),
        ((4, 1, 0), "smooth .* got 0"),
        ((4, 5, 1), "stride 5"),
    ],
)
def test_bad_numbers(cut, wanted):
    with pytest.raises(DataError, match=wanted):
        Cut(*cut)


@pytest.mark.parametrize("over", [1, 2, 3, 5, 9])
def test_smoothed_is_the_mean_of_neighbours(over):
    rows = np.random.default_rng(0).dirichlet(np.ones(3), 7)
    found = smoothed(rows, over)
    for row in range(7):
        first = max(row - over // 2, 0)
        np.testing.assert_allclose(found[row], rows[first : row + (over - 1) // 2 + 1].mean(0))
    np.testing.assert_allclose(found.sum(1), 1)


def test_segments():
    """Frames have the mean of their windows; neighbours with one best class are one segment."""
    spans = [(0, 4), (2, 6), (4, 8)]
    rows = np.array([[0.9, 0.1], [0.7, 0.3], [0.0, 1.0]])
    first, second = segments(spans, rows, 10)
    assert (first.first, first.last, first.label, first.windows) == (0, 3, 0, [0, 1])
    np.testing.assert_allclose(first.probabilities, [(0.9 + 0.8) / 2, (0.1 + 0.2) / 2])
    assert (second.first, second.last, second.label, second.windows) == (4, 7, 1, [1, 2])
    np.testing.assert_allclose(second.probabilities, [(0.35 + 0) / 2, (0.65 + 1) / 2])


def test_frames_without_windows_have_no_label():
    rows = np.array([[0.9, 0.1], [0.9, 0.1]])
    assert [(one.first, one.last) for one in segments([(0, 3), (5, 8)], rows, 9)] == [(0, 2), (5, 7)]
    (whole,) = segments([(0, 9)], rows[:1], 9)
    assert (whole.first, whole.last) == (0, 8)
    np.testing.assert_allclose(whole.probabilities, rows[0])
