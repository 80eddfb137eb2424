"""One process and two: the same data, mixes, losses, table, weights and scores."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml

import main
from tests.conftest import ROOT, tiny_config


def run(words, **more):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, **more
    )


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]


OPTIONS = [
    {},
    {"estimate_fraction": 0.4},  # of 12 samples 5: 2, 2 and 1 of three processes
    {"estimate_interval": 2, "compile": True, "resident": True, "read_interval": 3},
    {"others": True, "sampler": "class_balanced"},  # Remix with a weighted LDAM
]


@pytest.mark.parametrize("options", OPTIONS)
def test_five_steps(tmp_path, options):
    worker = str(ROOT / "tests" / "processor" / "ddp_worker.py")
    found = {}
    for processes in (1, 2, 3):
        out = tmp_path / f"{processes}.npz"
        done = run([*TORCHRUN, str(processes), worker, str(out), str(tmp_path / "cache"), json.dumps(options)])
        assert done.returncode == 0, done.stderr
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


def test_main_under_torchrun(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(tiny_config(tmp_path, test_feeder_args={"num_test": 3})))
    done = run([*TORCHRUN, "2", "main.py", "--config", str(path)])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("epoch   1") == 1, "only the main process prints"
    assert "batch norm uses each process's own samples" in done.stdout
    assert "Warning" not in done.stdout + done.stderr
    with np.load(tmp_path / "run" / "scores_test.npz") as scores:
        assert len(set(scores["ids"].tolist())) == 36
    assert main.main(["--config", str(path), "--num_epoch", "2"]) == 0, "one process reads what two wrote"


def test_stopped_under_torchrun_goes_on(tmp_path):
    """SIGTERM in the middle: all processes stop after the same step, and the epoch's metrics cover all of it.

    Weights, running statistics and table end as in an undisturbed run, to the last digit.
    """
    found, states = [], []
    for name in ("stopped", "undisturbed"):
        folder = tmp_path / name
        folder.mkdir()
        path = folder / "run.yaml"
        changes = {"train_feeder_args": {"n_max": 40, "imbalance": 2}, "precision": "fp64"}
        path.write_text(yaml.safe_dump(tiny_config(folder, **changes)))
        words = [*TORCHRUN, "2", "main.py", "--config", str(path)]
        if name == "stopped":
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            with subprocess.Popen(
                [sys.executable, *words], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as stopped:
                for line in stopped.stdout:
                    if line.startswith(b"epoch   0"):
                        time.sleep(0.5)
                        stopped.send_signal(signal.SIGTERM)
                        break
                rest = stopped.stdout.read().decode()
            assert "stopped in epoch 1 after step" in rest
            assert stopped.returncode == 1, "torchrun's own; docs/cluster.md requeues on it"
        done = run(words)
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
        found.append([(line["epoch"], line["train_loss"], line["train_mix_loss"], line["top1"]) for line in lines])
        state = torch.load(folder / "run" / "last.pt", weights_only=True)
        states.append({f"{part} {key}": value for part in ("model", "mixer") for key, value in state[part].items()})
    assert [epoch for epoch, *_ in found[0]] == [0, 1]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)
    assert [key for key, value in states[0].items() if not torch.equal(value, states[1][key])] == []


@pytest.mark.parametrize("start", ["", "from tests import as_on_cuda\nas_on_cuda.pretend()\n"])
def test_loss_not_finite_on_one_rank_stops_all(tmp_path, start):
    """At once, and where losses are read at the epoch's end: the step is named, and nothing of it is saved."""
    worker = tmp_path / "worker.py"
    worker.write_text(start + NAN_ON_RANK_1)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(tiny_config(tmp_path, mixing="none")))
    done = run([*TORCHRUN, "2", str(worker), "--config", str(path)])
    assert done.returncode != 0
    assert done.stderr.count("error: epoch 0, step 1: the loss is not finite") == 2, done.stderr
    assert "Connection closed" not in done.stderr
    assert "the loss is not finite" in (tmp_path / "run" / "log.txt").read_text()
    assert not (tmp_path / "run" / "last.pt").exists()


NAN_ON_RANK_1 = """
import sys, torch, main
from shapmix import LogitAdjustedLoss
from shapmix.distributed import world

calls, forward = 0, LogitAdjustedLoss.forward
def broken(self, logits, target):
    global calls
    calls += 1
    return forward(self, logits, target) * (float("nan") if calls == 2 and world()[0] == 1 else 1)
LogitAdjustedLoss.forward = broken
sys.exit(main.main(sys.argv[1:]))
"""


def test_batch_that_does_not_divide(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(tiny_config(tmp_path, batch_size=7)))
    done = run([*TORCHRUN, "2", "main.py", "--config", str(path)])
    assert done.returncode != 0
    assert "the global batch of 7" in done.stderr
    assert "does not divide by 2 processes" in done.stderr
