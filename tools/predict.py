"""What a trained network says of new files: ``python -m tools.predict work_dir/demo FILES...``

RUN is a run's folder or a checkpoint, which has all that is needed. FILES are files, folders or archives in any form
that tools.convert reads, or stores; - reads JSON lines from standard input, also live ones, frame by frame. With
--window, long sequences are cut into windows, and neighbouring windows with one label are one line. --video reads a
video or a camera, and writes what people do and by which body parts into a copy of it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from feeders.store import DataError
from processor.command_line import add_plugin, run_command
from processor.recognition import Recognizer
from processor.recognition.given import Problem, read_given
from processor.recognition.options import STREAM, VIDEO, check_options, check_size, what_is_read
from processor.recognition.predict import predict
from processor.recognition.rows import Row, Style, check_out, write
from processor.recognition.stream import Stream, read_lines
from processor.recognition.windows import STRIDE, Cut
from processor.video import command as video

LIVE = 64  # frames of a window of a live stream or a video, where --window does not say


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("weights", metavar="RUN", help="a run's folder, a checkpoint or zoo:NAME")
    options.add_argument("files", nargs="*", metavar="FILES", help="files, folders, archives, stores, or -")
    window = f"frames of a window; by default a file is one sequence, and in live streams and videos {LIVE}"
    options.add_argument("--window", type=int, metavar="L", help=window)
    options.add_argument("--stride", type=int, metavar="S", help=f"frames between two windows; by default {STRIDE}")
    options.add_argument("--smooth", type=int, metavar="N", help="windows whose probabilities are averaged")
    options.add_argument("--top", type=int, default=1, metavar="K", help="print the K most probable classes")
    options.add_argument("--explain", action="store_true", help="print the Shapley value of each body part")
    options.add_argument(
        "--people", choices=["each", "together"], help="by default each, if the network sees one person"
    )
    options.add_argument("--axes", help="order of arrays, such as TVC: T frames, M people, V joints, C coordinates")
    options.add_argument("--img_shape", type=int, nargs=2, metavar=("H", "W"), help="image size of 2D poses")
    style = options.add_mutually_exclusive_group()
    style.add_argument("--json", dest="style", action="store_const", const="json", help="print JSON lines")
    style.add_argument("--csv", dest="style", action="store_const", const="csv", help="print CSV")
    options.add_argument("--out", type=Path, metavar="FILE", help="write to a file instead")
    options.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda", "mps"])
    options.add_argument("--precision", choices=["fp32", "bf16"], help="by default that of the training")
    video.add_options(options)
    add_plugin(options)
    return options


def run(arguments: argparse.Namespace) -> int:
    """Prints the predictions as they come; 2 where some files could not be used."""
    kind = what_is_read(arguments)
    check_options(arguments, kind)
    window, smooth = arguments.window, arguments.smooth
    live = Cut.of(LIVE if window is None else window, arguments.stride, 1 if smooth is None else smooth)
    if arguments.top < 1:
        raise DataError("--top must be at least 1")
    recognizer = Recognizer.from_checkpoint(arguments.weights, arguments.device, arguments.precision, arguments.plugin)
    check_size(arguments.img_shape, recognizer)
    each = arguments.people == "each" or (arguments.people is None and recognizer.people == 1)
    style: Style = arguments.style or "text"
    found: Iterator[Row | Problem]
    out = arguments.out
    check_out(out, arguments.files)
    cut = None if window is None else live
    size = tuple(arguments.img_shape) if arguments.img_shape else None
    if kind == VIDEO:
        found, out = video.video_rows(recognizer, arguments, live), None
    elif kind == STREAM:
        stream = Stream(recognizer, live, cut, arguments.explain, each, size)
        found = stream.rows(read_lines(sys.stdin.buffer))  # bytes that are no text spoil their line alone
    else:
        places = map(Path, arguments.files)
        given = (one for place in places for one in read_given(recognizer, place, each, arguments.axes, size))
        found = predict(recognizer, given, cut, arguments.explain)
    parts = list(recognizer.layout.parts) if arguments.explain else []
    return 2 if write(found, out, style, arguments.top, parts) else 0


main = partial(run_command, run, parser(), log_to="stderr")

if __name__ == "__main__":
    sys.exit(main())
