"""Options of ``tools.predict`` that would have no effect: an error rather than silence."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from feeders.store import DataError

from .recognizer import Recognizer

FILES, STREAM, VIDEO = "FILES", "standard input", "--video"
EFFECTIVE = {  # option -> what it is for; the others are for everything
    "people": (FILES, STREAM),
    "axes": (FILES,),
    "img_shape": (FILES, STREAM),
    "poses": (VIDEO,),
    "pose_model": (VIDEO,),
}


def what_is_read(arguments: argparse.Namespace) -> str:
    """FILES, STREAM or VIDEO; DataError for several of them, or none."""
    if arguments.video is not None:
        if arguments.files:
            raise DataError("give FILES or --video, not both")
        return VIDEO
    if arguments.files == ["-"]:
        return STREAM
    if not arguments.files or "-" in arguments.files:
        raise DataError("give FILES, or - alone for standard input, or --video")
    return FILES


def check_options(arguments: argparse.Namespace, kind: str) -> None:
    """DataError for an option that has no effect on this kind, see :func:`what_is_read`."""
    for option, kinds in EFFECTIVE.items():
        if getattr(arguments, option) is not None and kind not in kinds:
            raise DataError(f"--{option} has no effect on {kind}, it is for {' and '.join(kinds)}; leave it out")
    for option in ("stride", "smooth"):
        if kind == FILES and arguments.window is None and getattr(arguments, option) is not None:
            raise DataError(f"--{option} needs --window: a file that is one sequence has no windows")


def check_size(size: Sequence[int] | None, recognizer: Recognizer) -> None:
    """DataError where a size of images is given that is none, or has no effect on the network."""
    if size is not None and min(size) < 1:
        raise DataError(f"--img_shape must be at least 1 pixel high and wide; got {size[0]} and {size[1]}")
    if size is not None and recognizer.dims == 3:
        raise DataError("--img_shape has no effect: the network was trained on skeletons in 3 dimensions; leave it out")
    if size is not None and recognizer.sized is False:
        raise DataError("--img_shape has no effect: in training no size of an image was known; leave it out")
