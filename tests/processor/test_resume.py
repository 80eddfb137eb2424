"""A run that is killed or stopped at any moment and started again ends as if nothing had happened."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

import main
from processor.build import build, load_data
from processor.checkpoint import load_checkpoint
from processor.config_files import load_config
from processor.host import StopSignals
from processor.run_folder import RunFolder
from processor.training import Training
from tests import as_on_cuda
from tests.conftest import ROOT, tiny_config
from tools.faults.runs import difference, result

EPOCHS = 5
# (what is being done, how often it was begun in that process): 3 steps an epoch, last.pt after every second step
KILLS = [("step", 2), ("step", 5), ("metrics", 1), ("checkpoint", 2), ("evaluation", 2), ("save", 2)]


QUICK = {  # every option for speed
    "model": "tests.small.Model",
    "precision": "bf16",
    "compile": True,
    "device_resident": True,
    "mixing_args": {"estimate_interval": 2, "estimate_fraction": 0.4},
}


def run_config(folder: Path, **options: object) -> str:
    """A tiny run with dropout and everything else that could make a resumed run differ."""
    values = tiny_config(folder, num_epoch=EPOCHS, save_steps=2, schedule="cosine", **options)
    values["model_args"] = {"drop_out": 0.3} if "model" in options else {"base_channel": 4, "drop_out": 0.3}
    values["train_feeder_args"] = {"n_max": 6, "imbalance": 6}
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert main.main(["--config", run_config(folder)]) == 0
    return result(folder / "run")


@pytest.fixture(scope="module")
def undisturbed_and_quick(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick")
    with pytest.MonkeyPatch.context() as patch:
        as_on_cuda.pretend(patch.setattr)
        assert main.main(["--config", run_config(folder, **QUICK), "--plugin", "tests"]) == 0
    return result(folder / "run")


@pytest.mark.parametrize(("kills", "options"), [(KILLS, {}), ([("step", 5), ("evaluation", 1)], QUICK)])
def test_killed_at_any_moment(tmp_path, request, monkeypatch, kills, options):
    """The second of two steps is saved; with all options for speed it is also the one whose losses are read."""
    undisturbed = request.getfixturevalue("undisturbed_and_quick" if options else "undisturbed")
    path = run_config(tmp_path, **options)
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    if options:
        as_on_cuda.pretend(monkeypatch.setattr)
        environment["AS_ON_CUDA"] = "1"
    for moment, number in kills:
        words = [sys.executable, "-m", "tests.faulty_main", moment, str(number), "--config", path, "--plugin", "tests"]
        killed = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert killed.returncode == -signal.SIGKILL, (moment, killed.stdout, killed.stderr)
    assert main.main(["--config", path, "--plugin", "tests"]) == 0
    ours = result(tmp_path / "run")
    assert [line["epoch"] for line in ours["metrics"]] == list(range(EPOCHS))
    assert difference(ours, undisturbed) is None


def test_stopped_in_evaluation_and_between_steps(tmp_path, undisturbed, monkeypatch):
    path = run_config(tmp_path)
    calls = 0
    check = StopSignals.check

    def check_signal(self):
        nonlocal calls
        calls += 1
        if calls == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
        check(self)

    monkeypatch.setattr(StopSignals, "check", check_signal)
    assert main.main(["--config", path]) == 143
    state = load_checkpoint(tmp_path / "run" / "last.pt")
    assert (state["epoch"], state["meter"]["steps"]) == (0, 3)

    after = Training.after_reading

    def after_reading(self):
        if (self.epoch, self.meter.steps) == (2, 1):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
        after(self)

    monkeypatch.setattr(Training, "after_reading", after_reading)
    assert main.main(["--config", path]) == 130
    state = load_checkpoint(tmp_path / "run" / "last.pt")
    assert (state["epoch"], state["meter"]["steps"]) == (2, 1)
    monkeypatch.undo()
    assert main.main(["--config", path]) == 0
    assert difference(result(tmp_path / "run"), undisturbed) is None


def test_sigterm_from_outside(tmp_path):
    path = run_config(tmp_path)
    words = [sys.executable, "main.py", "--config", path, "--num_epoch", "1000"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout:
            if line.startswith("epoch   1"):
                run.send_signal(signal.SIGTERM)
                break
        rest = run.stdout.read()
    assert run.returncode == 143
    assert "the same command continues" in rest
    assert load_checkpoint(tmp_path / "run" / "last.pt")["epoch"] >= 1


def test_a_finished_run_stays(tmp_path, capsys):
    path = run_config(tmp_path)
    assert main.main(["--config", path, "--num_epoch", "1"]) == 0
    before = (tmp_path / "run" / "last.pt").read_bytes()
    capsys.readouterr()
    assert main.main(["--config", path, "--num_epoch", "1"]) == 0
    assert "holds this run, finished" in capsys.readouterr().out
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


def test_the_device_decides_how_weights_are_updated(tmp_path, monkeypatch):
    """A checkpoint says how the optimiser ran where it was saved; a run that goes on elsewhere does as suits it."""
    path = run_config(tmp_path)
    assert main.main(["--config", path, "--num_epoch", "1"]) == 0
    state = load_checkpoint(tmp_path / "run" / "last.pt")
    config = load_config(path)
    state["optimizer"]["param_groups"][0]["fused"] = True
    device = torch.device("cpu")
    data = load_data(config, device)
    training = Training(config, RunFolder(config.work_dir), data, build(config, data, device, state), device, state)
    assert training.epoch == 1
    assert training.parts.optimizer.param_groups[0]["fused"] is None


def test_more_epochs(write_config, tmp_path, capsys):
    """A finished run is extended where its checkpoint is named; with the step schedule as if it had been so long."""
    keys = {"model": "tests.small.Model", "model_args": None, "mixing": "none"}
    words = ["--plugin", "tests", "--config"]
    assert main.main([*words, write_config(**keys, num_epoch=3, work_dir=str(tmp_path / "whole"))]) == 0
    config, last = write_config(**keys, num_epoch=2), tmp_path / "run" / "last.pt"
    assert main.main([*words, config]) == 0
    capsys.readouterr()
    assert main.main([*words, config, "--num_epoch", "3"]) == 2
    message = capsys.readouterr().err
    assert f"--resume {last} --num_epoch 3 or more extends it; --weights {last} --work_dir NEW trains on" in message
    assert main.main([*words, config, "--num_epoch", "3", "--base_lr", "0.01", "--resume", str(last)]) == 2
    message = capsys.readouterr().err
    assert "other base_lr, num_epoch" in message
    assert "--weights" in message
    assert main.main([*words, config, "--num_epoch", "1", "--resume", str(last)]) == 2
    assert main.main([*words, config, "--num_epoch", "3", "--resume", str(last)]) == 0
    assert "a run of 2 epochs now has 3. Its schedule (step, reweight_from)" in capsys.readouterr().out
    ours, theirs = (load_checkpoint(tmp_path / run / "last.pt")["model"] for run in ("run", "whole"))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert main.main([*words, config, "--num_epoch", "3"]) == 0, "from now on it is a run of 3 epochs"


def test_extended_cosine(write_config, caplog):
    keys = {"model": "tests.small.Model", "model_args": None, "mixing": "none", "schedule": "cosine", "base_lr": 0.2}
    path = write_config(**keys, num_epoch=2)
    assert main.main(["--config", path, "--plugin", "tests"]) == 0
    last = str(Path(path).parent / "run" / "last.pt")
    assert main.main(["--config", path, "--plugin", "tests", "--num_epoch", "4", "--resume", last]) == 0
    assert "the learning rate goes on with 0.1, not 0.0002" in caplog.text
