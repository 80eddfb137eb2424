"""A made-up set of 2D poses: what a detector would report of the people of ``feeders.synthetic``.

Joints are those of COCO. The lower a joint's score, the larger its noise; a few joints are far off or missed (score 0,
place 0).

Image: x to the right, y down, in pixels.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from shapmix.skeleton import SkeletonLayout

from .body import ACTIONS
from .body import LAYOUT as DEPTH_LAYOUT
from .feeder_pose import PoseFeeder
from .synthetic import made_up_store, split_counts, synthesize

LAYOUT = SkeletonLayout.get("coco17")
HEIGHT, WIDTH, FOCAL = 480, 640, 380.0  # pixels
FACE = {  # place in the frame of the head: to the person's left, up, forward; metres
    "nose": (0.0, -0.02, 0.11),
    "left_eye": (0.035, 0.02, 0.09),
    "right_eye": (-0.035, 0.02, 0.09),
    "left_ear": (0.075, 0.0, 0.0),
    "right_ear": (-0.075, 0.0, 0.0),
}
MISSED, FAR_OFF = 0.02, 0.02  # shares of the joints in all frames
NOISE = 2.0, 25.0  # pixels, standard deviation: of most joints, of those far off


def coco_joints(seen: np.ndarray) -> np.ndarray:
    """Joints of the depth camera (T, 25, 3) -> COCO's (T, 17, 3): those of the limbs, and a face added to the head."""
    at = {name: seen[:, number] for number, name in enumerate(DEPTH_LAYOUT.joint_names)}
    left = _unit(at["left_shoulder"] - at["right_shoulder"])
    up = _unit(at["head"] - at["neck"])
    forward = _unit(np.cross(left, up))
    side = np.cross(up, forward)
    for name, (sideways, upwards, ahead) in FACE.items():
        at[name] = at["head"] + sideways * side + upwards * up + ahead * forward
    return np.stack([at[name] for name in LAYOUT.joint_names], axis=1)


def detect(joints: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Joints (T, V, 3) in camera coordinates -> a detector's (T, 1, V, 3): x and y in pixels, score 0 .. 1."""
    x = WIDTH / 2 - FOCAL * joints[..., 0] / joints[..., 2]
    y = HEIGHT / 2 - FOCAL * joints[..., 1] / joints[..., 2]
    luck = rng.random(x.shape)
    missed, far_off = luck < MISSED, (luck >= MISSED) & (luck < MISSED + FAR_OFF)
    score = np.where(far_off, rng.uniform(0.05, 0.3, x.shape), np.clip(rng.normal(0.85, 0.07, x.shape), 0.4, 1.0))
    spread = np.where(far_off, NOISE[1], NOISE[0] * (1.5 - score))
    seen = np.stack([x + spread * rng.normal(size=x.shape), y + spread * rng.normal(size=y.shape), score], axis=-1)
    seen[missed] = 0
    return seen[:, None].astype(np.float16)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


class Feeder(PoseFeeder):
    """The made-up set of 2D poses: training counts fall exponentially, the other splits are balanced.

    Args:
        split, n_max, imbalance, num_test, seed, cache_dir: see feeders.synthetic.Feeder.
        stream, window_size, num_clips, flip, random_scale, random_rot, repeat: see PoseFeeder.
    """

    def __init__(
        self,
        split: Literal["train", "val", "test"] = "train",
        stream: str = "joint",
        window_size: int = 48,
        num_clips: int = 1,
        flip: float = 0.0,
        random_scale: float = 0.0,
        random_rot: float = 0.0,
        n_max: int = 200,
        imbalance: float = 50,
        num_test: int = 20,
        seed: int = 0,
        repeat: int = 1,
        cache_dir: str | None = None,
    ) -> None:
        counts = split_counts(split, n_max, imbalance, num_test)

        def perform(action: int, rng: np.random.Generator) -> np.ndarray:
            return detect(coco_joints(synthesize(action, rng)[:, 0]), rng)

        name = f"synthetic_pose_{split}_" + "-".join(map(str, [*counts, seed]))
        store = made_up_store(name, split, counts, seed, cache_dir, perform, height=HEIGHT, width=WIDTH)
        super().__init__(
            store, np.arange(len(store)), LAYOUT, [action.name for action in ACTIONS], split, split == "train", stream,
            window_size, repeat, num_clips=num_clips, flip=flip, random_scale=random_scale, random_rot=random_rot,
        )  # fmt: skip
