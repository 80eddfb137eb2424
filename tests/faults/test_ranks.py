"""Processes of a run that die, hang or see other files; a few cases of tools.faults."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch.distributed as dist

from processor.distributed import launched_by
from processor.heartbeat import lost
from processor.run_folder import RunFolder
from tools.faults import ranks
from tools.faults.runs import run_command, undisturbed


@pytest.fixture(scope="module")
def common(tmp_path_factory) -> Path:
    """What the undisturbed run leaves, which several tests compare with."""
    return tmp_path_factory.mktemp("common")


def test_killed(tmp_path, common):
    outcome = ranks.lost(common, tmp_path / "run", 2, 0, 0.1, signal.SIGKILL)
    assert outcome.fate == "survived", outcome.detail


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_hangs(tmp_path, common):
    outcome = ranks.lost(common, tmp_path / "run", 2, 1, 0.1, signal.SIGSTOP)
    assert outcome.fate == "survived", outcome.detail


@pytest.mark.parametrize("what", ranks.OTHERS)
def test_other_files(tmp_path, what):
    outcome = ranks.other(tmp_path / "run", what)
    assert outcome.fate == "refused", outcome.detail


def test_one_test_sample_in_twelve_classes_for_three(tmp_path):
    outcome = ranks.uneven(tmp_path / "run", 1, 6)
    assert outcome.fate == "survived", outcome.detail


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks for torchrun's processes in /proc")
def test_torchrun_goes_on(tmp_path, common):
    outcome = ranks.restarted(common, tmp_path / "run", 0, 0.2)
    assert outcome.fate == "survived", outcome.detail


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks for torchrun's processes in /proc")
def test_torchrun_ends(tmp_path):
    outcome = ranks.launched(tmp_path / "run", 1, 0.2)
    assert outcome.fate == "survived", outcome.detail


def test_a_run_that_begins_again_is_lost(tmp_path):
    """It ends with the same weights."""
    command = run_command(tmp_path / "run", num_epoch=1)
    wanted = undisturbed(run_command, tmp_path / "other")[0]
    assert command.start().wait() == 0
    outcome = ranks._as_undisturbed(tmp_path / "run", ranks.result(tmp_path / "run" / "run"))
    assert outcome.detail == "it began again"
    assert ranks._as_undisturbed(tmp_path / "run", wanted).detail.startswith("it ends with other")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("[/gloo/transport/tcp/pair.cc:537] Connection closed by peer"), "has ended"),
        (RuntimeError("[/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 20000ms"), "does not answer"),
        (RuntimeError("[Rank 0]: Ranks 1, 2 failed to pass monitoredBarrier in 20000 ms"), "process 1, 2 does not"),
        (dist.DistBackendError("NCCL communicator was aborted"), "has ended"),
    ],
)
def test_what_torch_says_in_our_words(error, says):
    assert says in str(lost(error))


def test_other_errors_stay():
    assert lost(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert lost(ValueError("gloo")) is None


def test_who_began_a_run(tmp_path, monkeypatch):
    """--overwrite of the same torchrun, which started its processes again, does not begin the run once more."""
    folder = RunFolder(tmp_path)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    folder.begin(launched_by())
    assert not folder.begun_by(launched_by())
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a")
    folder.begin(launched_by())
    assert folder.begun_by(launched_by())
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "b")
    assert not folder.begun_by(launched_by())
