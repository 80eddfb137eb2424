"""Every form tells its own files by their content, and reads the same made-up take from them."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from scipy.io import savemat

from feeders.convert.forms import FORMS
from feeders.convert.prepare import Source
from feeders.convert.recording import Hints, Recording
from tools.faults.made_up import skeleton_text

from .test_bvh import bvh_text
from .test_plain_text import text_of

V = 25
NAMES = [f"joint {letter}" for letter in "abcdefghijklmnopqrstuvwxy"]
TAKE = np.random.default_rng(0).normal(size=(8, V, 3)).round(4)  # (T, V, C)


def saved(**variables) -> bytes:
    file = io.BytesIO()
    savemat(file, variables)
    return file.getvalue()


def flat(frame: np.ndarray) -> list[float]:
    """OpenPose's four numbers a joint."""
    return np.concatenate([frame, np.ones((V, 1))], axis=1).ravel().tolist()


def objects(frame: np.ndarray) -> list[dict[str, float]]:
    return [dict(zip("xyz", joint, strict=True), visibility=1.0) for joint in frame.tolist()]


LISTS = TAKE.tolist()
WRITTEN = {  # form -> the files of a take
    "BVH": [bvh_text(TAKE, [-1, *range(V - 1)], NAMES).encode()],
    "JSON": [json.dumps({"skeletons": LISTS}).encode()],
    "JSON lines": [b"\n".join(json.dumps(frame).encode() for frame in LISTS)],
    "JSON of names": [json.dumps([dict(zip(NAMES, frame, strict=True)) for frame in LISTS]).encode()],
    "OpenPose": [json.dumps({"people": [{"pose_keypoints_3d": flat(frame)}]}).encode() for frame in TAKE],
    "MediaPipe": [json.dumps({"pose_world_landmarks": [objects(frame)]}).encode() for frame in TAKE],
    "MATLAB": [saved(d_skel=TAKE.transpose(1, 2, 0))],
    "MATLAB, x y z": [saved(x=TAKE[..., 0], y=TAKE[..., 1], z=TAKE[..., 2])],
    "text, a joint a line": [text_of(TAKE.reshape(-1, 3))],
    "text, a frame a line": [text_of(TAKE.reshape(len(TAKE), -1), ",")],
    "NTU": [skeleton_text(TAKE[:, None]).encode()],
}


def read(tmp_path, files: list[bytes]) -> Recording:
    sources = []
    for number, content in enumerate(files):
        path = tmp_path / f"take_{number}.dat"
        path.write_bytes(content)
        sources.append(Source(str(path), ""))
    form = next(form for form in FORMS if form.recognises("take_0.dat", files[0][:4096]))
    assert form.one_frame(sources[0]) == (len(files) > 1)
    return form.read(sources, Hints(num_joints=V, dims=3))


@pytest.mark.parametrize("form", WRITTEN)
def test_the_same_take(tmp_path, form):
    recording = read(tmp_path, WRITTEN[form])
    places = [recording.joint_names.index(name) for name in NAMES] if recording.joint_names else range(V)
    exact = form not in ("BVH", "NTU")  # the first adds offsets, the second is read in single precision
    np.testing.assert_allclose(
        recording.frames[:, 0, places], TAKE, rtol=0 if exact else 1e-6, atol=0 if exact else 1e-9
    )
    assert recording.frames.shape == (8, 1, V, 3)
    assert recording.score is None or (recording.score == 1).all()


@pytest.mark.parametrize("content", [b"", b"\n", b"\x89PNG\r\n\x1a\n", b"%PDF-1.7", b"# notes\nhello", b"<xml/>"])
def test_files_of_no_form(content):
    assert [form.name for form in FORMS if form.recognises("take.dat", content)] == []
