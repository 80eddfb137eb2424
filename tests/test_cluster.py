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
from collections.abc import Callable
from pathlib import Path

import pytest

from processor.run_folder import RunFolder
from tests.conftest import ROOT, tiny_config

SCRIPTS = re.findall(r"^```text\n(#!/bin/bash\n.*?)^```", (ROOT / "docs" / "cluster.md").read_text(), re.S | re.M)
ALONE, ARRAY, NODES = SCRIPTS
ARRAY += ALONE[ALONE.index("run=$!") :]  # as the page says
RUNS = '#!/bin/bash\necho $$ "$@" >> "$CALLS"\ntrap \'exit "$CODE"\' TERM\nwhile :; do sleep 0.05; done\n'
COMMANDS = {
    "scontrol": '#!/bin/bash\n[ "$1" = show ] && printf "node1\\nnode2\\n" || echo "$@" >> "$CALLS"\n',
    "srun": '#!/bin/bash\nexec "$@"\n',
    "python": RUNS,
    "torchrun": RUNS,
}

EPOCHS = 30

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path) -> Start:
    """Starts a script as SLURM does; its commands write their process and their words to ``calls``."""
    (tmp_path / "bin").mkdir()
    for name, text in COMMANDS.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    given = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "OMP_NUM_THREADS": "1",
    }
    given |= {"SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "node[1-2]"}

    def start(script: str, **more: str) -> subprocess.Popen[bytes]:
        (tmp_path / "job.sh").write_text(script)
        words, environment = ["bash", str(tmp_path / "job.sh")], {**os.environ, **given, **more}
        with open(tmp_path / "job.out", "ab") as out:
            return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=out, stderr=out, start_new_session=True)

    return start


def wait_for(file: Path) -> None:
    end = time.monotonic() + 240
    while not (file.is_file() and file.stat().st_size) and time.monotonic() < end:
        time.sleep(0.02)


def test_a_job_goes_back_to_the_queue_and_continues(start, tmp_path):
    folder, config = RunFolder(tmp_path / "run"), tmp_path / "run.yaml"
    quick = {"model": "tests.small.Model", "model_args": {}, "logger": "none"}
    config.write_text(json.dumps(tiny_config(tmp_path, num_epoch=EPOCHS, save_steps=1, **quick)))
    command = re.search(r"^python main\.py .*(?= &$)", ALONE, re.M)[0]
    own = shlex.join([sys.executable, "main.py", "--config", str(config), "--plugin", "tests"])
    script = ALONE.replace(command, own)
    first = start(script)
    wait_for(folder.last)
    os.kill(first.pid, signal.SIGTERM)  # B: to the script alone
    assert first.wait() == 143, Path(tmp_path, "job.out").read_text()
    assert (tmp_path / "calls").read_text() == "requeue 7\n"
    assert not folder.is_complete(EPOCHS)
    assert start(script).wait() == 0
    assert folder.is_complete(EPOCHS)
    assert "going on in epoch" in folder.log.read_text()
    assert (tmp_path / "calls").read_text() == "requeue 7\n", "a finished job does not go back"


@pytest.mark.parametrize(
    ("script", "code", "restarts", "requeued"),
    [
        (ARRAY, 143, 0, True), (ARRAY, 143, 30, True), (ARRAY, 2, 0, False), (ARRAY, 0, 0, False),
        (NODES, 1, 0, True), (NODES, 1, 8, True), (NODES, 1, 9, False), (NODES, 0, 0, False),
    ],
)  # fmt: skip
def test_who_goes_back_to_the_queue(start, tmp_path, script, code, restarts, requeued):
    """After the signal, by the exit code of what the script runs; SLURM sets no count at the first start."""
    more = {"SLURM_RESTART_COUNT": str(restarts)} if restarts else {}
    job = start(script, CODE=str(code), **more)
    wait_for(tmp_path / "calls")
    process, *words = (tmp_path / "calls").read_text().split()
    os.kill(job.pid if script == ARRAY else int(process), signal.SIGTERM)  # B: to the script, else to the steps
    assert job.wait() == code
    calls = (tmp_path / "calls").read_text().splitlines()[1:]
    assert calls == (["requeue 7"] if requeued else [])
    if script == NODES:
        given = dict(zip(words[::2], words[1::2], strict=False))
        assert (given["--nnodes"], given["--rdzv_endpoint"], given["--rdzv_id"]) == ("2", "node1:29500", "7")
