"""Store, long tail, transforms, NW-UCLA, synthetic set, loaders."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feeders import feeder_ucla
from feeders.body import ACTIONS, LAYOUT, forward_kinematics, joint_angles, sample_body
from feeders.feeder_ucla import CLASSES, Feeder, ViewDraws
from feeders.loader import StoreLoader
from feeders.longtail import exponential_counts, long_tailed_subset, shot_groups
from feeders.store import DataError, Sample, SkeletonStore, cache_folders
from feeders.synthetic import Feeder as Synthetic
from feeders.transforms import neighbouring_frames, random_crop, scale_to_unit
from shapmix.skeleton import SkeletonLayout
from tests.conftest import write_ucla

# --- store -----------------------------------------------------------------------------------------------------------


def samples(lengths=(3, 5, 1)):
    rng = np.random.default_rng(0)
    for number, length in enumerate(lengths):
        yield Sample(f"s{number}", number % 2, rng.normal(size=(length, 2, 25, 3)))


def test_store_packs_and_maps(tmp_path):
    store = SkeletonStore.build([tmp_path], "set", "f1", samples)
    assert isinstance(store.frames, np.memmap)
    assert store.frames.shape == (9, 2, 25, 3)
    assert store.lengths.tolist() == [3, 5, 1]
    for number, sample in enumerate(samples()):
        np.testing.assert_array_equal(store.sequence(number), sample.frames.astype(np.float32))
    assert np.load(store.path / "frames.npy").shape == (9, 2, 25, 3), "a plain .npy file"
    again = SkeletonStore.build([tmp_path], "set", "f1", lambda: pytest.fail("read again"))
    assert again.checksum == store.checksum


@pytest.mark.parametrize("half", [False, True])
def test_pieces_are_the_frames(tmp_path, half):
    def read():
        for sample in samples((3, 5, 1, 9)):
            yield Sample(sample.id, sample.label, sample.frames.astype(np.float16 if half else np.float64))

    store = SkeletonStore.build([tmp_path], "set", "f", read)
    assert store.frames.dtype == (np.float16 if half else np.float32)
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 4, 30)
    frames = np.floor(rng.random((30, 7)) * store.lengths[rows][:, None]).astype(int)
    wanted = np.stack([store.sequence(row)[own] for row, own in zip(rows, frames, strict=True)])
    for opened in (store, store.in_memory()):
        pieces, places = opened.pieces(rows, frames)
        np.testing.assert_array_equal(pieces[places], wanted)
    assert not isinstance(store.in_memory().frames, np.memmap)
    os.truncate(store.path / "frames.npy", (store.path / "frames.npy").stat().st_size - 4)
    with pytest.raises(DataError, match=r"frames\.npy is cut off; delete the folder"):
        store.pieces(np.array([3]), np.array([[0, 8]]))


def test_changed_source_replaces_the_store(tmp_path):
    """The store of the former source is removed, unless somebody uses it or it may be of another folder."""

    def build(fingerprint: str, source: str | None) -> SkeletonStore:
        place = None if source is None else tmp_path / source
        return SkeletonStore.build([tmp_path / "cache"], "set", fingerprint, samples, source=place)

    def there() -> list[str]:
        return sorted(path.name.rpartition("-")[2] for path in (tmp_path / "cache").iterdir())

    build("f1", "a")
    build("f2", "a/../a")
    assert there() == ["f2"]
    used = build("f3", "b")
    build("f4", None)
    assert there() == ["f2", "f3", "f4"], "of another folder, and of an unknown one"
    build("f5", "b")
    assert there() == ["f2", "f3", "f4", "f5"], "f3 is in use"
    assert used.renamed(["x", "y", "z"]).sequence(1).shape == (5, 2, 25, 3)
    del used
    build("f6", "b")
    assert there() == ["f2", "f4", "f6"]


def test_crash_while_packing_leaves_the_old_store(tmp_path):
    SkeletonStore.build([tmp_path], "set", "f1", samples)

    def broken():
        yield from samples()
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        SkeletonStore.build([tmp_path], "set", "f2", broken)
    assert [path.name for path in tmp_path.iterdir()] == ["set.store-f1"]


def test_first_folder_that_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    store = SkeletonStore.build([tmp_path / "file" / "x", tmp_path / "cache"], "set", "f", samples)
    assert store.path.parent == tmp_path / "cache"
    with pytest.raises(DataError, match="can be written; name a folder with cache_dir"):
        SkeletonStore.build([tmp_path / "file" / "x"], "set", "f", samples)


def test_cache_folders(tmp_path):
    assert cache_folders(tmp_path / "data", None)[0] == tmp_path
    assert [str(folder) for folder in cache_folders(tmp_path / "data", "mine")] == ["mine"]


def test_damaged_store_says_what_to_do(tmp_path):
    store = SkeletonStore.build([tmp_path], "set", "f", samples)
    (store.path / "offsets.npy").write_bytes(b"")
    with pytest.raises(DataError, match="delete the folder, and it is built again"):
        SkeletonStore.build([tmp_path], "set", "f", samples)


# --- long tail -------------------------------------------------------------------------------------------------------


def test_published_counts():
    assert exponential_counts(100, 10, 10) == [100, 77, 59, 46, 35, 27, 21, 16, 12, 10]
    assert exponential_counts(600, 100, 60)[0] == 600
    assert exponential_counts(600, 100, 60)[-1] == 6


def test_subset_follows_the_protocol():
    labels = np.array([0, 1, 0, 1, 1, 0])
    rng = np.random.RandomState(0)
    zero, one = [0, 2, 5], [1, 3, 4]
    rng.shuffle(zero)
    rng.shuffle(one)
    assert long_tailed_subset(labels, [2, 1]).tolist() == zero[:2] + one[:1]


def test_groups():
    assert shot_groups([101, 100, 20, 19]) == {"many": [0], "medium": [1, 2], "few": [3]}


# --- transforms ------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(4, 120))
def test_resize_is_interpolate(length, window):
    line = torch.randn(1, 2, length, generator=torch.Generator().manual_seed(length))
    left, right, weight = neighbouring_frames(np.array([0]), np.array([length]), window)
    assert 0 <= left.min() <= right.max() < length
    ours = torch.lerp(line[0][:, left[0]], line[0][:, right[0]], torch.from_numpy(weight[0]))
    theirs = torch.nn.functional.interpolate(line[None], size=(2, window), mode="bilinear", align_corners=False)[0, 0]
    # both round a place of up to `length` frames to float32, and the line has this slope there
    bound = length * torch.finfo(torch.float32).eps * float(line.diff().abs().max() if length > 1 else 0) + 1e-6
    torch.testing.assert_close(ours, theirs, rtol=0, atol=bound)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.floats(0, 0.999), st.floats(0, 0.999))
def test_crop_stays_inside(length, share, place):
    start, size = random_crop(np.array([length]), (0.5, 1.0), 64, np.array([[share, place]]))
    assert 0 <= start[0] <= start[0] + size[0] <= length
    assert size[0] >= min(64, length)


def test_scale_ignores_padding():
    x = torch.arange(6.0).view(1, 1, 6, 1, 1).repeat(1, 2, 1, 1, 1)
    x[:, 1] = 7.0
    valid = torch.tensor([[True, True, True, False, False, False]])
    scaled = scale_to_unit(x, valid)
    assert scaled[0, 0, :3].flatten().tolist() == [-1, 0, 1]
    assert (scaled[0, 1] == 0).all(), "a constant axis becomes 0"


# --- NW-UCLA ---------------------------------------------------------------------------------------------------------


def test_ucla_real(ucla, tmp_path):
    cache = str(tmp_path)
    train, test = Feeder(ucla, cache_dir=cache), Feeder(ucla, "test", cache_dir=cache)
    assert (len(train), len(test)) == (1020, 464)
    assert all(name.endswith("v03") for name in test.ids)
    tail = Feeder(ucla, long_tail={"n_max": 100, "imbalance": 10}, cache_dir=cache)
    assert np.bincount(tail.labels).tolist() == [100, 77, 59, 46, 35, 27, 21, 16, 12, 10]
    assert set(tail.ids) < set(train.ids)
    held = Feeder(ucla, "val", val_subjects=[1, 2], cache_dir=cache)
    rest = Feeder(ucla, "train", val_subjects=[1, 2], cache_dir=cache)
    assert len(held) + len(rest) == 1020
    assert {name[4:7] for name in held.ids} == {"s01", "s02"}
    draws = train.draw(8, torch.Generator().manual_seed(0))
    x = train.batch(np.arange(8), draws=draws)
    assert x.shape == (8, 3, 52, 20, 1)
    assert x.abs().max() <= 1
    assert not torch.equal(x, train.batch(np.arange(8)))
    part = draws.map(lambda numbers: numbers[3:5])
    assert torch.equal(train.batch(np.arange(8), draws=draws)[3:5], train.batch(np.arange(3, 5), draws=part))


def test_ucla_frames_of_the_test_view_are_linspace(tmp_path):
    """A steady movement shows which 52 frames were chosen, for lengths up to 201."""
    folder = write_ucla(tmp_path / "all_sqe")
    for length in (1, 2, 51, 52, 53, 201):
        frames = [[[t, t, t]] * 19 + [[-t, 0, 1]] for t in range(length)]
        (folder / f"a01_s09_e{length % 100:02d}_v03.json").write_text(json.dumps({"skeletons": frames}))
    feeder = Feeder(str(folder), "test", cache_dir=str(tmp_path))
    rows = np.array([row for row, name in enumerate(feeder.ids) if "_s09_" in name])
    x = feeder.batch(rows)[:, 0, :, 0, 0]  # this joint's x rises by a constant step from frame to frame
    for row, values in zip(rows, x, strict=True):
        length = feeder.store.lengths[feeder.members[row]]
        if length > 1:
            wanted = np.linspace(0, length - 1, 52).astype(int)
            steps = torch.unique(values).numpy()
            assert np.searchsorted(steps, values.numpy()).tolist() == np.unique(wanted, return_inverse=True)[1].tolist()


def test_ucla_test_view_does_not_depend_on_the_batch(tmp_path):
    """Beside a sequence of one frame, numpy's linspace for all of them at once rounds otherwise (52, 103, ...)."""
    folder = write_ucla(tmp_path / "all_sqe")
    for length in (1, 40, 52, 103, 154, 205):
        frames = np.random.default_rng(length).normal(size=(length, 20, 3)).tolist()
        (folder / f"a01_s09_e{length % 100:02d}_v03.json").write_text(json.dumps({"skeletons": frames}))
    feeder = Feeder(str(folder), "test", cache_dir=str(tmp_path))
    rows = np.arange(len(feeder))
    assert torch.equal(feeder.batch(rows), torch.cat([feeder.batch(row[None]) for row in rows]))


def published_training_view(joints: np.ndarray, about_x: float, about_y: float, chosen: Sequence[int]) -> np.ndarray:
    """CTR-GCN's training view of one sequence (L, 20, 3), point after point: rows times Ry, then times Rx."""
    cos, sin = math.cos, math.sin
    turn_y = np.array([[cos(about_y), 0, -sin(about_y)], [0, 1, 0], [sin(about_y), 0, cos(about_y)]])
    turn_x = np.array([[1, 0, 0], [0, cos(about_x), sin(about_x)], [0, -sin(about_x), cos(about_x)]])
    points = [(point - joints[0, 1]) @ turn_y @ turn_x for frame in joints for point in frame]
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    scaled = 2 * (np.array(points) - low) / (high - low) - 1
    return scaled.reshape(-1, 20, 3)[chosen]


@pytest.mark.parametrize("stream", ["joint", "bone_motion"])
def test_ucla_training_view_as_published(tmp_path, stream):
    folder = write_ucla(tmp_path / "all_sqe")
    feeder = Feeder(str(folder), "train", stream, 52, cache_dir=str(tmp_path))
    rng = np.random.default_rng(3)
    degrees = rng.integers(-60, 61, size=(len(feeder), 2))
    degrees[:4] = [[60, 0], [0, 60], [-60, 60], [-37, 14]]  # about x, about y
    where = rng.random((len(feeder), 52))
    view = (torch.from_numpy(degrees) + 60.5) / 121  # the numbers in 0 .. 1 that give these degrees
    found = feeder.batch(np.arange(len(feeder)), draws=ViewDraws(view, torch.from_numpy(where))).numpy()
    for name, (about_x, about_y), places, x in zip(feeder.ids, np.radians(degrees), where, found, strict=True):
        joints = np.array(json.loads((folder / f"{name}.json").read_text())["skeletons"])
        wanted = published_training_view(joints, about_x, about_y, sorted((places * len(joints)).astype(int)))
        if stream == "bone_motion":
            parents = SkeletonLayout.get("ucla20").parents()
            wanted = wanted - wanted[:, parents]
            wanted = np.concatenate([np.diff(wanted, axis=0), np.zeros((1, 20, 3))])
        np.testing.assert_allclose(x[..., 0], wanted.transpose(2, 0, 1), atol=1e-5)


def test_ucla_upright_body_never_leans_sideways(tmp_path, monkeypatch):
    monkeypatch.setattr(feeder_ucla, "scale_to_unit", lambda x, valid: x)
    pose = np.zeros((6, 20, 3))
    pose[:, :, 1] = np.arange(20)
    folder = write_ucla(tmp_path / "all_sqe", a01_s09_e00_v01={"skeletons": pose.tolist()})
    feeder = Feeder(str(folder), cache_dir=str(tmp_path))
    rows = np.full(50, feeder.ids.index("a01_s09_e00_v01"))
    x = feeder.batch(rows, draws=feeder.draw(50, torch.Generator().manual_seed(0)))
    assert x[:, 0].abs().max() < 1e-5
    assert x[:, 2].abs().max() > 10, "it leans forwards and backwards"


def test_ucla_classes():
    assert list(CLASSES) == [1, 2, 3, 4, 5, 6, 8, 9, 11, 12]


# --- synthetic set ---------------------------------------------------------------------------------------------------


def test_synthetic_counts_and_parts(tmp_path):
    feeder = Synthetic("train", n_max=100, imbalance=50, cache_dir=str(tmp_path))
    counts = np.bincount(feeder.labels).tolist()
    assert counts[0] == 100
    assert counts[-1] == 2
    assert counts == sorted(counts, reverse=True)
    assert np.bincount(Synthetic("test", num_test=2, cache_dir=str(tmp_path)).labels).tolist() == [2] * 12
    assert len({action.name for action in ACTIONS}) == 12
    assert all(set(action.parts) <= set(LAYOUT.part_names) and len(action.parts) <= 2 for action in ACTIONS)


def test_synthetic_bodies_move_their_parts():
    """The parts that carry an action move more than all others, and bones keep their length."""
    for action in ACTIONS:
        energy = np.zeros(LAYOUT.num_parts)
        for seed in range(3):
            rng = np.random.default_rng(seed)
            body = sample_body(rng)
            joints = forward_kinematics(body, joint_angles(action, 60, rng))
            energy += [joints[:, list(part)].var(0).sum(-1).mean() for part in LAYOUT.parts.values()]
            bones = np.linalg.norm(joints[:, LAYOUT.joint("left_knee")] - joints[:, LAYOUT.joint("left_hip")], axis=-1)
            assert np.ptp(bones) < 1e-9
        carrying = [LAYOUT.part_names.index(part) for part in action.parts]
        others = np.delete(energy, carrying)
        assert energy[carrying].min() > others.max(), action.name


def test_synthetic_sets_nest(tmp_path):
    def frames(num_test: int, seed: int) -> dict[str, np.ndarray]:
        store = Synthetic("val", num_test=num_test, seed=seed, cache_dir=str(tmp_path)).store
        return {name: store.sequence(number) for number, name in enumerate(store.ids)}

    small, large, other = frames(1, 5), frames(2, 5), frames(1, 6)
    for name in small:
        np.testing.assert_array_equal(small[name], large[name])
    assert not np.array_equal(small["wave_right_0000"], other["wave_right_0000"])


def test_synthetic_distraction_moves_other_parts_alone():
    """The action does not change; other parts move, the more the larger the distraction."""
    for number, action in enumerate(ACTIONS):
        clean, half, full = (joint_angles(action, 60, np.random.default_rng(number), by) for by in (0.0, 0.5, 1.0))
        moved = np.abs(full - clean).max((0, 2)) > 0
        own = {LAYOUT.joint(joint) for joint in action.curve(np.ones(60), np.linspace(0, 1, 60))}
        assert moved.any(), action.name
        assert not moved[list(own)].any(), action.name
        np.testing.assert_allclose(full - clean, 2 * (half - clean), atol=1e-9)


def test_synthetic_distraction_is_another_set(tmp_path):
    def frames(**args: float) -> np.ndarray:
        feeder = Synthetic("val", num_test=1, cache_dir=str(tmp_path), **args)
        return feeder.store.sequence(0)

    assert not np.array_equal(frames(), frames(distraction=0.5))
    assert not np.array_equal(frames(distraction=0.6), frames(distraction=0.5))
    np.testing.assert_array_equal(frames(), frames(distraction=0.0))
    with pytest.raises(DataError, match=r"distraction must lie in 0\.\.1, got 1.5"):
        frames(distraction=1.5)


# --- loaders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def loader(tmp_path):
    feeder = Synthetic("train", window_size=16, n_max=10, imbalance=5, repeat=2, cache_dir=str(tmp_path))
    return StoreLoader(feeder, 16, 3, torch.device("cpu"))


def test_an_epoch_shows_every_sample(loader):
    rows = loader.plan(0).flatten()
    assert loader.steps == len(loader.ids) * 2 // 16
    assert torch.bincount(rows, minlength=len(loader.ids)).max() <= 2
    assert len(loader.ids) * 2 - len(rows) < 16, "only the incomplete last batch is dropped"
    assert not torch.equal(rows, loader.plan(1).flatten())


def test_later_steps_do_not_depend_on_earlier_ones(loader):
    whole, rest = list(loader.shuffled(4)), list(loader.shuffled(4, first_step=2))
    assert len(rest) == len(whole) - 2
    assert torch.equal(rest[0].x, whole[2].x)
    assert torch.equal(rest[0].rows, whole[2].rows)


def test_a_single_incomplete_batch_is_kept(tmp_path):
    feeder = Synthetic("train", window_size=16, n_max=2, imbalance=1, cache_dir=str(tmp_path))
    loader = StoreLoader(feeder, 64, 3, torch.device("cpu"))
    assert [len(batch.y) for batch in loader.shuffled(0)] == [24]
