"""Input of all forms, changed at random: what is read of a file, a config or a stream, and what is refused.

A file goes the way of tools.predict: its form is recognised, it is read, the network labels it. Every answer must have
a finite probability, and every refusal the name of the file or line.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import pickle
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from feeders.convert.pickles import load_restricted
from processor.config_files import load_config
from processor.recognition import Recognizer
from processor.recognition.given import read_given
from processor.recognition.predict import predict
from processor.recognition.rows import Row, as_json
from processor.recognition.stream import Stream
from processor.recognition.windows import Cut

from .case import ROOT, Case, Outcome
from .damage import DAMAGES, bounded_memory, outcome_of_reading
from .untrained import write_checkpoint

FRAMES, JOINTS = 12, 25
ODD = (
    "nan", "NaN", "null", "inf", "-Infinity", "1e999", "1e30", "1e-320", "-0", "-1", "0", "9223372036854775808",
    "1000000000000", "''", "true", "[]", "{}", "0x7f", "1_0", "٣", "\x00", "1e", "--1", "~",
)  # fmt: skip
NUMBER = re.compile(rb"-?\d+(\.\d+)?(e-?\d+)?")


def other_numbers(content: bytes, rng: random.Random) -> bytes:
    """Some numbers of a text are odd ones."""
    places = [match.span() for match in NUMBER.finditer(content)] or [(0, 0)]
    for start, end in sorted(rng.sample(places, min(len(places), rng.choice((1, 1, 3, 40)))), reverse=True):
        content = content[:start] + rng.choice(ODD).encode() + content[end:]
    return content


def other_lines(content: bytes, rng: random.Random) -> bytes:
    """Lines of a text are left out, repeated, joined or exchanged."""
    lines = content.split(b"\n")
    one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        del lines[one]
    elif kind == 1:
        lines[one:one] = lines[one : one + 1] * rng.choice((1, 3, 100))
    elif kind == 2:
        lines[one], lines[two] = lines[two], lines[one]
    else:
        lines[one : one + 2] = [b" ".join(lines[one : one + 2])]
    return b"\n".join(lines)


def other_pieces(content: bytes, rng: random.Random) -> bytes:
    """A piece is moved to another place, repeated or nested."""
    start = rng.randrange(max(1, len(content)))
    piece = content[start : start + rng.choice((1, 4, 30, 400))] * rng.choice((1, 1, 2, 200))
    place = rng.randrange(max(1, len(content)))
    return content[:place] + piece + content[place:]


MUTATIONS = (*DAMAGES.values(), other_numbers, other_numbers, other_lines, other_lines, other_pieces)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The content after one change or several."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = rng.choice(MUTATIONS)(content, rng)
    return content


@dataclass(frozen=True)
class Target:
    """What takes input from outside.

    Attributes:
        name: the kind of input.
        whole: input as it should be.
        give: other input -> what becomes of it.
    """

    name: str
    whole: Sequence[bytes]
    give: Callable[[bytes], Outcome]


def cases(rng: random.Random, folder: Path) -> Iterator[Case]:
    """Each target in turn, without end."""
    found = targets(folder)
    while True:
        for target in found:
            number, place = rng.randrange(len(target.whole)), rng.randrange(2**32)
            content = mutated(target.whole[number], random.Random(place))
            yield Case(f"{target.name}: input {number}, draw {place}", partial(target.give, content))


def targets(folder: Path) -> list[Target]:
    """Files of every form, lines of a stream, configs and pickles."""
    recognizer = Recognizer.from_checkpoint(write_checkpoint(folder), device="cpu")
    forms: dict[str, list[bytes]] = {}
    for name, content in takes().items():
        forms.setdefault(name.partition(".")[2], []).append(content)
    recipes = [path.read_bytes() for path in sorted((ROOT / "config").rglob("*.yaml"))]
    files = {form: folder / f"take.{form}" for form in forms}
    return [
        *(Target(form, whole, partial(_labelled, recognizer, files[form])) for form, whole in forms.items()),
        Target("stream", [stream_lines()], partial(_streamed, recognizer)),
        Target("config", [text for text in recipes if b"\nfeeder:" in text], partial(_configured, folder / "odd.yaml")),
        Target("pickle", pickles(), partial(_unpickled, folder / "odd.pkl")),
    ]


def takes() -> dict[str, bytes]:
    """File name -> a sequence in each form that tools.convert reads."""
    frames = np.random.default_rng(0).normal(size=(FRAMES, JOINTS, 3)).round(4)
    columns = [f"j{joint}_{axis}" for joint in range(JOINTS) for axis in "xyz"]
    rows = [",".join(map(str, frame.ravel())) for frame in frames]
    found = {
        "take.csv": "\n".join([",".join(columns), *rows]).encode(),
        "take.txt": "\n".join(" ".join(map(str, joint)) for joint in frames.reshape(-1, 3)).encode(),
        "take.json": json.dumps({"skeletons": frames.tolist()}).encode(),
        "lines.jsonl": b"\n".join(json.dumps(frame).encode() for frame in frames.tolist()),
        "take.skeleton": _skeleton(frames).encode(),
        "take.bvh": _bvh(frames).encode(),
        "take.mat": _saved(lambda file: savemat(file, {"d_skel": frames.transpose(1, 2, 0)})),
        "packed.mat": _saved(lambda file: savemat(file, {"S": {"skel": frames}}, do_compression=True)),
        "take.npy": _saved(lambda file: np.save(file, frames)),
        "take.npz": _saved(lambda file: np.savez_compressed(file, frames=frames)),
    }
    people = [{"people": [{"pose_keypoints_3d": np.c_[frame, np.ones(JOINTS)].ravel().tolist()}]} for frame in frames]
    return {**found, "people.json": json.dumps(people).encode()}


def stream_lines() -> bytes:
    """What a live program sends to tools.predict."""
    frames = np.random.default_rng(0).normal(size=(FRAMES, JOINTS, 3)).round(3)
    whole = [json.dumps({"id": "a", "frames": frames.tolist(), "size": [480, 640]})]
    live = [json.dumps({"id": "hall", "people": {"anna": frame, "ben": frame}}) for frame in frames.tolist()]
    live.append(json.dumps({"id": "hall", "end": True}))
    return "\n".join([*whole, *live, *(json.dumps({"joints": frame}) for frame in frames.tolist())]).encode()


def _labelled(recognizer: Recognizer, path: Path, content: bytes) -> Outcome:
    path.write_bytes(content)
    try:
        with bounded_memory(), contextlib.redirect_stderr(io.StringIO()):  # warnings
            rows = list(predict(recognizer, read_given(recognizer, path, each=True)))
    except ValueError as error:
        return Outcome("refused" if str(path) in str(error) else "lost", str(error))
    finally:
        path.unlink()
    return _judged(rows, path.stem)


def _streamed(recognizer: Recognizer, content: bytes) -> Outcome:
    lines = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors="replace")
    with bounded_memory(), contextlib.redirect_stderr(io.StringIO()):
        rows = list(Stream(recognizer, Cut(4, 2, 2), Cut(8, 4)).rows(lines))
    return _judged(rows, "")  # a problem is of a line, of a stream, or of both


def _judged(rows: list[Any], name: str) -> Outcome:
    for row in rows:
        json.loads(as_json(row, 2), parse_constant=_refuse)
        if isinstance(row, Row) and not math.isfinite(row.prediction.probability):
            return Outcome("lost", f"{row.id} has probability {row.prediction.probability}")
        if not isinstance(row, Row) and not (row.reason and row.name and name in row.name):
            return Outcome("lost", f"a problem of {row.name!r} without name or reason: {row.reason}")
    refused = [row.reason for row in rows if not isinstance(row, Row)]
    return Outcome("refused", refused[0]) if refused else Outcome("survived")


def _refuse(word: str) -> None:
    raise AssertionError(f"{word} in an answer, which is no JSON")


def _configured(path: Path, content: bytes) -> Outcome:
    path.write_bytes(content)
    return outcome_of_reading(partial(load_config, str(path)), None, str(path), checked=False)


def _unpickled(path: Path, content: bytes) -> Outcome:
    path.write_bytes(content)
    return outcome_of_reading(partial(load_restricted, path), None, str(path), checked=False)


def pickles() -> list[bytes]:
    """One of each protocol, and some that go on with opcodes in any order."""
    values: dict[str, Any] = {"a": np.arange(6.0), "b": [(1, "x"), {2.5, None}], "c": {"d": b"text", "e": 10**20}}
    whole, rng = [pickle.dumps(values, protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)], random.Random(0)
    codes = [value for name, value in vars(pickle).items() if name.isupper() and isinstance(value, bytes)]
    for content in whole * 8:
        parts = [rng.choice(codes) + rng.randbytes(rng.choice((0, 0, 1, 4))) for _ in range(rng.randrange(40))]
        whole.append(content[: rng.randrange(len(content))] + b"".join(parts) + b".")
    return whole


def _saved(save: Callable[[io.BytesIO], Any]) -> bytes:
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def _skeleton(frames: np.ndarray) -> str:
    lines = [str(len(frames))]
    for frame in frames:
        lines += ["1", "72057594037927931 0 1 1 0 0 0 0.01 -0.02 2", str(len(frame))]
        lines += [f"{x} {y} {z} 260.7 209.9 973.7 533.8 0.3 -0.1 -0.9 -0.2 2" for x, y, z in frame]
    return "\n".join(lines) + "\n"


def _bvh(frames: np.ndarray) -> str:
    """Joints in a row, the root with a position; each is turned as the frames say."""
    opened = "{{\nOFFSET 0 1 0\nCHANNELS {}Zrotation Xrotation Yrotation\n"
    joints = ["ROOT joint_0\n" + opened.format("6 Xposition Yposition Zposition ")]
    joints += [f"JOINT joint_{number}\n" + opened.format("3 ") for number in range(1, JOINTS)]
    end = "End Site\n{\nOFFSET 0 1 0\n}\n" + "}\n" * JOINTS
    rows = [" ".join(["0 1 0", *map(str, frame.ravel())]) for frame in frames]
    return "\n".join([f"HIERARCHY\n{''.join(joints)}{end}MOTION\nFrames: {len(frames)}\nFrame Time: 0.04", *rows])
