"""Damaged stores, hostile values, what killed processes leave, locks, and the functions about files."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from feeders import files, locks
from feeders.convert.ctrgcn_npz import open_arrays
from feeders.feeder_ucla import Feeder
from feeders.feeder_ucla import open_store as open_ucla
from feeders.files import WriteError, is_from_macos, kind_of, parse_json, unsealed, write_atomically
from feeders.store import DataError, Sample, SkeletonStore, StoreWriter
from tests.conftest import ROOT, write_ucla

SHAPE = (1, 17, 3)


def frames(length: int, value: float = 1.0, kind: type = np.float32) -> np.ndarray:
    return np.full((length, *SHAPE), value, kind)


@pytest.fixture
def store(tmp_path):
    """The folder of a store of four sequences."""
    folder = tmp_path / "store"
    folder.mkdir()
    with StoreWriter(folder) as writer:
        for number in range(4):
            writer.add(Sample(f"s{number}", number % 3, frames(3 + number, number), columns={"subject": number}))
        writer.close("set")
    return folder


def saved(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def headed(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.encode().ljust(117) + b"\n"


def of_columns(**columns: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez(content, **columns)
    return content.getvalue()


# --- damage ----------------------------------------------------------------------------------------------------------

DAMAGE = {
    "places beyond the frames": ("offsets.npy", saved(np.array([0, 3, 7, 12, 10**12]))),
    "places that fall": ("offsets.npy", saved(np.array([0, 12, 7, 12, 18]))),
    "places as fractions": ("offsets.npy", saved(np.array([0.0, 3, 7, 12, 18]))),
    "no places": ("offsets.npy", saved(np.zeros(0, np.int64))),
    "one label": ("labels.npy", saved(np.array(1))),
    "labels of text": ("labels.npy", saved(np.array(list("abcd")))),
    "a negative label": ("labels.npy", saved(np.array([0, 1, -2, 0]))),
    "a huge label": ("labels.npy", saved(np.array([0, 1, 10**9, 0]))),
    "names of bytes": ("ids.npy", saved(np.array([b"a", b"b", b"c", b"d"]))),
    "two of one name": ("ids.npy", saved(np.array(["a", "b", "a", "c"]))),
    "a header of a sum": ("ids.npy", headed("{'descr': '<U9', 'fortran_order': False, 'shape': (10**13,)}")),
    "a huge header": ("labels.npy", headed("{'descr': '<i8', 'fortran_order': False, 'shape': (9" + 15 * "0" + ",)}")),
    "columns of another length": ("columns.npz", of_columns(subject=np.arange(3))),
    "no archive": ("columns.npz", b"PK"),
    "double precision": ("frames.npy", saved(np.zeros((18, *SHAPE)))),
    "too few frames": ("frames.npy", saved(frames(17))),
    "frames of three axes": ("frames.npy", saved(np.zeros((18, 17, 3), np.float32))),
    "column by column": ("frames.npy", saved(np.asfortranarray(np.zeros((18, *SHAPE), np.float32)))),
    "no joints": ("frames.npy", saved(np.zeros((18, 1, 0, 3), np.float32))),
    "brackets": ("frames.npy", headed("{'descr': '<f4', 'shape': (((((")),
    "no frames at all": ("frames.npy", b""),
    "a list": ("meta.json", b"[]"),
    "deep": ("meta.json", b"[" * 100_000),
    "no numbers": ("meta.json", b'{"format": 2}'),
}  # fmt: skip


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_seen_when_a_store_is_opened(store, name, older):
    """Also where an older version wrote no checksums."""
    if older:
        meta = unsealed(parse_json((store / "meta.json").read_bytes()))
        del meta["crc32"]
        write_atomically(store / "meta.json", files.json.dumps(meta).encode())
    assert SkeletonStore(store).ids == ["s0", "s1", "s2", "s3"]
    file, content = DAMAGE[name]
    (store / file).write_bytes(content)
    with pytest.raises(DataError, match=r"store .* cannot be read .*; delete the folder, and it is built again"):
        SkeletonStore(store)


def test_what_is_no_store(tmp_path):
    """Nobody is told to remove it."""
    (tmp_path / "mine.pkl").write_bytes(b"precious")
    for path in (tmp_path, tmp_path / "mine.pkl", tmp_path / "absent"):
        with pytest.raises(DataError, match=r"cannot be read \(it has no meta.json\)") as caught:
            SkeletonStore(path)
        assert "delete" not in str(caught.value)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_a_whole_store_that_cannot_be_read_now(store, monkeypatch, number):
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("numpy.load", fail)
    with pytest.raises(DataError, match=f"{os.strerror(number)}.*put that right and run the same command") as caught:
        SkeletonStore(store)
    assert "delete" not in str(caught.value)
    monkeypatch.undo()
    (store / "labels.npy").unlink()
    with pytest.raises(DataError, match=r"No such file .*delete the folder, and it is built again"):
        SkeletonStore(store)


def test_what_lies_in_the_place_of_a_store(tmp_path):
    """Another store, the same of another source, one that is cut short, a file: named before anything is read."""

    def build(name: str, fingerprint: str) -> SkeletonStore:
        return SkeletonStore.build([tmp_path], name, fingerprint, lambda: [Sample(name, 0, frames(2))])

    paths = [build(*which).path for which in (("a", "f"), ("b", "f"), ("a", "g"))]
    for other in paths[1:]:
        os.rename(paths[0], tmp_path / "aside")
        os.rename(other, paths[0])
        with pytest.raises(DataError, match=f"a.store-f is the store {other.name} under another name; rename or move"):
            build("a", "f")
        os.rename(paths[0], other)
        os.rename(tmp_path / "aside", paths[0])
    (paths[0] / "meta.json").unlink()
    paths[1].rename(tmp_path / "aside")
    paths[1].write_text("mine")
    for name in "ab":
        with pytest.raises(DataError, match=rf"{name}.store-f is no store \(it has no meta.json\); rename or move it"):
            SkeletonStore.build([tmp_path], name, "f", lambda: pytest.fail("read"))
    assert paths[1].read_text() == "mine"


def test_a_store_of_an_older_version_is_found(tmp_path):
    """It says its name, and not its source."""
    path = SkeletonStore.build([tmp_path], "a", "f", lambda: [Sample("a", 0, frames(2))]).path
    meta = unsealed(parse_json((path / "meta.json").read_bytes()))
    assert meta.pop("source") == "f"
    write_atomically(path / "meta.json", files.json.dumps(meta).encode())
    assert SkeletonStore.find([tmp_path], "a", "f").ids == ["a"]


@pytest.mark.parametrize("file", ["offsets.npy", "labels.npy", "ids.npy", "columns.npz", "checks.npz"])
def test_any_wrong_byte_of_a_small_file(store, file):
    whole = (store / file).read_bytes()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        (store / file).write_bytes(damaged)
        with pytest.raises(DataError, match=f"{file} has another checksum"):
            SkeletonStore(store)


def test_a_wrong_byte_of_the_frames(store):
    """Is noticed when its sequence is read first, in every way of reading, and not before."""
    whole = (store / "frames.npy").read_bytes()
    opened = SkeletonStore(store)
    start = opened.frames.offset + int(opened.offsets[2]) * opened.frames[:1].nbytes
    damaged = bytearray(whole)
    damaged[start + 100] ^= 1
    (store / "frames.npy").write_bytes(damaged)
    rows, first = np.array([0, 1, 3, 2]), np.zeros((4, 1), np.int64)
    for read in (
        lambda store: store.pieces(rows, first),
        lambda store: store.sequence(2),
        lambda store: store.in_memory(),
        lambda store: store.renamed(["a", "b", "s2", "d"]).sequence(2),
        lambda store: store.check(),
    ):
        opened = SkeletonStore(store)
        opened.pieces(rows[:3], first[:3])
        with pytest.raises(DataError, match=r"sample s2: its frames in .*frames.npy are damaged"):
            read(opened)


def test_a_store_without_checksums_is_read(store):
    meta = unsealed(parse_json((store / "meta.json").read_bytes()))
    del meta["crc32"]
    write_atomically(store / "meta.json", files.json.dumps(meta).encode())
    (store / "checks.npz").unlink()
    opened = SkeletonStore(store)
    opened.check()
    assert opened.largest.tolist() == [0, 0, 0, 0]


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "value"), [(np.float16, 7e4), (np.float32, 1e39), (np.float64, -1e300)])
def test_numbers_too_large_for_the_store(tmp_path, first, value):
    """A later sequence of another type may overflow; it is named, and the store stays finite."""
    with StoreWriter(tmp_path) as writer:
        writer.add(Sample("a", 0, frames(2, 1, first)))
        writer.add(Sample("b", 1, frames(2, value, np.float64)))
        writer.add(Sample("c", 1, frames(2, 6e4, np.float64)))
        writer.close("set")
    store = SkeletonStore(tmp_path)
    assert store.problems.keys() == {"b"}
    assert "too large for float" in store.problems["b"]
    assert np.isfinite(store.frames).all()
    assert store.largest.tolist() == [1, 0, 60000]


def test_names_and_labels(tmp_path):
    with StoreWriter(tmp_path) as writer:
        for label in (-1, 10**9):
            with pytest.raises(DataError, match=f"x has label {label}; labels count the classes from 0"):
                writer.add(Sample("x", label, frames(1)))
        writer.add(Sample("a", 0, frames(1)))
        writer.add(Sample("a", 0, frames(2)))
        with pytest.raises(DataError, match="1 names occur more than once: a"):
            writer.close("set")
    np.savez(tmp_path / "a.npz", x_train=np.zeros((2, 1, 150)), y_train=[0, 10**9], x_test=[], y_test=[])
    with pytest.raises(DataError, match=r"a.npz: y_train has label 1e\+09 in row 1"):
        open_arrays(tmp_path / "a.npz")


def test_one_value_out_of_all_bounds(tmp_path):
    """It spoils batch norm, so it is named; millimetres and pixels pass."""
    odd = {"skeletons": [[[0.0, 0.0, 3e7]] + [[1e5, 1e4, 3]] * 19] * 4}
    good = {"skeletons": [[[1e5, 1e4, 3]] * 20] * 4}
    folder = write_ucla(tmp_path / "ucla", a01_s02_e00_v01=odd, a02_s02_e00_v01=good)
    with pytest.raises(DataError, match=r"a01_s02_e00_v01 has values up to 3e\+07, above bad_value_limit 1e\+06"):
        Feeder(str(folder))
    assert "a02_s02_e00_v01" in Feeder(str(folder), on_bad_sample="skip").ids
    assert "a01_s02_e00_v01" in Feeder(str(folder), bad_value_limit=1e8).ids


# --- what killed processes leave, and what living ones hold ----------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from feeders.files import replacing
with replacing(Path(sys.argv[1])) as beside:
    beside.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(100)
"""


def test_half_written_files_are_removed_by_the_next_write(tmp_path):
    path, mine = tmp_path / "last.pt", [".last.pt.2024", ".last.pt.notes"]
    for name in mine:
        (tmp_path / name).write_text("mine")
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"writing\n"
        beside = tmp_path / f".last.pt.{process.pid}.unfinished"
        write_atomically(path, b"first")
        assert beside.read_bytes() == b"half", "a living process is writing it"
        process.send_signal(signal.SIGKILL)
    assert beside.exists()
    write_atomically(path, b"second")
    assert sorted(file.name for file in tmp_path.iterdir()) == [*mine, "last.pt"]
    assert path.read_bytes() == b"second"


def test_what_is_no_plain_file_stays(tmp_path):
    """A link leads to the file that is replaced; a pipe or a device is not replaced by a file."""
    (tmp_path / "real.csv").write_text("before")
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    write_atomically(tmp_path / "link.csv", b"after")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text() == "after"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to_pipe").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "to_pipe"):
        with pytest.raises(WriteError, match="is no plain file but a device"):
            write_atomically(tmp_path / name, b"content")
    assert (tmp_path / "pipe").is_fifo()


def test_a_damaged_line_of_the_journal_is_written_again(tmp_path):
    """What follows it is dropped, and the next sequence goes where it belongs."""
    writer = StoreWriter(tmp_path)
    for number in range(3):
        writer.add(Sample(f"s{number}", 0, frames(2, number)))
    writer.__exit__()
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"length"', b'"lenght"', 2).replace(b'"lenght"', b'"length"', 1))
    with StoreWriter(tmp_path) as writer:
        assert [entry["id"] for entry in writer.entries] == ["s0"]
        writer.add(Sample("s1", 0, frames(2, 1)))
        writer.close("set")
    assert np.array_equal(SkeletonStore(tmp_path).sequence(1), frames(2, 1))


def test_half_built_stores_are_removed_by_the_next_build(tmp_path):
    half, busy = tmp_path / ".set[1].dead", tmp_path / ".set[1].busy"
    for folder in (half, busy):
        folder.mkdir()
        with StoreWriter(folder) as writer:
            writer.add(Sample("a", 0, frames(2)))
    with StoreWriter(busy):
        SkeletonStore.build([tmp_path], "set[1]", "f", lambda: [Sample("a", 0, frames(2))])
        assert sorted(path.name for path in tmp_path.iterdir()) == [".set[1].busy", "set[1].store-f"]
        with pytest.raises(DataError, match=r"another process is writing .*busy; wait for it"):
            StoreWriter(busy)


def test_what_killed_processes_leave_is_removed(tmp_path):
    """A folder without its first file, and the file of the lock; not what was made just now."""
    for name in (".set.early", ".set.now"):
        (tmp_path / name).mkdir()
    os.utime(tmp_path / ".set.early", (0, 0))
    for _ in range(2):
        SkeletonStore.build([tmp_path], "set", "f", lambda: [Sample("a", 0, frames(2))])
        assert sorted(path.name for path in tmp_path.iterdir()) == [".set.now", "set.store-f"]
        (tmp_path / ".set.packing").touch()


def test_locks_of_another_user(tmp_path, monkeypatch):
    """A file that may only be read can be locked. One that may not even be read is not taken for free."""
    (tmp_path / "x").touch()
    opened, refused = os.open, {os.O_RDWR}

    def as_other_user(path, flags, mode=0o777):
        if flags & os.O_ACCMODE in refused:
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags, mode)

    monkeypatch.setattr("os.open", as_other_user)
    lock = locks.try_lock(tmp_path / "x")
    assert locks.try_lock(tmp_path / "x") is None
    lock.release()
    refused.add(os.O_RDONLY)
    with (
        pytest.raises(PermissionError, match="belongs to another user, who must allow"),
        locks.alone(tmp_path / "x", ""),
    ):
        pass
    assert not locks.is_abandoned(tmp_path / "x")


def test_a_forked_process_holds_no_lock(tmp_path):
    """A loading process outlives its killed parent for a while."""
    lock = locks.try_lock(tmp_path / "x")
    assert locks.try_lock(tmp_path / "x") is None
    child = os.fork()
    if child == 0:
        time.sleep(100)
    try:
        time.sleep(0.05)
        lock.release()
        assert locks.is_abandoned(tmp_path / "x")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_where_there_are_no_locks(tmp_path, monkeypatch):
    """Files are written all the same; nothing is removed."""
    monkeypatch.setattr(locks, "fcntl", None)
    (tmp_path / ".a.1").write_text("")
    write_atomically(tmp_path / "a", b"x")
    assert sorted(file.name for file in tmp_path.iterdir()) == [".a.1", "a"]
    assert len(SkeletonStore.build([tmp_path], "set", "f", lambda: [Sample("a", 0, frames(2))])) == 1


# --- functions about files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "wanted"),
    [(28, "Free some space"), (13, "Allow this user to write there"), (30, "choose another folder"), (5, "Put that")],
)
def test_the_advice_fits_the_cause(tmp_path, monkeypatch, number, wanted):
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(WriteError, match=f"a.json could not be written .*{wanted}") as caught:
        write_atomically(tmp_path / "a.json", b"x")
    assert ("space" in str(caught.value)) == (number == 28)
    assert not list(tmp_path.iterdir())


def test_files_of_macos(tmp_path):
    names = ["._a.json", "__MACOSX/x/a.json", "x/._y/a.json", "x/.DS_Store", "a.json", "x/MACOSX.json", ".hidden/a"]
    assert [is_from_macos(name) for name in names] == [True] * 4 + [False] * 3
    folder = write_ucla(tmp_path / "ucla", **{"._a01_s01_e00_v01": "\x00\x05\x16\x07"})
    assert len(open_ucla(folder)) == 30


def test_what_lies_there(tmp_path):
    for name, content in (("x.zip", b"PK\3\4.."), ("x.pkl", b"\x80"), ("x.npz", b"PK\3\4"), ("x", b"")):
        (tmp_path / name).write_bytes(content)
    if os.name == "posix":
        os.mkfifo(tmp_path / "pipe")
        assert [kind_of(tmp_path / name) for name in ("pipe", "/dev/zero")] == [
            "is a pipe, not a file",
            "is a device, not a file",
        ]
    kinds = [kind_of(tmp_path / name) for name in ("x.zip", "x.pkl", "x.npz", "x", "y", ".")]
    assert kinds == [
        "is a zip archive",
        "is a .pkl file",
        "is a .npz file",
        "is a file",
        "does not exist",
        "is a folder",
    ]
    with pytest.raises(DataError, match=r"x.zip is a zip archive, not a folder of JSON files; unpack"):
        open_ucla(tmp_path / "x.zip")
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 10**5)


def test_one_packs_and_the_others_wait(tmp_path, caplog):
    """A lock belongs to an open file, so that threads stand for processes."""
    packed = []

    def read():
        packed.append(1)
        time.sleep(0.3)
        yield Sample("a", 0, np.ones((3, 1, 2, 3), np.float32))

    def build(_: int) -> str:
        return SkeletonStore.build([tmp_path], "shared", "f", read).checksum

    with caplog.at_level("INFO"), ThreadPoolExecutor(8) as pool:
        found = set(pool.map(build, range(8)))
    assert len(packed) == len(found) == 1
    assert "waiting for another process, which packs shared into" in caplog.text
    assert os.listdir(tmp_path) == ["shared.store-f"]


def test_the_next_one_packs_where_the_first_fails(tmp_path):
    turns = iter([ValueError("a.json is cut off"), None])

    def read():
        time.sleep(0.2)
        if error := next(turns):
            raise error
        yield Sample("a", 0, np.ones((3, 1, 2, 3), np.float32))

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(SkeletonStore.build, [tmp_path], "shared", "f", read) for _ in range(2)]
    failed = [future.exception() for future in futures]
    assert sorted(map(str, failed)) == ["None", "a.json is cut off"]
