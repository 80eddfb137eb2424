"""A made-up data set: the people of ``feeders.body`` in front of a depth camera.

From sample to sample differ the body, the tempo, the moment, the amplitude and the repetitions of the action, the
resting posture, the idle sway, the place in the room, the view and the sensor noise. With ``distraction`` other body
parts perform another action at the same time: the larger it is, the harder it is to learn from few samples which parts
count.

Camera: y up, z away from the camera, x such that the left of a person who faces the camera lies at smaller x (as with
the Kinect). Metres and frames throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np

from .body import ACTIONS, LAYOUT, forward_kinematics, joint_angles, rotations, sample_body, sway
from .crop import CropFeeder
from .longtail import exponential_counts
from .store import DataError, Sample, SkeletonStore, cache_folders, fingerprint_files

SENSOR_NOISE = 0.005  # metres, standard deviation per joint, axis and frame
VERSION = 1  # of the generator; with another one cached sets are made again
CENTRE = LAYOUT.joint("spine_mid")
MOST = 100_000  # samples of an action; to make them takes an hour
SPLITS = ("train", "val", "test")
Perform = Callable[[int, np.random.Generator], np.ndarray]  # number of an action, generator -> frames (L, 1, V, C)


def synthesize(action: int, rng: np.random.Generator, distraction: float = 0.0) -> np.ndarray:
    """One random performance of ``ACTIONS[action]``, as a depth camera would see it; see feeders.body.joint_angles.

    Returns:
        (T, 1, 25, 3) float32, metres in camera coordinates, 30 frames a second, T from 40 to 90.
    """
    frames = int(rng.integers(40, 90, endpoint=True))
    body = sample_body(rng)
    positions = forward_kinematics(body, joint_angles(ACTIONS[action], frames, rng, distraction))
    positions += 0.01 * sway(frames, (1, 3), rng)
    yaw, pitch = 180 + rng.uniform(-35, 35), rng.uniform(-8, 8)
    view = rotations(np.array([pitch, 0.0, 0.0])) @ rotations(np.array([0.0, yaw, 0.0]))
    place = rng.uniform((-0.6, -0.3, 2.3), (0.6, 0.1, 3.8))
    seen = positions @ view.T + place + rng.normal(0.0, SENSOR_NOISE, positions.shape)
    return seen[:, None].astype(np.float32)


def split_counts(split: str, n_max: int, imbalance: float, num_test: int) -> list[int]:
    """Samples of each action: falling exponentially in training, ``num_test`` each in the other splits."""
    if split not in SPLITS:
        raise DataError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if max(n_max, num_test) > MOST:
        raise DataError(f"n_max and num_test may be {MOST:,} samples of an action at most, got {n_max} and {num_test}")
    return exponential_counts(n_max, imbalance, len(ACTIONS)) if split == "train" else [num_test] * len(ACTIONS)


def made_up_store(
    name: str, split: str, counts: Sequence[int], seed: int, cache_dir: str | None, perform: Perform, **columns: int
) -> SkeletonStore:
    """The store of a made-up set with ``counts[a]`` samples of action a, such as ``wave_left_0003``; made once.

    Every sample has a generator of its own, so of two sets from one seed the larger contains the smaller. Other
    arguments need another ``name``; all sequences have the same ``columns``.
    """

    def read() -> Iterator[Sample]:
        for label, count in enumerate(counts):
            for number in range(count):
                rng = np.random.default_rng([len(SPLITS) * seed + SPLITS.index(split), label, number])
                yield Sample(f"{ACTIONS[label].name}_{number:04d}", label, perform(label, rng), columns=columns)

    return SkeletonStore.build(cache_folders(None, cache_dir), name, fingerprint_files([], VERSION), read)


class Feeder(CropFeeder):
    """The synthetic set in NTU's view (crop, resize, rotation), centred on the first frame's spine_mid.

    Args:
        split: train (long-tailed), val or test (balanced, other people).
        stream, window_size, min_crop, repeat: see StoreFeeder and CropFeeder.
        n_max: training samples of the most frequent action.
        imbalance: n_max / training samples of the rarest action.
        num_test: samples of every action in the other splits.
        seed: of the set.
        distraction: 0 .. 1, how much other body parts move, see :func:`feeders.body.joint_angles`. The same people do
            the same actions as without, seen from elsewhere.
        cache_dir: where the packed store lies; by default work_dir/cache.

    Raises:
        DataError: no such split, distraction outside 0 .. 1, and as StoreFeeder.
    """

    def __init__(
        self,
        split: Literal["train", "val", "test"] = "train",
        stream: str = "joint",
        window_size: int = 32,
        n_max: int = 200,
        imbalance: float = 50,
        num_test: int = 20,
        seed: int = 0,
        distraction: float = 0.0,
        min_crop: int = 32,
        repeat: int = 1,
        cache_dir: str | None = None,
    ) -> None:
        counts = split_counts(split, n_max, imbalance, num_test)
        if not 0 <= distraction <= 1:
            raise DataError(f"distraction must lie in 0..1, got {distraction}")

        def perform(action: int, rng: np.random.Generator) -> np.ndarray:
            return self.as_stored(synthesize(action, rng, distraction), 3)

        name = f"synthetic_{split}_" + "-".join(map(str, [*counts, seed, *[distraction] * (distraction > 0)]))
        store = made_up_store(name, split, counts, seed, cache_dir, perform)
        super().__init__(
            store, np.arange(len(store)), LAYOUT, [action.name for action in ACTIONS], split, split == "train", stream,
            window_size, repeat, min_crop=min_crop,
        )  # fmt: skip

    @classmethod
    def as_stored(cls, frames: np.ndarray, dims: int) -> np.ndarray:
        """See StoreFeeder; spine_mid of the first frame at the origin."""
        return frames - frames[:1, :, CENTRE : CENTRE + 1]
