"""Poses by MediaPipe: 33 joints, in the picture and in space.

Newer versions need a .task file and find several people. Up to version 0.10.21 the wheel brings a model that finds one
person; it is used where no file is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from feeders.files import kind_of
from feeders.store import DataError
from shapmix.skeleton import SkeletonLayout

from .poses import Pose, PoseBackend
from .reading import needed

PEOPLE = 4  # most people that a .task file is asked for
MODEL = (
    "https://storage.googleapis.com/mediapipe-models/pose_landmarker/pose_landmarker_full/float16/latest/"
    "pose_landmarker_full.task"
)


class MediaPipePoses(PoseBackend):
    """MediaPipe's Pose Landmarker with a .task file, or without one the model in the wheel, for one person.

    Places in space are relative to the middle of the hips in each frame: a person who walks stays in place.

    Raises:
        DataError: MediaPipe is not installed, the file is missing or is no model, or none is given and the wheel has
            none.
    """

    name, layout, dims = "mediapipe", SkeletonLayout.get("mediapipe33"), 3

    def __init__(self, model: Path | None = None) -> None:
        mediapipe = needed("mediapipe", "pip install mediapipe")
        self.image = mediapipe.Image, mediapipe.ImageFormat.SRGB
        self.task: Any = None if model is None else _landmarker(model)
        self.last = -1  # time of the last picture in milliseconds
        if model is not None:
            return
        solutions = getattr(mediapipe, "solutions", None)
        if solutions is None:
            raise DataError(
                f"MediaPipe {mediapipe.__version__} brings no model. Download {MODEL} and add --pose_model FILE; or "
                "pip install mediapipe==0.10.21, whose wheel brings a model for one person (it needs numpy<2)"
            )
        self.legacy = solutions.pose.Pose(model_complexity=1)

    def __call__(self, picture: np.ndarray, seconds: float) -> list[Pose]:
        """See PoseBackend."""
        height, width = picture.shape[:2]
        if self.task is None:
            found = self.legacy.process(picture)
            if found.pose_landmarks is None:
                return []
            return [_pose(found.pose_landmarks.landmark, found.pose_world_landmarks.landmark, width, height)]
        kind, colours = self.image
        self.last = max(self.last + 1, round(seconds * 1000))  # times must grow
        found = self.task.detect_for_video(kind(colours, np.ascontiguousarray(picture)), self.last)
        people = zip(found.pose_landmarks, found.pose_world_landmarks, strict=True)
        return [_pose(flat, space, width, height) for flat, space in people]

    def close(self) -> None:
        """See PoseBackend."""
        (self.legacy if self.task is None else self.task).close()


def _landmarker(model: Path) -> Any:
    """The Pose Landmarker of a .task file."""
    if not model.is_file():
        raise DataError(f"MediaPipe's model {model} {kind_of(model)}; download {MODEL}")
    tasks = needed("mediapipe.tasks.python", "pip install mediapipe")
    vision = tasks.vision
    try:
        return vision.PoseLandmarker.create_from_options(
            vision.PoseLandmarkerOptions(
                base_options=tasks.BaseOptions(model_asset_path=str(model)),
                running_mode=vision.RunningMode.VIDEO,
                num_poses=PEOPLE,
            )
        )
    except (RuntimeError, ValueError) as error:
        raise DataError(f"{model} is not a model of MediaPipe's Pose Landmarker ({error}); download {MODEL}") from error


def _pose(landmarks: Sequence[Any], world: Sequence[Any], width: int, height: int) -> Pose:
    """Shares of the picture -> pixels; x to the right and y down -> x to the left and y up."""
    joints = np.array([(one.x * width, one.y * height, one.visibility) for one in landmarks], np.float32)
    return Pose(joints, np.array([(-one.x, -one.y, one.z) for one in world], np.float32))
