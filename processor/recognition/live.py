"""One person of a stream or a video: the last frames, cut into windows, and what was found in them.

Shapes: L frames of a window, W joints, K classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from feeders.store import Sample

from .recognizer import Prediction, Recognizer
from .windows import Cut, enough


@dataclass(eq=False)
class Live:
    """The first window begins where the person is seen first; each ends ``stride`` frames after the one before.

    Attributes:
        cut: L, the stride, and over how many windows probabilities are averaged.
        first: the frame in which the person was seen first.
        ended: the last frame of the window that was cut last.
        seen: frames and joints (W, C), the last L.
        recent: (K,) probabilities of the last windows.
    """

    cut: Cut
    first: int
    ended: int | None = None
    seen: deque[tuple[int, np.ndarray]] = field(default_factory=deque)
    recent: deque[np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        self.recent = deque(maxlen=self.cut.smooth)

    @property
    def last(self) -> int:
        """The frame in which the person was seen last."""
        return self.seen[-1][0]

    def add(self, frame: int, joints: np.ndarray) -> None:
        """The person's joints (W, C) in a frame."""
        self.seen.append((frame, joints))
        while self.seen[0][0] <= frame - self.cut.window:
            self.seen.popleft()

    def due(self, frame: int) -> tuple[int, int] | None:
        """The first and last frame of the window that ends with this frame; None where none does.

        It ends with a frame in which the person is seen: where that is not so, it waits.
        """
        end = self.first + self.cut.window - 1 if self.ended is None else self.ended + self.cut.stride
        if frame < end or self.last != frame:
            return None
        return self._worth(frame - self.cut.window + 1, frame)

    def rest(self) -> tuple[int, int] | None:
        """The window that ends where the person was seen last, where no window has reached that."""
        last = self.last
        return None if self.ended == last else self._worth(max(self.first, last - self.cut.window + 1), last)

    def sequence(self, first: int, last: int) -> np.ndarray:
        """(L, W, C) the frames from the first to the last one; NaN where the person is not seen."""
        frames = np.full((last - first + 1, *self.seen[-1][1].shape), np.nan, np.float32)
        for frame, joints in self.seen:
            if first <= frame <= last:
                frames[frame - first] = joints
        return frames

    def smoothed(self, probabilities: np.ndarray) -> np.ndarray:
        """(K,) the mean of a window's probabilities and those of the windows before it."""
        self.recent.append(probabilities)
        mean: np.ndarray = np.mean(self.recent, axis=0)
        return mean

    def _worth(self, first: int, last: int) -> tuple[int, int] | None:
        if not enough(sum(first <= frame <= last for frame, _ in self.seen), last - first + 1):
            return None
        self.ended = last
        return first, last


def label_windows(
    recognizer: Recognizer, lives: Sequence[Live], samples: Sequence[Sample], explain: bool
) -> list[Prediction]:
    """What each person does in a window, with probabilities averaged over the person's last windows.

    Args:
        lives: people.
        samples: their windows.
        explain: Shapley values too, of the window alone. Cost: ``2**P`` forward passes more.
    """
    pairs = zip(lives, recognizer.probabilities(samples), strict=True)
    means = [live.smoothed(probabilities) for live, probabilities in pairs]
    parts: Sequence[np.ndarray | None] = [None] * len(means)
    if explain:
        parts = list(recognizer.shapley(samples, [int(mean.argmax()) for mean in means]))
    names = recognizer.layout.part_names
    return [Prediction(mean, recognizer.class_names, own, names) for mean, own in zip(means, parts, strict=True)]
