"""PYSKL's annotation pickles: what is read, what is refused, and the store of tools.prepare_pose."""

from __future__ import annotations

import copy
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from feeders.convert.pyskl import Pose, read_pose, read_poses
from feeders.convert.pyskl_3d import prepare_skeleton
from feeders.convert.recipe import Recipe
from feeders.feeder_pose import Feeder
from feeders.store import DataError, SkeletonStore
from shapmix.skeleton import LAYOUTS
from tests.conftest import annotations, write_pickle
from tools import prepare_pose

RECIPE = Recipe()


def pose(one: dict, split: str = "train", **recipe: object) -> Pose:
    return Pose(one, {split: 1}, Recipe(**recipe), LAYOUTS["coco17"])


def people(scores: list[float], frames: int = 3) -> dict:
    """An annotation with one person for each score; person k has all coordinates k."""
    number = len(scores)
    keypoint = np.ones((number, frames, 17, 2)) * np.arange(number)[:, None, None, None]
    keypoint_score = np.ones((number, frames, 17)) * np.array(scores)[:, None, None]
    shape = {"img_shape": (10, 20), "total_frames": frames}
    return {"frame_dir": "a", "label": 0, "keypoint": keypoint, "keypoint_score": keypoint_score, **shape}


def boxes(place: list[int], scores: list[float], **more: object) -> dict:
    """An annotation with boxes in these frames; box k has all coordinates k."""
    keypoint = np.ones((len(place), 17, 3)) * np.arange(len(place))[:, None, None]
    shape = {"img_shape": (10, 20), "total_frames": 10}
    known = {"frame_inds": np.array(place), "box_score": np.array(scores), "keypoint": keypoint}
    return {"frame_dir": "a", "label": 0, **shape, **known, **more}


def places(sample) -> list[list[float]]:
    """The numbers of the two people of each frame."""
    assert not sample.problem, sample.problem
    return sample.frames[:, :, 0, 0].tolist()


# --- one annotation --------------------------------------------------------------------------------------------------


def test_two_people_by_score():
    sample = read_pose(pose(people([0.5, 0.1, 0.9])))
    assert places(sample) == [[0, 2]] * 3, "in the order of the file"
    np.testing.assert_allclose(sample.frames[0, :, 5, 2], [0.5, 0.9])
    assert (sample.columns["height"], sample.columns["width"], sample.columns["in train"]) == (10, 20, 1)
    assert places(read_pose(pose(people([0.5])))) == [[0, 0]] * 3
    assert read_pose(pose(people([0.5]))).frames[:, 1].max() == 0, "the second one is empty"


def test_half_precision_stays():
    one = people([0.5])
    assert read_pose(pose(one)).frames.dtype == np.float32
    one["keypoint"] = one["keypoint"].astype(np.float16)
    assert read_pose(pose(one)).frames.dtype == np.float16


def test_boxes_are_squeezed_and_ranked():
    one = boxes([1, 1, 1, 4, 7, 7], [0.2, 0.9, 0.5, 0.3, 0.8, 0.6])
    assert places(read_pose(pose(one))) == [[1, 2], [3, 0], [4, 5]]
    assert places(read_pose(pose(one, box_thr=0.5))) == [[1, 2], [4, 5]], "frame 4 goes with its box"
    assert places(read_pose(pose({**one, "anno_inds": np.array([0, 3])}))) == [[0, 0], [3, 0]]
    mask = np.array([True, False, False, True, False, False])
    assert places(read_pose(pose({**one, "anno_inds": mask}))) == [[0, 0], [3, 0]]


def test_boxes_in_any_order():
    one = boxes([7, 1, 7, 1], [0.6, 0.5, 0.8, 0.9])
    assert places(read_pose(pose(one))) == [[3, 1], [2, 0]]


def test_valid_ratio_is_for_training():
    one = boxes([1, 4, 4], [0.9, 0.9, 0.9])
    assert "too few boxes: in 0.20 of the frames, wanted 0.3" in read_pose(pose(one, valid_ratio=0.3)).problem
    assert not read_pose(pose(one, valid_ratio=0.2)).problem
    assert not read_pose(pose(one, "val", valid_ratio=0.3)).problem


def test_raw_file(tmp_path):
    one = boxes([1, 4], [0.9, 0.9])
    write_pickle(tmp_path / "raw" / "1.pkl", {"a": one.pop("keypoint")})
    one["raw_file"] = "somewhere/else/1.pkl"
    assert places(read_pose(pose(one, folder=str(tmp_path / "raw")))) == [[0, 0], [1, 0]]
    assert "name its folder as raw_folder" in read_pose(pose(one, folder=str(tmp_path / "x"))).problem
    missing = read_pose(pose({**one, "frame_dir": "b"}, folder=str(tmp_path / "raw")))
    assert "somewhere/else/1.pkl does not hold this sequence" in missing.problem
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "1.pkl").write_bytes((tmp_path / "raw" / "1.pkl").read_bytes()[:-20])
    assert "damaged, cut off" in read_pose(pose(one, folder=str(tmp_path / "cut"))).problem


def test_raw_file_as_kinetics_has_it(tmp_path):
    one = boxes([1, 4], [0.9, 0.9])
    write_pickle(tmp_path / "1.pkl", {"a": {"keypoint": one.pop("keypoint")}, "b": {}})
    one["raw_file"] = "1.pkl"
    assert places(read_pose(pose(one, folder=str(tmp_path)))) == [[0, 0], [1, 0]]
    assert "does not hold this sequence" in read_pose(pose({**one, "frame_dir": "b"}, folder=str(tmp_path))).problem


def test_boxes_as_published():
    """At test time all boxes, and the first two; in training the threshold comes with valid_ratio."""
    one = boxes([1, 1, 1, 4, 7, 7], [0.2, 0.9, 0.5, 0.3, 0.8, 0.9])
    recipe = {"box_thr": 0.5, "boxes": "published"}
    assert places(read_pose(pose(one, "val", **recipe))) == [[0, 1], [3, 0], [4, 5]]
    assert places(read_pose(pose(one, **recipe))) == [[0, 1], [3, 0], [4, 5]]
    assert places(read_pose(pose(one, **recipe, valid_ratio=0.1))) == [[1, 2], [4, 5]]
    assert places(read_pose(pose(one, "val", **recipe, valid_ratio=0.1))) == [[0, 1], [3, 0], [4, 5]]
    assert places(read_pose(pose(one, "val", box_thr=0.5))) == [[1, 2], [5, 4]], "by default the best"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"keypoint": None}, "no keypoints: the annotation has no keypoint or raw_file"),
        ({"keypoint_score": np.ones((1, 4, 17))}, "bad shape: keypoint_score is (1, 4, 17), keypoint (1, 3, 17, 2)"),
        ({"keypoint": np.ones((1, 3, 17, 3))}, "bad shape: keypoint is (1, 3, 17, 3), wanted"),
        ({"keypoint": np.ones((0, 3, 17, 2)), "keypoint_score": np.ones((0, 3, 17))}, "no people"),
        ({"keypoint": np.ones((1, 0, 17, 2)), "keypoint_score": np.ones((1, 0, 17))}, "no frames"),
        (
            {"keypoint": np.ones((1, 3, 18, 2))},
            "other joints: 18 joints, layout coco17 has 17; theirs is another layout",
        ),
        ({"keypoint": np.ones((1, 3, 133, 2))}, "other joints: 133 joints, layout coco17 has 17"),
        ({"keypoint": [[["x" * 9] * 17] * 3]}, "bad shape: keypoint is (1, 3, 17), wanted"),
        ({"keypoint": [[[["x" * 9, 1]] * 17] * 3]}, "damaged: could not convert string to float"),
        ({"keypoint": [[[[1, 1]] * 17, [[1, 1]] * 16]]}, "damaged: setting an array element with a sequence"),
        ({"keypoint": np.array([["x"]])}, "bad type: keypoint holds <U1, wanted numbers"),
        ({"img_shape": None}, "no image size"),
        ({"img_shape": (0, 5)}, "no image size: img_shape is 0 x 5"),
        ({"img_shape": ("a", "b")}, "damaged"),
    ],
)
def test_bad_annotations(change, problem):
    one = {key: value for key, value in {**people([0.5]), **change}.items() if value is not None}
    sample = read_pose(pose(one))
    assert sample.problem.startswith(problem)
    assert len(sample.frames) == 0


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"box_score": np.ones(3)}, "bad shape: 2 boxes in keypoint, 2 in frame_inds, 3 in box_score"),
        ({"keypoint": np.ones((2, 17, 2))}, "bad shape: keypoint is (2, 17, 2), wanted (boxes, joints, 3)"),
        ({"anno_inds": np.array([5])}, "damaged: index 5 is out of bounds"),
        ({"frame_inds": np.zeros(0, int), "box_score": np.zeros(0), "keypoint": np.ones((0, 17, 3))}, "no people"),
    ],
)
def test_bad_boxes(change, problem):
    assert read_pose(pose({**boxes([1, 2], [0.5, 0.5]), **change})).problem.startswith(problem)


def test_scores_that_are_missing():
    one = people([0.5])
    del one["keypoint_score"]
    assert read_pose(pose(one)).problem.startswith("no scores")


# --- 3D skeletons ----------------------------------------------------------------------------------------------------


def skeletons(number: int = 12, joints: int = 25, seed: int = 0) -> dict:
    """What a 3D pickle of PYSKL holds: one or two people, in 3 classes, the first two thirds for training."""
    rng = np.random.default_rng(seed)
    made = [
        {
            "frame_dir": f"S001C001P001R001A{index:03d}",
            "label": index % 3,
            "keypoint": rng.normal(size=(1 + index % 2, int(rng.integers(5, 30)), joints, 3)).astype(np.float32),
        }
        for index in range(number)
    ]
    names = [one["frame_dir"] for one in made]
    split = {"xsub_train": names[: 2 * number // 3], "xsub_val": names[2 * number // 3 :]}
    return {"split": split, "annotations": made}


def turned(sequence: np.ndarray, centre: int) -> None:
    """Asserts that the first person of a prepared sequence (L, M, V, C) stands upright at the origin."""
    first = sequence[0, 0].astype(float)
    np.testing.assert_allclose(first[centre], 0, atol=1e-6)
    across = first[8] - first[4]
    np.testing.assert_allclose(across[1:], 0, atol=1e-5)
    assert across[0] > 0


@pytest.mark.parametrize(("joints", "layout", "centre"), [(25, "ntu25", 1), (20, "ucla20", 19), (17, "coco17", 16)])
def test_skeletons_become_a_store(tmp_path, joints, layout, centre):
    """The layout and the centre follow from the number of joints."""
    content = skeletons(joints=joints)
    content["annotations"][3]["keypoint"][0, ::2] = 0  # so the second person has more frames
    store = prepared(tmp_path, content, "--jobs", "2")
    assert (store.meta["layout"], store.meta["splits"]) == (layout, ["xsub_train", "xsub_val"])
    assert store.frames.shape[1:] == (2, joints, 3)
    assert store.frames.dtype == np.float32
    assert set(store.columns) == {"in xsub_train", "in xsub_val"}
    for number, one in enumerate(content["annotations"]):
        sequence, keypoint = store.sequence(number), one["keypoint"]
        assert len(sequence) == keypoint.shape[1]
        turned(sequence, centre)
        shapes = np.linalg.norm(sequence[:, :, 3] - sequence[:, :, 5], axis=-1)  # lengths stay
        order = [1, 0] if number == 3 else range(len(keypoint))
        for place, person in enumerate(order):
            there = (keypoint[person] != 0).any(axis=(1, 2))
            wanted = np.linalg.norm(keypoint[person, :, 3] - keypoint[person, :, 5], axis=-1)
            np.testing.assert_allclose(shapes[:, place], wanted, atol=1e-5)
            np.testing.assert_array_equal((sequence[:, place] != 0).any(axis=(1, 2)), there)
    assert store.sequence(0)[:, 1].max() == 0, "a second person who is not there"


def test_most_frames_first():
    """Three people of 2, 4 and 3 frames: the second and the third stay, in the frames of the second."""
    keypoint = np.zeros((3, 6, 25, 3))
    for person, frames in enumerate(([0, 1], [1, 2, 3, 5], [0, 1, 2])):
        keypoint[person, frames] = np.random.default_rng(person).normal(size=(len(frames), 25, 3))
    frames = prepare_skeleton(keypoint, 2)
    assert frames.shape == (4, 2, 25, 3)
    assert (frames != 0).any(axis=(2, 3)).tolist() == [[True, True], [True, True], [True, False], [True, False]]


def test_against_the_axis_nothing_turns():
    keypoint = np.random.default_rng(0).normal(size=(1, 2, 25, 3))
    keypoint[0, 0, 1] = keypoint[0, 0, 0] - [0, 0, 1]
    keypoint[0, 0, 8] = keypoint[0, 0, 4] - [1, 0, 0]
    np.testing.assert_allclose(prepare_skeleton(keypoint, 2)[:, 0], keypoint[0] - keypoint[0, 0, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"keypoint": np.zeros((2, 5, 25, 3))}, "no people: all 5 frames are 0"),
        ({"keypoint": np.zeros((0, 5, 25, 3))}, "no people: keypoint is (0, 5, 25, 3)"),
        (
            {"keypoint": np.ones((1, 5, 25, 2))},
            "bad shape: keypoint is (1, 5, 25, 2), wanted (people",
        ),
        ({"keypoint": np.ones((1, 5, 20, 3))}, "other joints: 20 joints, layout ntu25 has 25"),
        ({"keypoint_score": np.ones((1, 5, 25))}, "bad shape: keypoint is (1, 20, 25, 3), wanted"),
    ],
)
def test_bad_skeletons(tmp_path, change, problem):
    content = skeletons()
    content["annotations"][4] |= {"keypoint": np.ones((1, 20, 25, 3)), **change}
    samples = [read_pose(one) for one in read_poses(write_pickle(tmp_path / "a.pkl", content), RECIPE).poses]
    assert [sample.id for sample in samples if sample.problem] == ["S001C001P001R001A004"]
    assert samples[4].problem.startswith(problem)


def test_a_bare_list_is_one_split(tmp_path):
    """NW-UCLA as users of PYSKL have it: a list in a file of its own for each split."""
    content = skeletons(joints=20)["annotations"]
    train, test = (write_pickle(tmp_path / f"ucla_{name}.pkl", content[some]) for name, some in PARTS.items())
    feeders = [Feeder(ann_file=str(path), window_size=16) for path in (train, test)]
    assert [(one.split, one.training, len(one), one.layout.name) for one in feeders] == [
        ("ucla_train", True, 9, "ucla20"),
        ("ucla_test", False, 3, "ucla20"),
    ]
    with pytest.raises(DataError, match=r"has no split 'train'; there are ucla_test"):
        Feeder(ann_file=str(test), split="train")
    content[0]["label"] = 7
    with pytest.raises(DataError, match=r"a.pkl \(a bare list of annotations: one split, a\): labels go up to 7"):
        read_poses(write_pickle(tmp_path / "a.pkl", content), RECIPE)


PARTS = {"train": slice(9), "test": slice(9, None)}

# --- the pickle ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content.pop("split"), ["holds annotations", "wanted a dict of split and annotations"]),
        (lambda content: content["annotations"].clear(), ["a list of annotations, not empty"]),
        (lambda content: content["annotations"][3].pop("label"), ["video_003 (annotation 3) has no label"]),
        (lambda content: content["annotations"][3].update(frame_dir="video_001"), ["1 names occur twice: video_001"]),
        (lambda content: content["split"]["val"].append("ghost"), ["split val names 1 sequences", "ghost"]),
        (lambda content: content["annotations"][3].pop("frame_dir"), ["annotation 3 (label 0) has no frame_dir"]),
        (lambda content: content["annotations"][3].update(frame_dir=None), ["annotation 3 (label 0)", "but None"]),
        (lambda content: content["annotations"].insert(3, "video"), ["annotation 3 is a str, wanted a dict"]),
        (lambda content: content["split"].update(val="video_003"), ["split val is 'video_003'; wanted a list"]),
        (lambda content: content["split"].update(val=None), ["split val is None; wanted a list of names"]),
        (lambda content: content.update(split=["train"]), ["a dict of splits"]),
        (lambda content: content["annotations"][3].update(label=-1), ["video_003 has label -1"]),
        (lambda content: content["annotations"][3].update(label=True), ["video_003 has label True"]),
        (lambda content: content["annotations"][3].update(label=[0, 1, 0]), ["video_003 has label [0, 1, 0]"]),
        (
            lambda content: content["annotations"][3].update(label=10**12),
            ["labels go up to 1000000000000 (video_003), far more than its 12 sequences, but 999999999997"],
        ),
        (lambda content: content["annotations"][3].update(label="run"), ["video_003 has label 'run'"]),
        (
            lambda content: content["annotations"][3].update(label=5),
            ["labels go up to 5 (video_003), but 2 of them do not occur: 3, 4", "give classes: a file"],
        ),
    ],
)
def test_bad_pickles(tmp_path, change, words):
    content = annotations()
    change(content)
    with pytest.raises(DataError) as error:
        read_poses(write_pickle(tmp_path / "a.pkl", content), RECIPE)
    assert "a.pkl" in str(error.value)
    for word in words:
        assert word in str(error.value)


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_a_pickle_that_would_run_something(tmp_path, capsys):
    content = annotations()
    content["annotations"][0]["keypoint"] = Evil(tmp_path / "it_ran")
    path = write_pickle(tmp_path / "evil.pkl", content)
    assert prepare_pose.main([str(path), "--out", str(tmp_path / "out"), "--jobs", "1"]) == 2
    assert "evil.pkl asks for posix.system" in capsys.readouterr().err
    assert not (tmp_path / "it_ran").exists()
    assert not (tmp_path / "out").exists()
    pickle.loads(path.read_bytes())
    assert (tmp_path / "it_ran").exists(), "an ordinary reader would have run it"


# --- the store -------------------------------------------------------------------------------------------------------


def prepared(tmp_path: Path, content: dict, *options: str, out: str = "out") -> SkeletonStore:
    path = write_pickle(tmp_path / "a.pkl", content)
    assert prepare_pose.main([str(path), "--out", str(tmp_path / out), *options]) == 0
    return SkeletonStore(tmp_path / out)


@pytest.mark.parametrize("compressed", [False, True])
def test_store(tmp_path, compressed, capsys):
    content = annotations(boxes=compressed)
    store = prepared(tmp_path, copy.deepcopy(content), "--jobs", "1")
    assert store.ids == [one["frame_dir"] for one in content["annotations"]]
    assert store.labels.tolist() == [one["label"] for one in content["annotations"]]
    assert store.frames.dtype == np.float16
    assert store.columns["in train"].tolist() == [1] * 8 + [0] * 4
    assert store.columns["in val"].tolist() == [0] * 8 + [1] * 4
    assert store.meta["layout"] == "coco17"
    assert store.meta["class_names"] == ["class 0", "class 1", "class 2"]
    for number, one in enumerate(content["annotations"]):
        np.testing.assert_array_equal(store.sequence(number), read_pose(pose(one)).frames)
    out = capsys.readouterr().out
    assert "train                                8        3        3        2" in out


def test_the_recipe_goes_with_the_store(tmp_path):
    """So a network that is trained on it knows how to read other pickles."""
    store = prepared(tmp_path, annotations(boxes=True, people=3), "--jobs", "1", "--box_thr", "0.4")
    state = Feeder(str(store.path), split="val").view_state()
    assert state["recipe"] == {"box_thr": 0.4, "valid_ratio": 0.0, "img_shape": None, "boxes": "best"}
    again = {sample.id: sample.frames for sample in Feeder.whole_set(tmp_path / "a.pkl", state) or ()}
    for row, name in enumerate(store.ids):
        np.testing.assert_array_equal(again[name], store.sequence(row))


def test_jobs_make_no_difference(tmp_path):
    stores = [prepared(tmp_path, annotations(40), "--jobs", jobs, out=jobs) for jobs in ("1", "2")]
    assert stores[0].checksum == stores[1].checksum


def test_left_out_and_strict(tmp_path, capsys):
    content = annotations()
    content["annotations"][2]["keypoint"] = np.ones((1, 5, 18, 2), np.float16)
    store = prepared(tmp_path, content, "--jobs", "1")
    assert "video_002" not in store.ids
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["used"] == 11
    assert list(report["left_out"]["other joints"]) == ["video_002"]
    assert "video_002 (18 joints, layout coco17 has 17" in capsys.readouterr().out
    words = [str(tmp_path / "a.pkl"), "--out", str(tmp_path / "strict"), "--jobs", "1", "--strict"]
    assert prepare_pose.main(words) == 2
    assert "1 files were left out" in capsys.readouterr().err
    assert not (tmp_path / "strict").exists()


def test_it_goes_on_where_it_was(tmp_path, monkeypatch):
    content = annotations()
    whole = prepared(tmp_path, content, "--jobs", "1", out="whole")
    calls = []

    def read(one: Pose):
        calls.append(one)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return read_pose(one)

    monkeypatch.setattr(prepare_pose, "read_pose", read)
    words = [str(tmp_path / "a.pkl"), "--out", str(tmp_path / "out"), "--jobs", "1"]
    assert prepare_pose.main(words) == 130
    assert prepare_pose.main(words) == 0
    assert len(calls) == 6 + 7
    assert SkeletonStore(tmp_path / "out").checksum == whole.checksum


def test_classes_and_layout(tmp_path, capsys):
    content = annotations()
    for one in content["annotations"]:
        one["label"] *= 2
    (tmp_path / "classes.txt").write_text("walk\nrun\njump\nsit\nbow\n")
    store = prepared(tmp_path, content, "--jobs", "1", "--classes", str(tmp_path / "classes.txt"))
    assert store.meta["class_names"] == ["walk", "run", "jump", "sit", "bow"]
    (tmp_path / "classes.txt").write_text("walk\nrun\n")
    words = [str(tmp_path / "a.pkl"), "--out", str(tmp_path / "b"), "--classes", str(tmp_path / "classes.txt")]
    assert prepare_pose.main(words) == 2
    assert "labels go up to 4, but there are 2 class names" in capsys.readouterr().err
    assert prepare_pose.main([*words[:3], "--layout", "openpose"]) == 2
    assert (
        "--layout: no skeleton layout 'openpose' (did you mean 'openpose18'?); there are ntu25"
        in capsys.readouterr().err
    )
    layout = "name: two\njoint_names: [a, b]\nbones: [[1, 0]]\nparts: {x: [0], y: [1]}\n"
    (tmp_path / "two.yaml").write_text(layout)
    for one in content["annotations"]:
        one["label"] //= 2
        one["keypoint"], one["keypoint_score"] = one["keypoint"][:, :, :2], one["keypoint_score"][:, :, :2]
    store = prepared(tmp_path, content, "--jobs", "1", "--layout", str(tmp_path / "two.yaml"), out="two")
    assert store.meta["layout"]["joint_names"] == ["a", "b"]
    assert store.frames.shape[1:] == (2, 2, 3)


@pytest.mark.parametrize(("joints", "layout"), [(33, "mediapipe33"), (18, "openpose18"), (133, "coco133")])
def test_layout_by_the_number_of_joints(tmp_path, joints, layout):
    """Beside PYSKL's own three (25, 20, 17), the one layout that has so many."""
    content = annotations(3)
    for one in content["annotations"]:
        one["keypoint"] = np.ones((1, 4, joints, 2), np.float32)
        one["keypoint_score"] = np.ones((1, 4, joints), np.float32)
    assert prepared(tmp_path, content, "--jobs", "1").meta["layout"] == layout


def test_a_number_of_joints_that_no_layout_has(tmp_path, capsys):
    content = annotations(3)
    for one in content["annotations"]:
        one["keypoint"], one["keypoint_score"] = one["keypoint"][:, :, :12], one["keypoint_score"][:, :, :12]
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    assert prepare_pose.main([str(tmp_path / "a.pkl"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "video_000 has 12 joints, as none of ntu25, ucla20, coco17" in error
    assert "--layout" in error
