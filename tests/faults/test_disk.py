"""Disks that are full or cannot be written; a few cases of tools.faults."""

from __future__ import annotations

import errno
import os

import pytest

from feeders.files import WriteError, writing
from tools.faults import disk
from tools.faults.runs import conversion, preparation, run_command

MAKE = [run_command, preparation, conversion]


@pytest.fixture
def mounting(tmp_path) -> None:
    if os.name != "posix" or not disk.can_mount(tmp_path):
        pytest.skip("this user may not mount a disk")


@pytest.mark.parametrize("make", MAKE)
def test_too_small(tmp_path, mounting, make):
    outcome = disk.small(make, tmp_path, tmp_path / "small", 40)
    assert outcome.fate == "refused", outcome.detail


@pytest.mark.parametrize("make", MAKE)
def test_read_only(tmp_path, mounting, make):
    outcome = disk.read_only(make, tmp_path, tmp_path / "disk")
    assert outcome.fate == "refused", outcome.detail


@pytest.mark.parametrize("share", [0.6])
def test_somebody_else_fills_it(tmp_path, mounting, share):
    outcome = disk.fills_up(run_command, tmp_path, tmp_path / "disk", share)
    assert outcome.fate in ("refused", "survived"), outcome.detail


@pytest.mark.parametrize("name", ["last.pt", "log.txt"])
def test_a_folder_instead_of_a_file(tmp_path, name):
    outcome = disk.folder_there(tmp_path, tmp_path / "run", name)
    assert outcome.fate == "refused", outcome.detail


def test_what_is_needed_and_what_is_free(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device")
    message = r"new/last.pt could not be written \(No space left on device: 1,234 bytes are needed and [\d,]+ are free"
    with pytest.raises(WriteError, match=message), writing(tmp_path / "new" / "last.pt", 1234):
        raise full
