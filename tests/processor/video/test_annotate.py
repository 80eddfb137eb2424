"""From pictures to what people do, and to the annotated video."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from feeders.store import DataError
from processor.recognition.windows import Cut
from processor.video.annotate import Annotator, annotate, up_of
from processor.video.drawing import Drawn, draw_people
from processor.video.poses import Pose
from processor.video.reading import open_source
from processor.video.tracking import LOST
from shapmix import LAYOUTS

from .figures import COCO, RATE, Counter, DrawnPoses, Pictures, draw_figures, figures_of, standing, write_video

av = pytest.importorskip("av")
RIGHT, LEFT = 10, 9  # wrists


def raising(wrist: int, x: float, frames: int) -> np.ndarray:
    """(L, 17, 3) somebody who stands with one hand up."""
    joints = np.repeat(standing(x, 150, 220)[None], frames, axis=0)
    joints[:, wrist, 1] = 130
    return joints


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_two_people_from_a_file(tmp_path):
    figures = figures_of(raising(RIGHT, 200, 60), raising(LEFT, 450, 60))
    path = write_video(tmp_path / "two.mp4", [draw_figures(people) for people in figures])
    backend, recognizer, out = DrawnPoses(figures), Counter(), tmp_path / "new" / "annotated.mp4"
    found = list(annotate(Annotator(recognizer, backend, Cut(32, 16), explain=True), open_source(str(path)), out))
    spans = [(0, 31), (16, 47), (28, 59)]
    assert [(seen.person, seen.first, seen.last) for seen in found] == [
        (person, *span) for span in spans for person in (1, 2)
    ]
    assert [seen.what.number for seen in found] == [0, 1] * 3
    assert found[2].start == pytest.approx(16 / RATE)
    assert found[2].end == pytest.approx(47 / RATE)
    assert recognizer.seen[0].shape == (32, 17, 3)
    assert set(recognizer.sizes) == {(480, 640)}
    assert backend.closed
    pictures = decoded(out)
    assert len(pictures) == 60
    assert [name.name for name in out.parent.iterdir()] == [out.name]
    plain = draw_figures(figures[0])
    changed = np.abs(pictures[0].astype(int) - plain).max(axis=2) > 60
    assert changed[100:480, 150:250].any()
    assert changed[100:480, 400:500].any()


def test_a_short_video_is_one_window(tmp_path):
    figures = figures_of(raising(RIGHT, 200, 12))
    (seen,) = annotate(Annotator(Counter(), DrawnPoses(figures), Cut(64, 16)), Pictures(figures))
    assert (seen.first, seen.last) == (0, 11)


def test_gaps_are_nan_and_who_leaves_is_recognised():
    here = raising(RIGHT, 200, 80)
    here[5:9] = np.nan
    here[20:] = np.nan
    other = raising(LEFT, 450, 80)
    figures = figures_of(here, other)
    recognizer = Counter()
    found = list(annotate(Annotator(recognizer, DrawnPoses(figures), Cut(32, 32)), Pictures(figures)))
    mine = [seen for seen in found if seen.person == 1]
    assert [(seen.first, seen.last) for seen in mine] == [(0, 19)]
    gone = next(frames for frames in recognizer.seen if len(frames) == 20)
    assert np.flatnonzero(np.isnan(gone).all(axis=(1, 2))).tolist() == [5, 6, 7, 8]


def test_probabilities_are_smoothed():
    joints = np.concatenate([raising(RIGHT, 200, 20), raising(LEFT, 200, 20)])
    figures = figures_of(joints)
    found = list(annotate(Annotator(Counter(), DrawnPoses(figures), Cut(10, 10, 2)), Pictures(figures)))
    assert [seen.what.probabilities[0] for seen in found] == pytest.approx([0.9, 0.9, 0.5, 0.1])


def test_a_picture_shows_the_window_around_it(tmp_path, monkeypatch):
    """The person changes hands in the middle: so does the label, and not a window later."""
    joints = np.concatenate([raising(RIGHT, 200, 40), raising(LEFT, 200, 40)])
    figures, labels = figures_of(joints), []

    def note(picture, people, layout):
        labels.append(people[0].label)
        return picture

    monkeypatch.setattr("processor.video.annotate.draw_people", note)
    out = tmp_path / "out.mkv"
    list(annotate(Annotator(Counter(), DrawnPoses(figures), Cut(16, 4), explain=True), Pictures(figures), out))
    assert len(labels) == 80
    change = labels.index("left_hand")
    assert labels == ["right_hand"] * change + ["left_hand"] * (80 - change)
    assert abs(change - 40) <= 4


class NeverSure(Counter):
    """Nothing after the first window."""

    def sample(self, frames, size=None, name=""):
        if self.seen:
            raise DataError(f"{name}: too few joints seen")
        return super().sample(frames, size, name)


@pytest.mark.parametrize("recognizer", [Counter, NeverSure])
def test_few_pictures_wait(recognizer, tmp_path, monkeypatch):
    """Also where hardly a window is recognised: a person at a desk, whose legs are seen for a moment."""
    here = raising(RIGHT, 200, 140)
    here[60:] = np.nan
    figures, most = figures_of(here, raising(LEFT, 450, 140)), [0]
    ready = annotate.__globals__["_draw_ready"]

    def watch(waiting, *others, **more):
        ready(waiting, *others, **more)
        most[0] = max(most[0], len(waiting))

    monkeypatch.setattr("processor.video.annotate._draw_ready", watch)
    monkeypatch.setattr("processor.video.annotate.draw_people", lambda picture, people, layout: picture)
    list(annotate(Annotator(recognizer(), DrawnPoses(figures), Cut(24, 8)), Pictures(figures), tmp_path / "out.mp4"))
    assert 8 < most[0] <= 24 + 8 + LOST


def test_a_window_that_cannot_be_used_is_passed_over(caplog):
    class Picky(Counter):
        def sample(self, frames, size=None, name=""):
            if len(self.seen) == 1:
                self.seen.append(frames)
                raise DataError(f"{name}: too few joints seen")
            return super().sample(frames, size, name)

    figures = figures_of(raising(RIGHT, 200, 24))
    found = list(annotate(Annotator(Picky(), DrawnPoses(figures), Cut(8, 8)), Pictures(figures)))
    assert [seen.first for seen in found] == [0, 16]
    assert "1 windows were not recognised; the first: person 1 in frames 8 to 15: too few joints" in caplog.text


def test_nothing_is_recognised(tmp_path):
    """Poses without a label are an error: an annotated video without labels would be taken for an answer."""

    class Never(Counter):
        def sample(self, frames, size=None, name=""):
            raise DataError(f"{name}: too few joints seen")

    figures = figures_of(raising(RIGHT, 200, 24))
    wanted = "none of its 3 windows could be recognised; the first: person 1 in frames 0 to 7: too few"
    with pytest.raises(DataError, match=wanted):
        list(annotate(Annotator(Never(), DrawnPoses(figures), Cut(8, 8)), Pictures(figures), tmp_path / "out.mp4"))
    assert not [*tmp_path.iterdir()]


# --- what goes wrong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.avi", "out", "out.txt"])
def test_a_container_that_cannot_be_written(tmp_path, name):
    figures = figures_of(raising(RIGHT, 200, 4))
    with pytest.raises(DataError, match=r"must end with one of \.mp4"):
        next(annotate(Annotator(Counter(), DrawnPoses(figures), Cut(64, 16)), Pictures(figures), tmp_path / name))
    assert not [*tmp_path.iterdir()]


def test_the_output_is_a_folder_or_lies_under_a_file(tmp_path):
    figures = figures_of(raising(RIGHT, 200, 4))
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").write_text("here")
    for name, message in (("folder.mp4", "is a folder"), ("file/out.mp4", "could not be written")):
        with pytest.raises(ValueError, match=message):
            list(annotate(Annotator(Counter(), DrawnPoses(figures), Cut(64, 16)), Pictures(figures), tmp_path / name))
    assert (tmp_path / "file").read_text() == "here"


def test_nobody_in_the_video(tmp_path):
    """The file that was there before stays."""
    out = tmp_path / "out.mp4"
    out.write_text("before")
    figures: list[list[Pose]] = [[]] * 10
    backend = DrawnPoses(figures)
    with pytest.raises(DataError, match="nobody was found in its 10 frames"):
        list(annotate(Annotator(Counter(), backend, Cut(64, 16)), Pictures(figures), out))
    assert out.read_text() == "before"
    assert [name.name for name in tmp_path.iterdir()] == ["out.mp4"]
    assert backend.closed


def test_who_stops_listening_leaves_nothing(tmp_path):
    figures = figures_of(raising(RIGHT, 200, 40))
    found = annotate(Annotator(Counter(), DrawnPoses(figures), Cut(16, 4)), Pictures(figures), tmp_path / "out.mp4")
    next(found)
    found.close()
    assert not [*tmp_path.iterdir()]


def test_ctrl_c_ends_a_camera_and_keeps_what_was_seen(tmp_path):
    figures, out = figures_of(raising(RIGHT, 200, 1000)), tmp_path / "out.mp4"
    found = []
    for seen in annotate(Annotator(Counter(), DrawnPoses(figures), Cut(16, 4)), Pictures(figures, live=True), out):
        found.append(seen)
        if len(found) == 3:
            os.kill(os.getpid(), signal.SIGINT)
    assert 3 <= len(found) < 8
    assert len(decoded(out)) < 60
    empty: list[list[Pose]] = [[]] * 10
    assert list(annotate(Annotator(Counter(), DrawnPoses(empty), Cut(64, 16)), Pictures(empty, live=True))) == []


# --- drawing ---------------------------------------------------------------------------------------------------------


def test_parts_have_the_colours_of_their_contributions():
    plain = np.full((480, 640, 3), 120, np.uint8)
    joints = standing(300, 150, 220)
    parts = np.array([0, 0, 1, 0, 0])
    drawn = draw_people(plain, [Drawn(joints, (300, 150), 1, "wave_right", 0.87, parts)], COCO)
    right, left = (drawn[round(joints[wrist, 1]) - 3, round(joints[wrist, 0])] for wrist in (RIGHT, LEFT))
    assert right.astype(int).sum() > left.astype(int).sum() + 200
    assert (plain == 120).all()


@pytest.mark.parametrize("joints", [standing(-900, -900, 220), standing(630, 5, 900), standing(3, 475, 4)])
def test_people_at_the_border_and_outside(joints):
    people = [Drawn(joints, (joints[0, 0], joints[0, 1]), number, "Händel", 0.5, np.ones(5)) for number in (1, 12)]
    nobody = Drawn(joints * np.array([1, 1, 0], np.float32), (0.0, 0.0), 3)
    assert draw_people(np.zeros((48, 64, 3), np.uint8), [*people, nobody], COCO).shape == (48, 64, 3)


@pytest.mark.parametrize(("stream", "up"), [("joint", (2, -1)), ("bone", (1, 1))])
def test_up_is_found_in_the_mean_sequence(stream, up):
    layout = LAYOUTS["ntu25"]
    mean = torch.full((3, 4, 25, 1), 0.01)
    mean[:, :, layout.joint("head")] = torch.tensor([0, 0.1, -1.5]).view(3, 1, 1)
    card = SimpleNamespace(dims=3, view={"stream": stream}, baseline=mean)
    assert up_of(SimpleNamespace(card=card, layout=layout)) == up
    assert up_of(Counter()) == (1, 1)
