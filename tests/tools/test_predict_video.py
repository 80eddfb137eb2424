"""``tools.predict --video``: from a run and a video to rows and the annotated video; what does not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

import main
from processor.recognition import Prediction
from processor.video.annotate import Seen
from processor.video.command import merged
from tests.conftest import tiny_config
from tests.processor.video.figures import DrawnPoses, draw_figures, figures_of, performance, write_video
from tools import predict

av = pytest.importorskip("av")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on made-up 2D poses, and a video of one person."""
    folder = tmp_path_factory.mktemp("video")
    feeder = {"feeder": "feeders.synthetic_pose.Feeder", "feeder_args": {"window_size": 16}}
    values = tiny_config(folder, num_epoch=1, **feeder)
    (folder / "run.yaml").write_text(yaml.safe_dump(values))
    assert main.main(["--config", str(folder / "run.yaml")]) == 0
    figures = figures_of(performance("wave_right", 40, 1))
    return folder / "run", write_video(folder / "wave.mp4", [draw_figures(people) for people in figures]), figures


@pytest.fixture
def drawn(run, monkeypatch):
    """The poses that were drawn, in place of rtmlib's."""

    class Backend(DrawnPoses):
        def __init__(self, model=None) -> None:
            super().__init__(run[2])

    monkeypatch.setattr("processor.video.command.find_backend", lambda name: Backend)


def test_a_video(run, drawn, tmp_path, capsys):
    folder, video, _ = run
    capsys.readouterr()
    words = [str(folder), "--video", str(video), "--window", "16", "--stride", "8", "--json"]
    assert predict.main([*words, "--out", str(tmp_path / "out.mp4")]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["id"] for row in rows} == {str(video)}
    assert {row["person"] for row in rows} == {1}
    assert (rows[0]["first_frame"], rows[-1]["last_frame"]) == (0, 39)
    assert rows[-1]["end"] == pytest.approx(39 / 25)
    assert "parts" not in rows[0]
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 40
    assert predict.main([*words, "--explain"]) == 0
    (row, *_) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert set(row["parts"]) == {"head", "left_arm", "right_arm", "left_leg", "right_leg"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give FILES, or - alone for standard input, or --video"),
        (("file.npy", "--video", "VIDEO"), "FILES or --video, not both"),
        (("--video", "none.mp4"), "none.mp4 does not exist"),
        (("--video", "VIDEO", "--out", "out.avi"), "must end with one of .mp4"),
        (("--video", "VIDEO", "--out", "VIDEO"), "is the video itself"),
        (("--video", "VIDEO", "--window", "1"), "--window must be at least 2"),
    ],
)
def test_what_does_not_fit(run, drawn, capsys, words, message):
    folder, video, _ = run
    assert predict.main([str(folder), *(word.replace("VIDEO", str(video)) for word in words)]) == 2
    assert message in capsys.readouterr().err


def seen(person: int, first: int, last: int, probability: float, parts: tuple[float, ...] | None = None) -> Seen:
    what = Prediction(np.array([probability, 1 - probability]), ("a", "b"), None if parts is None else np.array(parts))
    return Seen(person, first, last, first / 10, last / 10, what)


def test_neighbours_with_one_label_are_one():
    found = [
        seen(1, 0, 15, 0.9, (1.0, 0.0)), seen(2, 4, 19, 0.2), seen(1, 8, 23, 0.7, (0.0, 0.0)), seen(1, 16, 31, 0.1),
        seen(1, 24, 39, 0.3), seen(2, 12, 27, 0.4),
    ]  # fmt: skip
    runs = [(one.person, one.first, one.last, one.what.label) for one in merged(found)]
    assert runs == [(1, 0, 19, "a"), (1, 20, 39, "b"), (2, 4, 27, "b")]
    first = next(iter(merged(found)))
    assert first.what.probability == pytest.approx(0.8)
    assert first.what.parts.tolist() == [0.5, 0]
    assert first.end == pytest.approx(1.95)
