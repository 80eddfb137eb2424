"""A video file, whole or not there at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from feeders.files import replacing
from feeders.store import DataError

from .reading import INSTALL, needed

FORMATS = {  # ending of the name: container, codec
    ".mp4": ("mp4", "libx264"),
    ".mov": ("mov", "libx264"),
    ".mkv": ("matroska", "libx264"),
    ".webm": ("webm", "libvpx-vp9"),
}
LONGEST = 1920  # pixels of the longer side; larger pictures are made smaller
TICKS = 90_000  # a second: the unit of time in the file


def check_output(path: Path) -> None:
    """DataError where the name of a video does not say a container that can be written, or PyAV is missing."""
    if path.suffix.lower() not in FORMATS:
        raise DataError(f"--out {path}: the name of the annotated video must end with one of {', '.join(FORMATS)}")
    if path.is_dir():
        raise DataError(f"--out {path} is a folder; give the name of a file in it")
    codec = FORMATS[path.suffix.lower()][1]
    if codec not in needed("av", INSTALL).codecs_available:
        raise DataError(f"--out {path}: PyAV has no {codec} here; install PyAV from its wheel")


def small(picture: np.ndarray) -> Any:
    """A picture (H, W, 3) as a frame that can wait: half the memory, even sides, the longer one LONGEST at most."""
    height, width = picture.shape[:2]
    share = min(1.0, LONGEST / max(height, width))
    frame = needed("av", INSTALL).VideoFrame.from_ndarray(picture, format="rgb24")
    return frame.reformat(*(max(2, round(side * share) // 2 * 2) for side in (width, height)), format="yuv420p")


class Writer:
    """Writes pictures (H, W, 3) of one size, uint8, red, green, blue."""

    def __init__(self, container: Any, codec: str) -> None:
        self.container, self.codec, self.last = container, codec, -1
        self.stream: Any = None

    def write(self, picture: np.ndarray, seconds: float) -> None:
        """The next picture, shown from this time on."""
        if self.stream is None:
            self.stream = self.container.add_stream(self.codec, rate=30)
            self.stream.height, self.stream.width = picture.shape[:2]
            self.stream.pix_fmt, self.stream.time_base = "yuv420p", Fraction(1, TICKS)
            self.stream.codec_context.time_base = Fraction(1, TICKS)
        frame = needed("av", INSTALL).VideoFrame.from_ndarray(picture, format="rgb24")
        self.last = max(self.last + 1, round(seconds * TICKS))  # times must grow
        frame.pts, frame.time_base = self.last, Fraction(1, TICKS)
        self.container.mux(self.stream.encode(frame))

    def finish(self) -> None:
        """Writes what the codec still holds."""
        if self.stream is not None:
            self.container.mux(self.stream.encode(None))


@contextmanager
def writing_video(path: Path | None) -> Iterator[Writer | None]:
    """A writer whose file takes the place of ``path`` when the block ends without an error; None for no path."""
    if path is None:
        yield None
        return
    container, codec = FORMATS[path.suffix.lower()]
    with replacing(path) as beside, needed("av", INSTALL).open(str(beside), "w", format=container) as file:
        writer = Writer(file, codec)
        yield writer
        writer.finish()
