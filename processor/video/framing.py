"""People of a picture as a recogniser of 2D poses knows them: where and how large they were in its training set.

A recogniser learns, as a rule, from pictures that one person fills. Somebody small at the border is new to it, however
usual the movement is.

Shapes: L frames, W joints.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..card import Card
from .poses import SEEN


class Framing:
    """Moves and scales each window of a person to the place and size of the mean person of the training set.

    Only for 2D joints, whose mean sequence is in the card; else windows stay as they are.
    """

    def __init__(self, card: Card | None) -> None:
        self.mean: np.ndarray | None = None  # (W, 2) in -1 .. 1 over the picture
        joints = card is not None and card.dims == 2 and (card.view or {}).get("stream") == "joint"
        if card is not None and card.baseline is not None and joints:
            self.mean = card.baseline[:2, :, :, 0].mean(1).T.numpy()

    def __call__(self, frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Frames (L, W, 3) of x, y in pixels and score, of a picture (height, width); NaN stays."""
        if self.mean is None:
            return frames
        there = np.isfinite(frames[..., 0]).all(axis=1)
        seen = frames[there, :, 2] >= SEEN
        often = seen.mean(axis=0) > 0.5 if there.any() else np.zeros(len(self.mean), bool)
        if often.sum() < 2:
            return frames
        usual = np.ma.median(np.ma.array(frames[there, :, :2], mask=_both(~seen)), axis=0).filled(0)[often]
        wanted = ((self.mean + 1) * (size[1] / 2, size[0] / 2))[often]
        share = np.ptp(wanted, axis=0).max() / max(float(np.ptp(usual, axis=0).max()), 1.0)
        moved = frames.copy()
        moved[..., :2] = (frames[..., :2] - usual.mean(axis=0)) * share + wanted.mean(axis=0)
        return moved


def _both(mask: np.ndarray) -> Any:
    """The same for x and y."""
    return np.repeat(mask[..., None], 2, axis=-1)
