"""Many runs at once, and long ones, in short."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from processor.run_folder import RunFolder
from tools.faults.load import at_once
from tools.faults.long_runs import EPOCHS, Look, judged, long_run


def test_runs_at_once(tmp_path):
    outcome = at_once(tmp_path / "load", 2, 80)
    assert outcome.fate == "survived", outcome.detail


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="looks at a process through /proc")
def test_many_epochs(tmp_path):
    outcome = long_run(tmp_path / "long", 20)
    assert outcome.fate == "survived", outcome.detail


@pytest.mark.parametrize(
    ("memory", "files", "written", "fate"),
    [(0.0, 0, 50, "survived"), (0.02, 0, 50, "lost"), (0.0, 1, 50, "lost"), (0.0, 0, 10**5, "lost")],
)
def test_growth_is_seen(tmp_path, memory, files, written, fate):
    """2 MiB in 100 epochs; a file that stays open; 100 kB an epoch."""
    folder = RunFolder(tmp_path)
    folder.log.write_bytes(bytes(written * EPOCHS))
    looks = [Look(epoch, 500 + memory * epoch, 12 + files * (epoch > 1500)) for epoch in range(1, EPOCHS, 10)]
    assert judged(looks, EPOCHS, folder).fate == fate
    dips = [replace(look, memory=look.memory - 60) if 500 < look.epoch < 700 else look for look in looks]
    assert judged(dips, EPOCHS, folder).fate == fate
