"""What ``tools.predict --video`` does: options, and rows of what people do."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from feeders.store import DataError

from ..recognition import Prediction, Recognizer
from ..recognition.rows import Row
from ..recognition.windows import Cut
from .annotate import Annotator, Seen, annotate, up_of
from .joints import JointMap
from .poses import BACKENDS, find_backend
from .reading import open_source
from .writing import check_output


def add_options(options: argparse.ArgumentParser) -> None:
    """``--video`` and what belongs to it."""
    video = "a video file, or the number of a camera; --out is then the annotated video"
    options.add_argument("--video", metavar="FILE_OR_CAMERA", help=video)
    options.add_argument("--poses", choices=BACKENDS, help="what finds people in pictures; by default rtmlib")
    options.add_argument("--pose_model", type=Path, metavar="FILE", help="MediaPipe's .task file")


def video_rows(recognizer: Recognizer, arguments: argparse.Namespace, cut: Cut) -> Iterator[Row]:
    """A row for each window of a camera; of a file, one for neighbouring windows of a person with one label.

    Raises:
        DataError: see processor.video.annotate.annotate.
    """
    source, kind = open_source(arguments.video), find_backend(arguments.poses or "rtmlib")
    if arguments.out is not None:
        check_output(arguments.out)
        if arguments.out.exists() and not source.live and arguments.out.samefile(source.name):
            raise DataError(f"--out {arguments.out} is the video itself; give another name")
    JointMap(kind, recognizer.layout, recognizer.dims, up_of(recognizer))  # before models are downloaded
    explain = arguments.explain or arguments.out is not None
    annotator = Annotator(recognizer, kind(arguments.pose_model), cut, explain)
    seen = annotate(annotator, source, arguments.out)
    runs = map(_Run, seen) if source.live else merged(seen)
    for run in runs:
        more = {"start": round(run.start, 3), "end": round(run.end, 3)}
        row = Row(source.name, run.person, run.first, run.last, run.what, more)
        yield row if arguments.explain else replace(row, prediction=replace(run.what, parts=None))


class _Run:
    """Windows of one person with one label, and what they say on the whole."""

    def __init__(self, seen: Seen) -> None:
        self.person, self.first, self.last = seen.person, seen.first, seen.last
        self.start, self.end = seen.start, seen.end
        self.windows = [seen]

    @property
    def what(self) -> Prediction:
        """The means of the windows' values."""
        found = [seen.what for seen in self.windows]
        probabilities = np.mean([what.probabilities for what in found], axis=0)
        parts = [what.parts for what in found if what.parts is not None]
        return replace(found[0], probabilities=probabilities, parts=np.mean(parts, axis=0) if parts else None)

    def add(self, seen: Seen) -> None:
        """The next window."""
        self.last, self.end = seen.last, seen.end
        self.windows.append(seen)

    def cut(self, seen: Seen) -> None:
        """Ends where the middle of the window ``seen`` is nearer than that of the last one."""
        before = self.windows[-1]
        self.last = min(self.last, (before.first + before.last + seen.first + seen.last) // 4)
        self.end = min(self.end, (before.start + before.end + seen.start + seen.end) / 4)


def merged(found: Iterable[Seen]) -> Iterator[_Run]:
    """Neighbouring windows of a person with the same label as one, as soon as the label changes.

    As in the annotated video, a frame has the label of the window whose middle is nearest.
    """
    runs: dict[int, _Run] = {}
    for seen in found:
        run = runs.get(seen.person)
        if run is not None and run.windows[0].what.number == seen.what.number:
            run.add(seen)
            continue
        runs[seen.person] = new = _Run(seen)
        if run is not None:
            run.cut(seen)
            new.first, new.start = max(new.first, run.last + 1), max(new.start, run.end)
            yield run
    yield from runs.values()
