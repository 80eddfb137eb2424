"""Tables of coordinates (CSV, TSV and their kind): one row a frame, or one row a joint; any separator and decimal sign.

Wide: columns ``x0, y0, z0, x1, ...``, ``0_x``, ``nose_x``, ``x_nose``, ``noseX``, with or without a score of each joint
(``v0``, ``nose_visibility``), or no header. Long: columns frame, joint, x, y, perhaps z, a score and a person.

Shapes: L frames, M people, V joints, D coordinates, R rows.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from .axes import WHOLE, recording_of
from .prepare import Source, Unusable
from .recording import Form, Hints, Recording

SCORES = "v|vis|visibility|s|score|conf|confidence|c|p|prob|probability|likelihood"
AXIS, GAP, NUMBERED = rf"(?P<axis>x|y|z|{SCORES})", r"[ _.:/-]", r"(?:joint|j|kp|keypoint|landmark|lm|point|marker)?"
COLUMN = [  # how a column says which coordinate of which joint it holds
    re.compile(rf"{AXIS}{GAP}?{NUMBERED}{GAP}?(?P<number>\d+)", re.IGNORECASE),
    re.compile(rf"{NUMBERED}{GAP}?(?P<number>\d+){GAP}?{AXIS}", re.IGNORECASE),
    re.compile(rf"(?P<joint>.+?)(?:{GAP}+{AXIS}|[\[(]{AXIS.replace('axis', 'inner')}[\])])", re.IGNORECASE),
    re.compile(rf"{AXIS}{GAP}+(?P<joint>.+)", re.IGNORECASE),
    re.compile(r"(?P<joint>.*[a-z0-9])(?P<axis>[XYZ])"),
]
ROLES = {  # other columns, by what people call them
    "frame": "frame frame_id frame_number frame_no frame_idx frame_index frameid framenumber image_id time timestamp "
    "time_ms time_s t ms",
    "joint": "joint joint_id joint_name joint_index joint_number landmark landmark_id landmark_name landmark_index "
    "keypoint keypoint_id keypoint_name name point marker node",
    "person": "person person_id track track_id body body_id people skeleton skeleton_id",
    "label": "label class action activity gesture",
    "subject": "subject subject_id actor performer participant",
    "view": "view camera",
    "split": "split set subset",
}
ROLE = {word: role for role, words in ROLES.items() for word in words.split()}
NOTHING = {"", "nan", "na", "n/a", "null", "none", "-nan", "#n/a", "<na>"}
EXAMPLES = (
    "x0, y0, z0, x1, ... or nose_x, nose_y, ... in one row a frame, or frame, joint, x, y[, z] in one row a joint"
)


@dataclass(frozen=True)
class Dialect:
    """How a table is written."""

    separator: str  # or "blanks"
    decimal: str
    header: tuple[str, ...]  # empty where there is none


@dataclass(frozen=True)
class Columns:
    """What the columns of a table hold: number of a column for each coordinate, and for other things."""

    joints: tuple[str, ...]
    places: np.ndarray  # (V, D) columns
    scores: np.ndarray  # (V,) columns, or empty
    roles: Mapping[str, int]


def read_cells(content: bytes, header: bool = False) -> pd.DataFrame:
    """A table's cells as text; its columns are named by the header.

    Args:
        header: the first row names the columns, even where it holds numbers.

    Raises:
        ValueError: no table, rows of different lengths.
    """
    text = decoded(content)
    dialect = _dialect(text, header)
    frame = _parsed(text, dialect, str)
    return frame.set_axis([name.strip() for name in dialect.header], axis=1) if dialect.header else frame


def decoded(content: bytes) -> str:
    """Text in UTF-8 or 16, or else Latin-1, its lines ended by \\n. Unusable where it is empty or no text."""
    if not content.strip():
        raise Unusable("empty: the file has 0 bytes" if not content else "empty: the file has only blanks")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = content.decode("utf-16", "replace")
    elif b"\0" in content:
        raise Unusable("no table: the file is not text")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _dialect(text: str, header: bool = False) -> Dialect:
    lines = list(islice((line for line in io.StringIO(text) if line.strip()), 3))
    first = lines[0].strip().removeprefix("#").strip()
    blanks = [line.split() for line in lines]
    comma = re.compile(r"[-+]?\d+,\d+(e[-+]?\d+)?", re.IGNORECASE)
    if "\t" in first or ";" in first:
        separator = "\t" if "\t" in first else ";"
    elif len(blanks[0]) > 1 and all(comma.fullmatch(word) for words in blanks[1:] or blanks for word in words):
        separator = "blanks"
    else:
        separator = "," if "," in first else "blanks"
    cells = _cells(first, separator)
    texts = [cell for cell in cells if not _is_number(cell.replace(",", "."))]
    found = tuple(cells) if header or any(text.lower() not in NOTHING for text in texts) else ()
    body = lines[1:] if found else lines
    decimal = "," if separator != "," and any(re.search(r"\d,\d", line) for line in body) else "."
    return Dialect(separator, decimal, found)


def _cells(line: str, separator: str) -> list[str]:
    try:
        words = line.split() if separator == "blanks" else next(csv.reader([line], delimiter=separator))
    except csv.Error as error:
        raise Unusable(f"no table: {error}") from error
    return [word.strip().strip("\"'") for word in words]


def _style(separator: str) -> dict[str, Any]:
    common: dict[str, Any] = {"header": None, "skip_blank_lines": True, "skipinitialspace": True}
    return common | {"sep": r"\s+" if separator == "blanks" else separator}


def _parsed(text: str, dialect: Dialect, kind: type) -> pd.DataFrame:
    """The rows below the header; ValueError where a row has more or fewer cells, or a cell is no ``kind``."""
    _check_rows(text, dialect)
    style = _style(dialect.separator) | {"decimal": dialect.decimal, "skiprows": 0}
    lines = text.lstrip("\r\n ")
    if dialect.header:
        lines = lines.partition("\n")[2]
    if not lines.strip():
        raise Unusable("no frames: a header without rows")
    missing: dict[str, Any] = {"keep_default_na": kind is not str, "na_values": [] if kind is str else sorted(NOTHING)}
    frame = pd.read_csv(io.StringIO(lines), dtype=kind, low_memory=False, **style, **missing)
    return frame.fillna("") if kind is str else frame


def _check_rows(text: str, dialect: Dialect) -> None:
    """Unusable where rows differ in their number of cells (pandas would fill short ones)."""
    quoted = '"' in text
    wanted = 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or quoted:
            continue
        cells = len(line.split()) if dialect.separator == "blanks" else line.count(dialect.separator) + 1
        wanted = wanted or cells
        if cells != wanted:
            raise Unusable(f"ragged: line {number} has {cells} cells, the first line {wanted}")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=64)
def _columns(header: tuple[str, ...]) -> Columns:
    """What a header names; Unusable where it names no joints, or not all coordinates of one."""
    joints: dict[str, dict[str, int]] = {}
    roles: dict[str, int] = {}
    numbered = True
    for place, name in enumerate(header):
        role = ROLE.get(re.sub(r"[ .-]+", "_", name.strip().lower()))
        match = None if role else next((found for known in COLUMN if (found := known.fullmatch(name))), None)
        if role:
            roles.setdefault(role, place)
        elif match:
            parts = match.groupdict()
            axis = str(parts.get("axis") or parts.get("inner")).lower()
            numbered &= parts.get("number") is not None
            holds = joints.setdefault(parts.get("number") or parts["joint"], {})
            if axis in holds:
                raise Unusable(f"column twice: {name} and {header[holds[axis]]} are the same; name each joint once")
            holds[axis if axis in "xyz" else "score"] = place
    joints = {name: has for name, has in joints.items() if {"x", "y"} & has.keys()}
    if not joints:
        there = ", ".join(header[:8]) + (", ..." if len(header) > 8 else "")
        raise Unusable(f"other columns: {there}; wanted {EXAMPLES}")
    axes = "xyz" if any("z" in has for has in joints.values()) else "xy"
    for name, has in joints.items():
        if lacking := [axis for axis in axes if axis not in has]:
            raise Unusable(f"other columns: joint {name} has no {lacking[0]}; wanted {', '.join(axes)} for each joint")
    names = sorted(joints, key=int) if numbered else list(joints)
    scored = all("score" in has for has in joints.values())
    places = np.array([[joints[name][axis] for axis in axes] for name in names])
    scores = np.array([joints[name]["score"] for name in names] if scored else [], dtype=np.int64)
    return Columns(() if numbered else tuple(names), places, scores, roles)


def read(sources: Sequence[Source], hints: Hints) -> Recording:
    """The table of one take; Unusable, which names line and column, where it is none."""
    text = decoded(sources[0].read())
    dialect = _dialect(text)
    try:
        if not dialect.header:
            return _without_header(_numbers(text, dialect), hints)
        named = {name.strip().lower(): place for place, name in enumerate(dialect.header)}
        if {"x", "y"} <= named.keys():
            return _long(text, dialect, named)
        return _wide(text, dialect, _columns(dialect.header))
    except pd.errors.ParserError as error:
        raise Unusable(f"ragged: {error}") from error


def _numbers(text: str, dialect: Dialect, wanted: Sequence[int] | None = None) -> np.ndarray:
    """(R, columns) numbers; with ``wanted`` only these columns. Unusable names the first cell that is none."""
    frame = None
    if wanted is None or len(wanted) == len(dialect.header):
        try:
            return _parsed(text, dialect, float).to_numpy()
        except (ValueError, TypeError) as error:
            if isinstance(error, (Unusable, pd.errors.ParserError)):
                raise
    frame = _parsed(text, dialect, str)
    chosen = range(frame.shape[1]) if wanted is None else wanted
    numbers = np.empty((len(frame), len(chosen)))
    for column, place in enumerate(chosen):
        cells = frame[place].str.strip().str.replace(dialect.decimal, ".", regex=False)
        numbers[:, column] = pd.to_numeric(cells.mask(cells.str.lower().isin(NOTHING)), errors="coerce")
        wrong = np.isnan(numbers[:, column]) & ~cells.str.lower().isin(NOTHING).to_numpy()
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            name = dialect.header[place] if dialect.header else f"column {place + 1}"
            raise Unusable(f"no number: {frame[place].iloc[row]!r} in {name}, row {row + 1} below the header")
    return numbers


def _without_header(numbers: np.ndarray, hints: Hints) -> Recording:
    """One row a frame, of V * D numbers, perhaps after a frame's number."""
    if hints.num_joints is None:
        raise Unusable(f"no header: {numbers.shape[1]} columns without names; name their layout, or add a header")
    for dims in (hints.dims,) if hints.dims else (3, 2):
        extra = numbers.shape[1] - hints.num_joints * dims
        if extra in (0, 1):
            frames = numbers[:, extra:].reshape(len(numbers), 1, hints.num_joints, dims)
            return _recording(frames, None, (), {})
    wanted = " or ".join(str(hints.num_joints * dims) for dims in (2, 3))
    raise Unusable(f"other joints: {numbers.shape[1]} columns without names, wanted {wanted}")


def _wide(text: str, dialect: Dialect, columns: Columns) -> Recording:
    used = [*columns.places.ravel(), *columns.scores]
    timed = [place for role, place in columns.roles.items() if role == "frame" and _counts(text, dialect, place)]
    others = columns.roles.keys() - ({"frame"} if timed else set())
    plain = len(used) + len(timed) == len(dialect.header)
    numbers = _numbers(text, dialect)[:, [*used, *timed]] if plain else _numbers(text, dialect, [*used, *timed])
    count, (joints, dims) = len(numbers), columns.places.shape
    frames = numbers[:, : joints * dims].reshape(count, joints, dims)
    score = numbers[:, joints * dims : len(used)] if len(columns.scores) else None
    number = numbers[:, len(used)] if timed else None
    facts = {}
    if others:
        cells = _parsed(text, dialect, str)
        facts = _facts(cells, columns.roles)
        if "frame" in others:
            number = pd.factorize(cells[columns.roles["frame"]])[0]
        if "person" in others:
            person = cells[columns.roles["person"]].to_numpy()
            return _by_person(frames, score, number, person, columns.joints, facts)
    rows = np.arange(count) if number is None else np.argsort(number, kind="stable")
    return _recording(frames[rows, None], None if score is None else score[rows, None], columns.joints, facts)


def _counts(text: str, dialect: Dialect, place: int) -> bool:
    """Are a column's cells numbers, not times or names of images? The first row below the header says it."""
    row = next(islice((line for line in io.StringIO(text) if line.strip()), 1, None), "")
    return all(_is_number(cell.replace(",", ".")) for cell in _cells(row, dialect.separator)[place : place + 1])


def _recording(
    frames: np.ndarray, score: np.ndarray | None, joints: tuple[str, ...], facts: Mapping[str, str]
) -> Recording:
    """A take of frames (L, M, V, D) and scores (L, M, V)."""
    known = Hints(frames.shape[2], frames.shape[3], WHOLE)
    array = frames if score is None else np.concatenate([frames, score[..., None]], axis=-1)
    return recording_of(array, known, joint_names=joints, facts=facts)


def _by_person(
    frames: np.ndarray, score: np.ndarray | None, number: np.ndarray | None, person: np.ndarray,
    joints: tuple[str, ...], facts: Mapping[str, str],
) -> Recording:  # fmt: skip
    """One row for each person in each frame."""
    who, people = pd.factorize(person)
    when = pd.Series(who).groupby(who).cumcount().to_numpy() if number is None else pd.factorize(number, sort=True)[0]
    if len(set(zip(when.tolist(), who.tolist(), strict=True))) < len(who):
        raise Unusable("frame twice: two rows of one frame for the same person")
    placed = np.full((when.max() + 1, len(people), *frames.shape[1:]), np.nan)
    placed[when, who] = frames
    scores = None
    if score is not None:
        scores = np.zeros(placed.shape[:3])
        scores[when, who] = score
    return _recording(placed, scores, joints, facts)


def _long(text: str, dialect: Dialect, named: Mapping[str, int]) -> Recording:
    """One row for each joint in each frame."""
    roles = {
        role: place for name, place in reversed(list(named.items())) if (role := ROLE.get(re.sub(r"[ .-]+", "_", name)))
    }
    if "joint" not in roles:
        raise Unusable(f"other columns: {', '.join(dialect.header)}; there is no column joint; wanted {EXAMPLES}")
    score = next((named[name] for name in SCORES.split("|") if name in named), None)
    axes = [named[axis] for axis in "xyz" if axis in named]
    numbers = _numbers(text, dialect, [*axes, *([] if score is None else [score])])
    cells = _parsed(text, dialect, str)
    called = cells[roles["joint"]].str.strip()
    numbered = bool(called.str.isdecimal().all())
    joint, joints = pd.factorize(called.astype(int) if numbered else called, sort=numbered)
    who = pd.factorize(cells[roles["person"]])[0] if "person" in roles else np.zeros(len(joint), np.int64)
    if "frame" in roles and _counts(text, dialect, roles["frame"]):
        when: np.ndarray = np.unique(_numbers(text, dialect, [roles["frame"]]), return_inverse=True)[1].ravel()
    elif "frame" in roles:
        when = pd.factorize(cells[roles["frame"]])[0]
    else:
        when = pd.Series(joint).groupby([joint, who]).cumcount().to_numpy(np.int64)
    shape = int(when.max()) + 1, int(who.max()) + 1, len(joints)
    if np.prod(shape) > 100 * len(joint):
        raise Unusable(f"other joints: {len(joints)} names of joints in {len(joint)} rows")
    place = np.ravel_multi_index((when, who, joint), shape)
    if len(again := np.flatnonzero(np.bincount(place) > 1)):
        frame, _, name = np.unravel_index(again[0], shape)
        raise Unusable(f"joint twice: {joints[name]} occurs twice in frame {frame}")
    frames = np.full((np.prod(shape), len(axes)), np.nan)
    frames[place] = numbers[:, : len(axes)]
    scores: np.ndarray | None = None
    if score is not None:
        scores = np.zeros(np.prod(shape))
        scores[place] = numbers[:, -1]
        scores = scores.reshape(shape)
    names = () if numbered else tuple(map(str, joints))
    return _recording(frames.reshape(*shape, len(axes)), scores, names, _facts(cells, roles))


def _facts(cells: pd.DataFrame, roles: Mapping[str, int]) -> dict[str, str]:
    """Label, subject, view and split, where every row says the same."""
    known = {
        role: cells[roles[role]].str.strip().unique() for role in ("label", "subject", "view", "split") if role in roles
    }
    return {role: str(values[0]) for role, values in known.items() if len(values) == 1 and values[0]}


def _recognises(name: str, head: bytes) -> bool:
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in (".csv", ".tsv", ".tab"):
        return True
    if suffix != ".txt" or b"\0" in head:
        return False
    lines = head.decode("utf-8", "replace").splitlines()
    columns = re.split(r"[,;\t]", lines[0]) if lines else []
    return len(columns) > 3 and not any(_is_number(column) for column in columns)


TABLE = Form("table", _recognises, read)
