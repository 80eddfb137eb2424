"""Made-up videos of moving stick figures, a pose estimator that knows what was drawn, and a recogniser that counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image, ImageDraw

from feeders.body import ACTIONS
from feeders.store import DataError
from feeders.synthetic import synthesize
from feeders.synthetic_pose import coco_joints, detect
from processor.video.poses import Pose, PoseBackend
from processor.video.reading import Frame
from shapmix import SkeletonLayout

COCO = SkeletonLayout.get("coco17")
RATE = 25
HEIGHT, WIDTH = 480, 640  # of what feeders.synthetic_pose sees
Figures = Sequence[Sequence[Pose]]  # the people of each frame


def performance(name: str, frames: int, seed: int = 0) -> np.ndarray:
    """(L, 17, 3) x, y, score of one made-up person who does an action, over and over."""
    rng = np.random.default_rng(seed)
    label = [action.name for action in ACTIONS].index(name)
    taken: list[np.ndarray] = []
    while sum(map(len, taken)) < frames:
        taken.append(detect(coco_joints(synthesize(label, rng)[:, 0]), rng)[:, 0].astype(np.float32))
        if len(taken) > 1:  # the next performance begins where the one before ended
            taken[-1][..., :2] += taken[0][0, :, :2].mean(axis=0) - taken[-1][0, :, :2].mean(axis=0)
    return np.concatenate(taken)[:frames]


def standing(x: float, y: float, tall: float) -> np.ndarray:
    """(17, 3) somebody who stands with the nose at (x, y)."""
    places = [(0, 0), (0.02, -0.02), (-0.02, -0.02), (0.04, 0), (-0.04, 0), (0.12, 0.15), (-0.12, 0.15), (0.15, 0.33)]
    places += [(-0.15, 0.33), (0.16, 0.5), (-0.16, 0.5), (0.08, 0.48), (-0.08, 0.48), (0.08, 0.72), (-0.08, 0.72)]
    places += [(0.08, 0.95), (-0.08, 0.95)]
    return np.array([(x + tall * a, y + tall * b, 0.9) for a, b in places], np.float32)


def draw_figures(people: Sequence[Pose], height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(H, W, 3) thin figures on a wall with a floor."""
    image = Image.new("RGB", (width, height), (171, 178, 186))
    pen = ImageDraw.Draw(image)
    pen.rectangle([0, height * 0.8, width, height], fill=(139, 126, 112))
    for pose in people:
        seen = pose.joints[:, 2] > 0
        for one, other in COCO.edges:
            if seen[one] and seen[other]:
                pen.line([*pose.joints[one, :2], *pose.joints[other, :2]], fill=(96, 84, 72), width=11)
        x, y = pose.joints[0, :2]
        pen.ellipse([x - 13, y - 16, x + 13, y + 16], fill=(96, 84, 72))
    return np.asarray(image)


def write_video(path: Path, pictures: Iterator[np.ndarray] | Sequence[np.ndarray], codec: str = "libx264") -> Path:
    """A video of pictures (H, W, 3), 25 a second."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        for number, picture in enumerate(pictures):
            if not number:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


class DrawnPoses(PoseBackend):
    """Returns the poses that were drawn, frame by frame."""

    name, layout = "drawn", COCO

    def __init__(self, figures: Figures) -> None:
        self.figures, self.next, self.closed = figures, 0, False

    def __call__(self, picture: np.ndarray, seconds: float) -> list[Pose]:
        self.next += 1
        return list(self.figures[(self.next - 1) % len(self.figures)])

    def close(self) -> None:
        self.closed = True


class Pictures:
    """Pictures as a source, with nothing to decode."""

    name, rate = "pictures", float(RATE)

    def __init__(self, figures: Figures, live: bool = False) -> None:
        self.figures, self.live = figures, live

    def frames(self) -> Iterator[Frame]:
        for number, people in enumerate(self.figures):
            yield Frame(number, number / RATE, draw_figures(people))


class Counter:
    """Says whether the right or the left wrist of a person is higher, and how many frames it saw."""

    layout, class_names, dims = COCO, ("right_hand", "left_hand"), 2
    card = SimpleNamespace(dims=2, view={}, baseline=None)

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []
        self.sizes: list[tuple[int, int] | None] = []

    def sample(self, frames: np.ndarray, size: tuple[int, int] | None = None, name: str = "") -> np.ndarray:
        if np.isfinite(frames[..., 0]).all(axis=1).sum() < 2:
            raise DataError(f"{name}: too short")
        self.seen.append(frames)
        self.sizes.append(size)
        return frames

    def probabilities(self, samples: Sequence[np.ndarray]) -> np.ndarray:
        height = [np.nanmean(one[:, [10, 9], 1], axis=0) for one in samples]
        return np.array([(0.9, 0.1) if right < left else (0.1, 0.9) for right, left in height])

    def shapley(self, samples: Sequence[np.ndarray], classes: Sequence[int]) -> np.ndarray:
        parts = np.zeros((len(samples), 5))
        for row, label in zip(parts, classes, strict=True):
            row[2 if label == 0 else 1] = 0.8
        return parts


def figures_of(*people: np.ndarray) -> list[list[Pose]]:
    """People (L, 17, 3) as the poses of each frame; NaN: not there."""
    return [[Pose(joints) for joints in frame if np.isfinite(joints).all()] for frame in zip(*people, strict=True)]
