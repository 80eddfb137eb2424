"""One process trains in a work_dir; a second one is refused and told by whom, and a dead one holds nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import pytest

import main
from feeders.locks import try_lock
from processor import origin, run_folder
from processor.config_files import load_config
from processor.errors import BUSY, BusyError
from processor.run_folder import RunFolder
from processor.training import Training
from tests.conftest import ROOT
from tools.faults import fuse

HOLDER = """
import sys, time
from processor.run_folder import RunFolder
folder = RunFolder(sys.argv[1])
folder.acquire()
print("held", flush=True)
time.sleep(100)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds tmp_path/run."""
    words = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_refused_while_held(tmp_path, write_config, capsys, holder):
    folder, path = RunFolder(tmp_path / "run"), write_config(num_epoch=1, mixing="none")
    assert folder.is_busy()
    for more in ([], ["--overwrite"]):
        assert main.main(["--config", path, *more]) == BUSY
        error = capsys.readouterr().err
        assert error.startswith(f"error: another process is training in work_dir {folder} (process {holder.pid} on ")
        assert error.endswith("); wait for it, or choose another --work_dir\n")
        assert sorted(os.listdir(folder.path)) == [".holder", ".lock"], "nothing else is written"
    holder.kill()  # kill -9
    holder.wait()
    assert not folder.is_busy()
    assert main.main(["--config", path]) == 0
    assert not folder.is_busy(), "free after a run, in the same process"
    assert not (folder.path / ".holder").exists()


def test_a_probe_is_no_reason_to_give_up(tmp_path):
    """is_busy holds the lock for a moment, which another process may meet."""
    first, second = RunFolder(tmp_path), RunFolder(tmp_path)
    assert not first.is_busy()
    first.acquire()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("time.sleep", lambda seconds: first.release())
        second.acquire()
    assert first.is_busy()
    second.release()
    assert not first.is_busy()


def test_clearing_keeps_the_lock(tmp_path):
    folder = RunFolder(tmp_path)
    folder.acquire()
    folder.clear()
    assert folder.is_busy()
    with pytest.raises(BusyError, match="another process is training"):
        RunFolder(tmp_path).acquire()
    folder.release()


@pytest.mark.parametrize("failure", [OSError(95, "no flock"), OSError(38, "no locks here")])
def test_where_files_cannot_be_locked(tmp_path, monkeypatch, caplog, failure):
    folder = RunFolder(tmp_path)
    folder.acquire()
    folder.release()

    def refuse(*args, **options):
        raise failure

    monkeypatch.setattr(run_folder, "try_lock", refuse)
    folder.acquire()
    assert "cannot be locked" in caplog.text
    assert not folder.is_busy()
    folder.release()


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
    assert sorted(os.listdir(tmp_path / "run")) == [".holder", ".lock"]


def test_who_only_asks_is_not_busy(tmp_path):
    """Another process that asks holds the lock for a moment, but is no holder."""
    folder = RunFolder(tmp_path)
    folder.acquire()
    folder.release()
    other = try_lock(tmp_path / ".lock")
    assert not folder.is_busy()
    other.release()


def test_an_installed_copy_has_no_commit(tmp_path, monkeypatch):
    """Not even where it lies in a checkout of something else."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setattr(origin, "__file__", str(tmp_path / "venv" / "processor" / "origin.py"))
    assert origin._commit.__wrapped__() == (None, None)


def test_locks_that_exclude_nobody(write_config, tmp_path, monkeypatch, capsys):
    """As on a file system that takes every lock."""
    monkeypatch.setattr(run_folder, "try_lock", lambda path, create=True: try_lock(path.with_name(f"{time.time_ns()}")))
    assert main.main(["--config", write_config(num_epoch=1)]) == 2
    assert "locks of this file system exclude nobody" in capsys.readouterr().err


def test_locks_of_one_node(tmp_path):
    """What a process on another node sees where the file system's locks end at the node."""
    held, elsewhere = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "copy")
    held.acquire()
    assert held.is_locked_for_others()
    elsewhere.path.mkdir()
    assert elsewhere.is_locked_for_others(), "not known: the file is not there"
    (elsewhere.path / ".lock").touch()
    assert not elsewhere.is_locked_for_others()
    held.release()


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"base_lr": 0.3}, "holds the results of a run of another config (other base_lr), without its last.pt"),
        ({}, "holds the results of this run, finished, without its last.pt"),
    ],
)
def test_results_without_a_checkpoint_are_not_replaced(write_config, tmp_path, capsys, changes, wanted):
    assert main.main(["--config", write_config(num_epoch=1)]) == 0
    folder = RunFolder(tmp_path / "run")
    folder.last.unlink()
    before = {path.name: path.read_bytes() for path in folder.path.iterdir() if path.is_file()}
    assert main.main(["--config", write_config(num_epoch=1, **changes)]) == 2
    assert wanted in capsys.readouterr().err
    before["log.txt"] = folder.log.read_bytes()
    assert {path.name: path.read_bytes() for path in folder.path.iterdir() if path.is_file()} == before
    assert main.main(["--config", write_config(num_epoch=1, **changes), "--overwrite"]) == 0


@pytest.mark.parametrize("gone", ["missing", "a dangling link"])
def test_a_lost_checkpoint_of_an_unfinished_run(write_config, tmp_path, capsys, gone):
    folder, words = RunFolder(tmp_path / "run"), ["--plugin", "tests", "--config"]
    words.append(write_config(save_interval=1, save_epoch=0, model="tests.small.Model", model_args=None, mixing="none"))
    assert main.main(words) == 0
    folder.scores().unlink()  # as if it had been cut off before
    folder.last.unlink()
    if gone == "a dangling link":
        folder.last.symlink_to(tmp_path / "disk" / "last.pt")
    before = folder.metrics.read_bytes(), folder.best.read_bytes()
    capsys.readouterr()
    assert main.main(words) == 2
    error = capsys.readouterr().err
    assert f"{folder.last} {'does not exist' if gone == 'missing' else 'is a link to'}" in error
    assert "best.pt and the metrics of 2 epochs of this run" in error
    assert "put last.pt back, go on from another checkpoint with --resume FILE, or --overwrite" in error
    assert (folder.metrics.read_bytes(), folder.best.read_bytes()) == before
    if gone == "missing":
        assert main.main([*words, "--resume", str(folder.checkpoint("epoch_0"))]) == 0
        assert "epoch   0" not in capsys.readouterr().out
    else:
        assert main.main([*words, "--overwrite"]) == 0


def test_killed_as_the_first_metrics_are_written(write_config, tmp_path, monkeypatch):
    """last.pt is there before them, or is not needed: the same command goes on by itself."""
    path, quick = write_config(eval_interval=3, model="tests.small.Model", model_args=None), ["--plugin", "tests"]

    def killed(record, metrics):
        fuse.half_a_line(record, metrics)
        raise SystemExit

    monkeypatch.setattr(run_folder.MetricsLog, "add", killed)
    with pytest.raises(SystemExit):
        main.main(["--config", path, *quick])
    monkeypatch.undo()
    assert main.main(["--config", path, *quick]) == 0
    folder = RunFolder(tmp_path / "evaluated")
    folder.path.mkdir()
    fuse.half_a_line(run_folder.MetricsLog(folder, 0), {"epoch": -1})
    assert (
        folder.resume(load_config(path, {"num_epoch": 0, "weights": str(tmp_path / "run" / "last.pt")}, ["tests"]))
        is None
    )


def test_a_config_of_ones_own_is_not_replaced(write_config, tmp_path, capsys):
    """As where work_dir is the folder in which somebody writes recipes."""
    (tmp_path / "config.yaml").write_text("# mine\nseed: 3\n")
    assert main.main(["--config", write_config(work_dir=str(tmp_path))]) == 2
    assert "is a config of your own" in capsys.readouterr().err
    assert (tmp_path / "config.yaml").read_text() == "# mine\nseed: 3\n"


@pytest.mark.parametrize("how", ["moved", "removed"])
def test_a_folder_that_goes_away_during_the_run(write_config, tmp_path, monkeypatch, capsys, how):
    evaluate, folder = Training.evaluate, tmp_path / "run"

    def go_away(training, metrics):
        if metrics["epoch"] == 0:
            folder.rename(tmp_path / "other")
            if how == "removed":
                shutil.rmtree(tmp_path / "other")
        return evaluate(training, metrics)

    monkeypatch.setattr(Training, "evaluate", go_away)
    assert main.main(["--config", write_config(num_epoch=3)]) == 2
    assert "was moved or removed while this run trains" in capsys.readouterr().err
    assert not folder.exists()
