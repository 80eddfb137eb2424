"""Whole sets, stores and people: as the network's own data set reads them, and nothing is left out silently."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import yaml
from scipy.special import softmax

import main
from processor.recognition import Recognizer
from processor.recognition.given import Problem, read_given
from processor.recognition.predict import predict
from processor.recognition.rows import Row
from processor.recognition.stream import Stream
from processor.recognition.windows import Cut
from processor.run_folder import RunFolder
from processor.scores import read_scores
from tests.conftest import annotations, tiny_config, write_pickle
from tests.made_up import write_store
from tools import predict as command

PLAIN = {  # weights hardly move; batch norm gets to know the data, so that probabilities are neither 0 nor 1
    "num_epoch": 1, "base_lr": 1e-4, "mixing": "none", "loss": "cross_entropy", "overlap": "warn",
    "train_feeder_args": {"repeat": 6}, "test_feeder_args": {},
}  # fmt: skip
RNG = np.random.default_rng(0)


def trained(folder, **values) -> RunFolder:
    """A run of one epoch."""
    folder.mkdir(exist_ok=True)
    (folder / "run.yaml").write_text(yaml.safe_dump(tiny_config(folder, **{**PLAIN, **values})))
    assert main.main(["--config", str(folder / "run.yaml")]) == 0
    return RunFolder(folder / "run")


def assert_as_recorded(run: RunFolder, place, ids) -> None:
    """The probabilities of these sequences of a place are those of the test split."""
    recorded = read_scores(run.scores())
    recognizer = Recognizer.from_checkpoint(run.path, device="cpu")
    rows = list(predict(recognizer, read_given(recognizer, place, each=False)))
    found = {row.id: row.prediction.probabilities for row in rows if not isinstance(row, Problem)}
    np.testing.assert_allclose([found[name] for name in ids], softmax(recorded.scores, axis=1), atol=1e-5)


def test_pyskls_boxes(tmp_path):
    """Boxes under the threshold of the training are not used, and of the others the best two of each frame."""
    made = annotations(9, boxes=True, people=3)
    path = write_pickle(tmp_path / "poses.pkl", made)
    arguments = {"ann_file": str(path), "window_size": 16, "box_thr": 0.4}
    run = trained(
        tmp_path / "a", feeder="feeders.feeder_pose.Feeder", feeder_args=arguments,
        train_feeder_args={"split": "train", "repeat": 6, "on_bad_sample": "skip"}, test_feeder_args={"split": "val"},
    )  # fmt: skip
    assert_as_recorded(run, path, made["split"]["val"])
    for one in made["annotations"]:
        del one["label"]
    assert_as_recorded(run, write_pickle(tmp_path / "unlabelled.pkl", made), made["split"]["val"])


def test_ctrgcns_arrays(tmp_path):
    """The second actor is there longer than the first, nobody in some frames; nothing is moved."""
    x = RNG.normal(size=(8, 20, 2, 25, 3)).astype(np.float32)
    x[:, 4:8] = x[:, 9:12, 0] = 0
    x, y = x.reshape(8, 20, 150), np.eye(2)[np.arange(8) % 2]
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x[::-1] / 2, y_test=y)
    arguments = {"data_path": str(tmp_path / "mine.npz"), "window_size": 16}
    run = trained(tmp_path / "a", feeder="feeders.feeder_ntu.Feeder", feeder_args=arguments)
    assert_as_recorded(run, tmp_path / "mine.npz", [f"test_{row}" for row in range(8)])


def moves(length: int, people: int) -> np.ndarray:
    """(L, M, 13, 3): people who stand 3 apart; the later ones move more."""
    there = RNG.normal(size=(1, people, 13, 3)) + 3 * np.arange(people)[:, None, None]
    return (there + 0.1 * (1 + np.arange(people)[:, None, None]) * RNG.normal(size=(length, people, 13, 3))).astype(
        "f4"
    )


@pytest.fixture(scope="module")
def of_one(tmp_path_factory) -> Recognizer:
    """Trained on people alone."""
    return of_people(tmp_path_factory.mktemp("one"), 1)


@pytest.fixture(scope="module")
def of_two(tmp_path_factory) -> Recognizer:
    """Trained on two people in space."""
    return of_people(tmp_path_factory.mktemp("two"), 2)


def of_people(folder, people: int) -> Recognizer:
    write_store(folder / "data", {f"s{n}": moves(12 + n, people) for n in range(8)}, [0, 1] * 4)
    arguments = {"data_path": str(folder / "data"), "window_size": 16}
    run = trained(folder, feeder="feeders.feeder_store.Feeder", feeder_args=arguments)
    return Recognizer.from_checkpoint(run.path, device="cpu")


def rows_of(recognizer: Recognizer, place, each: bool, axes: str | None = None) -> list[Row | Problem]:
    """What a network says of a place, or of a line of a stream."""
    if place.suffix == ".json":
        return list(Stream(recognizer, Cut(16, 8), each=each).rows(place.read_text().splitlines()))
    return list(predict(recognizer, read_given(recognizer, place, each, axes)))


def said(capsys, *words: object, code: int = 0) -> tuple[list[dict], str]:
    """What the command answers as JSON, and what it says beside it."""
    capsys.readouterr()
    assert command.main([*map(str, words), "--json"]) == code
    printed = capsys.readouterr()
    return [json.loads(line) for line in printed.out.splitlines()], printed.err


def three_people(tmp_path) -> np.ndarray:
    """The same three people (L, M, V, C) in every form."""
    x = moves(20, 3)
    x[:5, 1] = 0
    write_store(tmp_path / "store", {"a": x}, [0], dims=3)
    np.save(tmp_path / "a.npy", x)
    rows = x.reshape(1, 20, -1)
    np.savez(tmp_path / "all.npz", x_train=rows, y_train=[[1]], x_test=rows[:0], y_test=np.zeros((0, 1)))
    one = {"frame_dir": "a", "label": 0, "keypoint": x.transpose(1, 0, 2, 3), "total_frames": 20}
    write_pickle(tmp_path / "all.pkl", {"split": {"train": ["a"]}, "annotations": [one]})
    (tmp_path / "line.json").write_text(json.dumps({"id": "a", "frames": x.tolist()}))
    return x


@pytest.mark.parametrize("form", ["store", "all.npz", "all.pkl", "a.npy", "line.json"])
def test_three_people(form, of_one, of_two, tmp_path, caplog):
    """Each of them for a network of one person, the same in every form; two are kept for a network of two."""
    x, axes = three_people(tmp_path), "TMVC" if form == "a.npy" else None
    rows = rows_of(of_one, tmp_path / form, True, axes)
    assert [row.person for row in rows] == [1, 2, 3]
    wanted = [of_one(x[:, [person]]).probability for person in range(3)]
    assert [row.prediction.probability for row in rows] == pytest.approx(wanted, abs=2e-6)
    assert len(rows_of(of_two, tmp_path / form, True, axes)) == 3
    assert "the network sees" not in caplog.text
    (row,) = rows_of(of_two, tmp_path / form, False, axes)
    assert "3 people, the network sees 2; kept those that move most" in caplog.text
    assert row.person is None
    assert row.prediction.probability == pytest.approx(of_two(x[:, 1:]).probability, abs=2e-6)


def test_one_person_for_a_network_of_two(of_two, tmp_path, caplog):
    """The other one is absent; files and stores are of one batch."""
    x = moves(20, 1)
    write_store(tmp_path / "store", {"a": x}, [0], dims=3)
    np.save(tmp_path / "a.npy", x[:, 0])
    places = (read_given(of_two, tmp_path / name, False) for name in ("a.npy", "store"))
    one, two = predict(of_two, itertools.chain(*places))
    assert (one.person, two.person) == (None, None)
    assert one.prediction.probability == two.prediction.probability
    assert "people" not in caplog.text


def test_all_of_a_folder_is_read(of_one, tmp_path, caplog):
    """Whole sets, files and a table of labels; what has no label is labelled too, and a damaged set is named."""
    x = three_people(tmp_path)
    (tmp_path / "line.json").unlink()
    np.save(tmp_path / "a.npy", x[:, 0])
    np.save(tmp_path / "b.npy", x[:, 1])
    (tmp_path / "labels.csv").write_text("id,label\na,0\n")
    (tmp_path / "none.pkl").write_bytes(b"nothing")
    *rows, first, second = rows_of(of_one, tmp_path, True)
    (problem,) = [row for row in rows if isinstance(row, Problem)]
    assert problem.id.endswith("none.pkl")
    assert problem.reason.startswith("is damaged")
    assert [row.id for row in rows if row is not problem] == [*["train_0"] * 3, *["a"] * 3]
    assert (first.id, second.id) == (str(tmp_path / "a.npy"), str(tmp_path / "b.npy"))
    assert f"the store {tmp_path / 'store'} is not read" in caplog.text


@pytest.mark.parametrize("sized", [True, False])
def test_sizes_of_images(sized, tmp_path, capsys):
    """Where they were known in training they are asked for; where not, those of new files do not count."""
    poses = {f"s{n}": 100 * moves(12 + n, 1) for n in range(8)}
    for one in poses.values():
        one[..., 2] = 0.9
    columns, x = {"height": [480 * sized] * 8, "width": [640 * sized] * 8}, poses["s0"]
    write_store(tmp_path / "data", poses, [0, 1] * 4, columns=columns)
    arguments = {"data_path": str(tmp_path / "data"), "window_size": 16}
    run = trained(tmp_path / "a", feeder="feeders.feeder_store.Feeder", feeder_args=arguments)
    (tmp_path / "data").rename(tmp_path / "known")
    write_store(tmp_path / "not", {"a": x}, [0], columns={"height": [0], "width": [0]})
    write_store(tmp_path / "other", {"a": x}, [0], columns={"height": [999], "width": [777]})
    np.save(tmp_path / "a.npy", x[:, 0])
    recorded = softmax(read_scores(run.scores()).scores, axis=1).max(axis=1)[0]
    for place in ("not", "a.npy", "other"):
        if sized and place != "other":
            rows, err = said(capsys, run.path, tmp_path / place, code=2)
            assert "the size of its image (height, width) is not known" in rows[0]["error"]
            assert "--img_shape" in err
        words = ("--img_shape", 480, 640) if sized else ()
        (row,), _ = said(capsys, run.path, tmp_path / place, *words)
        assert (row["probability"] == pytest.approx(recorded, abs=1e-5)) == (not sized or place != "other")
    if not sized:
        assert "in training no size" in said(capsys, run.path, tmp_path / "a.npy", "--img_shape", 1, 1, code=2)[1]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (
            ("a.npy", "--img_shape", "480", "640"),
            "--img_shape has no effect: the network was trained on",
        ),
        (("a.npy", "--img_shape", "0", "640"), "--img_shape must be at least 1"),
        (("a.npy", "--poses", "rtmlib"), "--poses has no effect on FILES, it is for --video"),
        (("a.npy", "--pose_model", "x"), "--pose_model has no effect on FILES"),
        (("a.npy", "--stride", "8"), "--stride needs --window"),
        (("-", "--axes", "TVC"), "--axes has no effect on standard input, it is for FILES"),
        (("--video", "x.mp4", "--people", "each"), "--people has no effect on --video"),
        (("a.npy", "--window", "0"), "--window must be at least 2"),
    ],
)
def test_options_without_effect(words, wanted, of_one, capsys, monkeypatch):
    monkeypatch.setattr(Recognizer, "from_checkpoint", lambda *words: of_one)
    assert wanted in said(capsys, "run", *words, code=2)[1]


def test_axes_of_what_says_its_axes(of_one, tmp_path, caplog):
    three_people(tmp_path)
    for place in ("store", "all.pkl"):
        rows_of(of_one, tmp_path / place, True, "TVC")
        assert f"{place} says its axes itself: --axes has no effect on it" in caplog.text


def test_axes_of_a_table(of_one, tmp_path, caplog):
    """They are those of its columns; an array beside it is read by the axes that are named."""
    frames = np.random.default_rng(0).normal(size=(9, 25, 3))
    columns = ",".join(f"j{joint}_{axis}" for joint in range(25) for axis in "xyz")
    np.savetxt(tmp_path / "a.csv", frames.reshape(9, -1), delimiter=",", header=columns, comments="")
    np.save(tmp_path / "b.npy", frames.transpose(1, 0, 2))
    assert len(rows_of(of_one, tmp_path, True, "VTC")) == 2
    assert f"{tmp_path} says its axes itself (table): --axes has no effect on it" in caplog.text
    assert "(numpy)" not in caplog.text
