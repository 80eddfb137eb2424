"""docs/cluster.md with a stand-in for SLURM: it signals a job before its time is over, and begins it again if asked."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from processor.run_folder import RunFolder
from tests.conftest import ROOT, tiny_config

SCRIPTS = re.findall(r"^```text\n(#!/bin/bash\n.*?)^```", (ROOT / "docs" / "cluster.md").read_text(), re.S | re.M)
SCONTROL = '#!/bin/bash\necho "$@" >> "$CALLS"\n'


@pytest.fixture
def job(tmp_path):
    """Starts the page's first script with another command in it."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "scontrol").write_text(SCONTROL)
    (tmp_path / "bin" / "scontrol").chmod(0o755)
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps(tiny_config(tmp_path, num_epoch=12, save_steps=1)))
    command = re.search(r"^python main\.py .*(?= &$)", SCRIPTS[0], re.M)[0]
    own = shlex.join([sys.executable, "main.py", "--config", str(config), "--work_dir", str(tmp_path / "run")])
    (tmp_path / "job.sh").write_text(SCRIPTS[0].replace(command, own))
    more = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"), "SLURM_JOB_ID": "7"}

    def start() -> subprocess.Popen[bytes]:
        words, environment = ["bash", str(tmp_path / "job.sh")], {**os.environ, "OMP_NUM_THREADS": "1", **more}
        with open(tmp_path / "job.out", "ab") as out:
            return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=out, stderr=out, start_new_session=True)

    return start


def test_scripts_are_scripts():
    assert len(SCRIPTS) == 3
    for script in SCRIPTS:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_a_job_goes_back_to_the_queue_and_continues(job, tmp_path):
    folder = RunFolder(tmp_path / "run")
    first = job()
    end = time.monotonic() + 240
    while not folder.last.is_file() and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGTERM)  # B: to the script alone
    assert first.wait() == 143, Path(tmp_path, "job.out").read_text()
    assert (tmp_path / "calls").read_text() == "requeue 7\n"
    assert not folder.is_complete(12)
    assert job().wait() == 0
    assert folder.is_complete(12)
    assert "going on in epoch" in folder.log.read_text()
    assert (tmp_path / "calls").read_text() == "requeue 7\n", "a finished job does not go back"
