"""main.py that kills itself with SIGKILL: ``python -m tests.faulty_main MOMENT NUMBER <main's words>``.

At the NUMBER-th time that MOMENT is reached the process is gone, as in a power cut. With AS_ON_CUDA in the environment
the run is one of tests.as_on_cuda.
"""

from __future__ import annotations

import os
import signal
import sys

import main
from processor import checkpoint, run_folder, training
from processor.engine import Trainer
from tests import as_on_cuda


def dies(function, number, half=None):
    """``function``, but the process is killed as its ``number``-th call begins (after ``half`` of it, if given)."""
    calls = 0

    def wrapped(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == number:
            if half is not None:
                half(*args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    return wrapped


def half_a_line(record, metrics):
    with open(record.path, "a") as file:
        file.write('{"epoch": ' + str(metrics["epoch"]) + ', "lr"')


def half_a_file(path, content):
    path.with_name(f".{path.name}.{os.getpid()}").write_bytes(bytes(content)[: len(content) // 2])


def arm(moment: str, number: int) -> None:
    """Arms one fault."""
    if moment == "step":
        Trainer.step = dies(Trainer.step, number)
    elif moment == "evaluation":
        training.evaluate = dies(training.evaluate, number)
    elif moment == "metrics":
        run_folder.MetricsLog.add = dies(run_folder.MetricsLog.add, number, half_a_line)
    elif moment == "checkpoint":
        checkpoint.write_atomically = dies(checkpoint.write_atomically, number, half_a_file)
    elif moment == "save":
        training.Training.save = dies(training.Training.save, number)
    else:
        raise ValueError(moment)


if __name__ == "__main__":
    if "AS_ON_CUDA" in os.environ:
        as_on_cuda.pretend()
    arm(sys.argv[1], int(sys.argv[2]))
    sys.exit(main.main(sys.argv[3:]))
