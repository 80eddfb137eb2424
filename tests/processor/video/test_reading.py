"""Video files and cameras, also those that are none."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from feeders.store import DataError
from processor.video.reading import Camera, open_source

from .figures import draw_figures, figures_of, standing, write_video

av = pytest.importorskip("av")


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    pictures = [draw_figures(one) for one in figures_of(np.stack([standing(200 + 3 * i, 80, 220) for i in range(30)]))]
    return write_video(tmp_path_factory.mktemp("video") / "walk.mp4", pictures)


def test_pictures_and_times(video):
    source = open_source(str(video))
    frames = list(source.frames())
    assert not source.live
    assert source.rate == 25
    assert [frame.number for frame in frames] == list(range(30))
    assert [frame.seconds for frame in frames] == pytest.approx([number / 25 for number in range(30)])
    drawn = draw_figures([*figures_of(standing(200, 80, 220)[None])[0]])
    assert frames[0].picture.shape == drawn.shape
    assert np.abs(frames[0].picture.astype(int) - drawn).mean() < 4


def test_a_phone_that_was_held_upright(video, tmp_path):
    """The matrix of the track header says by how much the picture is to be turned."""
    content = bytearray(video.read_bytes())
    place = content.index(b"tkhd") + 4 + 40  # version and flags, times, number, duration, layer, volume
    one = 1 << 16
    content[place : place + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 480 * one, 0, 1 << 30)
    path = tmp_path / "upright.mp4"
    path.write_bytes(content)
    turned, plain = (next(iter(open_source(str(one)).frames())).picture for one in (path, video))
    assert np.array_equal(turned, np.rot90(plain, -1))  # a quarter turn to the right


def no_frames(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = 64, 64
        container.start_encoding()


def sound(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.mp4", "does not exist"),
        (".", "is a folder"),
        ("text.mp4", "is no video that can be read"),
        ("empty.mp4", "is no video that can be read"),
        ("cut.mp4", "is no video that can be read"),
        ("codec.mp4", "its codec is not known here"),
        ("no_frames.mkv", "is no video that can be read|has no frames"),
        ("sound.wav", "has no pictures, only audio"),
    ],
)
def test_what_is_no_video(video, tmp_path, name, message):
    content = video.read_bytes()
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    (tmp_path / "codec.mp4").write_bytes(content.replace(b"avc1", b"zzz9").replace(b"avcC", b"zzzC"))
    no_frames(tmp_path / "no_frames.mkv")
    sound(tmp_path / "sound.wav")
    with pytest.raises(DataError, match=message) as error:
        list(open_source(str(tmp_path / name)).frames())
    assert str(tmp_path) in str(error.value)


def test_damaged_pieces_are_passed_over(video, tmp_path, caplog):
    content = bytearray(video.read_bytes())
    start = content.index(b"mdat") + 2500
    content[start : start + 600] = bytes(number * 37 % 256 for number in range(600))
    (tmp_path / "damaged.mp4").write_bytes(content)
    frames = list(open_source(str(tmp_path / "damaged.mp4")).frames())
    assert 0 < len(frames) <= 30
    if len(frames) < 30:
        assert "damaged pieces were passed over" in caplog.text


# --- cameras ---------------------------------------------------------------------------------------------------------


def fake_cameras(pictures: list[np.ndarray]) -> SimpleNamespace:
    """OpenCV with one camera, number 0."""

    class Capture:
        def __init__(self, number: int) -> None:
            self.there, self.left = number == 0, list(pictures)

        def isOpened(self) -> bool:
            return self.there

        def get(self, key: int) -> float:
            return 0.0

        def read(self) -> tuple[bool, np.ndarray | None]:
            return (True, self.left.pop(0)) if self.left else (False, None)

        def release(self) -> None:
            self.there = False

    return SimpleNamespace(VideoCapture=Capture, CAP_PROP_FPS=5)


def test_a_camera(monkeypatch):
    blue_first = np.zeros((4, 6, 3), np.uint8)
    blue_first[..., 0] = 255
    monkeypatch.setitem(sys.modules, "cv2", fake_cameras([blue_first] * 3))
    source = open_source("0")
    frames = list(source.frames())
    assert source.live
    assert source.rate == 30
    assert [frame.number for frame in frames] == [0, 1, 2]
    assert frames[0].picture[0, 0].tolist() == [0, 0, 255]


def test_a_camera_that_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", fake_cameras([]))
    with pytest.raises(DataError, match="no camera 3"):
        Camera(3)
    with pytest.raises(DataError, match="camera 0 gives no pictures"):
        list(Camera(0).frames())
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(DataError, match="pip install opencv"):
        Camera(0)
