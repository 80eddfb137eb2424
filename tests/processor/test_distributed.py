"""One process and two: the same data, mixes, losses, table, weights and scores."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

import main
from shapmix import LogitAdjustedLoss
from shapmix.distributed import world
from tests import as_on_cuda
from tests.conftest import ROOT, tiny_config
from tests.processor.test_mixing_keys import ALL, BONES, OTHERS
from tools.faults.case import python
from tools.faults.process import Command
from tools.faults.runs import start_all

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "main.py"]


def write_run(folder, **changes):
    """The words of a run with the small network."""
    folder.mkdir(exist_ok=True)
    changes = {"model": "tests.small.Model", "model_args": {}, "logger": "none", **changes}
    (folder / "run.yaml").write_text(yaml.safe_dump(tiny_config(folder, **changes)))
    return ["--config", str(folder / "run.yaml"), "--plugin", "tests"]


def forked(command, processes):
    """Exit codes of a command's processes, which are started as torchrun does, and what they print."""
    started = start_all(command, processes)
    return [one.wait() for one in started], "".join(one.text for one in started)


OPTIONS = [
    {},
    {"estimate_fraction": 0.4},  # of 12 samples 5: 2, 2 and 1 of three processes
    {"estimate_interval": 2, "compile": True, "resident": True, "read_interval": 3},
    {"others": True, "sampler": "class_balanced"},  # Remix with a weighted LDAM
]


@pytest.mark.parametrize("options", OPTIONS)
def test_five_steps(tmp_path, options):
    found = {}
    for processes in (1, 2, 3):
        out = tmp_path / f"{processes}.npz"
        words = [str(out), str(tmp_path / "cache"), json.dumps(options)]
        codes, printed = forked(Command("tests.processor.ddp_worker", words, tmp_path), processes)
        assert not any(codes), printed
        with np.load(out) as file:
            found[processes] = dict(file)
    one = found[1]
    assert one["rows"].shape == (5, 12)
    assert np.isfinite(one["weights"]).all()
    assert ("table" not in one) if "others" in options else (one["table"][-1] > 1e-5).any()
    for processes in (2, 3):
        several = found[processes]
        np.testing.assert_array_equal(several["rows"], one["rows"])
        np.testing.assert_array_equal(several["x"], one["x"])
        for name in one.keys() - {"rows", "x"}:
            np.testing.assert_allclose(several[name], one[name], rtol=0, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(("keys", "more", "epochs"), [(ALL, (), 3), (OTHERS, BONES, 5)])
def test_all_keys_beyond_the_paper(keys, more, epochs, tmp_path):
    """Refreshed tables, second batches of partners, bones, mixed frames, averaged weights: 1 = 2 processes."""
    states = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        words = write_run(folder, model="tests.small.WithoutNorm", precision="fp64", num_epoch=epochs, **keys)
        codes, printed = forked(Command("main", [*words, *more], folder), processes)
        assert not any(codes), printed
        states.append(torch.load(folder / "run" / "last.pt", weights_only=True))
    one, two = states
    assert (one["mixer"]["saliency.initial"] < 1).any(), "the table was refreshed"
    for part in ("model", "average", "mixer"):
        assert one[part].keys() == two[part].keys()
        for name, value in one[part].items():
            torch.testing.assert_close(two[part][name], value, rtol=0, atol=1e-9, msg=f"{part}: {name}")


def test_main_under_torchrun(tmp_path):
    words = write_run(tmp_path, test_feeder_args={"num_test": 3})
    done = python([*TORCHRUN, *words])
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("epoch   1") == 1, "only the main process prints"
    assert "batch norm uses each process's own samples" in done.stdout
    assert "Warning" not in done.stdout
    with np.load(tmp_path / "run" / "scores_test.npz") as scores:
        assert len(set(scores["ids"].tolist())) == 36
    assert main.main([*words, "--num_epoch", "2"]) == 0, "one process reads what two wrote"


def test_stopped_under_torchrun_goes_on(tmp_path):
    """SIGTERM in the middle: all processes stop after the same step, and the epoch's metrics cover all of it.

    Weights, running statistics and table end as in an undisturbed run, to the last digit.
    """
    found, states = [], []
    for name in ("stopped", "undisturbed"):
        folder = tmp_path / name
        changes = {"train_feeder_args": {"n_max": 80, "imbalance": 2}, "average_weights": "ema"}
        words = write_run(folder, precision="fp64", **changes)
        if name == "stopped":
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            with subprocess.Popen(
                [sys.executable, *TORCHRUN, *words], cwd=ROOT, env=environment, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            ) as stopped:  # fmt: skip
                for line in stopped.stdout:
                    if line.startswith(b"epoch   0"):
                        stopped.send_signal(signal.SIGTERM)
                        break
                rest = stopped.stdout.read().decode()
            assert "stopped in epoch 1 after step" in rest
            assert stopped.returncode == 1, "torchrun's own; docs/cluster.md requeues on it"
        codes, printed = forked(Command("main", words, folder), 2)
        assert not any(codes), printed
        lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
        found.append([(line["epoch"], line["train_loss"], line["train_mix_loss"], line["top1"]) for line in lines])
        state = torch.load(folder / "run" / "last.pt", weights_only=True)
        parts = ("model", "average", "mixer")
        states.append({f"{part} {key}": value for part in parts for key, value in state[part].items()})
    assert "average module.bn.running_mean" in states[0]
    assert [epoch for epoch, *_ in found[0]] == [0, 1]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)
    assert [key for key, value in states[0].items() if not torch.equal(value, states[1][key])] == []


def nan_on_rank_1():
    calls, forward = 0, LogitAdjustedLoss.forward

    def broken(self, logits, target):
        nonlocal calls
        calls += 1
        return forward(self, logits, target) * (float("nan") if calls == 2 and world()[0] == 1 else 1)

    LogitAdjustedLoss.forward = broken


def nan_on_rank_1_as_on_cuda():
    as_on_cuda.pretend()
    nan_on_rank_1()


@pytest.mark.parametrize("before", [nan_on_rank_1, nan_on_rank_1_as_on_cuda])
def test_loss_not_finite_on_one_rank_stops_all(tmp_path, before):
    """At once, and where losses are read at the epoch's end: the step is named, and nothing of it is saved."""
    codes, printed = forked(Command("main", write_run(tmp_path, mixing="none"), tmp_path, before=before), 2)
    assert all(codes)
    assert printed.count("error: epoch 0, step 1: the loss is not finite") == 2, printed
    assert "Connection closed" not in printed
    assert "the loss is not finite" in (tmp_path / "run" / "log.txt").read_text()
    assert not (tmp_path / "run" / "last.pt").exists()


def test_batch_that_does_not_divide(tmp_path):
    codes, printed = forked(Command("main", write_run(tmp_path, batch_size=7), tmp_path), 2)
    assert all(codes)
    assert "the global batch of 7" in printed
    assert "does not divide by 2 processes" in printed


def test_another_process_is_lost_when_this_one_is_done(write_config, monkeypatch, capsys):
    """It waits for the others, which may be killed then: one line, as at any other time."""

    def closed():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:13189")

    monkeypatch.setattr("processor.processor.barrier", closed)
    assert main.main(["--config", write_config()]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: another process of this run has ended")
