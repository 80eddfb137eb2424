"""A fault that is caused, and what became of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

ROOT = Path(__file__).parents[2]
LIMIT = 300  # seconds after which a case counts as a hang

Fate = Literal["survived", "refused", "lost"]


@dataclass(frozen=True)
class Outcome:
    """What became of a fault.

    Attributes:
        fate: ``survived``: as if nothing had been; ``refused``: an error that names the file, key or sample, and exit
            code 2; ``lost``: anything else, such as a traceback, a hang, a wrong result that is taken silently.
        detail: in words; of what was lost, enough to find it.
    """

    fate: Fate
    detail: str = ""


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        name: what is done, then after a colon the particulars: "flip: byte 77 of last.pt". The table counts by what is
            before the colon.
        run: causes the fault; an error of it means lost.
        limit: seconds after which it counts as a hang.
    """

    name: str
    run: Callable[[], Outcome]
    limit: int = LIMIT


class Hang(Exception):
    """A case took too long."""


def outcome_of(case: Case) -> Outcome:
    """Causes a fault. An error, or the limit, are an outcome too: lost."""
    try:
        with _limited(case.limit):
            return case.run()
    except Hang:
        return Outcome("lost", f"no end after {case.limit} s")
    except Exception as error:
        return Outcome("lost", f"{type(error).__name__}: {error}")


def judged(code: int, printed: str, *names: str) -> Outcome:
    """The outcome of a command that may end with 0, or with 2 and a last line that has one of these names."""
    last = (printed.strip().splitlines() or [""])[-1]
    if "Traceback" in printed or code not in (0, 2):
        return Outcome("lost", f"exit code {code}: {last}")
    if code == 0:
        return Outcome("survived", last)
    return Outcome("refused" if not names or any(name in last for name in names) else "lost", last)


def python(words: Sequence[str], timeout: float = LIMIT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs ``python WORDS`` in the project's folder, with one thread. Of what it prints stderr is joined to stdout."""
    return subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=single(**environment), text=True, timeout=timeout, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def single(**environment: str) -> dict[str, str]:
    """The environment of a command with one thread, which buffers its output as it does for most users."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "", **environment}


def tiny_config(folder: Path, **changes: object) -> dict:
    """A run of seconds: the synthetic set at its smallest, CTR-GCN at its narrowest."""
    return {
        "feeder": "feeders.synthetic.Feeder",
        "feeder_args": {"window_size": 16, "cache_dir": str(folder / "cache")},
        "train_feeder_args": {"n_max": 8, "imbalance": 4},
        "test_feeder_args": {"num_test": 2},
        "model_args": {"base_channel": 4},
        "work_dir": str(folder / "run"),
        "device": "cpu",
        "num_epoch": 2,
        "batch_size": 8,
        "warm_up_epoch": 0,
        "naive_mix_epoch": 1,
        "naive_estimate_epoch": 1,
        "report": False,  # it takes a second
        **changes,
    }


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    """Hang in the block after so many seconds, where the system has alarms."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
