"""Many files -> one store: where they lie, what is left out, resuming after any stop; StoreWriter."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
import uuid
import zipfile
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest

from feeders.convert import prepare as prepare_module
from feeders.convert.ntu_raw import read_source
from feeders.convert.prepare import Source, find_sources, ordered_map, prepare
from feeders.files import unsealed
from feeders.lists import write_list
from feeders.store import DataError, Sample, SkeletonStore, StoreWriter
from tests.conftest import ROOT, ntu_names
from tools import prepare_ntu
from tools.faults.made_up import write_ntu_raw

NAMES = ntu_names(actions=(1, 2))  # 18
SHORT = (1, 3)  # frames, so that files are small


def run(raw, out, *words, dataset="ntu120", jobs="1"):
    """Runs the command, returns its exit code."""
    raw = raw if isinstance(raw, list) else [raw]
    return prepare_ntu.main(
        ["--raw", *map(str, raw), "--out", str(out), "--dataset", dataset, "--jobs", jobs, *map(str, words)]
    )


def report_of(out):
    return json.loads((out / "report.json").read_text())


def contents(folder):
    """File -> bytes of a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def zipped(path, folder, prefix="", method=zipfile.ZIP_DEFLATED):
    """A zip archive of a folder's files."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, prefix + file.name)
    return path


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> Path:
    """A folder of raw files; tests copy what they change."""
    return write_ntu_raw(tmp_path_factory.mktemp("raw"), NAMES, SHORT)


# --- where files may lie ---------------------------------------------------------------------------------------------


def test_store(raw, tmp_path, capsys):
    out = tmp_path / "new" / "ntu120"
    assert run(raw, out) == 0
    store = SkeletonStore(out)
    assert store.ids == NAMES
    assert store.labels.tolist() == [int(name[-3:]) - 1 for name in NAMES]
    assert sorted(store.columns) == ["action", "actors", "camera", "replication", "setup", "subject"]
    assert store.columns["subject"].tolist() == [int(name[9:12]) for name in NAMES]
    assert store.columns["camera"].tolist() == [int(name[5:8]) for name in NAMES]
    assert store.meta["name"] == "ntu120"
    for row, name in enumerate(NAMES):
        wanted = read_source(Source(str(raw / f"{name}.skeleton"), "")).frames
        np.testing.assert_array_equal(store.sequence(row), wanted)
    assert sorted(contents(out)) == [
        "checks.npz", "columns.npz", "frames.npy", "ids.npy", "labels.npy", "meta.json", "offsets.npy", "report.json",
    ]  # fmt: skip
    assert [path.name for path in out.parent.iterdir()] == ["ntu120"]
    assert "used                              18" in capsys.readouterr().out


def test_folders_and_archives(raw, tmp_path):
    """Nested folders, archives beside and in them, folders in archives: all are one set."""
    plain, nested = tmp_path / "plain", tmp_path / "more" / "deep" / "er"
    for folder in (plain, nested, tmp_path / "a", tmp_path / "b"):
        folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        shutil.copy(raw / f"{name}.skeleton", (plain, nested, tmp_path / "a", tmp_path / "b")[number % 4])
    inside = zipped(tmp_path / "more" / "x.zip", tmp_path / "a", "nturgb+d_skeletons/")
    single = zipped(tmp_path / "y.zip", tmp_path / "b", method=zipfile.ZIP_STORED)
    before = {path: path.stat().st_mtime_ns for path in (inside, single)}
    assert run([plain, tmp_path / "more", single], tmp_path / "out", "--strict") == 0
    assert run(raw, tmp_path / "whole") == 0
    both = [contents(tmp_path / name) for name in ("out", "whole")]
    for files in both:
        del files["meta.json"]  # holds the fingerprint of the sources
    assert both[0] == both[1]
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_single_file(raw, tmp_path):
    assert run([raw / f"{NAMES[0]}.skeleton", raw / f"{NAMES[5]}.skeleton"], tmp_path / "out") == 0
    assert SkeletonStore(tmp_path / "out").ids == [NAMES[0], NAMES[5]]


def test_what_is_left_out(raw, tmp_path, capsys):
    folder = tmp_path / "raw"
    shutil.copytree(raw, folder)
    (folder / "again").mkdir()
    shutil.copy(folder / f"{NAMES[3]}.skeleton", folder / "again")
    (folder / f"{NAMES[0]}.skeleton").write_text("")
    (folder / f"{NAMES[1]}.skeleton").write_text("2\n0\n0\n")
    (folder / f"{NAMES[2]}.skeleton").write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "S001C001P001R001A1.skeleton").write_text("")
    (folder / "S001C001P001R001A121.skeleton").write_text("")
    (folder / "README.txt").write_text("read me")
    missing = tmp_path / "missing.txt"
    missing.write_text(f"{NAMES[4]}.skeleton\nS017C003P020R002A060\n")
    second = tmp_path / "missing2.txt"
    second.write_text(f"{NAMES[5]}\n")
    assert run(folder, tmp_path / "out", "--missing", missing, second, "--npz") == 0
    report = report_of(tmp_path / "out")
    assert (report["name"], report["used"]) == ("ntu120", 13)
    assert {kind: sorted(files) for kind, files in report["left_out"].items()} == {
        "bad name": [str(folder / "S001C001P001R001A1.skeleton")],
        "damaged": [NAMES[2]],
        "duplicate name": [str(folder / "again" / f"{NAMES[3]}.skeleton")],
        "empty": [NAMES[0]],
        "no .skeleton file": [str(folder / "README.txt")],
        "no body": [NAMES[1]],
        "not of ntu120": ["S001C001P001R001A121"],
        "on the missing list": [NAMES[4], NAMES[5]],
    }
    assert report["left_out"]["duplicate name"] == {
        str(folder / "again" / f"{NAMES[3]}.skeleton"): f"{folder / NAMES[3]}.skeleton was taken"
    }
    table = capsys.readouterr().out
    assert "used                              13" in table
    assert "on the missing list                2  " in table
    assert "damaged                            1  S001C001P002R001A001 (line 1: expected the number of frames" in table
    assert SkeletonStore(tmp_path / "out").ids == sorted(set(NAMES[3:4] + NAMES[6:]))

    assert run(folder, tmp_path / "strict", "--strict") == 2
    message = capsys.readouterr().err
    assert "error: 6 files were left out, and --strict forbids that" in message
    assert not (tmp_path / "strict").exists()
    named = Path(message.split("; ")[1].removesuffix(" names them\n"))
    assert sum(map(len, json.loads(named.read_text())["left_out"].values())) == 7
    assert run(folder, tmp_path / "out", "--missing", missing, second, "--strict") == 2, "also of a prepared store"
    assert "8 files were left out" in capsys.readouterr().err
    assert run(folder, tmp_path / "strict") == 0, "without --strict it goes on"


def fails(capsys, code, *wanted):
    message = capsys.readouterr().err
    assert code == 2, message
    assert message.startswith("error: ")
    for text in wanted:
        assert text in message, message


def test_nothing_to_read(raw, tmp_path, capsys):
    out = tmp_path / "out"
    fails(capsys, run(tmp_path / "absent", out), "absent does not exist; name folders or .zip archives")
    (tmp_path / "empty").mkdir()
    fails(capsys, run(tmp_path / "empty", out), "no .skeleton file in", "empty")
    (tmp_path / "empty" / "S001C001P001R001A001.skeleton").write_text("")
    fails(capsys, run(tmp_path / "empty", out), "ntu120: no usable sequence among 1 (S001C001P001R001A001 empty: 0 b")
    fails(capsys, run(raw, out, "--missing", tmp_path / "none.txt"), "none.txt cannot be read")
    fails(capsys, run(raw, out, jobs="0"), "--jobs must be at least 1, got 0")
    assert not out.exists()


def test_all_on_the_missing_list(raw, tmp_path, capsys):
    (tmp_path / "missing.txt").write_text("\n".join(NAMES))
    code = run(raw, tmp_path / "out", "--missing", tmp_path / "missing.txt")
    fails(capsys, code, "ntu120: no usable sequence among 0")
    assert not (tmp_path / "out").exists()


# --- archives that are damaged ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_member(raw, tmp_path, method):
    """One wrong byte: that sequence is reported, the others are there."""
    archive = zipped(tmp_path / "x.zip", raw, method=method)
    with zipfile.ZipFile(archive) as opened:
        start = opened.getinfo(f"{NAMES[4]}.skeleton").header_offset
    content = bytearray(archive.read_bytes())
    content[start + 500] ^= 4
    archive.write_bytes(content)
    assert run(archive, tmp_path / "out") == 0
    report = report_of(tmp_path / "out")
    assert report["used"] == len(NAMES) - 1
    assert list(report["left_out"]["damaged"]) == [NAMES[4]]
    assert f"{archive}:{NAMES[4]}.skeleton cannot be read: " in report["left_out"]["damaged"][NAMES[4]]


def test_member_that_is_not_where_it_should_be(raw, tmp_path):
    archive = zipped(tmp_path / "x.zip", raw)
    content = bytearray(archive.read_bytes())
    content[0] = 0
    archive.write_bytes(content)
    assert run(archive, tmp_path / "out") == 0
    assert "Bad magic number for file header" in report_of(tmp_path / "out")["left_out"]["damaged"][NAMES[0]]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_of_packing(raw, tmp_path, method):
    assert run(zipped(tmp_path / "x.zip", raw, method=method), tmp_path / "out", "--strict") == 0
    assert SkeletonStore(tmp_path / "out").ids == NAMES


def test_encrypted_member(raw, tmp_path):
    archive = zipped(tmp_path / "x.zip", raw)
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1  # the flag of the directory's first member
    archive.write_bytes(content)
    assert run(archive, tmp_path / "out") == 0
    assert "is encrypted, password required" in report_of(tmp_path / "out")["left_out"]["damaged"][NAMES[0]]


def test_truncated_archive(raw, tmp_path, capsys):
    archive = zipped(tmp_path / "x.zip", raw)
    archive.write_bytes(archive.read_bytes()[:-300])
    fails(capsys, run(archive, tmp_path / "out"), f"archive {archive} cannot be opened", "download it again")
    archive.write_bytes(b"")
    fails(capsys, run(archive, tmp_path / "out"), f"archive {archive} cannot be opened")
    zipped(archive, raw)
    assert run(archive, tmp_path / "out") == 0, "and it is"


def test_damaged_directory(raw, tmp_path):
    """Any wrong byte in an archive's directory: an error or a report, never another exception."""
    archive = zipped(tmp_path / "x.zip", raw)
    whole = archive.read_bytes()
    start = whole.index(b"PK\1\2")
    rng = np.random.default_rng(0)
    for place in rng.integers(start, len(whole), 150):
        content = bytearray(whole)
        content[place] = rng.integers(256)
        archive.write_bytes(content)
        try:
            sources, _ = find_sources([archive], ".skeleton")
            for source in sources:
                source.read()
        except DataError:
            continue


def test_member_larger_than_it_says(tmp_path):
    """A member is never unpacked beyond the size in the directory."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.skeleton", b"0" * 10**7)
    content = bytearray((tmp_path / "x.zip").read_bytes())
    start = content.index(b"PK\1\2")  # of the directory
    content[start + 24 : start + 28] = (10).to_bytes(4, "little")  # the size
    (tmp_path / "x.zip").write_bytes(content)
    (source,), _ = find_sources([tmp_path / "x.zip"], ".skeleton")
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=r"x.zip:bomb.skeleton cannot be read: Bad CRC-32"):
            source.read()
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("packed", [False, True])
def test_far_too_large_a_file(raw, tmp_path, monkeypatch, packed):
    monkeypatch.setattr(prepare_module, "LARGEST", 100)
    sources, _ = find_sources([zipped(tmp_path / "x.zip", raw) if packed else raw], ".skeleton")
    with pytest.raises(DataError, match=r"^too large: .*\.skeleton has 0 MB, at most 0 are read"):
        sources[0].read()


# --- processes -------------------------------------------------------------------------------------------------------


def test_jobs_do_not_change_a_byte(raw, tmp_path):
    stores = []
    for jobs in ("1", "2"):
        assert run(raw, tmp_path / jobs, jobs=jobs) == 0
        stores.append(contents(tmp_path / jobs))
    assert stores[0] == stores[1]


class Slow:
    """Yields sources and counts them."""

    def __init__(self, number):
        self.number, self.taken = number, 0

    def __iter__(self):
        for number in range(self.number):
            self.taken += 1
            yield Source(f"{number}.skeleton", "")


def test_results_that_wait_are_bounded():
    """Where no results are taken, a bounded number of files is read."""
    sources = Slow(10_000)
    samples = ordered_map(read_source_or_nothing, sources, 1)
    next(samples)
    assert sources.taken == 1
    samples = ordered_map(read_source_or_nothing, sources, 2)
    next(samples)
    assert sources.taken <= 1 + 2 * prepare_module.TASKS_PER_PROCESS * prepare_module.FILES_PER_TASK
    samples.close()


def read_source_or_nothing(source):
    return Sample(source.name, 0, np.zeros((0, 2, 25, 3)), "nothing")


def die(source):
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_process_is_said(tmp_path):
    with pytest.raises(
        DataError, match="a process was killed, perhaps because memory ran out; the same command continues"
    ):
        list(ordered_map(die, [Source("x", "")], 2))


# --- an --out that is there ------------------------------------------------------------------------------------------


def test_prepared_already(raw, tmp_path, caplog, monkeypatch):
    caplog.set_level("INFO")
    out = tmp_path / "out"
    assert run(raw, out) == 0
    before = contents(out)
    monkeypatch.setattr(prepare_ntu, "read_source", lambda source: pytest.fail("read again"))
    assert run(raw, out) == 0
    assert "is prepared already" in caplog.text
    assert contents(out) == before


def test_overwrite(raw, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(raw, out) == 0
    before = contents(out)
    (tmp_path / "missing.txt").write_text(NAMES[0])
    other = ["--missing", str(tmp_path / "missing.txt")]
    fails(capsys, run(raw, out, *other), "out holds a store of other files", "choose another --out, or --overwrite it")
    assert contents(out) == before
    assert run(raw, out, *other, "--overwrite") == 0
    assert SkeletonStore(out).ids == NAMES[1:]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["missing.txt", "out"]


def test_never_over_something_else(raw, tmp_path, capsys):
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter1.tex").write_text("all of it")
    file = tmp_path / "file"
    file.write_text("x")
    for out in (thesis, file):
        fails(capsys, run(raw, out, "--overwrite"), f"{out} holds something else; choose another --out")
    for neighbour in ("out.partial", "out.old"):
        (tmp_path / neighbour).mkdir()
        (tmp_path / neighbour / "chapter2.tex").write_text("this too")
    fails(capsys, run(raw, tmp_path / "out"), "out.partial, the folder of the unfinished store, holds something else")
    shutil.rmtree(tmp_path / "out.partial")
    assert run(raw, tmp_path / "out") == 0
    assert run(raw, tmp_path / "out", "--overwrite", dataset="ntu60") == 0
    assert (tmp_path / "out.old" / "chapter2.tex").read_text() == "this too"
    assert (thesis / "chapter1.tex").read_text() == "all of it"


def test_empty_folder_and_link_as_out(raw, tmp_path):
    """A link to a folder on another disk: the store lies there, and the link remains."""
    (tmp_path / "disk" / "empty").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "disk" / "empty")
    assert run(raw, tmp_path / "out") == 0
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "disk" / "empty" / "frames.npy").is_file()


# --- going on --------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """In place of the end of the process."""


def steps_of_a_preparation(monkeypatch, limit):
    """From now on the process dies at the ``limit``-th change of the file system."""
    number = 0

    def counted(change, begin=None):
        def changing(*args, **kwargs):
            nonlocal number
            number += 1
            if number == limit:
                if begin is not None:
                    begin(*args, **kwargs)
                raise Killed
            return change(*args, **kwargs)

        return changing

    for name in ("rename", "unlink", "write_text", "mkdir"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))
    for name in ("save", "savez"):
        monkeypatch.setattr(np, name, counted(getattr(np, name)))

    def half_removed(path, **options):
        """Removes a part of a folder."""
        for file in list(Path(path).glob("*"))[:1]:
            os.remove(file)

    monkeypatch.setattr(shutil, "rmtree", counted(shutil.rmtree, half_removed))
    monkeypatch.setattr(StoreWriter, "add", counted(StoreWriter.add))
    monkeypatch.setattr(StoreWriter, "close", counted(StoreWriter.close))


@pytest.mark.parametrize("overwrite", [False, True])
def test_killed_at_every_step(raw, tmp_path, monkeypatch, overwrite):
    """Wherever it stops, the same command ends with the same store, and nothing is left behind."""
    sources, _ = find_sources([raw], ".skeleton")
    wanted = tmp_path / "wanted" / "out"
    prepare(wanted, "ntu120", sources[:4], read_source, {}, 1)
    first = tmp_path / "first" / "out"
    prepare(first, "ntu120", sources[4:6], read_source, {}, 1)
    for limit in range(1, 100):
        out = tmp_path / str(limit) / "out"
        if overwrite:
            shutil.copytree(first, out)
        with monkeypatch.context() as patch:
            steps_of_a_preparation(patch, limit)
            try:
                prepare(out, "ntu120", sources[:4], read_source, {}, 1, overwrite=overwrite)
            except Killed:
                pass
            else:
                break
        if (out / "meta.json").is_file():
            assert contents(out)["frames.npy"] in (contents(first)["frames.npy"], contents(wanted)["frames.npy"])
        prepare(out, "ntu120", sources[:4], read_source, {}, 1, overwrite=overwrite)
        assert contents(out) == contents(wanted), limit
        assert [path.name for path in out.parent.iterdir()] == ["out"], limit
        shutil.rmtree(out.parent)
    assert 15 < limit < 99


def test_killed_before_the_new_store_is_in_place(raw, tmp_path):
    """The old one, with the user's lists, is put back before other files are prepared."""
    sources, _ = find_sources([raw], ".skeleton")
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    prepare(out, "ntu120", sources[:4], read_source, {}, 1)
    write_list(out / "splits" / "mine.txt", ["x"])
    partial.mkdir()
    (partial / "source").write_text("that of other files")
    out.rename(partial / ".replaced")
    with pytest.raises(DataError, match="out holds a store of other files"):
        prepare(out, "ntu120", sources[4:6], read_source, {}, 1)
    prepare(out, "ntu120", sources[4:6], read_source, {}, 1, overwrite=True)
    assert (out / "splits" / "mine.txt").is_file()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("out")] == ["out"]


@pytest.fixture
def unfinished(raw, tmp_path, monkeypatch):
    """A preparation of ``raw`` that was killed after five sequences: (out, its unfinished store, a whole one)."""
    out = tmp_path / "out"
    whole = tmp_path / "whole" / "out"
    assert run(raw, whole) == 0
    with monkeypatch.context() as patch:
        steps_of_a_preparation(patch, 8)
        with pytest.raises(Killed):
            run(raw, out)
    partial = tmp_path / "out.partial"
    assert len((partial / "journal.jsonl").read_text().splitlines()) == 5
    return out, partial, contents(whole)


LINE = b'{"id": "x", "label": 0, "length": 0, "problem": "", "columns": {}}'


@pytest.mark.parametrize("tail", [b'{"id": "S001C0', LINE, b"{}x\n", b"\0\0\0\0\n\0\0", b""])
@pytest.mark.parametrize("extra", [0, 1, 100_000])
def test_half_written_ends_are_cut_away(raw, unfinished, tail, extra, monkeypatch):
    out, partial, whole = unfinished
    with (partial / "journal.jsonl").open("ab") as journal:
        journal.write(tail)
    with (partial / "frames.npy").open("ab") as frames:
        frames.write(b"\7" * extra)
    read = []
    monkeypatch.setattr(prepare_ntu, "read_source", lambda source: read.append(source.name) or read_source(source))
    with monkeypatch.context() as patch:
        steps_of_a_preparation(patch, 4)  # again after three more
        with pytest.raises(Killed):
            run(raw, out)
    read.pop()
    assert run(raw, out) == 0
    assert read == NAMES[5:], "files that were done are not read again"
    assert contents(out) == whole


@pytest.mark.parametrize("missing", [1, 10_000])
def test_frames_lost_in_a_power_cut(raw, unfinished, missing, caplog):
    """Frames that the journal names are not there: they are made again."""
    out, partial, whole = unfinished
    os.truncate(partial / "frames.npy", max(0, (partial / "frames.npy").stat().st_size - missing))
    with caplog.at_level("WARNING"):
        assert run(raw, out) == 0
    sequence = 5 if missing == 1 else 1
    assert f"out.partial: what it holds of sequence {sequence} is damaged" in caplog.text
    assert contents(out) == whole


def test_sources_that_changed_meanwhile(raw, unfinished, tmp_path, caplog):
    """Other files than before: it starts again."""
    caplog.set_level("INFO")
    out, _, _ = unfinished
    other = tmp_path / "other"
    shutil.copytree(raw, other)
    shutil.copy(other / f"{NAMES[7]}.skeleton", other / f"{NAMES[0]}.skeleton")
    assert run(other, out) == 0
    assert "the unfinished store in" in caplog.text
    store = SkeletonStore(out)
    np.testing.assert_array_equal(store.sequence(0), store.sequence(7))


def test_a_changed_file_is_noticed(raw, tmp_path, capsys):
    folder = tmp_path / "raw"
    shutil.copytree(raw, folder)
    archive = zipped(tmp_path / "x.zip", raw)
    places = {tmp_path / "a": folder, tmp_path / "b": archive}
    assert [run(place, out) for out, place in places.items()] == [0, 0]
    shutil.copy(folder / f"{NAMES[7]}.skeleton", folder / f"{NAMES[0]}.skeleton")
    zipped(archive, folder)
    capsys.readouterr()
    for out, place in places.items():
        fails(capsys, run(place, out), "holds a store of other files")
        assert run(place, out, "--overwrite") == 0
        store = SkeletonStore(out)
        np.testing.assert_array_equal(store.sequence(0), store.sequence(7))


def processes_with(mark):
    """Ids of the processes with ``mark`` in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes() and (folder / "stat").read_text().split()[2] != "Z":
                found.append(int(folder.name))
        except OSError:
            continue
    return found


SLOWLY = """
import signal, sys, time
from feeders.store import StoreWriter
from tools.prepare_ntu import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
add = StoreWriter.add
StoreWriter.add = lambda self, sample: (time.sleep(0.005), add(self, sample))
if __name__ == "__main__":
    sys.exit(main())
"""


def test_killed_again_and_again(tmp_path):
    """SIGKILL and Ctrl-C at several moments, with one process and two; no process is left behind."""
    names = ntu_names(setups=range(1, 21), actions=range(1, 6))  # 900
    raw = zipped(tmp_path / "raw.zip", write_ntu_raw(tmp_path / "raw", names[:10], (30, 40)))
    with zipfile.ZipFile(raw, "a", zipfile.ZIP_DEFLATED) as archive:
        texts = [(tmp_path / "raw" / f"{name}.skeleton").read_text() for name in names[:10]]
        for number, name in enumerate(names[10:]):
            archive.writestr(f"{name}.skeleton", texts[number % 10])
    out, mark = tmp_path / "out", uuid.uuid4().hex
    journal = tmp_path / "out.partial" / "journal.jsonl"
    words = [sys.executable, "-c", SLOWLY, "--raw", str(raw), "--out", str(out), "--dataset", "ntu120"]
    environment = {**os.environ, "SHAPMIX_TEST": mark, "OMP_NUM_THREADS": "1"}

    def start(jobs):
        return subprocess.Popen(
            [*words, "--jobs", jobs],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    done = 0
    for jobs, wanted, how in (("2", 50, signal.SIGINT), ("2", 250, signal.SIGKILL)):
        process = start(jobs)
        while process.poll() is None and done < wanted:
            time.sleep(0.005)
            done = journal.read_bytes().count(b"\n") if journal.is_file() else 0
        os.killpg(process.pid, how) if how == signal.SIGINT else process.kill()  # a terminal sends Ctrl-C to all
        message = process.communicate(timeout=60)[1]
        assert process.returncode == (130 if how == signal.SIGINT else -how), message
        assert how != signal.SIGINT or "stopped; the same command continues" in message
        assert "Traceback" not in message
        assert not out.exists()
        end = time.monotonic() + 20
        while processes_with(mark) and time.monotonic() < end:
            time.sleep(0.05)
        assert not processes_with(mark), "processes were left behind"
        done = journal.read_bytes().count(b"\n")
    assert 250 <= done < 900
    process = start("1")
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert run(raw, tmp_path / "undisturbed") == 0
    assert contents(out) == contents(tmp_path / "undisturbed")
    assert len(SkeletonStore(out)) == 900


# --- StoreWriter -----------------------------------------------------------------------------------------------------


def sample(name, length=3, shape=(2, 25, 3), **options):
    rng = np.random.default_rng([length, *name.encode()])
    return Sample(name, 1, rng.normal(size=(length, *shape)), **options)


def test_writer_names_or_drops_problems(tmp_path):
    for drop in (False, True):
        folder = tmp_path / str(drop)
        folder.mkdir()
        with StoreWriter(folder) as writer:
            writer.add(sample("a", columns={"subject": 3}))
            writer.add(sample("b", 0, columns={"subject": 4}))
            writer.add(Sample("c", 1, np.full((2, 2, 25, 3), np.nan), columns={"subject": 5}))
            writer.add(sample("d", 4, problem="no good", columns={"subject": 6}))
            writer.add(sample("e", columns={"subject": 7}))
            writer.close("set", drop_problems=drop, source="x")
        store = SkeletonStore(folder)
        assert store.ids == (["a", "e"] if drop else list("abcde"))
        assert store.columns["subject"].tolist() == ([3, 7] if drop else [3, 4, 5, 6, 7])
        problems = {"b": "has 0 frames", "c": "has NaN or infinite coordinates", "d": "no good"}
        assert store.problems == ({} if drop else problems)
        assert store.meta["source"] == "x"
        np.testing.assert_array_equal(store.sequence(len(store) - 1), sample("e").frames.astype(np.float32))
        assert len(store.frames) == 6


def test_writer_goes_on(tmp_path):
    """Two runs with a broken end between them give the same as one."""
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        with StoreWriter(folder) as writer:
            for name in "ab":
                writer.add(sample(name))
            if folder.name == "two":
                writer.__exit__()
                (folder / "frames.npy").open("ab").write(b"rest")
                writer = StoreWriter(folder)
                assert [entry["id"] for entry in writer.entries] == ["a", "b"]
            for name in "cd":
                writer.add(sample(name, 5))
            writer.close("set")
            writer.files.close()
    assert contents(folders[0]) == contents(folders[1])
    assert np.load(folders[1] / "frames.npy").shape == (16, 2, 25, 3)


@pytest.mark.parametrize(
    ("file", "before", "after", "kept"),
    [
        ("journal.jsonl", b'"length"', b'"lenght"', 0),
        ("journal.jsonl", b'"s1", "label": 0', b'"s1", "label": 7', 1),
        ("journal.jsonl", b', "crc32_of_the_rest"', b', "crc32_of_the_ReSt"', 0),
        ("journal.jsonl", b'"s2", "label": 0', b'["s2"], "label": null', 2),
        ("frames.npy", np.float32(5).tobytes(), np.float32(6).tobytes(), 1),
        ("frames.npy", b"<f4", b"<i4", 3),  # the header is written again
    ],
)
def test_damage_in_an_unfinished_store(tmp_path, caplog, file, before, after, kept):
    """What is not as it was written, and all that follows, is made again."""
    samples = [Sample(f"s{number}", 0, np.full((2, 2, 25, 3), 4 + number)) for number in range(3)]
    with StoreWriter(tmp_path) as writer:
        for sample in samples:
            writer.add(sample)
    whole = (tmp_path / file).read_bytes()
    assert before in whole
    (tmp_path / file).write_bytes(whole.replace(before, after, 1))
    with StoreWriter(tmp_path) as writer:
        assert [entry["id"] for entry in writer.entries] == ["s0", "s1", "s2"][:kept]
        assert (f"of sequence {kept + 1} is damaged" in caplog.text) == (kept < 3)
        for sample in samples[kept:]:
            writer.add(sample)
        writer.close("set")
    store = SkeletonStore(tmp_path)
    assert [store.sequence(row)[0, 0, 0, 0] for row in range(3)] == [4, 5, 6]
    assert store.labels.tolist() == [0, 0, 0]


def test_writer_before_the_first_frames(tmp_path):
    """Stopped before any frames were written: only sequences with problems."""
    with StoreWriter(tmp_path) as writer:
        writer.add(sample("a", 0))
    with StoreWriter(tmp_path) as writer:
        assert [entry["id"] for entry in writer.entries] == ["a"]
        writer.add(sample("b"))
        writer.close("set")
    assert SkeletonStore(tmp_path).lengths.tolist() == [0, 3]


def test_writer_refuses(tmp_path):
    with StoreWriter(tmp_path) as writer:
        with pytest.raises(DataError, match=r"set: no usable sequence among 0$"):
            writer.close("set")
        writer.add(sample("a"))
        with pytest.raises(DataError, match=r"b: frames of shape \(1, 25, 3\), the others have \(2, 25, 3\)"):
            writer.add(sample("b", shape=(1, 25, 3)))
    assert not (tmp_path / "meta.json").exists()


def test_checksum_tells_contents(tmp_path):
    """Another label, column, frame or name gives another checksum."""
    kinds = {
        "same": {},
        "again": {},
        "label": {"label": 2},
        "column": {"columns": {"subject": 2}},
        "name": {"id": "b"},
        "frames": {"frames": np.ones((2, 2, 25, 3))},
        "cut": {"frames": np.zeros((1, 2, 25, 3))},
    }
    checksums = {}
    for kind, changes in kinds.items():
        (tmp_path / kind).mkdir()
        with StoreWriter(tmp_path / kind) as writer:
            values = {"id": "a", "label": 1, "frames": np.zeros((2, 2, 25, 3)), "columns": {"subject": 1}, **changes}
            writer.add(Sample(**values))
            writer.close("set")
        checksums[kind] = SkeletonStore(tmp_path / kind).checksum
    assert checksums["same"] == checksums["again"]
    assert len(set(checksums.values())) == len(kinds) - 1


def test_store_of_another_format(tmp_path):
    with StoreWriter(tmp_path) as writer:
        writer.add(sample("a"))
        writer.close("set")
    meta = json.loads((tmp_path / "meta.json").read_text())
    (tmp_path / "meta.json").write_text(json.dumps({**meta, "format": 99}))
    with pytest.raises(DataError, match=r"cannot be read \(it has format 99, this version reads 2\)"):
        SkeletonStore(tmp_path)


def test_files_that_lie_elsewhere_are_the_same_files(raw, tmp_path, monkeypatch, capsys):
    """Another spelling of the path, an archive that was moved; a store of an older version, which knew paths."""
    archive = zipped(tmp_path / "x.zip", raw)
    monkeypatch.chdir(tmp_path)
    assert run(Path("x.zip"), tmp_path / "out") == 0
    archive.rename(tmp_path / "y.zip")
    assert run(tmp_path / "y.zip", tmp_path / "out") == 0
    meta = unsealed(json.loads((tmp_path / "out" / "meta.json").read_text()))
    former = prepare_module._fingerprints("ntu120", find_sources([tmp_path / "y.zip"], ".skeleton")[0])[1]
    (tmp_path / "out" / "meta.json").write_text(json.dumps({**meta, "source": former}))
    assert run(tmp_path / "y.zip", tmp_path / "out") == 0
    assert capsys.readouterr().out.count("is prepared already") == 2


def test_fingerprints_of_older_versions():
    """Stores that exist stay valid: their fingerprints are of this text."""
    source = Source("raw/S001C001P001R001A001.skeleton", "12-34")
    text = "['ntu60', Source(path='raw/S001C001P001R001A001.skeleton', stamp='12-34', member='', packed=None)]"
    assert prepare_module._fingerprints("ntu60", [source])[1] == blake2b(text.encode(), digest_size=8).hexdigest()
