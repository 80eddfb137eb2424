"""Crop, resize, rotation and streams against the published implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from feeders.feeder_ucla import Feeder
from feeders.transforms import centre_crop, neighbouring_frames, rotate, rotation_matrices, to_stream
from shapmix.skeleton import SkeletonLayout

LAYOUT = SkeletonLayout.get("ntu25")


def resized(frames, start, length):
    left, right, weight = neighbouring_frames(np.array([start]), np.array([length]), 64)
    x = torch.from_numpy(frames)
    return torch.lerp(x[:, left[0]], x[:, right[0]], torch.from_numpy(weight[0])[:, None, None]).numpy()


@pytest.mark.parametrize("case", range(6))
def test_ntu_transforms(case, golden):
    want = golden("transforms_ntu25")
    frames = want[f"test{case}_x"]
    start, length = centre_crop(np.array([frames.shape[1]]), float(want[f"test{case}_p"]))
    np.testing.assert_allclose(resized(frames, start[0], length[0]), want[f"test{case}_y"], rtol=0, atol=1e-5)
    crop = resized(frames, int(want[f"train{case}_start"]), int(want[f"train{case}_length"]))
    np.testing.assert_allclose(crop, want[f"train{case}_y"], rtol=0, atol=1e-5)

    x = torch.from_numpy(want[f"train{case}_y"])[None]
    turned = rotate(x, rotation_matrices(torch.from_numpy(want[f"rot{case}_angles"])[None]))
    np.testing.assert_allclose(turned[0].numpy(), want[f"rot{case}_y"], rtol=0, atol=1e-5)
    for stream in ("bone", "joint_motion", "bone_motion"):
        ours = to_stream(x, LAYOUT, stream)[0].numpy()
        np.testing.assert_allclose(ours, want[f"stream{case}_{stream}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("stream", "key"),
    [("joint", "joint"), ("bone", "bone"), ("joint_motion", "motion"), ("bone_motion", "bone_motion")],
)
def test_ucla_test_view(stream, key, golden, ucla, tmp_path):
    want = golden("ucla_test")
    feeder = Feeder(ucla, "test", stream, 52, cache_dir=str(tmp_path))
    rows = [feeder.ids.index(name) for name in want["names"]]
    np.testing.assert_array_equal(feeder.labels[rows], want["labels"])
    np.testing.assert_allclose(feeder.batch(np.array(rows)).numpy(), want[f"test_{key}"], rtol=0, atol=1e-5)
