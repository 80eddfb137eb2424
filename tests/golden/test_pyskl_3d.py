"""NTU from PYSKL's 3D pickles: preparation, streams, clips and the network's input, from pickle to batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from feeders.feeder_pose import Feeder
from feeders.store import SkeletonStore
from feeders.uniform_sampling import test_clips as clips_at_test_time
from tests.conftest import write_pickle
from tools import prepare_pose

STREAMS = {"joint": "j", "bone": "b", "joint_motion": "jm", "bone_motion": "bm"}
CASES = range(6)


@pytest.fixture(scope="module")
def published(golden_path) -> dict[str, np.ndarray]:
    with np.load(golden_path("pyskl_3d.npz"), allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def store(published, tmp_path_factory) -> str:
    """The six annotations, prepared by the command."""
    folder = tmp_path_factory.mktemp("pyskl_3d")
    made = [
        {"frame_dir": f"S001C001P001R001A00{case + 1}", "label": case, "keypoint": published[f"case{case}_keypoint"]}
        for case in CASES
    ]
    names = [one["frame_dir"] for one in made]
    path = write_pickle(folder / "ntu.pkl", {"split": {"xsub_val": names}, "annotations": made})
    assert prepare_pose.main([str(path), "--out", str(folder / "store"), "--jobs", "1"]) == 0
    return str(folder / "store")


def people(x: np.ndarray) -> np.ndarray:
    """(M, L, V, C) of one or two people -> (C, L, V, 2)."""
    return np.pad(x, [(0, 2 - len(x)), (0, 0), (0, 0), (0, 0)]).transpose(3, 1, 2, 0)


@pytest.mark.parametrize("case", CASES)
def test_preparation(published, store, case):
    prepared, wanted = SkeletonStore(Path(store)).sequence(case), people(published[f"case{case}_normalised"])
    np.testing.assert_allclose(prepared.transpose(3, 0, 2, 1), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("clips", [1, 10])
def test_frames(published, store, case, clips):
    length = int(SkeletonStore(Path(store)).lengths[case])
    np.testing.assert_array_equal(
        clips_at_test_time(length, 100, clips).reshape(-1), published[f"case{case}_clips{clips}_frames"]
    )


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("clips", [1, 10])
def test_streams(published, store, stream, clips):
    feeder = Feeder(store, stream=stream, num_clips=clips)
    assert (feeder.layout.name, feeder.split, feeder.num_clips) == ("ntu25", "xsub_val", clips)
    x = feeder.batch(np.arange(6)).numpy().reshape(6, clips, 3, 100, 25, 2)
    for case in CASES:
        whole = people(published[f"case{case}_{STREAMS[stream]}"])
        frames = published[f"case{case}_clips{clips}_frames"].reshape(clips, 100)
        np.testing.assert_allclose(x[case], whole[:, frames].swapaxes(0, 1), rtol=0, atol=1e-5)


def test_input_of_the_network(published, store):
    x = Feeder(store, stream="joint_motion").batch(np.arange(6)).numpy()
    for case in CASES:
        wanted = published[f"case{case}_clips1_jm_input"][0].transpose(3, 1, 2, 0)  # from (M, T, V, C)
        np.testing.assert_allclose(x[case], wanted, rtol=0, atol=1e-5)
