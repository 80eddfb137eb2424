"""The two pose estimators, where they are installed; and what is said where they or their models are missing."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import matplotlib
import numpy as np
import pytest
from PIL import Image

from feeders.store import DataError
from processor.video.poses import find_backend


@pytest.fixture(autouse=True)
def environment(monkeypatch) -> None:
    """As it was before a backend changed it."""
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")


def fake_rtmlib(error: Exception | None = None) -> SimpleNamespace:
    """rtmlib that sees two people: one of them has no joint with a score."""

    class Body:
        MODE = {"balanced": {"det": "https://models/yolox.zip", "pose": "https://models/rtmpose.zip"}}

        def __init__(self, mode: str, backend: str, device: str) -> None:
            print("load model")
            if error is not None:
                raise error

        def __call__(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            assert picture[0, 0].tolist() == [3, 2, 1], "OpenCV's order of colours"
            return np.full((2, 17, 2), 5.0), np.array([[1.2] * 17, [0.0] * 17])

    return SimpleNamespace(Body=Body)


def test_rtmlib(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rtmlib", fake_rtmlib())
    backend = find_backend("rtmlib")()
    (pose,) = backend(np.full((4, 4, 3), (1, 2, 3), np.uint8), 0.0)
    assert pose.joints.shape == (17, 3)
    assert pose.joints[0].tolist() == [5, 5, 1]
    assert pose.space is None
    assert "load model" not in capsys.readouterr().out
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def test_rtmlib_without_a_network_names_its_models(monkeypatch):
    monkeypatch.setitem(sys.modules, "rtmlib", fake_rtmlib(URLError("no route to host")))
    with pytest.raises(DataError, match=r"https://models/yolox\.zip, https://models/rtmpose\.zip"):
        find_backend("rtmlib")()
    with pytest.raises(DataError, match="a model file is for mediapipe"):
        find_backend("rtmlib")(Path("model.task"))


@pytest.mark.parametrize("name", ["rtmlib", "mediapipe"])
def test_a_backend_that_is_not_installed(monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DataError, match=f"videos need {name} .*pip install"):
        find_backend(name)()


def test_a_backend_that_nobody_knows():
    with pytest.raises(DataError, match="rtmlib, mediapipe"):
        find_backend("openpose")


def fake_mediapipe(**more: object) -> SimpleNamespace:
    formats = SimpleNamespace(SRGB=1)
    return SimpleNamespace(__version__="1.2.3", Image=None, ImageFormat=formats, **more)


def test_mediapipe_without_a_model_names_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mediapipe", fake_mediapipe())
    with pytest.raises(DataError, match=r"pose_landmarker_full\.task and add --pose_model.*mediapipe==0\.10\.21"):
        find_backend("mediapipe")()
    with pytest.raises(DataError, match=r"none\.task does not exist"):
        find_backend("mediapipe")(tmp_path / "none.task")


def test_mediapipe_with_the_model_of_its_wheel():
    """The portrait that matplotlib brings moves to the right: so do the joints."""
    mediapipe = pytest.importorskip("mediapipe")
    if not hasattr(mediapipe, "solutions"):
        pytest.skip("this version of MediaPipe brings no model")
    portrait = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
    if not portrait.is_file():
        pytest.skip("matplotlib without its sample data")
    picture = np.asarray(Image.open(portrait).convert("RGB"))
    backend = find_backend("mediapipe")()
    seen = []
    for frame in range(3):
        shifted = np.pad(picture, ((0, 0), (40 * frame, 80 - 40 * frame), (0, 0)), mode="edge")
        seen += backend(shifted, frame / 25)
    assert backend(np.zeros_like(picture), 1.0) == []
    backend.close()
    at = {name: number for number, name in enumerate(backend.layout.joint_names)}
    nose = [pose.joints[at["nose"]] for pose in seen]
    assert 200 < nose[0][0] < 330
    assert 180 < nose[0][1] < 270
    assert nose[2][0] - nose[0][0] == pytest.approx(80, abs=25)
    left, right = (seen[0].space[at[f"{side}_shoulder"]] for side in ("left", "right"))
    assert left[0] < right[0], "a depth camera's x points to its left, where the right of a person is who faces it"
