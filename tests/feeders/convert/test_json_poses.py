"""JSON poses: the spellings of the usual programs, people over time, and what cannot be used."""

from __future__ import annotations

import json

import numpy as np
import pytest

from feeders.convert import json_poses
from feeders.convert.json_poses import frame_places
from feeders.convert.people import Person, join_people
from feeders.convert.prepare import Source, Unusable
from feeders.convert.recording import Hints

T, V = 5, 33
RNG = np.random.default_rng(0)
POSE = RNG.uniform(50, 250, size=(T, V, 2)).round(3)  # pixels
SHARE = RNG.uniform(0.1, 0.9, size=(T, V, 3)).round(3)  # of the image, and MediaPipe's depth
WORLD = RNG.normal(size=(T, V, 3)).round(3)  # metres
SCORE = RNG.uniform(0.2, 1, size=(T, V)).round(3)
NAMES = [f"joint_{letter}" for letter in "abcdefghijklmnopqrstuvwxyzABCDEFG"]
NO_HINTS = Hints()
(FORM,) = json_poses.FORMS


def take(tmp_path, *contents, hints=NO_HINTS, names=None):
    """Files of these contents (JSON values, or bytes) as one take."""
    sources = []
    for number, content in enumerate(contents):
        path = tmp_path / (names[number] if names else f"frame_{number}.json")
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        sources.append(Source(str(path), ""))
    return json_poses.read(sources, hints)


def one_frame(tmp_path, content) -> bool:
    path = tmp_path / "take.json"
    path.write_text(json.dumps(content))
    assert FORM.recognises("take.json", path.read_bytes()[:100])
    return FORM.one_frame(Source(str(path), ""))


def scored(frame: int) -> list:
    return np.concatenate([POSE[frame], SCORE[frame, :, None]], axis=1).tolist()


def marks(frame: int, values=SHARE) -> list:
    """MediaPipe's landmarks."""
    rows = zip(values[frame].tolist(), SCORE[frame].tolist(), strict=True)
    return [{"x": x, "y": y, "z": z, "visibility": score} for (x, y, z), score in rows]


def named(frame: int) -> list:
    """Rows of x, y, score and the joint's name."""
    return [(*row, name) for row, name in zip(scored(frame), NAMES, strict=True)]


def flat(frame: int) -> list:
    return np.ravel(scored(frame)).tolist()


def open_pose(frame: int, **more) -> dict:
    person = {"person_id": [-1], "pose_keypoints_2d": flat(frame), "face_keypoints_2d": []}
    return {"version": 1.3, "people": [{**person, "hand_left_keypoints_2d": [1.0] * 63, **more}]}


FLAT = {  # every spelling of POSE with SCORE
    "lists": [scored(frame) for frame in range(T)],
    "keypoints over time": {"keypoints": [scored(frame) for frame in range(T)], "label": "wave"},
    "AlphaPose": [
        {"image_id": f"{frame}.jpg", "category_id": 1, "keypoints": flat(frame), "score": 2.9}
        for frame in reversed(range(T))
    ],
    "AlphaPose, open": {f"{n}.jpg": {"version": 1, "bodies": [{"joints": flat(n)}]} for n in range(T)},
    "MMPose": {
        "meta_info": {"dataset_name": "coco"},
        "instance_info": [
            {"frame_id": n + 1, "instances": [{"keypoints": POSE[n].tolist(), "keypoint_scores": SCORE[n].tolist()}]}
            for n in range(T)
        ],
    },
    "Kinetics-Skeleton": {
        "data": [
            {"frame_index": n, "skeleton": [{"pose": POSE[n].ravel().tolist(), "score": SCORE[n].tolist()}]}
            for n in range(T)
        ],
        "label": "wave",
        "label_index": 3,
    },
    "TensorFlow": [
        {"score": 0.9, "keypoints": [{"x": x, "y": y, "score": score, "name": name} for x, y, score, name in named(n)]}
        for n in range(T)
    ],
    "PoseNet": [
        {"keypoints": [{"position": {"x": x, "y": y}, "score": s, "part": name} for x, y, s, name in named(n)]}
        for n in range(T)
    ],
    "COCO": {
        "images": [{"id": 10 + n, "file_name": f"{n}.png", "height": 300, "width": 400} for n in range(T)],
        "annotations": [
            {"id": n, "image_id": 10 + n, "keypoints": flat(n), "bbox": [1, 2, 3, 4]}
            for n in range(T)
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": NAMES, "skeleton": [[1, 2]]}],
    },
}  # fmt: skip


@pytest.mark.parametrize("spelling", FLAT)
def test_poses_of_an_image(tmp_path, spelling):
    assert not one_frame(tmp_path, FLAT[spelling])
    recording = take(tmp_path, FLAT[spelling])
    np.testing.assert_allclose(recording.frames, POSE[:, None], rtol=1e-12)
    np.testing.assert_allclose(recording.score, SCORE[:, None], rtol=1e-12)
    assert recording.size == ((300, 400) if spelling == "COCO" else None)
    assert recording.joint_names == (tuple(NAMES) if spelling in ("TensorFlow", "PoseNet", "COCO") else ())
    assert recording.facts == ({"label": "wave"} if "label" in FLAT[spelling] else {})


def test_open_pose(tmp_path):
    assert one_frame(tmp_path, open_pose(0))
    names = [f"clip_{10 - n:012d}_keypoints.json" for n in range(T)]
    recording = take(tmp_path, *(open_pose(n) for n in range(T)), names=names)
    np.testing.assert_array_equal(recording.frames, POSE[::-1, None])
    np.testing.assert_array_equal(recording.score, SCORE[::-1, None])
    joints = np.ravel(np.concatenate([WORLD[0], SCORE[0, :, None]], axis=1)).tolist()
    deep = take(tmp_path, open_pose(0, pose_keypoints_3d=joints))
    np.testing.assert_array_equal(deep.frames[0, 0], WORLD[0])
    assert take(tmp_path, open_pose(0, pose_keypoints_3d=joints), hints=Hints(dims=2)).frames.shape[3] == 2


def test_open_pose_without_people_or_joints(tmp_path):
    hidden = open_pose(1)
    hidden["people"][0]["pose_keypoints_2d"][:3] = [0, 0, 0]
    recording = take(tmp_path, open_pose(0), hidden, {"version": 1.3, "people": []}, open_pose(3))
    assert np.isnan(recording.frames).all(axis=(1, 2, 3)).tolist() == [False, False, True, False]
    assert np.isnan(recording.frames[1, 0, 0]).all()
    assert recording.score[1, 0, 0] == 0
    with pytest.raises(Unusable, match="no people: in none of 2 frames"):
        take(tmp_path, {"people": []}, {"people": []})


def test_hands_alone(tmp_path):
    hand = open_pose(0, pose_keypoints_2d=[], hand_right_keypoints_2d=[2.0] * 63)
    assert take(tmp_path, hand).frames.shape == (1, 2, 21, 2), "two hands as two people"


@pytest.mark.parametrize(
    "spelled",
    [
        lambda n: marks(n),
        lambda n: {"landmarks": marks(n)},
        lambda n: {"pose_landmarks": marks(n)},
        lambda n: {"poseLandmarks": marks(n), "image": None},
        lambda n: {"pose_landmarks": [marks(n)]},
        lambda n: {"pose_landmarks": {"landmark": marks(n)}, "left_hand_landmarks": None},
        lambda n: {"landmarks": [marks(n)], "worldLandmarks": []},
    ],
)
def test_media_pipe(tmp_path, spelled):
    assert one_frame(tmp_path, spelled(0))
    whole = [spelled(n) for n in range(T)]
    assert not one_frame(tmp_path, whole)
    for recording in (take(tmp_path, *whole), take(tmp_path, whole)):
        np.testing.assert_array_equal(recording.frames, SHARE[:, None, :, :2])
        np.testing.assert_array_equal(recording.score, SCORE[:, None])
        assert recording.size == (1, 1)
    deep = take(tmp_path, whole, hints=Hints(dims=3))
    np.testing.assert_array_equal(deep.frames, SHARE[:, None])
    assert deep.size is None


@pytest.mark.parametrize("key", ["pose_world_landmarks", "poseWorldLandmarks", "worldLandmarks"])
def test_world_landmarks_are_preferred(tmp_path, key):
    whole = [{"pose_landmarks": marks(n), key: marks(n, WORLD)} for n in range(T)]
    recording = take(tmp_path, *whole)
    np.testing.assert_array_equal(recording.frames, WORLD[:, None])
    assert recording.size is None
    np.testing.assert_array_equal(take(tmp_path, *whole, hints=Hints(dims=2)).frames, SHARE[:, None, :, :2])
    alone = take(tmp_path, [marks(n, WORLD) for n in range(T)])
    np.testing.assert_array_equal(alone.frames, WORLD[:, None])


@pytest.mark.parametrize(
    "whole",
    [
        WORLD.tolist(),
        {"file_name": "a01", "skeletons": WORLD.tolist()},
        WORLD.reshape(T, -1).tolist(),
        WORLD[:, None].tolist(),
        [{"joints": frame} for frame in WORLD.tolist()],
        [dict(zip(NAMES, frame, strict=True)) for frame in WORLD.tolist()],
        [
            {name: dict(zip("XYZ", position, strict=True)) for name, position in zip(NAMES, frame, strict=True)}
            for frame in WORLD.tolist()
        ],
        {str(n): frame for n, frame in enumerate(WORLD.tolist())},
        b"\n".join(json.dumps(frame).encode() for frame in WORLD.tolist()),
        b"\r\n".join(json.dumps({"skeleton": frame}).encode() for frame in WORLD.tolist()) + b"\n",
        b"\xef\xbb\xbf" + json.dumps(WORLD.tolist()).encode(),
    ],
)  # fmt: skip
def test_positions_in_space(tmp_path, whole):
    recording = take(tmp_path, whole)
    np.testing.assert_array_equal(recording.frames, WORLD[:, None])
    assert recording.score is None
    assert recording.size is None


def test_axes_that_the_user_names(tmp_path):
    recording = take(tmp_path, WORLD.transpose(2, 0, 1).tolist(), hints=Hints(axes="CTV"))
    np.testing.assert_array_equal(recording.frames, WORLD[:, None])


def test_missing_numbers(tmp_path):
    whole = WORLD.tolist()
    whole[1][2][0] = None
    text = json.dumps(whole).replace("null", "NaN").encode()
    for content in (whole, text):
        recording = take(tmp_path, content)
        assert np.isnan(recording.frames[1, 0, 2]).all()
        assert np.isnan(recording.frames).sum() == 3
    named = [dict(zip(NAMES, frame, strict=True)) for frame in WORLD.tolist()]
    del named[3]["joint_b"]
    assert np.isnan(take(tmp_path, named).frames[3, 0, 1]).all()


def test_one_frame(tmp_path):
    assert take(tmp_path, WORLD[:1].tolist()).frames.shape == (1, 1, V, 3)
    assert take(tmp_path, WORLD[0].tolist()).frames.shape == (1, 1, V, 3)


GOOD = json.dumps(WORLD.tolist()).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty: 0 bytes"),
        (b" \n ", "empty: 3 bytes"),
        (GOOD[:500], "damaged: it is cut off or no JSON ("),
        (b'[1, 2]\n[3, 4]\n[5', "damaged: it is cut off or no JSON (line 3: "),
        (b"[" * 100_000, "damaged: it is cut off or no JSON (it is nested too deeply"),
        (b"[" * 500 + b"1" + b"]" * 500, "damaged: more than 8 lists and keys above the joints"),
        (b"[]", "no poses: it holds an empty list"),
        (b"3", "no poses: it holds int"),
        (b'"text"', "no poses: it holds str"),
        (b"{}", "no people: in none of 1 frames"),
        (b'{"name": "a", "value": 3}', "no people: in none of 1 frames"),
        (b'[["a", "b"], ["c", "d"]]', "no people: in none of 2 frames"),
        (json.dumps([WORLD[0].tolist(), WORLD[1, :20].tolist()]).encode(), "other joints: (20, 3) and (33, 3) ("),
        (json.dumps([[[1, 2, 3], [1, 2]]]).encode(), "no numbers: joints with different numbers"),
        (json.dumps([[[1, 2, 3], [1, 2, "x"]]]).encode(), "no numbers: "),
        (json.dumps([[[1, 2, 10**400]] * 5]).encode(), "no numbers: "),
        (json.dumps([[[1, 2, np.inf]] * 5]).encode(), "damaged: infinite numbers, first in frame 0"),
        (b'{"people": [{"pose_keypoints_2d": [1, 2, 3, 4]}]}', "other joints: pose_keypoints_2d holds 4 numbers"),
        (b'{"images": [], "annotations": []}', "no poses: 0 images, 0 annotations"),
        (b'{"images": [{"id": 1}], "annotations": [{"image_id": 2, "keypoints": [1, 2, 1]}]}', "damaged: an anno"),
        (json.dumps(np.zeros((2, 5, 3)).tolist()).encode(), "no people: in none of 2 frames"),
        (b'[{"frame": 1, "joints": [[1, 2, 3]]}, 7]', "damaged: a frame without frame"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, content, message):
    with pytest.raises(Unusable) as error:
        take(tmp_path, content)
    assert str(error.value).startswith(message)


# --- people over time ------------------------------------------------------------------------------------------------


def test_people_are_joined_by_distance(tmp_path):
    walk = POSE[0] + np.arange(20)[:, None, None] * 3
    other = POSE[1] + 600 - np.arange(20)[:, None, None] * 3
    frames = []
    for n in range(20):
        people = [walk[n].tolist(), other[n].tolist()][:: -1 if n % 3 else 1]
        frames.append([walk[n].tolist()] if 5 <= n < 8 else people)
    recording = take(tmp_path, frames)
    assert recording.frames.shape == (20, 2, V, 2)
    np.testing.assert_array_equal(recording.frames[:, 0], walk)
    assert np.isnan(recording.frames[5:8, 1]).all()
    np.testing.assert_array_equal(recording.frames[8:, 1], other[8:])


def test_one_person_may_jump(tmp_path):
    recording = take(tmp_path, (POSE[:, None] + np.arange(T)[:, None, None, None] * 1e4).tolist())
    assert recording.frames.shape == (T, 1, V, 2)


def test_names_of_people_win(tmp_path):
    frames = [
        {"people": [{"track_id": 7 - n % 2, "keypoints": POSE[0].tolist()}, {"track_id": 9, "keypoints": [[0, 0]] * V}]}
        for n in range(6)
    ]
    recording = take(tmp_path, frames)
    assert recording.frames.shape[1] == 3
    assert np.isnan(recording.frames[:, :, 0, 0]).tolist() == [[n % 2 == 1, True, n % 2 == 0] for n in range(6)]


def test_a_crowd_is_bounded():
    people = [[Person(np.full((4, 2), 1000.0 * (n * 60 + k)), f"{n}-{k}") for k in range(60)] for n in range(20)]
    people[3] = [Person(np.ones((4, 2)), None)] * 60
    assert join_people(people, 2).shape == (20, 10, 4, 2)


@pytest.mark.parametrize(
    ("names", "places"),
    [
        (["a_2", "a_10", "a_1"], [1, 9, 0]),
        (["5.jpg", "7.jpg", "6.jpg"], [0, 2, 1]),
        ([10, 20, 40], [0, 1, 3]),
        (["a", "b"], [0, 1]),
        (["x1", "y1"], [0, 1]),
        ([0, 3, 10**12], [0, 1, 2]),
        ([None], [0]),
        (["0" * 500 + "1", "9" * 500], [0, 1]),
    ],
)
def test_places_of_frames(names, places):
    assert frame_places(names) == places
