"""Pose estimators: a picture -> the joints of the people in it. One interface; a backend is one file.

Shapes: V joints of the backend's layout.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from feeders.store import DataError
from shapmix.skeleton import SkeletonLayout

SEEN = 0.3  # joints with a lower score are neither drawn nor used to follow a person
BACKENDS = {"rtmlib": "rtm.RtmPoses", "mediapipe": "mediapipe.MediaPipePoses"}


@dataclass(frozen=True, eq=False)
class Pose:
    """One person in one picture.

    Attributes:
        joints: (V, 3) x and y in pixels and score 0 .. 1, 0 for a joint that is not seen.
        space: (V, 3) x, y, z in metres, as a depth camera has them: x to its left, y up, z away from it; None where the
            backend finds none.
    """

    joints: np.ndarray
    space: np.ndarray | None = None


class PoseBackend(ABC):
    """A pose estimator.

    Attributes:
        name: for messages.
        layout: whose V joints its poses have.
        dims: 3 where its poses have a place in space, else 2.
    """

    name: str
    layout: SkeletonLayout
    dims: int = 2

    def __init__(self, model: Path | None = None) -> None: ...  # noqa: B027

    @abstractmethod
    def __call__(self, picture: np.ndarray, seconds: float) -> list[Pose]:
        """The people in a picture (H, W, 3), uint8, red, green, blue, of a video at this time; in any order."""

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Frees what the estimator holds."""


def find_backend(name: str) -> type[PoseBackend]:
    """The backend with this name; it is made with a model's file, or with None for its usual one.

    Raises:
        DataError: no such backend. When it is made: its package is not installed, or its models are not here and cannot
            be downloaded.
    """
    if name not in BACKENDS:
        raise DataError(f"no pose estimator {name!r}; there are {', '.join(BACKENDS)}")
    module, _, backend = BACKENDS[name].partition(".")
    found: type[PoseBackend] = getattr(importlib.import_module(f"{__package__}.{module}"), backend)
    return found
