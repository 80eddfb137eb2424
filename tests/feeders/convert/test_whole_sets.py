"""Sets in one file: CTR-GCN's .npz and PYSKL's pickles as stores of raw coordinates."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

from feeders.convert.prepare import prepare
from feeders.convert.understand import Wishes
from feeders.convert.whole_sets import find_whole_set, is_whole_set, open_whole_set
from feeders.store import DataError, SkeletonStore
from shapmix.skeleton import LAYOUTS
from tests.conftest import annotations, write_pickle
from tools import convert

RNG = np.random.default_rng(0)
TAKES = [RNG.normal(size=(length, 2, 13, 3)).astype(np.float32) for length in (5, 9, 1, 7, 3)]  # (L, M, V, C)
TAKES[1][:, 1] = 0
TAKES[3][3] = 0  # nobody
LABELS = [0, 2, 1, 2, 0]
PENN = Wishes(LAYOUTS["penn13"])


def write_npz(path, train=3, save=np.savez, labels=LABELS, **changes):
    """The takes as CTR-GCN has them, padded to the longest; the first ``train`` are for training."""
    length = max(map(len, TAKES))
    x = np.stack([np.pad(one.reshape(len(one), -1), [(0, length - len(one)), (0, 0)]) for one in TAKES])
    y = np.eye(3)[labels]
    arrays = {"x_train": x[:train], "y_train": y[:train], "x_test": x[train:], "y_test": y[train:]}
    save(path, **{**arrays, **changes})
    return path


def write_3d(path, ids):
    """The takes as PYSKL has them."""
    made = [
        {"frame_dir": name, "label": label, "keypoint": one.transpose(1, 0, 2, 3), "total_frames": len(one)}
        for name, label, one in zip(ids, LABELS, TAKES, strict=True)
    ]
    return write_pickle(path, {"split": {"train": ids[:3], "test": ids[3:]}, "annotations": made})


def store_of(whole, out, jobs=1):
    return prepare(out, "mine", whole.items, whole.read, {}, jobs, fingerprint=whole.fingerprint, **whole.meta)[0]


def without_nobody(one):
    return one[one.any(axis=(1, 2, 3))]


@pytest.mark.parametrize("form", ["npz", "npz compressed", "pickle"])
def test_both_forms_give_the_same_store(tmp_path, form):
    ids = ["train_0", "train_1", "train_2", "test_0", "test_1"]
    if form == "pickle":
        path = write_3d(tmp_path / "all.pkl", ids)
    else:
        path = write_npz(tmp_path / "all.npz", save=np.savez if form == "npz" else np.savez_compressed)
    assert is_whole_set(path)
    whole = open_whole_set(path, PENN)
    store = store_of(whole, tmp_path / "out")
    assert store.ids == ids
    assert store.labels.tolist() == LABELS
    assert store.meta["class_names"] == ["class 0", "class 1", "class 2"]
    assert (store.meta["layout"], store.meta["dims"]) == ("penn13", 3)
    assert (store.meta["splits"], store.meta["subjects"], store.meta["views"]) == (["train", "test"], [], [])
    assert store.columns["in train"].tolist() == [1, 1, 1, 0, 0]
    assert store.columns["in test"].tolist() == [0, 0, 0, 1, 1]
    assert store.columns["people"].tolist() == [2, 1, 2, 2, 2]
    assert store.columns["removed"].tolist() == [0, 0, 0, 1, 0]
    for row, one in enumerate(TAKES):
        np.testing.assert_array_equal(store.sequence(row), without_nobody(one))


def test_rows_that_are_asked_for_in_any_order(tmp_path):
    whole = open_whole_set(write_npz(tmp_path / "all.npz"), replace(PENN, people=1))
    for number in (1, 0, 2, 4, 3):
        frames = whole.read(whole.items[number]).frames
        assert frames.shape[1] == 1
        assert len(frames) == len(without_nobody(TAKES[number]))
    assert pickle.dumps(whole.read), "it goes to other processes"


def test_ntu_names_say_subject_and_camera(tmp_path):
    ids = [
        f"S001C00{camera}P0{subject}R001A001"
        for camera, subject in ((1, "07"), (3, "07"), (1, "11"), (2, "07"), (2, 11))
    ]
    store = store_of(open_whole_set(write_3d(tmp_path / "all.pkl", ids), PENN), tmp_path / "out")
    assert store.meta["subjects"] == ["007", "011"]
    assert store.meta["views"] == ["001", "002", "003"]
    assert store.columns["subject"].tolist() == [0, 0, 1, 0, 1]
    assert store.columns["view"].tolist() == [0, 2, 0, 1, 1]


def test_poses_of_images(tmp_path):
    made = annotations(6)
    store = store_of(open_whole_set(write_pickle(tmp_path / "all.pkl", made), Wishes()), tmp_path / "out")
    assert (store.meta["layout"], store.meta["dims"], store.meta["splits"]) == ("coco17", 2, ["train", "val"])
    assert store.columns["height"].tolist() == [240] * 6
    assert store.columns["width"].tolist() == [320] * 6
    for row, one in enumerate(made["annotations"]):
        joined = np.concatenate([one["keypoint"], one["keypoint_score"][..., None]], axis=-1).astype(np.float32)
        found = store.sequence(row)
        assert sorted(found[:, :, 0, 0].T.tolist()) == sorted(joined[:, :, 0, 0].tolist())


def test_boxes_are_followed(tmp_path):
    """Two people who stand apart, the boxes of a frame in any order; the third frame has one."""
    left, right = RNG.uniform(10, 50, (17, 3)), RNG.uniform(200, 250, (17, 3))
    left[:, 2], right[:, 2] = 0.9, 0.8
    one = {
        "frame_dir": "a", "label": 0, "total_frames": 9, "img_shape": (300, 400),
        "frame_inds": np.array([0, 0, 1, 1, 4]), "box_score": np.array([0.5, 0.9, 0.9, 0.5, 0.9]),
        "keypoint": np.stack([left, right, right, left, right]),
    }  # fmt: skip
    made = {"split": {"train": ["a"]}, "annotations": [one]}
    store = store_of(open_whole_set(write_pickle(tmp_path / "all.pkl", made), Wishes()), tmp_path / "out")
    found = store.sequence(0)
    assert found.shape == (3, 2, 17, 3)
    np.testing.assert_allclose(found[:, 0], np.stack([right] * 3), rtol=1e-6)
    np.testing.assert_allclose(found[:2, 1], np.stack([left] * 2), rtol=1e-6)
    assert not found[2, 1].any()


def test_names_of_classes(tmp_path):
    (tmp_path / "names.txt").write_text("bow\nsit\nwave\nkick\n")
    path = write_npz(tmp_path / "all.npz")
    assert open_whole_set(path, PENN, tmp_path / "names.txt").meta["class_names"] == ["bow", "sit", "wave", "kick"]
    (tmp_path / "names.txt").write_text("bow\n")
    with pytest.raises(DataError, match="labels go up to 2, but there are 1 class names"):
        open_whole_set(path, PENN, tmp_path / "names.txt")


@pytest.mark.parametrize(
    ("changes", "wishes", "message"),
    [
        ({}, Wishes(LAYOUTS["ntu25"]), "78 columns are no whole people of 25 joints"),
        ({"x_train": np.ones((3, 9, 62))}, Wishes(), "x_train has 62 columns, x_test 78"),
        ({"x_train": np.ones((2, 9, 78))}, PENN, "x_train has shape .*, y_train 3 labels"),
        ({"x_train": np.ones((3, 78))}, PENN, "x_train has shape"),
        ({"y_test": np.ones((2, 3))}, PENN, "y_test of shape .* is not one-hot"),
    ],
)
def test_what_is_refused(tmp_path, changes, wishes, message):
    with pytest.raises(DataError, match=message):
        open_whole_set(write_npz(tmp_path / "all.npz", **changes), wishes)


def test_a_width_of_no_or_several_known_layouts(tmp_path):
    for width, message in ((6, "of no known layout"), (2 * 25 * 3, "can be 2 people of .*ntu25.*; name the layout")):
        x = np.ones((3, 9, width))
        with pytest.raises(DataError, match=message):
            open_whole_set(write_npz(tmp_path / "all.npz", x_train=x, x_test=x[:2]), Wishes())


def test_what_is_a_whole_set(tmp_path):
    np.savez(tmp_path / "one.npz", joints=TAKES[0])
    (tmp_path / "damaged.npz").write_bytes(b"PK\3\4 no archive")
    assert not any(map(is_whole_set, (tmp_path, tmp_path / "one.npz", tmp_path / "damaged.npz", tmp_path / "none.pkl")))


def test_an_annotation_that_cannot_be_used(tmp_path):
    made = annotations(3)
    made["annotations"][0]["keypoint_score"] = made["annotations"][0]["keypoint_score"][:, 1:]
    made["annotations"][1]["keypoint"][:] = 0
    del made["annotations"][2]["keypoint_score"]
    whole = open_whole_set(write_pickle(tmp_path / "all.pkl", made), Wishes())
    found = [whole.read(item) for item in whole.items]
    assert found[0].problem.startswith("bad shape: keypoint_score is")
    assert found[1].problem.startswith("no people: in none of")
    assert not found[2].problem
    assert (found[2].frames[..., 2] == 1).all(), "no scores: all 1"


def test_the_command(tmp_path, capfd):
    (tmp_path / "names.txt").write_text("bow\nsit\nwave\n")
    words = [str(write_npz(tmp_path / "all.npz")), "--out", str(tmp_path / "out"), "--jobs", "1", "--layout", "penn13"]
    assert convert.main([*words, "--classes", str(tmp_path / "names.txt"), "--people", "1", "--min_frames", "2"]) == 0
    store = SkeletonStore(tmp_path / "out")
    assert (store.ids, store.frames.shape[1]) == (["train_0", "train_1", "test_0", "test_1"], 1)
    assert store.meta["class_names"] == ["bow", "sit", "wave"]
    assert "too short" in capfd.readouterr().out
    assert convert.main([*words[:-1], "ntu25", "--overwrite"]) == 2
    assert "78 columns are" in capfd.readouterr().err


def test_what_lies_beside_a_whole_set_is_named(tmp_path, caplog):
    path = write_npz(tmp_path / "all.npz")
    assert find_whole_set(tmp_path) == find_whole_set(path) == path
    assert not caplog.messages
    (tmp_path / "more.csv").write_text("x")
    assert find_whole_set(tmp_path) == path
    assert "not 1 other files" in caplog.text
    assert "more.csv" in caplog.text
