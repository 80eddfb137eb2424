"""Uniform frame sampling as PYSKL has it (Duan et al., ACM MM 2022): a clip of T frames spread over a sequence.

A sequence of n < T frames is read in a circle from some start. Of n < 2T frames, n - T drawn ones are skipped, at most
one before each that is kept. A longer sequence is cut into T equal parts, and one frame of each is drawn.

Shapes: N sequences, n frames of one, T frames of a clip.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

TEST_SEED = 255


@lru_cache(maxsize=4096)
def test_clips(num_frames: int, length: int, num_clips: int) -> np.ndarray:
    """(num_clips, T) frames that PYSKL shows of n frames in evaluation; the same for all sequences of n frames."""
    return published_clips(num_frames, length, num_clips, np.random.RandomState(TEST_SEED), test=True)


def published_clips(num_frames: int, length: int, num_clips: int, rng: np.random.RandomState, test: bool) -> np.ndarray:
    """(num_clips, T = ``length``) frames of a sequence; draws the numbers that PYSKL draws, in its order.

    For the ``test``, the clips of a short sequence start at evenly spaced frames, instead of drawn ones.
    """
    clips = []
    for clip in range(num_clips):
        rng.rand(), rng.randint(1)  # of an interval, which is always the whole sequence
        start, chosen, places = 0, np.zeros(0, np.int64), np.zeros(0, np.int64)
        if num_frames < length:
            even = clip if num_frames < num_clips else clip * num_frames // num_clips
            start = even if test else rng.randint(num_frames)
        elif num_frames < 2 * length:
            chosen = rng.choice(length + 1, num_frames - length, replace=False)
        else:
            places = rng.randint(np.diff(_bounds(np.array([num_frames]), length)[0]))
        skipped = np.isin(np.arange(length + 1), chosen)[None]
        clips.append(_clip(np.array([num_frames]), length, np.array([start]), skipped, places[None])[0])
    return np.stack(clips)


def training_clips(num_frames: np.ndarray, length: int, draws: np.ndarray) -> np.ndarray:
    """(N, T) frames of one clip each of sequences of ``num_frames`` (N,), distributed as PYSKL's.

    ``draws`` (N, T + 1) are uniform numbers.
    """
    start = np.floor(draws[:, 0] * num_frames).astype(np.int64)
    rank = draws.argsort(axis=1).argsort(axis=1)
    sizes = np.diff(_bounds(num_frames, length))
    places = np.floor(draws[:, :length] * sizes).astype(np.int64)
    return _clip(num_frames, length, start, rank < (num_frames - length)[:, None], places)


def _clip(
    num_frames: np.ndarray, length: int, start: np.ndarray, skipped: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """(N, T) frames, from the starts (N,) of short sequences, the steps (N, T + 1) before which longer ones skip a
    frame, and the places (N, T) within the parts of long ones."""
    steps = np.arange(length)
    short = start[:, None] + steps
    longer = steps + skipped.cumsum(axis=1)[:, :-1]
    long = _bounds(num_frames, length)[:, :-1] + (places if places.size else 0)
    n = num_frames[:, None]
    return np.where(n < length, short, np.where(n < 2 * length, longer, long)) % n


def _bounds(num_frames: np.ndarray, length: int) -> np.ndarray:
    """(N, T + 1): where T equal parts of each sequence begin and end."""
    return np.arange(length + 1) * num_frames[:, None] // length
