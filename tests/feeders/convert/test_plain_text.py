"""Text of numbers and NTU's skeleton files."""

from __future__ import annotations

import numpy as np
import pytest

from feeders.convert import plain_text
from feeders.convert.prepare import Source, Unusable
from feeders.convert.recording import Hints
from tools.faults.made_up import skeleton_text

TAKE = np.random.default_rng(0).normal(size=(9, 20, 3))  # (T, V, C)
KNOWN = Hints(num_joints=20, dims=3)
NO_HINTS = Hints()


def text_of(rows: np.ndarray, separator: str = " ") -> bytes:
    return b"".join(separator.join(map(repr, row.tolist())).encode() + b"\n" for row in rows)


def take(tmp_path, content: bytes, hints=KNOWN, name="take.txt"):
    path = tmp_path / name
    path.write_bytes(content)
    source, start = Source(str(path), ""), content[:4096]
    form = next((form for form in plain_text.FORMS if form.recognises(name, start)), plain_text.FORMS[1])
    return form.read([source], hints)


@pytest.mark.parametrize("separator", [" ", "\t", ",", ";", ", "])
@pytest.mark.parametrize("numbered", [False, True])
def test_one_frame_a_line(tmp_path, separator, numbered):
    rows = TAKE.reshape(9, 60)
    if numbered:
        rows = np.concatenate([np.arange(1.0, 10)[:, None], rows], axis=1)
    np.testing.assert_array_equal(take(tmp_path, text_of(rows, separator)).frames, TAKE[:, None])


def test_two_people_one_after_the_other(tmp_path):
    both = np.stack([TAKE, TAKE[::-1]], axis=1)
    rows = np.concatenate([np.arange(9.0)[:, None], both.reshape(9, 120)], axis=1)
    np.testing.assert_array_equal(take(tmp_path, text_of(rows, ",")).frames, both)


def test_one_joint_a_line(tmp_path):
    np.testing.assert_array_equal(take(tmp_path, text_of(TAKE.reshape(-1, 3))).frames, TAKE[:, None])
    crlf = b"\xef\xbb\xbf" + text_of(TAKE.reshape(-1, 3)).replace(b"\n", b"\r\n\r\n")
    np.testing.assert_array_equal(take(tmp_path, crlf).frames, TAKE[:, None])


def test_msr_action3d(tmp_path):
    rows = np.concatenate([TAKE, np.full((9, 20, 1), 0.25)], axis=2)
    rows[3] = 0
    rows[4, 7, 3] = 0
    recording = take(tmp_path, text_of(rows.reshape(-1, 4)), NO_HINTS, "a01_s02_e03_skeleton3D.txt")
    assert recording.frames.shape == (9, 1, 20, 3)
    assert np.isnan(recording.frames[3]).all(), "a frame without anybody"
    np.testing.assert_array_equal(recording.frames[4, 0], TAKE[4])
    assert recording.score[4, 0, 7] == 0.5, "inferred by the camera"
    assert recording.score[0, 0, 0] == 0.25


def test_pixels_beside_scores(tmp_path):
    rows = np.concatenate([np.abs(TAKE[..., :2]) * 500, np.full((9, 20, 1), 0.5)], axis=2)
    recording = take(tmp_path, text_of(rows.reshape(-1, 3)), Hints(num_joints=20))
    np.testing.assert_array_equal(recording.frames, rows[:, None, :, :2])


def test_bodies_of_ntu(tmp_path):
    bodies = np.random.default_rng(0).normal(size=(6, 2, 25, 3))
    bodies[:2, 1] = np.nan
    recording = take(tmp_path, skeleton_text(bodies).encode(), NO_HINTS, "S001C001P001R001A001.skeleton")
    np.testing.assert_allclose(recording.frames, bodies, rtol=1e-6)
    assert plain_text.FORMS[0].recognises("a.txt", skeleton_text(bodies).encode()[:500])
    many = np.full((30, 30, 25, 3), np.nan)
    many[range(30), range(30)] = 1.0
    many[20:] = 1.0
    crowd = skeleton_text(many, [str(body) for body in range(30)]).encode()
    assert take(tmp_path, crowd, NO_HINTS, "b.skeleton").frames.shape == (30, 10, 25, 3)


LINES = text_of(TAKE.reshape(-1, 3))


@pytest.mark.parametrize(
    ("content", "hints", "message"),
    [
        (b"", KNOWN, "empty: 0 bytes"),
        (b" \n\n", KNOWN, "empty: 3 bytes"),
        (b"\x00\x01", KNOWN, "no text"),
        (LINES[: -3 * len(LINES) // 180], KNOWN, "damaged: "),
        (LINES + b"1 2\n", KNOWN, "damaged: line 181 has 2 numbers, wanted 3: '1 2'"),
        (LINES + b"1 2 x\n", KNOWN, "damaged: line 181 is not 3 numbers: '1 2 x'"),
        (LINES + b"1 2 3\n", KNOWN, "damaged: 181 lines, which is no multiple of 20 joints"),
        (LINES + b"1 2 inf\n" * 20, KNOWN, "damaged: infinite numbers, first in frame 9"),
        (LINES, NO_HINTS, "unknown joints: 180 rows, and nothing says how many joints that is"),
        (text_of(TAKE.reshape(9, 60)), NO_HINTS, "unknown joints: 60 numbers a frame"),
        (text_of(TAKE.reshape(9, 60)), Hints(num_joints=25), "other axes: shape (9, 60) is not TF with 25 joints"),
        (b"0 0 0 0\n" * 40, KNOWN, "no people: in none of 2 frames"),
        (b"x y z\n1 2 3\n", KNOWN, "damaged: line 1 is not 3 numbers"),
        (b"1,5;2,5\n", KNOWN, "damaged: 1 lines, which"),
        (b"3\n1\n", NO_HINTS, "damaged: the file was cut off after line 2"),
        (b"2\n0\n0\n", NO_HINTS, "no people: in none of its frames"),
        (b"999999999999\n1\n", NO_HINTS, "damaged: line 1: expected the number of frames"),
    ],
)
def test_what_is_refused(tmp_path, content, hints, message):
    with pytest.raises(Unusable) as error:
        take(tmp_path, content, hints)
    assert str(error.value).startswith(message)


def test_told_by_content():
    numbers = plain_text.FORMS[1].recognises
    assert numbers("take.dat", b"1 2 3\n4 5")
    assert not numbers("take.txt", b"frame x y z\n1 2 3 4\n")
    assert not numbers("take.txt", b"")
    assert not numbers("take.txt", b"PK\3\4\0\0")


def test_one_frame(tmp_path):
    np.testing.assert_array_equal(take(tmp_path, text_of(TAKE[0])).frames, TAKE[:1, None])
    np.testing.assert_array_equal(take(tmp_path, text_of(TAKE[:1].reshape(1, 60))).frames, TAKE[:1, None])
