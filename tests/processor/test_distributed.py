"""One process and two: the same data, mixes, losses, table, weights and scores."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import yaml

import main
from tests.conftest import ROOT, tiny_config


def run(words, **more):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, **more
    )


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]


def test_five_steps(tmp_path):
    worker = str(ROOT / "tests" / "processor" / "ddp_worker.py")
    found = {}
    for processes in (1, 2, 3):
        out = tmp_path / f"{processes}.npz"
        done = run([*TORCHRUN, str(processes), worker, str(out), str(tmp_path / "cache")])
        assert done.returncode == 0, done.stderr
        with np.load(out) as file:
            found[processes] = dict(file)
    one = found[1]
    assert one["rows"].shape == (5, 12)
    assert np.isfinite(one["weights"]).all()
    assert (one["table"][-1] > 1e-5).any()
    for processes in (2, 3):
        several = found[processes]
        np.testing.assert_array_equal(several["rows"], one["rows"])
        np.testing.assert_array_equal(several["x"], one["x"])
        for name in ("x_mix", "y_mix", "loss", "table", "weights", "baseline", "scores"):
            np.testing.assert_allclose(several[name], one[name], rtol=0, atol=1e-9, err_msg=name)


def test_main_under_torchrun(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(tiny_config(tmp_path, test_feeder_args={"num_test": 3})))
    done = run([*TORCHRUN, "2", "main.py", "--config", str(path)])
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("epoch   1") == 1, "only the main process prints"
    assert "batch norm uses each process's own samples" in done.stdout
    with np.load(tmp_path / "run" / "scores_test.npz") as scores:
        assert len(set(scores["ids"].tolist())) == 36
    assert main.main(["--config", str(path), "--num_epoch", "2"]) == 0, "one process reads what two wrote"


@pytest.mark.parametrize("batch_size", [7])
def test_batch_that_does_not_divide(tmp_path, batch_size):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(tiny_config(tmp_path, batch_size=batch_size)))
    done = run([*TORCHRUN, "2", "main.py", "--config", str(path)])
    assert done.returncode != 0
    assert "the global batch of 7" in done.stderr
    assert "does not divide by 2 processes" in done.stderr
