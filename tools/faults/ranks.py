"""Processes of a run that are killed, hang, see other files than the main one, or have nothing to do."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from processor.verify import verify

from .case import ROOT, Case, Outcome, single
from .process import Command
from .runs import ENDS, difference, ended, result, run_command, start_all, undisturbed

LONG = 40  # epochs of a run that is disturbed in its middle
RESTARTED = 240  # seconds for a run that torchrun starts again, on a busy machine
OTHERS = ("work_dir", "checkpoint", "data")  # what a process may see other than the main one


def cases(rng: random.Random, folder: Path) -> Iterator[Case]:
    """All kinds in turn."""
    number = 0
    while True:
        number += 1
        place, processes = folder / str(number), rng.choice([2, 3])
        rank, moment = rng.randrange(processes), rng.random()
        told = f"{rank} of {processes} at {moment}"
        yield Case(f"killed: {told}", partial(lost, place / "killed", processes, rank, moment, signal.SIGKILL))
        for what in OTHERS:
            yield Case(f"other {what}: process 1", partial(other, place / what, what))
        tests, train = rng.randint(1, 2), rng.choice([6, 9])
        yield Case(f"uneven shards: {tests}, {train}", partial(uneven, place / "uneven", tests, train))
        if hasattr(signal, "SIGSTOP"):
            yield Case(f"hangs: {told}", partial(lost, place / "hangs", processes, rank, moment, signal.SIGSTOP))
        rank %= 2
        yield Case(f"torchrun --max_restarts: {rank}", partial(restarted, folder, place / "again", rank, moment))


def lost(place: Path, processes: int, rank: int, moment: float, number: int) -> Outcome:
    """One process is killed or stopped; the others end with a cause, and the same command goes on."""
    command = run_command(place, "two processes", num_epoch=LONG, batch_size=6)
    started = start_all(command, processes)
    begun = time.monotonic()
    while not (place / "run" / "last.pt").is_file() and time.monotonic() - begun < ENDS:
        time.sleep(0.05)
    time.sleep(moment)
    os.kill(started[rank].process.pid, number)
    others = [one for one in started if one is not started[rank]]
    problem = ended(others)
    started[rank].kill()
    if problem:
        return Outcome("lost", problem)
    codes = [one.wait(ENDS) for one in start_all(command, processes)]
    shutil.rmtree(place)
    return Outcome("lost", f"exit codes {codes} afterwards") if any(codes) else Outcome("survived")


def other(place: Path, what: str) -> Outcome:
    """Process 1 has another work_dir or other data, or sees no checkpoint where there is one."""
    command = run_command(place, num_epoch=1)
    words = {
        "work_dir": ["--work_dir", str(place / "elsewhere")],
        "checkpoint": ["--overwrite"],
        "data": ["--set", "train_feeder_args.n_max=7"],
    }[what]
    if what == "checkpoint" and command.start().wait(ENDS) != 0:
        return Outcome("lost", "there is no checkpoint to begin with")
    started = start_all(command, 2, words={1: words})
    codes = [one.wait(ENDS) for one in started]
    for one in started:
        one.kill()
    last = [one.text.strip().splitlines()[-1] for one in started]
    named = all(what in line for line in last)
    return Outcome("refused" if codes == [2, 2] and named else "lost", f"{codes} {last}")


def uneven(place: Path, tests: int, train: int) -> Outcome:
    """The samples do not divide by the processes, and some have none: the scores are those of one process."""
    subset = {"num_test": tests}
    command = run_command(
        place, "two processes", batch_size=3, test_batch_size=23, test_feeder_args=subset,
        train_feeder_args={"n_max": train, "imbalance": train},
    )  # fmt: skip
    started = start_all(command, 3)
    codes = [one.wait(ENDS) for one in started]
    for one in started:
        one.kill()
    if any(codes):
        return Outcome("lost", f"{codes} {started[0].text[-500:]}")
    found = {one.what: one.verdict for one in verify(str(place / "run"), plugins=["tools"])}
    same = found["scores"] == found["figures"] == "same"
    return Outcome("survived" if same else "lost", f"one process finds {found}")


def restarted(common: Path, place: Path, rank: int, moment: float) -> Outcome:
    """torchrun starts all processes again after one was killed, and the run ends as the undisturbed one."""
    wanted = undisturbed(_long, common / "undisturbed", "two processes")[0]
    command = _long(place, "two processes")
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--max_restarts"]
    words += ["3", "main.py", *command.words, "--overwrite"]
    with open(place / "printed.txt", "w", encoding="utf-8") as file:
        agent = subprocess.Popen(words, cwd=ROOT, env=single(), stdout=file, stderr=file)
    try:
        begun = time.monotonic()
        while not (place / "run" / "last.pt").is_file() and time.monotonic() - begun < RESTARTED:
            time.sleep(0.05)
        time.sleep(moment)
        os.kill(_rank(agent.pid, rank), signal.SIGKILL)
        code = agent.wait(RESTARTED)
    finally:
        agent.kill()
    text = (place / "run" / "log.txt").read_text()
    found = difference(result(place / "run"), wanted, 1e-6) if code == 0 else f"exit code {code}"
    shutil.rmtree(place)
    if found or "going on in epoch" not in text:
        return Outcome("lost", f"{found}, going on: {'going on' in text}")
    return Outcome("survived")


def _long(folder: Path, mode: str) -> Command:
    return run_command(folder, mode, num_epoch=LONG, batch_size=6)


def _rank(agent: int, rank: int) -> int:
    """The process of a rank among the children of torchrun."""
    for process in Path("/proc").iterdir():
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == agent and f"RANK={rank}".encode() in (process / "environ").read_bytes().split(b"\0"):
                return int(process.name)
        except (OSError, ValueError, IndexError):
            continue
    raise RuntimeError(f"torchrun has no process {rank}")
