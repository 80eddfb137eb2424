"""A feeder that is made of another one's view alone shows the same sequences in the same way."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from feeders import feeder_ntu, feeder_pose, feeder_store, feeder_ucla, synthetic, synthetic_pose
from feeders.feeder import StoreFeeder
from feeders.store import DataError, Sample, SkeletonStore
from tests.conftest import annotations, write_ntu_store, write_pickle
from tests.made_up import DESK, write_store

STREAMS = ["joint", "bone", "joint_motion", "bone_motion"]


def elsewhere(feeder: StoreFeeder, prepared: bool = True) -> StoreFeeder:
    """A feeder of the same view over the same sequences in memory; its state goes through JSON."""
    state, store = json.loads(json.dumps(feeder.view_state())), feeder.store
    columns = [name for name in ("height", "width") if name in store.columns]
    samples = []
    for name, member in zip(feeder.ids, feeder.members, strict=True):
        frames = np.array(store.sequence(int(member)))
        known = {column: int(store.columns[column][member]) for column in columns}
        samples.append(
            Sample(name, 0, frames if prepared else feeder.as_stored(frames, feeder.coordinates), columns=known)
        )
    return type(feeder).from_view(state, SkeletonStore.of(samples))


def assert_same(feeder: StoreFeeder, prepared: bool = True) -> None:
    rows, other = np.arange(len(feeder)), elsewhere(feeder, prepared)
    assert other.ids == feeder.ids
    assert other.coordinates == feeder.coordinates
    assert torch.equal(other.batch(rows), feeder.batch(rows))


@pytest.mark.parametrize("stream", STREAMS)
def test_made_up_sets(stream, tmp_path):
    options = {"split": "test", "stream": stream, "num_test": 2, "window_size": 16, "cache_dir": str(tmp_path)}
    assert_same(synthetic.Feeder(**options))
    assert_same(synthetic.Feeder(**options), prepared=False)
    assert_same(synthetic_pose.Feeder(**options, num_clips=3))


@pytest.mark.parametrize("stream", ["joint", "bone_motion"])
def test_nw_ucla(stream, ucla):
    assert_same(feeder_ucla.Feeder(ucla, "test", stream))


@pytest.mark.parametrize("protocol", ["ntu60_xsub", "ntu120_xsub"])
@pytest.mark.parametrize("normalization", [False, True])
def test_ntu(protocol, normalization, tmp_path):
    """The statistics of the training split come along, and 120's absent second actor is a copy of the first."""
    rng = np.random.default_rng(0)
    sequences = {}
    for subject in (1, 3):
        two, one = (rng.normal(size=(20, actors, 25, 3)).astype(np.float32) for actors in (2, 1))
        sequences |= {f"S001C001P00{subject}R001A001": two, f"S001C001P00{subject}R001A002": one}
    store = write_ntu_store(tmp_path / "ntu", sequences, protocol[: protocol.index("_")])
    options = {"protocol": protocol, "normalization": normalization, "p_interval": 0.8, "window_size": 16}
    splits = {split: feeder_ntu.Feeder(str(store), split, **options) for split in ("train", "test")}
    splits["test"].agree(splits)
    assert_same(splits["test"])


def test_prepared_stores(tmp_path):
    rng = np.random.default_rng(0)
    sequences = {f"s{number}": rng.normal(size=(12 + number, 2, 13, 3)) + 3 for number in range(4)}
    sequences["s1"][3:6, 1] = 0
    write_store(tmp_path / "space", sequences, [0, 1, 0, 1])
    for options in ({}, {"facing": True, "scale": "torso", "up": "y"}, {"scale": "bones", "p_interval": 0.5}):
        assert_same(feeder_store.Feeder(str(tmp_path / "space"), "test", **options))
    for frames in sequences.values():
        frames[..., 2] = rng.uniform(size=frames.shape[:3])
    for size in (0, 480):
        columns = {"height": [size] * 4, "width": [size] * 4}
        write_store(tmp_path / f"image{size}", sequences, [0, 1, 0, 1], DESK, columns)
        assert_same(feeder_store.Feeder(str(tmp_path / f"image{size}"), "test"))


@pytest.mark.parametrize("stream", STREAMS)
def test_pyskls_poses(stream, tmp_path):
    assert_same(
        feeder_pose.Feeder(
            ann_file=str(write_pickle(tmp_path / "poses.pkl", annotations())), split="val", stream=stream, num_clips=2
        )
    )


def test_what_is_found_in_the_data_comes_along(tmp_path):
    """The vertical axis is found in the data that was trained on, not in a sequence of somebody who lies."""
    upright = np.zeros((9, 1, 13, 3))
    upright[:, 0, [4, 5, 6], 1], upright[:, 0, 7, 0], upright[:, 0, 10, 0] = 1.7, 0.2, -0.2
    upright[:, 0, [1, 2], 1] = 0.1
    rng = np.random.default_rng(0)
    write_store(tmp_path / "mine", {"one": upright + 0.01 * rng.normal(size=upright.shape)}, [0])
    feeder = feeder_store.Feeder(str(tmp_path / "mine"), "test", facing=True, up="y")
    assert feeder.view_state()["up"] == "y"


def test_refused(tmp_path):
    feeder = synthetic.Feeder("test", num_test=1, window_size=16, cache_dir=str(tmp_path))
    state, good = feeder.view_state(), np.zeros((9, 1, 25, 3), np.float32)

    def shown(frames: np.ndarray) -> StoreFeeder:
        return synthetic.Feeder.from_view(state, SkeletonStore.of([Sample("one", 0, frames)]))

    shown(good)
    with pytest.raises(DataError, match=r"\(2, 25, 3\), wanted \(1, 25, 3\)"):
        shown(np.zeros((9, 2, 25, 3), np.float32))
    with pytest.raises(DataError, match="one has 0 frames"):
        shown(good[:0])
    good[0, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="one has NaN"):
        shown(good)
    good[0, 0, 0, 0] = 1e9
    with pytest.raises(DataError, match="above bad_value_limit"):
        shown(good)
