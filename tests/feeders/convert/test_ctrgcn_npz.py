"""CTR-GCN's .npz files: packed once into a store, in blocks, and refused where they are something else."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from feeders.convert import ctrgcn_npz
from feeders.convert.ctrgcn_npz import BLOCK, open_arrays, write_arrays
from feeders.files import WriteError
from feeders.store import DataError, SkeletonStore
from tests.conftest import ntu_names, write_ntu_store

LENGTHS = {"train": [3, 5, 1, 8], "test": [2, 8]}
LABELS = {"train": [0, 3, 59, 1], "test": [2, 0]}


def values(lengths=LENGTHS, labels=LABELS, num_class=60, num_frames=8, dtype=np.float32):
    """The four arrays of sequences of these lengths, padded with zeros."""
    rng = np.random.default_rng(0)
    given = {}
    for split in ("train", "test"):
        x = rng.normal(size=(len(lengths[split]), num_frames, 150)).astype(dtype)
        for row, length in zip(x, lengths[split], strict=True):
            row[length:] = 0
        given[f"x_{split}"], given[f"y_{split}"] = x, np.eye(num_class)[labels[split]]
    return given


def saved(path, compressed=False, **changes):
    """An .npz file of :func:`values` with some arrays changed or, with None, removed."""
    given = {key: value for key, value in {**values(), **changes}.items() if value is not None}
    (np.savez_compressed if compressed else np.savez)(path, **given)
    return path


def clean(folder):
    """Whether the folder holds only the file itself."""
    return [path.name for path in folder.iterdir()] == ["NTU60_CS.npz"]


# --- packing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4", np.float16])
def test_packing(tmp_path, dtype, compressed):
    given = values(dtype=dtype)
    store = open_arrays(saved(tmp_path / "NTU60_CS.npz", compressed, **given))
    assert store.path.parent == tmp_path
    assert store.ids == ["train_0", "train_1", "train_2", "train_3", "test_0", "test_1"]
    assert store.labels.tolist() == [0, 3, 59, 1, 2, 0]
    assert store.lengths.tolist() == [3, 5, 1, 8, 2, 8]
    assert store.columns["test"].tolist() == [0, 0, 0, 0, 1, 1]
    assert store.meta["num_class"] == 60
    assert store.frames.dtype == np.float32
    assert isinstance(store.frames, np.memmap)
    for split, first in (("train", 0), ("test", 4)):
        for row, length in enumerate(LENGTHS[split]):
            padded = given[f"x_{split}"][row].astype(np.float32)
            # CTR-GCN's columns: person, joint, coordinate
            np.testing.assert_array_equal(store.sequence(first + row), padded[:length].reshape(-1, 2, 25, 3))


def test_zero_frames_inside_stay(tmp_path):
    given = values()
    given["x_train"][3, [0, 4]] = 0
    store = open_arrays(saved(tmp_path / "a.npz", **given))
    assert store.lengths[3] == 8
    assert not store.sequence(3)[[0, 4]].any()


def test_more_than_a_block(tmp_path):
    number = 2 * BLOCK + 3
    lengths = {"train": list(np.arange(number) % 7 + 1), "test": [1] * BLOCK}
    labels = {"train": list(np.arange(number) % 60), "test": [0] * BLOCK}
    given = values(lengths, labels)
    store = open_arrays(saved(tmp_path / "a.npz", **given))
    assert store.lengths.tolist() == lengths["train"] + lengths["test"]
    assert store.labels.tolist() == labels["train"] + labels["test"]
    last = given["x_train"][-1][: lengths["train"][-1]]
    np.testing.assert_array_equal(store.sequence(number - 1), last.reshape(-1, 2, 25, 3))


def test_labels_as_numbers(tmp_path):
    path = saved(tmp_path / "a.npz", y_train=np.array([0, 3, 7, 1]), y_test=np.array([2.0, 9.0]))
    store = open_arrays(path)
    assert store.labels.tolist() == [0, 3, 7, 1, 2, 9]
    assert store.meta["num_class"] == 10


def test_one_person(tmp_path):
    given = values()
    store = open_arrays(
        saved(tmp_path / "a.npz", x_train=given["x_train"][:, :, :75], x_test=given["x_test"][:, :, :75])
    )
    assert store.frames.shape[1:] == (1, 25, 3)


def test_a_sequence_without_frames_is_a_problem(tmp_path):
    given = values()
    given["x_train"][1] = 0
    given["x_test"][0, 0, 0] = np.nan
    store = open_arrays(saved(tmp_path / "a.npz", **given))
    assert store.problems == {"train_1": "has 0 frames", "test_0": "has NaN or infinite coordinates"}


# --- once ------------------------------------------------------------------------------------------------------------


def test_second_opening_does_not_read_the_file(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.npz")
    first = open_arrays(path)
    monkeypatch.setattr(ctrgcn_npz, "_opened", lambda *_: pytest.fail("read again"))
    assert open_arrays(path).checksum == first.checksum


def test_cache_dir(tmp_path):
    path = saved(tmp_path / "a.npz")
    assert open_arrays(path, str(tmp_path / "cache" / "x")).path.parent == tmp_path / "cache" / "x"
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["a.npz"]


def test_a_changed_file_is_packed_again(tmp_path):
    path = saved(tmp_path / "a.npz")
    first = open_arrays(path).path  # no process has it open
    saved(path, y_test=np.eye(60)[[5, 6]])
    os.utime(path, ns=(1, 1))  # same size, another time
    second = open_arrays(path)
    assert second.labels.tolist()[-2:] == [5, 6]
    assert not first.exists()
    assert len(list(tmp_path.iterdir())) == 2


# --- bad files -------------------------------------------------------------------------------------------------------

ONE_HOT = np.eye(60)[LABELS["train"]]
BAD = {
    "other keys": ({"x_train": None, "data": np.zeros(3)}, "has the arrays y_train, x_test, y_test, data, but no x_"),
    "no labels": ({"y_test": None}, "has the arrays x_train, y_train, x_test, but no y_test; CTR-GCN's files"),
    "two ones": ({"y_train": ONE_HOT + np.eye(60)[[5, 6, 7, 8]]}, "y_train of shape (4, 60) is not one-hot (N, K)"),
    "second row is none": ({"y_train": ONE_HOT * [[1], [0], [1], [0]]}, "not one-hot (N, K); the first is row 1"),
    "shares": ({"y_train": np.full((4, 60), 1 / 60)}, "not one-hot (N, K); the first is row 0"),
    "twos": ({"y_train": 2 * ONE_HOT}, "not one-hot (N, K); the first is row 0"),
    "fractions": ({"y_train": np.array([0, 1, 0.5, 2])}, "y_train of shape (4,) is not one-hot (N, K)"),
    "negative": ({"y_train": np.array([0, 1, -1, 2])}, "y_train of shape (4,) is not one-hot (N, K)"),
    "NaN labels": ({"y_train": np.array([0, 1, np.nan, 2])}, "y_train of shape (4,) is not one-hot (N, K)"),
    "a cube": ({"y_train": np.zeros((4, 60, 2))}, "y_train of shape (4, 60, 2) is not one-hot (N, K)"),
    "wrong columns": ({"x_train": np.zeros((4, 8, 100))}, "x_train has shape (4, 8, 100), wanted (N, T, 150) for 2"),
    "no columns": ({"x_test": np.zeros((2, 8, 0))}, "x_test has shape (2, 8, 0), wanted (N, T, 150)"),
    "already split up": ({"x_test": np.zeros((2, 3, 8, 25, 2))}, "x_test has shape (2, 3, 8, 25, 2), wanted"),
    "a number": ({"x_test": np.zeros(())}, "x_test has shape (), wanted (N, T, 150)"),
    "another number": ({"x_test": np.zeros((3, 8, 150), np.float32)}, "x_test has 3 sequences, y_test 2"),
    "by column": ({"x_train": np.asfortranarray(values()["x_train"])}, "x_train must hold numbers, row by row"),
    "text": ({"y_train": np.array(["a", "b", "c", "d"])}, "y_train must hold numbers, row by row; it has type <U1"),
    "one and two people": ({"x_test": np.ones((2, 8, 75), np.float32)}, "test_0: frames of shape (1, 25, 3), the"),
    "nothing but zeros": ({key: np.zeros_like(values()[key]) for key in ("x_train", "x_test")}, "no usable sequence"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
@pytest.mark.parametrize("kind", BAD)
def test_bad_arrays(kind, tmp_path):
    changes, wanted = BAD[kind]
    path = saved(tmp_path / "NTU60_CS.npz", **changes)
    with pytest.raises(DataError) as error:
        open_arrays(path)
    assert wanted in str(error.value)
    assert "NTU60_CS" in str(error.value) or kind == "one and two people"
    assert clean(tmp_path), "nothing half-written"


def test_objects_are_refused(tmp_path):
    """They would need pickle, which runs the code that a file names."""

    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "trapped",)

    path = saved(tmp_path / "NTU60_CS.npz", y_train=np.array([Trap()] * 4, dtype=object))
    with pytest.raises(DataError, match="y_train must hold numbers, row by row; it has type object"):
        open_arrays(path)
    assert clean(tmp_path)


def test_no_file(tmp_path):
    with pytest.raises(DataError, match=r"data file .*a\.npz does not exist; set data_path to"):
        open_arrays(tmp_path / "a.npz")


def test_no_zip(tmp_path):
    path = tmp_path / "NTU60_CS.npz"
    for content in (b"", b"x" * 1000):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"NTU60_CS.npz is damaged or cut off \(File is not a zip file\)"):
            open_arrays(path)
    np.save(path.with_suffix(".npy"), np.zeros(3))
    path.with_suffix(".npy").rename(path)
    with pytest.raises(DataError, match="is damaged or cut off"):
        open_arrays(path)
    assert clean(tmp_path)


def test_members_that_are_no_arrays(tmp_path):
    path = tmp_path / "NTU60_CS.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for key in ctrgcn_npz.KEYS:
            archive.writestr(f"{key}.npy", "no array")
    with pytest.raises(DataError, match=r"y_train is not an array file: the magic string is not correct"):
        open_arrays(path)
    with zipfile.ZipFile(path, "w") as archive:
        for key in ctrgcn_npz.KEYS:
            archive.writestr(key, "no suffix")
    with pytest.raises(DataError, match=r"has the arrays x_train, .*, but no y_train"):
        open_arrays(path)
    assert clean(tmp_path)


def test_truncated(tmp_path):
    """The directory of a zip archive is at its end; a file that was cut off has none."""
    path = saved(tmp_path / "NTU60_CS.npz")
    whole = path.read_bytes()
    for share in (0.2, 0.9, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(DataError, match="is damaged or cut off"):
            open_arrays(path)
    assert clean(tmp_path)


def test_array_that_ends_early(tmp_path):
    """The header gives more rows than there are."""
    path = saved(tmp_path / "NTU60_CS.npz")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content[:-700] if name == "x_test.npy" else content)
    with pytest.raises(DataError, match=r"is damaged or cut off \(x_test ends in row 1 of 2\)"):
        open_arrays(path)
    assert clean(tmp_path)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("key", ctrgcn_npz.KEYS)
def test_a_wrong_byte(tmp_path, key, compressed):
    """A wrong byte anywhere in an array: an error by the archive's checksum, or the byte was padding."""
    path = saved(tmp_path / "NTU60_CS.npz", compressed)
    store = open_arrays(path, str(tmp_path / "cache"))
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo(f"{key}.npy")
    start = member.header_offset + 30 + len(member.filename) + 20
    size, noticed = member.compress_size, 0
    for place in (1, 20, 60, size // 3, size // 2, size - 20, size - 2, size - 1):
        damaged = bytearray(whole)
        damaged[start + place] ^= 1
        path.write_bytes(damaged)
        try:
            same = open_arrays(path, str(tmp_path / "cache"))
        except DataError as error:
            noticed += "NTU60_CS" in str(error)
        else:
            assert same.checksum == store.checksum
    assert noticed == 8 or (compressed and noticed > 4)
    assert not list((tmp_path / "cache").glob(".*")), "nothing half-written"


def test_headers_of_all_kinds(tmp_path):
    """Any bytes in place of the header: a DataError."""
    path = tmp_path / "NTU60_CS.npz"
    magic = b"\x93NUMPY\x01\x00"
    for header in (
        b"{'descr': '<f4',(",
        b"(" * 500,
        b"{}",
        b"[1",
        b"\xff\x00",
        b"{'descr': 'q9', 'fortran_order': 0, 'shape': 1}",
    ):
        with zipfile.ZipFile(path, "w") as archive:
            for key in ctrgcn_npz.KEYS:
                archive.writestr(f"{key}.npy", magic + len(header).to_bytes(2, "little") + header)
        with pytest.raises(DataError, match=r"NTU60_CS.npz: y_train is not an array file: its header is damaged"):
            open_arrays(path)
    assert clean(tmp_path)


def test_interrupted(tmp_path, monkeypatch):
    """Ctrl-C or a full disk while packing: nothing is left behind, and the next attempt works."""
    path = saved(tmp_path / "NTU60_CS.npz")
    for error in (KeyboardInterrupt, OSError(28, "No space left on device")):
        with monkeypatch.context() as patch:
            patch.setattr(np, "save", lambda *_, error=error: (_ for _ in ()).throw(error))
            with pytest.raises((KeyboardInterrupt, WriteError)):
                open_arrays(path)
        assert clean(tmp_path)
    assert len(open_arrays(path)) == 6


# --- writing ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path) -> SkeletonStore:
    """NTU 120's training and test sequences with one and two actors."""
    rng = np.random.default_rng(0)
    names = ntu_names(setups=(1, 18), subjects=(1, 3), actions=(1, 60))
    sequences = {
        name: rng.normal(size=(int(rng.integers(2, 9)), 1 + name.endswith("60"), 25, 3)).astype(np.float32)
        for name in names
    }
    return SkeletonStore(write_ntu_store(tmp_path / "store", sequences))


def test_arrays_there_and_back(store, tmp_path):
    write_arrays(tmp_path / "NTU120_CSet.npz", store, "ntu120_xset")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["NTU120_CSet.npz", "store"]
    packed = open_arrays(tmp_path / "NTU120_CSet.npz")
    names = [*(name for name in store.ids if name < "S002"), *(name for name in store.ids if name > "S002")]
    names = [name for name in names if name.startswith("S018")] + [name for name in names if name.startswith("S001")]
    assert packed.meta["num_class"] == 120
    for row, name in enumerate(names):
        sequence = np.array(store.sequence(store.ids.index(name)))
        if name.endswith("A001"):
            sequence[:, 1] = sequence[:, 0]  # as published: a copy
        np.testing.assert_array_equal(packed.sequence(row), sequence)
        assert packed.labels[row] == int(name[-3:]) - 1
        assert packed.columns["test"][row] == name.startswith("S001")
    with np.load(tmp_path / "NTU120_CSet.npz") as file:
        assert file["x_train"].shape == (12, store.lengths.max(), 150)
        assert file["y_train"].dtype == np.float64
        assert not file["x_train"][0, packed.lengths[0] :].any()


def test_ntu60_has_no_copy(store, tmp_path):
    write_arrays(tmp_path / "NTU60_CS.npz", store, "ntu60_xsub")
    with np.load(tmp_path / "NTU60_CS.npz") as file:
        assert file["y_test"].shape == (6, 60)
        alone = file["y_train"].argmax(1) == 0
        assert not file["x_train"][alone, :, 75:].any()
        assert file["x_train"][~alone, :, 75:].any()


def test_writing_is_all_or_nothing(store, tmp_path, monkeypatch):
    monkeypatch.setattr(ctrgcn_npz, "_padded", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_arrays(tmp_path / "NTU120_CSet.npz", store, "ntu120_xset")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
