"""Where in a run the process is killed: at a step, in an evaluation, as a file is opened, renamed or removed."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from feeders.files import UNFINISHED
from processor import checkpoint, run_folder, training
from processor.engine import Trainer

FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod"}


def kill_after(delay: float) -> None:
    """Kills this process, at once or after some seconds, as a power cut does: nothing of it runs any more."""
    if delay:
        signal.setitimer(signal.ITIMER_REAL, delay)  # an alarm that nobody handles ends a process as SIGKILL does
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def dies(function: Callable, number: int, half: Callable | None = None, delay: float = 0) -> Callable:
    """``function``, but the process is killed as its ``number``-th call begins (after ``half`` of it, if given)."""
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            if half is not None:
                half(*args, **kwargs)
            kill_after(delay)
        return function(*args, **kwargs)

    return wrapped


def half_a_line(record: Any, metrics: Any) -> None:
    """What is in metrics.jsonl when a line is written to its half."""
    with open(record.path, "a", encoding="utf-8") as file:
        file.write('{"epoch": ' + str(metrics["epoch"]) + ', "lr"')


def half_a_file(path: Any, content: Any) -> None:
    """What lies beside a file that is written to its half."""
    whole = content.getvalue() if isinstance(content, io.BytesIO) else bytes(content)
    path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}").write_bytes(whole[: len(whole) // 2])


def arm(moment: str, number: int, delay: float = 0, folder: str = "") -> list[int]:
    """Arms one fault: the process dies as ``moment`` comes for the ``number``-th time, or ``delay`` seconds later.

    Args:
        moment: step, evaluation, metrics, checkpoint, save, or file: an operation on a file in ``folder``.

    Returns:
        how many operations on files there were, which goes on counting.
    """
    counted = [0]
    if moment == "step":
        Trainer.step = dies(Trainer.step, number, delay=delay)  # type: ignore[method-assign]
    elif moment == "evaluation":
        training.evaluate = dies(training.evaluate, number, delay=delay)
    elif moment == "metrics":
        run_folder.MetricsLog.add = dies(run_folder.MetricsLog.add, number, half_a_line)  # type: ignore[method-assign]
    elif moment == "checkpoint":
        checkpoint.write_atomically = dies(checkpoint.write_atomically, number, half_a_file)
    elif moment == "save":
        training.Training.save = dies(training.Training.save, number, delay=delay)  # type: ignore[method-assign]
    elif moment == "file":

        def count(event: str, args: tuple) -> None:
            if event in FILE_EVENTS and isinstance(args[0], (str, os.PathLike)) and str(args[0]).startswith(folder):
                counted[0] += 1
                if counted[0] == number:
                    kill_after(delay)

        sys.addaudithook(count)
    else:
        raise ValueError(moment)
    return counted
