"""MATLAB files: single arrays, Penn Action's kind, and what cannot be used."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from scipy.io import savemat

from feeders.convert import mat_file, matlab
from feeders.convert.prepare import Source, Unusable
from feeders.convert.recording import Hints

TAKE = np.random.default_rng(0).normal(size=(9, 20, 3))  # (T, V, C)
D_SKEL = TAKE.transpose(1, 2, 0)
NO_HINTS = Hints()


def written(compressed=False, **variables) -> bytes:
    file = io.BytesIO()
    savemat(file, variables, do_compression=compressed)
    return file.getvalue()


def take(tmp_path, content: bytes, hints=NO_HINTS):
    path = tmp_path / "take.mat"
    path.write_bytes(content)
    return matlab.read([Source(str(path), "")], hints)


def penn(**changes) -> dict:
    """A take of 4 frames and 3 joints: the second is hidden in frame 1, the third nowhere in frame 2."""
    x, y = np.arange(12.0).reshape(4, 3) + 50, np.arange(12.0).reshape(4, 3) + 80
    visibility = np.ones((4, 3), np.uint8)
    visibility[1, 1] = visibility[2, 2] = 0
    x[2, 2] = y[2, 2] = 1
    known = {"action": "bowl", "pose": "left", "train": -1, "dimensions": np.uint16([[270, 480, 4]])}
    return {"x": x, "y": y, "visibility": visibility, "bbox": np.ones((4, 4)), "nframes": 4, **known, **changes}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "variables",
    [
        {"d_skel": D_SKEL},
        {"d_skel": D_SKEL, "d_iner": np.ones((150, 6))},
        {"whatever": D_SKEL, "subject": 3, "action": "wave"},
        {"S": {"skel": D_SKEL, "rate": 30.0}},
        {"frames": np.array([*TAKE, None], object)[:-1]},
        {"flat": TAKE.reshape(9, 60)},
    ],
)
def test_an_array_of_joints(tmp_path, variables, compressed):
    recording = take(tmp_path, written(compressed, **variables), Hints(num_joints=20))
    np.testing.assert_array_equal(recording.frames, TAKE[:, None])
    assert recording.score is None


def test_axes_that_the_user_names(tmp_path):
    recording = take(tmp_path, written(a=TAKE.transpose(1, 0, 2)), Hints(axes="VTC"))
    np.testing.assert_array_equal(recording.frames, TAKE[:, None])


def test_penn_action(tmp_path):
    recording = take(tmp_path, written(**penn()))
    assert recording.frames.shape == (4, 1, 3, 2)
    assert recording.frames[0, 0, 2].tolist() == [52, 82]
    assert recording.frames[1, 0, 1].tolist() == [54, 84], "guessed by the annotator"
    assert np.isnan(recording.frames[2, 0, 2]).all()
    assert recording.score[:, 0].tolist() == [[1, 1, 1], [1, 0.5, 1], [1, 1, 0], [1, 1, 1]]
    assert recording.size == (270, 480)
    assert recording.facts == {"label": "bowl", "view": "left", "split": "test"}
    assert take(tmp_path, written(**penn(train=1))).facts["split"] == "train"


def test_coordinates_in_arrays_of_their_own(tmp_path):
    x, y, z = np.moveaxis(TAKE, 2, 0)
    np.testing.assert_array_equal(take(tmp_path, written(x=x, y=y, z=z)).frames, TAKE[:, None])
    with pytest.raises(Unusable, match=r"^other joints: arrays of shapes \(9, 20\), \(9, 20\), \(8, 20\)"):
        take(tmp_path, written(x=x, y=y, z=z[1:]))


def nested(depth: int) -> bytes:
    """Cells in cells in cells."""
    flags, dims, name = struct.pack("<4I", 6, 8, 1, 0), struct.pack("<4I", 5, 8, 1, 1), struct.pack("<4I", 1, 1, 97, 0)
    size = 8 + len(flags + dims + name)
    cells = [struct.pack("<II", 14, size * (depth - level) - 8) + flags + dims + name for level in range(depth)]
    return written(a=1)[:128] + b"".join(cells)


WHOLE = written(d_skel=D_SKEL)


@pytest.mark.parametrize(
    ("content", "hints", "message"),
    [
        (b"", NO_HINTS, "empty: 0 bytes"),
        (b"not a file of MATLAB", NO_HINTS, "damaged: "),
        (WHOLE[:1000], NO_HINTS, "damaged: "),
        (written(True, d_skel=D_SKEL)[:1000], NO_HINTS, "damaged: "),
        (WHOLE[:128], NO_HINTS, "no skeleton: it holds nothing"),
        (WHOLE.replace(struct.pack("<3i", 20, 3, 9), struct.pack("<3i", 20, 3, 2**30)), NO_HINTS, "damaged: "),
        (b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n", NO_HINTS, "MATLAB 7.3: "),
        (nested(30_000), NO_HINTS, "damaged: more than 8 structs and cells in each other"),
        (written(True, a=np.zeros((2**20, 20, 2), np.int8)), Hints(num_joints=20), "too large: it unpacks to more"),
        (WHOLE, NO_HINTS, "ambiguous axes: shape (20, 3, 9) can be TCV"),
        (WHOLE, Hints(num_joints=25), "no skeleton: it holds d_skel float64 (20, 3, 9)"),
        (written(a=TAKE, b=TAKE), Hints(num_joints=20), "several arrays: it holds a float64 (9, 20, 3), b float64"),
        (written(name="wave", number=3), NO_HINTS, "no skeleton: it holds name"),
        (written(s={"a": {"b": D_SKEL}}), NO_HINTS, "no skeleton: it holds s (a struct), a (a struct)"),
        (written(d_skel=np.zeros((20, 3, 9))), Hints(num_joints=20), "no people: in none of 9 frames"),
        (written(d_skel=np.full((20, 3, 9), np.inf)), Hints(num_joints=20), "damaged: infinite numbers"),
        (written(d_skel=D_SKEL * 1j), Hints(num_joints=20), "no skeleton: it holds d_skel (something else)"),
        (written(**penn(x=np.zeros((4, 3)), y=np.zeros((4, 3)))), NO_HINTS, "no people: in none of 4 frames"),
    ],
)
def test_what_is_refused(tmp_path, monkeypatch, content, hints, message):
    monkeypatch.setattr(mat_file, "LARGEST", 2**25)
    with pytest.raises(Unusable) as error:
        take(tmp_path, content, hints)
    assert str(error.value).startswith(message)


def test_everything_that_scipy_writes():
    known = {"a": np.arange(6.0).reshape(2, 3), "b": np.int16([[3, -4]]), "c": "Ärger", "d": {"e": np.ones((2, 2))}}
    known |= {"f": np.array([1, "two", None], object)[:2], "g": np.ones((2, 3, 4), np.uint8), "h": np.zeros((0, 3))}
    for compressed in (False, True):
        found = mat_file.load_mat(written(compressed, **known))
        assert list(found) == list(known)
        for name in "abg":
            np.testing.assert_array_equal(found[name], known[name])
        assert found["c"] == "Ärger"
        np.testing.assert_array_equal(found["d"]["e"], np.ones((2, 2)))
        assert found["f"][1] == "two"
        assert found["h"].shape == (0, 3)


def test_one_frame(tmp_path):
    recording = take(tmp_path, written(d_skel=TAKE[0]), Hints(num_joints=20))
    np.testing.assert_array_equal(recording.frames, TAKE[:1, None])


def test_several_files_of_one_take():
    with pytest.raises(Unusable, match="several files: 2"):
        matlab.read([Source("a", ""), Source("b", "")], NO_HINTS)
