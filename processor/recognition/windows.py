"""Long sequences: the same network on overlapping windows, and the windows' labels merged into segments.

Shapes: w windows, L frames, K classes, P body parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from feeders.store import DataError

STRIDE = 16  # frames between the beginnings of two windows
FEWEST = 2  # frames of a sequence with somebody in them
LEAST_SEEN = 0.5  # share of a window's frames in which somebody must be


@dataclass(frozen=True)
class Cut:
    """How a sequence is cut into windows.

    Attributes:
        window: frames of each, at least 2.
        stride: frames between the beginnings of two windows, at least 1.
        smooth: over how many neighbouring windows probabilities are averaged, at least 1.

    Raises:
        DataError: a number out of range.
    """

    window: int
    stride: int
    smooth: int = 1

    @classmethod
    def of(cls, window: int, stride: int | None, smooth: int) -> Cut:
        """Without ``stride`` it is STRIDE, or the window where that is shorter."""
        return cls(window, max(min(STRIDE, window), 1) if stride is None else stride, smooth)

    def __post_init__(self) -> None:
        for name, least in (("window", FEWEST), ("stride", 1), ("smooth", 1)):
            if getattr(self, name) < least:
                raise DataError(f"--{name} must be at least {least}; got {getattr(self, name)}")
        if self.stride > self.window:
            raise DataError(f"--stride {self.stride} is larger than --window {self.window}: frames would be left out")

    def spans(self, length: int) -> list[tuple[int, int]]:
        """First frame and end of each window of ``length`` frames. The last window ends with the last frame.

        What is not longer than a window is one window.
        """
        last = max(length - self.window, 0)
        starts = [*range(0, last, self.stride), last]
        return [(start, min(start + self.window, length)) for start in starts]


def enough(seen: int, frames: int) -> bool:
    """Is a window of ``frames`` frames worth a label where somebody is seen in ``seen`` of them?"""
    return seen >= max(FEWEST, LEAST_SEEN * frames)


def smoothed(probabilities: np.ndarray, over: int) -> np.ndarray:
    """(w, K) mean of each row and its neighbours: of ``over`` rows in all, of fewer at both ends."""
    sums = np.cumsum(np.pad(probabilities, [(1, 0), (0, 0)]), axis=0)
    rows = np.arange(len(probabilities))
    first, end = np.maximum(rows - over // 2, 0), np.minimum(rows + (over - 1) // 2 + 1, len(rows))
    means: np.ndarray = (sums[end] - sums[first]) / (end - first)[:, None]
    return means


@dataclass(frozen=True, eq=False)
class Segment:
    """Frames ``first`` to ``last`` with one label: their mean probabilities (K,), and the windows that cover them."""

    first: int
    last: int
    probabilities: np.ndarray
    windows: Sequence[int]

    @property
    def label(self) -> int:
        """The most probable class of every frame."""
        return int(self.probabilities.argmax())


def segments(spans: Sequence[tuple[int, int]], probabilities: np.ndarray, length: int) -> list[Segment]:
    """Windows merged: a frame has the mean probabilities of the windows that cover it, a segment one best class.

    Args:
        spans: first frame and end of each window; frames that none covers belong to no segment.
        probabilities: (w, K) of the windows.
        length: L.
    """
    edges = np.zeros((length + 1, probabilities.shape[1]))
    covered = np.zeros(length + 1)
    for (first, end), row in zip(spans, probabilities, strict=True):
        edges[first] += row
        edges[end] -= row
        covered[first] += 1
        covered[end] -= 1
    number = covered.cumsum().round()[:length]
    of_frames = edges.cumsum(axis=0)[:length] / np.maximum(number, 1)[:, None]
    labels = np.where(number > 0, of_frames.argmax(axis=1), -1)
    starts = np.flatnonzero(np.diff(labels, prepend=-2))
    bounds, found = np.array(spans), []
    for start, end in zip(starts, [*starts[1:], length], strict=True):
        if labels[start] >= 0:
            inside = np.flatnonzero((bounds[:, 0] < end) & (bounds[:, 1] > start))
            found.append(Segment(int(start), int(end) - 1, of_frames[start:end].mean(axis=0), inside.tolist()))
    return found
