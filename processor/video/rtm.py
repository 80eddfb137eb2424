"""Poses by rtmlib: YOLOX finds people, RTMPose their 17 joints. Several people, two dimensions."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import numpy as np

from feeders.store import DataError
from shapmix.skeleton import SkeletonLayout

from .poses import Pose, PoseBackend
from .reading import INSTALL, needed

MODE = "balanced"  # of rtmlib's three sets of models


class RtmPoses(PoseBackend):
    """RTMPose-m and YOLOX-m. rtmlib downloads both the first time, about 140 MB, and keeps them.

    Raises:
        DataError: rtmlib is not installed, or its models cannot be downloaded; the message names them.
    """

    name, layout = "rtmlib", SkeletonLayout.get("coco17")

    def __init__(self, model: Path | None = None) -> None:
        if model is not None:
            raise DataError("a model file is for mediapipe; rtmlib downloads its own")
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else onnxruntime reports to its makers
        body = needed("rtmlib", INSTALL).Body
        try:
            with contextlib.redirect_stdout(sys.stderr):  # it prints, and stdout is for results
                self.body = body(mode=MODE, backend="onnxruntime", device="cpu")
        except OSError as error:  # no network: URLError
            files = ", ".join(body.MODE[MODE][kind] for kind in ("det", "pose"))
            raise DataError(
                f"rtmlib cannot download its models ({error}). On a machine with a network, download {files}, and copy "
                "both as they are into ~/.cache/rtmlib/hub/checkpoints"
            ) from error

    def __call__(self, picture: np.ndarray, seconds: float) -> list[Pose]:
        """See PoseBackend."""
        people, scores = self.body(np.ascontiguousarray(picture[..., ::-1]))
        scores = np.clip(np.asarray(scores), 0, 1)
        found = [np.concatenate([joints, score[:, None]], axis=1) for joints, score in zip(people, scores, strict=True)]
        return [Pose(joints.astype(np.float32)) for joints in found if (joints[:, 2] > 0).any()]
