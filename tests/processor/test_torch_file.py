"""Files of torch that would fill the memory or take for ever are refused before torch opens them."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch

from processor.checkpoint import load_checkpoint
from processor.errors import CheckpointError
from processor.scores import ScoreFile, read_scores
from processor.study.archive import find_runs

LEVELS = 60
SHARED = b"\x80\x02}q\x00)q\x01" + b"".join(b"h%c\x86q%c" % (n + 1, n + 2) for n in range(LEVELS))  # (t, t), ...
KEY = SHARED + b"K\x01s."
COUNTER = SHARED + b"0K\x01ccollections\nCounter\n]h\x3da\x85Rs."


def with_pickle(path, content):
    torch.save({"a": torch.zeros(1)}, path)
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for member, before in members.items():
            archive.writestr(member, content if member.filename.endswith("data.pkl") else before)
    return path


def legacy(content):
    made = io.BytesIO()
    torch.save(1, made, _use_new_zipfile_serialization=False)
    start = made.getvalue()
    return start[: start.rindex(pickle.dumps(1, 2))] + content


@pytest.mark.parametrize("content", [KEY, COUNTER])
def test_shared_levels(tmp_path, content):
    with pytest.raises(CheckpointError, match=r"a\.pt .*tuples in tuples as keys"):
        load_checkpoint(with_pickle(tmp_path / "a.pt", content))


def test_shared_and_deep_lists(tmp_path):
    shared: object = "a"
    deep: object = "a"
    for _ in range(25):
        shared = [shared, shared]
    for _ in range(50):
        deep = [deep]
    for value, words in ((shared, "again and again"), (deep, "containers in each other")):
        torch.save({"config": value}, tmp_path / "a.pt")
        with pytest.raises(CheckpointError, match=rf"a\.pt .*{words}"):
            load_checkpoint(tmp_path / "a.pt")


def test_shared_levels_of_old_files(tmp_path):
    (tmp_path / "a.pt").write_bytes(legacy(KEY))
    with pytest.raises(CheckpointError, match=r"a\.pt .*tuples in tuples as keys"):
        load_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("new", [True, False])
def test_files_of_other_programs(tmp_path, new):
    layer = torch.nn.BatchNorm1d(3)
    state = {
        "state_dict": layer.state_dict(), "parameter": torch.nn.Parameter(torch.ones(2)), "size": torch.Size([1, 2]),
        "nested": [{"a": ((1, 2), (3, (4,)))}], ("a", 1): {1, 2}, "counter": Counter("ab"), "type": torch.float16,
        "ordered": OrderedDict(a=1), "bytes": bytearray(b"ab"), "complex": 1j, "sparse": torch.eye(2).to_sparse(),
    }  # fmt: skip
    torch.save(state, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    found = load_checkpoint(tmp_path / "a.pt")
    assert found.keys() == state.keys()
    assert found["counter"] == state["counter"]


def test_packed_members(tmp_path):
    """A file that is much larger when it is unpacked: of weights, scores, runs."""
    torch.save({"w": torch.zeros(10**6)}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, zipfile.ZipFile(tmp_path / "a.pt", "w", 8) as packed:
        for member in plain.infolist():
            packed.writestr(member.filename, plain.read(member))
    with pytest.raises(CheckpointError, match=r"a\.pt .*data/0 it unpacks to"):
        load_checkpoint(tmp_path / "a.pt")


def test_large_archives(tmp_path, monkeypatch):
    monkeypatch.setattr("feeders.zips.FREE", 10**5)
    scores = ScoreFile("", list(map(str, range(1000))), np.zeros((1000, 1000)), np.zeros(1000, int), ["x"] * 1000)
    scores.write(tmp_path / "a.npz", compressed=True)
    with pytest.raises(ValueError, match=r"a\.npz .*it unpacks to"):
        read_scores(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "runs.zip", "w", 8) as archive:
        archive.writestr("run/config.yaml", bytes(10**6))
    with pytest.raises(ValueError, match=r"runs\.zip .*config\.yaml it unpacks to"):
        find_runs(tmp_path / "runs.zip")
