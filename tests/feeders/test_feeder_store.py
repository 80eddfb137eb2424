"""The feeder of any prepared store: its view against closed forms, its splits, its errors; runs with it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from feeders.feeder_store import Feeder
from feeders.loader import StoreLoader
from feeders.own_splits import numbers_of
from feeders.store import DataError
from feeders.synthetic import synthesize
from feeders.transforms import to_stream
from shapmix import SkeletonLayout
from shapmix.draws import generator
from tests.made_up import DESK, HAND, write_store

STREAMS = ["joint", "bone", "joint_motion", "bone_motion"]


def body(length: int = 9, seed: int = 0) -> np.ndarray:
    """(L, 13, 3): somebody upright along y, with a torso of 0.5 and shoulders along x; the wrists move at random."""
    joints = np.zeros((length, 13, 3))
    joints[:, [3, 7, 10], 1], joints[:, [4, 5, 6], 1] = 0.5, 0.7
    joints[:, [1, 7, 8, 9], 0], joints[:, [2, 10, 11, 12], 0] = 0.2, -0.2
    joints[:, [9, 12]] += np.random.default_rng(seed).normal(size=(length, 2, 3))
    return joints


def about_y(angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])


def view(folder, frames: np.ndarray, columns=None, layout=DESK, **options) -> np.ndarray:
    """(T, M, V, C) of one sequence (L, M, V, 3), shown whole, where T = L frame by frame."""
    write_store(folder, {"one": frames}, [0], layout, columns)
    return show(folder, window_size=len(frames), **options)


def show(folder, **options) -> np.ndarray:
    x = Feeder(str(folder), "test", p_interval=1.0, **options).batch(np.arange(1))
    return x[0].permute(1, 3, 2, 0).numpy()


@pytest.mark.parametrize("people", [1, 3])
def test_centred_on_the_first_frame_of_the_first_person(people, tmp_path):
    """Not of those who are absent, who stay 0."""
    frames = np.stack([body(seed=person) + np.array([person, 2, 3 * person]) for person in range(people)], axis=1)
    frames[:4, 0] = 0
    frames[6:, people - 1] = 0
    shown = view(tmp_path / "mine", frames)
    wanted = np.where(frames.any((2, 3), keepdims=True), frames - frames[4, 0, DESK.center], 0)
    np.testing.assert_allclose(shown, wanted, atol=1e-6)


def test_nobody_moves_in_from_the_origin(tmp_path):
    """Between a frame with a person and one without is one of them, and nothing half way."""
    frames = np.stack([body(8), body(8) + 5], axis=1)
    frames[3:, 1] = 0
    write_store(tmp_path / "mine", {"one": frames}, [0])
    shown = show(tmp_path / "mine", window_size=27)
    there = shown[:, 1].any((1, 2))
    assert (np.diff(there.astype(int)) != 0).sum() == 1
    assert abs(shown[there, 1] - 5).max() < abs(body(8)).max() + 1e-5


@pytest.mark.parametrize(("up", "order"), [("y", [0, 1, 2]), ("z", [0, 2, 1]), ("x", [1, 0, 2])])
def test_all_face_the_same_way(up, order, tmp_path):
    """Turned about the vertical; the shoulders of the first frame lie along the first other axis."""
    frames = (body() @ about_y(0.7).T)[:, None] + [1, 2, 3]
    shown = view(tmp_path / "mine", frames[..., order], facing=True, up=up)
    vertical, (first, second) = order.index(1), [axis for axis in range(3) if order[axis] != 1]
    line = shown[0, 0, 7] - shown[0, 0, 10]
    assert line[first] == pytest.approx(0.4, abs=1e-5)
    assert line[[vertical, second]] == pytest.approx([0, 0], abs=1e-5)
    lengths = np.linalg.norm(shown[:, 0, 9] - shown[:, 0, 8], axis=-1)
    np.testing.assert_allclose(lengths, np.linalg.norm(body()[:, 9] - body()[:, 8], axis=-1), rtol=1e-4)
    if order == [0, 1, 2]:
        np.testing.assert_allclose(shown[:, 0], body(), atol=1e-5)


def test_the_vertical_axis_is_found(tmp_path):
    """From head and feet; so all bodies of the made-up set turn as one with known axes."""
    frames = {f"s{n}": synthesize(n, np.random.default_rng(n))[..., [2, 0, 1]] for n in range(3)}
    write_store(tmp_path / "mine", frames, [0, 1, 2], SkeletonLayout.get("ntu25"))
    found, told = (Feeder(str(tmp_path / "mine"), facing=True, flip=1, rotate_about="up", up=up) for up in (None, "z"))
    draws = found.draw(3, generator(0, "draws"))
    assert torch.equal(found.batch(np.arange(3), draws=draws), told.batch(np.arange(3), draws=draws))
    assert found.angles.tolist() == pytest.approx([0, 0, 0.3])


def test_scaled_by_the_torso_or_the_bones(tmp_path):
    frames = 1000 * body()[:, None]
    frames[2] *= 3  # a median does not mind
    shown = view(tmp_path / "mine", frames, scale="torso")
    np.testing.assert_allclose(shown, frames / 500, rtol=1e-5, atol=1e-6)
    shown = show(tmp_path / "mine", window_size=9, scale="bones", layout=None)
    bones = shown[:, 0] - shown[:, 0][:, DESK.parents()]
    assert np.median(np.linalg.norm(bones, axis=-1).sum(1) / 12) == pytest.approx(1, abs=1e-5)


def test_poses_run_from_minus_one_to_one_over_the_image(tmp_path):
    rng = np.random.default_rng(0)
    frames = np.concatenate([rng.random((5, 2, 13, 2)) * [640, 480], np.ones((5, 2, 13, 1))], axis=-1)
    frames[2, 1] = 0
    frames[:, 0, 4, 2] = 0.005
    wanted = frames.copy()
    wanted[..., :2] = np.where(frames[..., 2:] > 0.01, frames[..., :2] / [320, 240] - 1, 0)
    np.testing.assert_allclose(view(tmp_path / "a", frames, {"height": [480], "width": [640]}), wanted, atol=1e-5)
    shares = frames / [640, 480, 1]
    np.testing.assert_allclose(view(tmp_path / "b", shares, {"height": [1], "width": [1]}), wanted, atol=1e-5)
    shown = view(tmp_path / "c", frames, {"height": [0], "width": [0]})
    seen = shown[shown[..., 2] > 0.01][:, :2]
    low, high = seen.min(0), seen.max(0)
    assert (high - low).max() == pytest.approx(2, abs=1e-5)
    np.testing.assert_allclose(low, -high, atol=1e-5)
    points = frames[frames[..., 2] > 0.01][:, :2]
    np.testing.assert_allclose((high - low) / 2 * np.ptp(points, axis=0).max(), np.ptp(points, axis=0), rtol=1e-4)
    feeder = Feeder(str(tmp_path / "a"), "test", window_size=5)
    assert (feeder.coordinates, feeder.in_channels) == (2, 3)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_short_sequences(length, tmp_path):
    frames = body(length)[:, None] + 1
    write_store(tmp_path / "mine", {"one": frames}, [0])
    for split in ("train", "test"):
        feeder = Feeder(str(tmp_path / "mine"), split, window_size=16)
        draws = feeder.draw(1, generator(0, "draws")) if split == "train" else None
        x = feeder.batch(np.arange(1), draws=draws)
        assert x.shape == (1, 3, 16, 13, 1)
        assert x.isfinite().all()
        assert length > 1 or torch.equal(x[:, :, 0], x[:, :, 15])


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[str, str]:
    """One of three people in space and one of two in the image, of eight sequences."""
    made, rng = {}, np.random.default_rng(1)
    for kind, people, columns in (("space", 3, {}), ("image", 2, {"height": [0, 400] * 4, "width": [0, 500] * 4})):
        folder = tmp_path_factory.mktemp("stores") / kind
        frames = {f"s{n}": 0.3 * rng.random((9 + 5 * n, people, 13, 3)) + body(9 + 5 * n)[:, None] for n in range(8)}
        for number, joints in enumerate(frames.values()):
            joints[: 2 * number, -1] = 0
        columns["subject"] = [0, 1, 2, 3] * 2
        write_store(folder, frames, [0, 1] * 4, columns=columns, subjects=["ann", "bob", "cem", "dan"])
        made[kind] = str(folder)
    return made


@pytest.mark.parametrize("kind", ["space", "image"])
@pytest.mark.parametrize("stream", STREAMS)
def test_stages_end_in_the_same_view(kind, stream, stores):
    options = {"facing": True, "scale": "torso", "rotate_about": "up", "up": "y"} if kind == "space" else {}
    feeder = Feeder(stores[kind], stream=stream, window_size=16, flip=0.5, **options)
    rows, draws = np.arange(8), feeder.draw(8, generator(0, "draws"))
    assert (draws.flip < 0.5).any()
    whole = feeder.batch(rows, draws=draws)
    for stage in ("joints", "frames", "input"):
        torch.testing.assert_close(feeder.finish(feeder.batch(rows, draws=draws, stage=stage), draws, stage), whole)
    joints = feeder.batch(rows, draws=draws, stage="joints")
    torch.testing.assert_close(whole, to_stream(joints, DESK, stream, feeder.coordinates))
    unturned = feeder.batch(rows, draws=draws, stage="frames")
    kept = slice(1, 2) if kind == "space" else slice(2, 3)  # height, or score
    swapped = unturned[:, kept][:, :, :, DESK.mirrored()]
    flipped = (draws.flip < 0.5)[:, None, None, None, None]
    torch.testing.assert_close(joints[:, kept], torch.where(flipped, swapped, unturned[:, kept]))
    assert not torch.allclose(joints, unturned)


def test_a_batch_is_made_of_its_samples(stores):
    """Whoever else is in the batch, or in the process's part of it."""
    for kind, data_path in stores.items():
        feeder = Feeder(data_path, window_size=16)
        draws = feeder.draw(8, generator(0, "draws"))
        whole = feeder.batch(np.arange(8), draws=draws)
        for row in range(8):
            own = Feeder(data_path, window_size=16)  # which knows nothing of the other sequences yet
            alone = own.batch(np.array([row]), draws=draws.map(lambda numbers, row=row: numbers[row : row + 1]))
            torch.testing.assert_close(alone[0], whole[row], msg=kind)
        shown = StoreLoader(feeder, 8, 0, torch.device("cpu"))
        feeder.make_resident(torch.device("cpu"))
        torch.testing.assert_close(feeder.batch(np.arange(8), draws=draws), whole)
        assert len(list(shown.shuffled(0))) == 1


def test_a_run_that_continues_sees_the_same(stores):
    """Batches of a later epoch do not depend on what was shown before."""

    def batches(epochs: int) -> list[torch.Tensor]:
        loader = StoreLoader(Feeder(stores["space"], window_size=16, scale="bones"), 4, 0, torch.device("cpu"))
        return [batch.x for epoch in range(epochs, 3) for batch in loader.shuffled(epoch)][-2:]

    assert torch.equal(torch.cat(batches(0)), torch.cat(batches(2)))


def test_raw_sequences_are_in_place_too(stores):
    """As the baseline ``published`` wants them."""
    feeder = Feeder(stores["space"], "test", window_size=9, scale="torso")
    x = feeder.padded_joints(np.array([0, 1]))
    shown = Feeder(stores["space"], "test", window_size=9, scale="torso", p_interval=1.0)
    torch.testing.assert_close(x[:1], shown.batch(np.arange(1)))


def test_held_out_subjects_and_long_tails(stores, tmp_path):
    def ids(split: str, **options) -> list[str]:
        return Feeder(stores["space"], split, **options).ids

    assert ids("val", val_subjects=["bob", "dan"]) == ["s1", "s3", "s5", "s7"]
    assert ids("train", val_subjects=["bob", "dan"]) == ["s0", "s2", "s4", "s6"]
    assert sorted(ids("train", val_fraction=0.25) + ids("val", val_fraction=0.25)) == ids("test", val_fraction=0.25)
    assert len(ids("train", long_tail={"imbalance": 4})) == 5
    assert len(ids("test", long_tail={"imbalance": 4})) == 8
    (tmp_path / "list.txt").write_text("s0\ns1\ns3\n")
    assert ids("train", split_path=str(tmp_path / "list.txt"), val_subjects=["bob"]) == ["s0", "s3"]
    for options, wanted in (
        ({"val_subjects": ["eve"]}, "val_subjects of .*: no eve among ann, bob, cem, dan"),
        ({"val_fraction": 0.99}, "all 4 training subjects would be held out"),
        ({"long_tail": {"n_max": 9}}, "class 0 has 4 samples, 9 are asked for"),
        ({"long_tail": {"nmax": 9}}, "long_tail: unknown keys"),
        ({"long_tail": {}, "split_path": "list.txt"}, "split_path, .* or long_tail"),
    ):
        with pytest.raises(DataError, match=wanted):
            ids("train", **options)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"scale": "arm"}, "scale must be one of null, torso, bones, got 'arm'"),
        ({"up": "w"}, "up must be one of"),
        ({"rotate_about": "down"}, "rotate_about must be one of all, up"),
        ({"flip": 2}, "flip must be a share"),
        ({"random_rot": -1}, "random_rot an angle"),
        ({"split": "dev"}, "has no split 'dev'; there are test, train. .* python -m tools.split"),
        ({"split": "val"}, "has no split 'val'"),
    ],
)
def test_bad_options(options, wanted, stores):
    with pytest.raises(DataError, match=wanted):
        Feeder(stores["space"], **options)
    if "scale" in options:
        with pytest.raises(DataError, match="holds 2D poses; facing, scale"):
            Feeder(stores["image"], scale="torso")


def test_layouts_without_sides(tmp_path):
    frames = np.random.default_rng(0).normal(size=(9, 1, 21, 3))
    write_store(tmp_path / "hand", {"one": frames}, [0], HAND)
    for options, wanted in (
        (
            {"facing": True},
            "hand: layout 'my_hand' has no joints left_shoulder and right_shoulder, nor hips, to face by; leave out",
        ),
        (
            {"scale": "torso"},
            "'my_hand' has no joints left_hip, .*right_shoulder, which make a torso; .*take scale: bones",
        ),
        (
            {"rotate_about": "up"},
            "which axis is vertical cannot be found .layout 'my_hand' has no head .*; set up: x, y or z",
        ),
        ({"flip": 0.5, "up": "y"}, "has no pairs of joints"),
        ({"layout": "ntu25"}, "has 21 joints, layout 'ntu25' 25"),
    ):
        with pytest.raises(ValueError, match=wanted):
            Feeder(str(tmp_path / "hand"), **options)
    for about in ("all", "up"):
        Feeder(str(tmp_path / "hand"), scale="bones", rotate_about=about, up="z")


def test_stores_of_another_form(tmp_path):
    one = {"one": body()[:, None]}
    with pytest.raises(
        DataError, match=r"nothing is not a prepared store, it does not exist; write one with .*convert"
    ):
        Feeder(str(tmp_path / "nothing"))
    write_store(tmp_path / "a", one, [2], class_names=["x", "y"])
    with pytest.raises(DataError, match=r"a: labels go up to 2, but meta.json has 2 class_names"):
        Feeder(str(tmp_path / "a"))
    write_store(tmp_path / "b", {"one": np.ones((4, 1, 13, 2))}, [0])
    with pytest.raises(DataError, match=r"b has 2 channels, not 3"):
        Feeder(str(tmp_path / "b"))
    named = write_store(tmp_path / "c", one, [0])
    meta = {key: value for key, value in named.meta.items() if key != "layout"}
    (tmp_path / "c" / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(DataError, match=r"c has no layout in meta.json: it was not written by tools.convert"):
        Feeder(str(tmp_path / "c"))
    write_store(tmp_path / "d", one, [0])
    with pytest.raises(DataError, match=r"the subject of 1 sequences is not known, such as one. .*labels.csv"):
        Feeder(str(tmp_path / "d"), val_subjects=["ann"])
    write_store(tmp_path / "e", one, [0], lists={"train": ["one"], "val": ["one"]})
    with pytest.raises(DataError, match=r"has a split val: leave out val_subjects"):
        Feeder(str(tmp_path / "e"), val_fraction=0.5)
    assert replace(DESK, name="other") == Feeder(str(tmp_path / "d"), layout={**vars(DESK), "name": "other"}).layout


def test_numbers_find_subjects_with_zeros_in_front():
    column, names = np.array([0, 1, 2]), ["02", "10", "b"]
    assert numbers_of([2, "10", "02", "b"], column, names, "x") == [0, 1, 0, 2]
    with pytest.raises(DataError, match="x: no 3 among 02, 10, b"):
        numbers_of([3], column, names, "x")
