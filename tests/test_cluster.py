"""docs/cluster.md with a stand-in for SLURM: it signals a job before its time is over, and begins it again if asked.

And two nodes, each with a torchrun of its own.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import main
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


Node = tuple[list[str], str, str]  # what a command begins with there, its address, its interface


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    """Two network namespaces with a cable between them where this user may make them, else two loopback addresses."""
    names, ip = [f"shapmix_{os.getpid()}_{number}" for number in (1, 2)], shutil.which("ip")
    words = [f"netns add {name}" for name in names]
    words += ["link add cable netns {} type veth peer name cable netns {}".format(*names)]
    for number, name in enumerate(names, 1):
        words += [f"-n {name} addr add 10.99.0.{number}/24 dev cable", f"-n {name} link set cable up"]
        words += [f"-n {name} link set lo up"]
    try:
        if ip and not any(subprocess.run([ip, *one.split()], capture_output=True).returncode for one in words):
            yield [([ip, "netns", "exec", name], f"10.99.0.{place}", "cable") for place, name in enumerate(names, 1)]
        else:
            yield [([], f"127.0.0.{place}", "lo") for place in (1, 2)]
    finally:
        for name in names * bool(ip):
            subprocess.run([ip, "netns", "del", name], capture_output=True)


@pytest.mark.skipif(sys.platform != "linux", reason="needs network namespaces or a second loopback address")
def test_two_nodes_train_as_one_process(nodes, tmp_path):
    quick = {"model": "tests.small.WithoutNorm", "model_args": {}, "logger": "none", "precision": "fp64"}
    for name in ("two", "one"):
        config = tiny_config(tmp_path / name, naive_mix_epoch=0, naive_estimate_epoch=0, **quick)
        (tmp_path / f"{name}.yaml").write_text(json.dumps(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"{nodes[0][1]}:{free.getsockname()[1]}"
    agents = []
    try:
        for number, (begin, address, interface) in enumerate(nodes):
            words = [*begin, sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"]
            words += ["--rdzv_id", "7", "--rdzv_backend", "c10d", "--rdzv_endpoint", endpoint, "--local_addr", address]
            words += ["--rdzv_conf", f"is_host={number == 0}"]  # it has no name by which torch knows that
            words += ["main.py", "--config", str(tmp_path / "two.yaml"), "--plugin", "tests"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": interface}
            with open(tmp_path / f"{number}.out", "wb") as out:
                agents.append(subprocess.Popen(words, cwd=ROOT, env=environment, stdout=out, stderr=out))
        codes = [agent.wait(120) for agent in agents]
    finally:
        for agent in agents:
            agent.terminate()
    printed = [(tmp_path / f"{number}.out").read_text() for number in (0, 1)]
    assert codes == [0, 0], printed
    assert "2 process(es)" in "".join(printed)
    assert main.main(["--config", str(tmp_path / "one.yaml"), "--plugin", "tests"]) == 0
    two, one = (torch.load(tmp_path / name / "run" / "last.pt", weights_only=True) for name in ("two", "one"))
    for part in ("model", "mixer"):
        torch.testing.assert_close(two[part], one[part], rtol=0, atol=1e-6)
