"""One process trains in a work_dir; a second one is refused, and a dead one holds nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import main
from processor.config import ConfigError
from processor.lock import is_locked, lock
from processor.processor import clear_work_dir
from tests.conftest import ROOT

HOLDER = """
import sys, time
from pathlib import Path
from processor.lock import lock
held = lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(100)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path/run."""
    folder = tmp_path / "run"
    folder.mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_refused_while_held(tmp_path, write_config, capsys, holder):
    folder, path = tmp_path / "run", write_config(num_epoch=1, mixing="none")
    assert is_locked(folder)
    for more in ([], ["--overwrite"]):
        assert main.main(["--config", path, *more]) == 2
        assert capsys.readouterr().err == (
            f"error: another process is training in work_dir {folder}; wait for it, or choose another --work_dir\n"
        )
        assert os.listdir(folder) == [".lock"], "nothing is written"
    holder.kill()  # kill -9
    holder.wait()
    assert not is_locked(folder)
    assert main.main(["--config", path]) == 0
    assert not is_locked(folder), "free after a run, in the same process"


def test_a_probe_is_no_reason_to_give_up(tmp_path, monkeypatch):
    """is_locked holds the lock for an instant, which another process may meet."""
    assert not is_locked(tmp_path)
    first = lock(tmp_path)
    monkeypatch.setattr("time.sleep", lambda seconds: first.close())
    second = lock(tmp_path)
    assert is_locked(tmp_path)
    second.close()
    assert not is_locked(tmp_path)


def test_clearing_keeps_the_lock(tmp_path):
    with lock(tmp_path):
        clear_work_dir(tmp_path)
        assert is_locked(tmp_path)
        with pytest.raises(ConfigError, match="another process is training"):
            lock(tmp_path)


def test_without_fcntl(tmp_path, monkeypatch):
    monkeypatch.setattr("processor.lock.fcntl", None)
    assert lock(tmp_path) is None
    assert not is_locked(tmp_path)


def test_refused_under_torchrun(tmp_path, write_config, holder):
    """The main process alone meets the lock; the other one ends with it."""
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "main.py", "--config"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words, write_config(mixing="none")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode != 0
    assert done.stderr.count("error: another process is training in work_dir") == 1, done.stderr
    assert "cannot be opened; the main process says why" in done.stderr
    assert os.listdir(tmp_path / "run") == [".lock"]
