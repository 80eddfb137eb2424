"""Processes of a run that are killed, hang, see other files than the main one, or have nothing to do."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from processor.verify import verify

from .case import ROOT, Case, Outcome, single
from .kills import too_much_repeated
from .process import Command
from .runs import ENDS, difference, ended, result, run_command, start_all, undisturbed

LONG = 40  # epochs of a run that is disturbed in its middle
RESTARTED = 240  # seconds for a run that torchrun starts again, on a busy machine
PRINTED, MARK = "printed.txt", "SHAPMIX_FAULT"  # file; variable of the environment of torchrun's processes
OTHERS = ("work_dir", "checkpoint", "data")  # what a process may see other than the main one


def cases(rng: random.Random, folder: Path) -> Iterator[Case]:
    """All kinds in turn."""
    number = 0
    while True:
        number += 1
        place, processes = folder / str(number), rng.choice([2, 3])
        rank, moment = rng.randrange(processes), rng.random()
        told = f"{rank} of {processes} at {moment}"
        one = processes, rank, moment
        yield Case(f"killed: {told}", partial(lost, folder, place / "killed", *one, signal.SIGKILL))
        for what in OTHERS:
            yield Case(f"other {what}: process 1", partial(other, place / what, what))
        tests, train = rng.randint(1, 2), rng.choice([6, 9])
        yield Case(f"uneven shards: {tests}, {train}", partial(uneven, place / "uneven", tests, train))
        if hasattr(signal, "SIGSTOP"):
            yield Case(f"hangs: {told}", partial(lost, folder, place / "hangs", *one, signal.SIGSTOP))
        rank %= 2
        yield Case(f"torchrun: {rank}", partial(launched, place / "launched", rank, moment))
        yield Case(f"torchrun --max_restarts: {rank}", partial(restarted, folder, place / "again", rank, moment))


def lost(common: Path, place: Path, processes: int, rank: int, moment: float, number: int) -> Outcome:
    """One process is killed or stopped; the others end with a cause, and the same command goes on as if nothing was."""
    wanted = undisturbed(_long, common / f"undisturbed_{processes}", "two processes", processes=processes)[0]
    command = _long(place, "two processes")
    started = start_all(command, processes)
    _wait_for_checkpoint(place, ENDS)
    time.sleep(moment)
    os.kill(started[rank].process.pid, number)
    problem = ended([one for one in started if one is not started[rank]])
    started[rank].kill()
    if problem := problem or too_much_repeated(place / "run"):
        return Outcome("lost", problem)
    codes = [one.wait(ENDS) for one in start_all(command, processes)]
    return Outcome("lost", f"exit codes {codes} afterwards") if any(codes) else _as_undisturbed(place, wanted)


def _wait_for_checkpoint(place: Path, seconds: float) -> None:
    begun = time.monotonic()
    while not (place / "run" / "last.pt").is_file() and time.monotonic() - begun < seconds:
        time.sleep(0.05)


def _as_undisturbed(place: Path, wanted: dict[str, Any]) -> Outcome:
    """Has a run that was disturbed gone on, and ended as the other one? Removes its folder if so."""
    goes_on = "going on in epoch" in (place / "run" / "log.txt").read_text()
    found = difference(result(place / "run"), wanted, 1e-6)
    if found or not goes_on:
        return Outcome("lost", f"it ends with other {found}" if found else "it began again")
    shutil.rmtree(place)
    return Outcome("survived")


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
    wanted = undisturbed(_long, common / "undisturbed_2", "two processes", processes=2)[0]
    with _killed(place, rank, moment, "--max_restarts", "3") as agent:
        code = agent.wait(RESTARTED)
    return Outcome("lost", f"exit code {code}") if code else _as_undisturbed(place, wanted)


def launched(place: Path, rank: int, moment: float) -> Outcome:
    """torchrun, which may not start again, and all its processes end after one was killed, with one cause."""
    with _killed(place, rank, moment) as agent:
        begun = time.monotonic()
        while (left := _processes(place)) and time.monotonic() - begun < ENDS:
            time.sleep(0.1)
            agent.poll()  # else it stays as a zombie
    text = (place / PRINTED).read_text(encoding="utf-8")
    causes = re.findall("^error: .*", text, re.M)
    if left or not agent.returncode:
        return Outcome("lost", f"{len(left)} processes after {ENDS} s, exit code {agent.returncode}")
    if "SIGKILL" not in text or len(causes) > 1 or text.count("Traceback") > 1:  # one is torchrun's own
        return Outcome("lost", f"no readable cause: {text[-1500:]}")
    shutil.rmtree(place)
    return Outcome("survived")


@contextmanager
def _killed(place: Path, rank: int, moment: float, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """torchrun with two processes, one of which was killed after the first checkpoint. None is left afterwards."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *options]
    words += ["main.py", *_long(place, "two processes").words, "--overwrite"]
    with open(place / PRINTED, "w", encoding="utf-8") as file:
        agent = subprocess.Popen(words, cwd=ROOT, env=single(**{MARK: str(place)}), stdout=file, stderr=file)
    try:
        _wait_for_checkpoint(place, RESTARTED)
        time.sleep(moment)
        os.kill(_rank(place, agent.pid, rank), signal.SIGKILL)
        yield agent
    finally:
        for process in _processes(place):
            os.kill(process, signal.SIGKILL)
        agent.wait()


def _long(folder: Path, mode: str) -> Command:
    """In double precision: three processes add up in another order once they went on, and 40 epochs amplify that."""
    return run_command(folder, mode, num_epoch=LONG, batch_size=6, precision="fp64")


def _processes(place: Path, *more: str) -> list[int]:
    """All that inherited the mark of a case and these other variables, of whatever parent, group and session."""
    wanted = {f"{MARK}={place}".encode(), *map(str.encode, more)}
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # another user's, or it has ended
            if wanted <= set((process / "environ").read_bytes().split(b"\0")):
                found.append(int(process.name))
    return found


def _rank(place: Path, agent: int, rank: int) -> int:
    """The process of a rank among the children of torchrun."""
    for process in _processes(place, f"RANK={rank}"):
        with suppress(OSError):
            if int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1]) == agent:
                return process
    raise RuntimeError(f"torchrun has no process {rank}")
