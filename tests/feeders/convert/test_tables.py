"""Tables of coordinates: all usual ways to write one give the same numbers, and wrong ones a reason."""

from __future__ import annotations

import numpy as np
import pytest

from feeders.convert.prepare import Source, Unusable
from feeders.convert.recording import Hints
from feeders.convert.tables import decoded, read

JOINTS = ("nose", "left_hand", "right_hand", "left_foot")
X = np.random.default_rng(0).normal(size=(6, 4, 3)).astype(np.float32)
S = np.random.default_rng(1).uniform(0.1, 1, (6, 4)).astype(np.float32)


def wide(names, values, separator=",", decimal="."):
    rows = [separator.join(names)] if names else []
    for row in values.reshape(len(values), -1):
        rows.append(separator.join(str(float(value)).replace(".", decimal) for value in row))
    return "\n".join(rows) + "\n"


def columns(pattern, joints=range(4), axes="xyz"):
    return [pattern.format(j=joint, a=axis) for joint in joints for axis in axes]


def long(header="frame,joint,x,y,z", names=JOINTS, order=None):
    rows = [f"{t},{names[v]},{','.join(str(float(value)) for value in X[t, v])}" for t in range(6) for v in range(4)]
    order = range(len(rows)) if order is None else order
    return "\n".join([header, *(rows[place] for place in order)])


def same(numbers, wanted):
    """pandas before 3.0 may read a number as the one beside it."""
    np.testing.assert_allclose(numbers, wanted, rtol=0, atol=1e-12)


def take(tmp_path, text, hints=Hints()):  # noqa: B008
    path = tmp_path / "take.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read([Source(str(path), "")], hints)


@pytest.mark.parametrize(
    "text",
    [
        wide(columns("{a}{j}"), X),
        wide(columns("{a}_{j}"), X),
        wide(columns("{j}_{a}"), X),
        wide(columns("{j}{a}"), X),
        wide(columns("joint{j}_{a}"), X),
        wide(columns("x{j}", axes="x") + columns("y{j}", axes="y") + columns("z{j}", axes="z"), X.transpose(0, 2, 1)),
        wide(columns("{a}{j}", range(1, 5)), X),
        wide([name.upper() for name in columns("{a}{j}")], X),
        wide(columns("{a}{j}"), X, ";"),
        wide(columns("{a}{j}"), X, ";", ","),
        wide(columns("{a}{j}"), X, "\t"),
        wide(columns("{a}{j}"), X, " "),
        wide(columns("{a}{j}"), X, "   ", ","),
        "# " + wide(columns("{a}{j}"), X),
        "\ufeff" + wide(columns('"{a}{j}"'), X),
        wide(columns("{a}{j}"), X).replace("\n", "\r\n"),
        wide(columns("{a}{j}"), X).replace("\n", "\r"),
        wide(columns("{a}{j}"), X).replace("\n", "\n\n"),
        wide(columns("{a}{j}"), X).encode("utf-16"),
        wide(["frame", *columns("{a}{j}")], np.c_[[3, 4, 5, 6, 7, 8], X.reshape(6, -1)]),
        wide(["time", *columns("{a}{j}")], np.c_[[3, 4, 5, 6, 7, 8], X.reshape(6, -1)][::-1]),
        "\n".join(
            f"{'image' if t < 0 else f'{t:03}.png'},{line}"
            for t, line in enumerate(wide(columns("{a}{j}"), X).splitlines(), -1)
        ).replace("image", "image_id"),
        "\n".join(
            [long(names="0123").splitlines()[0], *(f"00:00:0{line}" for line in long(names="0123").splitlines()[1:])]
        ),
        wide([*columns("{a}{j}"), "fps"], np.c_[X.reshape(6, -1), np.full(6, 30)]),
        long(names="0123"),
        long("Frame,Landmark,X,Y,Z", "0123"),
        long(names="0123", order=np.random.default_rng(2).permutation(24)),
        "joint,x,y,z\n" + "\n".join(line.partition(",")[2] for line in long(names="0123").splitlines()[1:]),
    ],
)  # fmt: skip
def test_every_way_to_write_a_table(tmp_path, text):
    found = take(tmp_path, text)
    same(found.frames, X[:, None])
    assert found.joint_names == ()
    assert found.score is None


@pytest.mark.parametrize(
    "text",
    [
        wide(columns("{j}_{a}", JOINTS), X),
        wide(columns("{a}_{j}", JOINTS), X),
        wide(columns("{j}.{a}", JOINTS), X),
        wide(columns("{j} {a}", JOINTS), X),
        wide(columns("{j}[{a}]", JOINTS), X),
        wide(columns("{j}{a}", JOINTS, "XYZ"), X),
        long(),
    ],
)
def test_names_of_joints_are_kept(tmp_path, text):
    found = take(tmp_path, text)
    same(found.frames, X[:, None])
    assert found.joint_names == JOINTS


@pytest.mark.parametrize("score", ["v", "visibility", "score", "c"])
def test_scores(tmp_path, score):
    values = np.concatenate([X, S[..., None]], axis=-1)
    found = take(tmp_path, wide(columns("{a}_{j}", JOINTS, ["x", "y", "z", score]), values))
    same(found.frames, X[:, None])
    same(found.score, S[:, None])


def test_joints_without_a_place_are_as_in_arrays(tmp_path):
    """At x = y = 0 nobody was seen; depth cameras infer joints with a score of 0; scores end at 1."""
    values = np.concatenate([X, S[..., None]], axis=-1)
    values[2, 1, 3], values[3, 1] = 0, (1, 2, 3, 50)
    found = take(tmp_path, wide(columns("{j}_{a}", JOINTS, ["x", "y", "z", "score"]), values))
    same(found.frames[:, 0], values[..., :3])
    assert (found.score[2, 0, 1], found.score[3, 0, 1]) == (0.5, 1)
    flat = X[..., :2].copy()
    flat[2, 1] = 0
    assert np.argwhere(np.isnan(take(tmp_path, wide(columns("{j}_{a}", JOINTS, "xy"), flat)).frames)).tolist() == [
        [2, 0, 1, 0],
        [2, 0, 1, 1],
    ]


def test_people_in_frames_that_are_names_of_images(tmp_path):
    lines = [",".join(["image_id", "person", *columns("{j}_{a}", JOINTS)])]
    lines += [
        f"{t}.png,{m}," + ",".join(map(str, X[t].ravel())) for t in range(3) for m in range(2) if (t, m) != (0, 1)
    ]
    found = take(tmp_path, "\n".join(lines)).frames
    assert np.isfinite(found).all(axis=(2, 3)).tolist() == [[True, False], [True, True], [True, True]]


def test_two_dimensions_and_facts(tmp_path):
    text = wide(
        [*columns("{j}_{a}", JOINTS, "xy"), "label", "subject"], np.c_[X[..., :2].reshape(6, -1), np.full((6, 2), 7)]
    )
    found = take(tmp_path, text.replace("7.0,7.0", "wave hello,P 7"))
    same(found.frames, X[:, None, :, :2])
    assert found.facts == {"label": "wave hello", "subject": "P 7"}


def test_no_header(tmp_path):
    for text in (wide((), X), wide((), np.c_[range(6), X.reshape(6, -1)])):
        same(take(tmp_path, text, Hints(num_joints=4)).frames, X[:, None])
    flat = take(tmp_path, wide((), X[..., :2]), Hints(num_joints=4))
    same(flat.frames, X[:, None, :, :2])


def test_people(tmp_path):
    both = np.stack([X, X + 1], axis=1)  # (L, M, V, D); the second one is there from frame 2 on
    lines = [",".join(["frame", "person_id", *columns("{j}_{a}", JOINTS)])]
    lines += [
        ",".join([str(t), "ab"[m], *(str(float(value)) for value in both[t, m].ravel())])
        for t in range(6)
        for m in range(2)
        if m == 0 or t >= 2
    ]
    found = take(tmp_path, "\n".join(lines))
    same(found.frames[:, 0], X)
    same(found.frames[2:, 1], X[2:] + 1)
    assert np.isnan(found.frames[:2, 1]).all()


@pytest.mark.parametrize("word", ["", "nan", "NaN", "NA", "null", "None"])
def test_what_is_not_there_is_not_seen(tmp_path, word):
    lines = wide(columns("{j}_{a}", JOINTS), X).splitlines()
    cells = lines[2].split(",")
    lines[2] = ",".join([*cells[:3], word, word, word, *cells[6:]])
    found = take(tmp_path, "\n".join(lines)).frames
    assert np.isnan(found[1, 0, 1]).all()
    assert np.isfinite(found).sum() == X.size - 3
    rows = long().splitlines()
    found = take(tmp_path, "\n".join([*rows[:6], *rows[7:]])).frames
    assert np.isnan(found[1, 0, 1]).all()
    assert np.isfinite(found).sum() == X.size - 3


good = wide(columns("{j}_{a}", JOINTS), X)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "empty: the file has 0 bytes"),
        (b"\n \n", "empty: the file has only blanks"),
        (good.splitlines()[0], "no frames: a header without rows"),
        (b"a,b\0c", "not text"),
        ("label,fps\nwave,30", "other columns: label, fps; wanted x0, y0, z0, x1"),
        ("head,hand\n1,2", "other columns: head, hand; wanted"),
        (good.replace("nose_y", "nose_q"), "joint nose has no y"),
        (good.replace("nose_z", "nose_x"), "column twice: nose_x and nose_x are the same"),
        (good.replace("nose_z", "x_nose"), "column twice: x_nose and nose_x are the same"),
        (good.replace(str(float(X[2, 1, 0])), "inf"), "damaged: infinite numbers, first in frame 2"),
        (good.replace(str(float(X[2, 1, 0])), "1e300"), "damaged: far too large numbers, first in frame 2"),
        ('"' + "a" * 200_000 + '",b\n1,2', "no table: field larger than field limit"),
        (good.replace("nose_z", "fps"), "joint nose has no z"),
        (good.rsplit(",", 1)[0] + "\n", "ragged: line 7 has 11 cells, the first line 12"),
        (good.strip() + ",1\n", "ragged: line 7 has 13 cells"),
        (good.replace(str(float(X[2, 1, 0])), "oops"), "no number: 'oops' in left_hand_x, row 3 below the header"),
        (wide((), X), "no header: 12 columns without names; name their layout"),
        ("frame,x,y\n0,1,2", "no column joint"),
        (long() + "\n0,nose,1,2,3", "joint twice: nose occurs twice in frame 0"),
        (long().replace("2,nose", "two,nose"), "no number: 'two' in frame"),
    ],
)  # fmt: skip
def test_wrong_tables_say_what_is_wrong(tmp_path, text, reason):
    with pytest.raises(Unusable, match=reason.replace(".", r"\.").replace("(", r"\(")):
        take(tmp_path, text)


def test_other_joints_without_header(tmp_path):
    with pytest.raises(Unusable, match="other joints: 12 columns without names, wanted 10 or 15"):
        take(tmp_path, wide((), X), Hints(num_joints=5))


def test_text_of_other_encodings():
    assert decoded("größe".encode("latin-1")) == "größe"
