"""A byte of an archive's list of members may hide all members after it: that is damage, not an archive of fewer."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import torch

from feeders.convert.prepare import look
from feeders.store import DataError
from feeders.zips import open_zip
from processor.checkpoint import load_checkpoint
from processor.errors import CheckpointError
from processor.scores import ScoreFile, read_scores
from processor.study.archive import find_runs


def hiding_the_rest(content: bytes) -> bytes:
    """The first member of the list has a comment as long as all the others."""
    list_of_members = content.index(b"PK\1\2")
    rest = content.index(b"PK\5\6") - content.index(b"PK\1\2", list_of_members + 4)
    damaged = bytearray(content)
    damaged[list_of_members + 32 : list_of_members + 34] = rest.to_bytes(2, "little")
    return bytes(damaged)


def archive(members: int, comment: bytes = b"") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.comment = comment
        for number in range(members):
            file.writestr(f"{number}.csv", "0,1\n")
    return content.getvalue()


@pytest.mark.parametrize("content", [archive(0), archive(3), archive(2, b"PK, a comment"), archive(70_000)])
def test_whole_archives(content):
    with open_zip(io.BytesIO(content)) as found:
        assert found.testzip() is None


def test_a_file_of_torch_is_whole(tmp_path):
    torch.save({"model": {"a": torch.ones(3), "b": torch.ones(4)}}, tmp_path / "a.pt")
    assert len(open_zip(tmp_path / "a.pt").namelist()) > 3


def test_hidden_members_are_missed(tmp_path):
    with zipfile.ZipFile(io.BytesIO(hiding_the_rest(archive(3)))) as found:
        assert found.namelist() == ["0.csv"]  # Python does not notice
    with pytest.raises(zipfile.BadZipFile, match="1 of 3"):
        open_zip(io.BytesIO(hiding_the_rest(archive(3))))

    path = tmp_path / "scores_test.npz"
    ScoreFile("", ["a", "b"], np.eye(2), np.array([0, 1]), ["x", "y"], [9, 1]).write(path)
    torch.save({"model": {"a": torch.ones(3)}}, tmp_path / "last.pt")
    (tmp_path / "takes.zip").write_bytes(archive(3))
    for one in tmp_path.iterdir():
        one.write_bytes(hiding_the_rest(one.read_bytes()))
    with pytest.raises(ValueError, match=r"scores_test.npz is damaged .* list of members"):
        read_scores(path)
    with pytest.raises(CheckpointError, match=r"last.pt is damaged .* list of members"):
        load_checkpoint(tmp_path / "last.pt")
    with pytest.raises(DataError, match=r"takes.zip cannot be opened .* list of members"):
        list(look(tmp_path / "takes.zip"))
    with pytest.raises(ValueError, match=r"takes.zip is not a .zip archive, or is damaged .* list of members"):
        find_runs(tmp_path / "takes.zip")


def test_a_file_that_is_called_a_folder(tmp_path):
    """torch reads nothing of it, without a word."""
    path = tmp_path / "last.pt"
    torch.save({"model": {"a": torch.ones(3)}}, path)
    content = bytearray(path.read_bytes())
    name = content.rindex(b"/data/0")
    content[content.rindex(b"PK\1\2", 0, name) + 38] |= 0x10
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"last.pt is damaged .*/data/0 is a folder there"):
        load_checkpoint(path)
