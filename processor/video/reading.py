"""Pictures of a video file or of a camera, one after the other.

Files are read by PyAV: its errors say what is wrong, it knows when each picture is shown and how a phone was held, and
it writes H.264, which every player shows. Its wheels have no cameras, so these are read by OpenCV, which both pose
estimators bring along.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from feeders.files import kind_of
from feeders.store import DataError

log = logging.getLogger(__name__)
INSTALL = "pip install '.[video]'"


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture.

    Attributes:
        number: 0, 1, 2, ...
        seconds: when it is shown, from the first one on.
        picture: (H, W, 3) uint8, red, green, blue.
    """

    number: int
    seconds: float
    picture: np.ndarray


class Source(Protocol):
    """Where pictures come from.

    Attributes:
        name: for messages.
        live: it ends only when somebody stops it.
        rate: pictures a second, about.
    """

    name: str
    live: bool
    rate: float

    def frames(self) -> Iterator[Frame]:
        """All pictures, all of one size; DataError where they cannot be read."""
        ...


def open_source(where: str) -> Source:
    """The camera with this number, or the file with this name.

    Raises:
        DataError: there is no such file or camera, it is no video, or its codec is not known.
    """
    return Camera(int(where)) if where.isdecimal() else VideoFile(Path(where))


class VideoFile:
    """A video file. Damaged pieces are passed over; a line of the log counts them."""

    live = False

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)
        if not path.is_file():
            raise DataError(f"video {path} {kind_of(path)}; give a video file, or the number of a camera, such as 0")
        with self._opened() as (_, stream):
            self.rate = float(stream.average_rate or 30)

    def frames(self) -> Iterator[Frame]:
        """See Source."""
        number, damaged, first, size = 0, 0, 0.0, (0, 0)
        broken = needed("av", INSTALL).error.InvalidDataError
        with self._opened() as (container, stream):
            for packet in container.demux(stream):
                try:
                    decoded = packet.decode()
                except broken:
                    damaged += 1
                    continue
                for frame in decoded:
                    picture = _upright(frame)
                    first = first if number else (frame.time or 0.0)
                    size = size if number else picture.shape[:2]
                    if picture.shape[:2] != size:
                        raise DataError(f"{self.name}: the size of the picture changes after {number} frames")
                    yield Frame(number, number / self.rate if frame.time is None else frame.time - first, picture)
                    number += 1
        if not number:
            raise DataError(f"{self.name} has no frames" + (" that can be decoded: it is damaged" if damaged else ""))
        if damaged:
            log.warning("%s: %d damaged pieces were passed over", self.name, damaged)

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        """The open file and its first video stream."""
        av = needed("av", INSTALL)
        try:
            container = av.open(self.name)
        except av.error.FFmpegError as error:
            raise DataError(f"{self.name} is no video that can be read ({_reason(error)})") from error
        with container:
            if not container.streams.video:
                raise DataError(f"{self.name} has no pictures, only {', '.join(s.type for s in container.streams)}")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise DataError(f"{self.name}: its codec is not known here; convert the video to H.264")
            stream.thread_type = "AUTO"
            try:
                yield container, stream
            except av.error.FFmpegError as error:
                raise DataError(f"{self.name} could not be read to its end ({_reason(error)})") from error


class Camera:
    """A camera of this machine, by its number."""

    live = True

    def __init__(self, number: int) -> None:
        self.name = f"camera {number}"
        cv2 = needed("cv2", "pip install opencv-python-headless")
        self.capture = cv2.VideoCapture(number)
        if not self.capture.isOpened():
            self.capture.release()
            raise DataError(f"there is no {self.name} that can be opened: is it connected, and not used elsewhere?")
        self.rate = float(self.capture.get(cv2.CAP_PROP_FPS)) or 30.0

    def frames(self) -> Iterator[Frame]:
        """See Source. Ends where the camera stops."""
        start, number = time.monotonic(), 0
        try:
            while True:
                there, picture = self.capture.read()
                if not there:
                    break
                yield Frame(number, time.monotonic() - start, np.ascontiguousarray(picture[..., ::-1]))
                number += 1
        finally:
            self.capture.release()
        if not number:
            raise DataError(f"{self.name} gives no pictures: is it used by another program?")


def needed(module: str, install: str) -> ModuleType:
    """A module of an extra; DataError that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(f"videos need {module} ({error}); install it: {install}") from error


def _reason(error: Exception) -> str:
    """What FFmpeg says, without the file's name."""
    return str(getattr(error, "strerror", None) or error)


def _upright(frame: Any) -> np.ndarray:
    """The picture as it is to be seen: phones store how they were held."""
    picture = frame.to_ndarray(format="rgb24")
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture
