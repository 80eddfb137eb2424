"""The last frames of one person, cut into windows.

Shapes: L frames of a window, W joints.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np

LEAST = 2  # frames in which a person is seen, of a window that is recognised


@dataclass(eq=False)
class Windows:
    """The first window begins where the person is seen first; each ends ``stride`` frames after the one before.

    Attributes:
        window: L, frames.
        first: the frame in which the person was seen first.
        cut: the last frame of the window that was cut last.
    """

    window: int
    stride: int
    first: int
    cut: int | None = None
    seen: deque[tuple[int, np.ndarray]] = field(default_factory=deque)  # the last L frames

    def add(self, frame: int, joints: np.ndarray) -> None:
        """The person's joints (W, C) in a frame."""
        self.seen.append((frame, joints))
        while self.seen[0][0] <= frame - self.window:
            self.seen.popleft()

    def due(self, frame: int) -> tuple[int, int] | None:
        """The first and last frame of the window that ends with this frame; None where none does.

        It ends with a frame in which the person is seen: where that is not so, it waits.
        """
        end = self.first + self.window - 1 if self.cut is None else self.cut + self.stride
        if frame < end or self.seen[-1][0] != frame:
            return None
        return self._worth(frame - self.window + 1, frame)

    def rest(self) -> tuple[int, int] | None:
        """The window that ends where the person was seen last, where no window has reached that."""
        last = self.seen[-1][0]
        return None if self.cut == last else self._worth(max(self.first, last - self.window + 1), last)

    def sequence(self, first: int, last: int) -> np.ndarray:
        """(L, W, C) the frames from the first to the last one; NaN where the person is not seen."""
        frames = np.full((last - first + 1, *self.seen[-1][1].shape), np.nan, np.float32)
        for frame, joints in self.seen:
            if first <= frame <= last:
                frames[frame - first] = joints
        return frames

    def _worth(self, first: int, last: int) -> tuple[int, int] | None:
        enough = sum(first <= frame <= last for frame, _ in self.seen) >= LEAST
        if not enough:
            return None
        self.cut = last
        return first, last
