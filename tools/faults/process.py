"""Commands in processes of their own that begin in milliseconds: they are forked from one that has imported all."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from processor import distributed

from . import fuse

CONTEXT: Any = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [__name__, "main", "tools.prepare_ntu", "tools.convert", "torch._dynamo"]  # the last is what optimisers load
)


@dataclass(frozen=True)
class Fuse:
    """When a process is killed, see :func:`tools.faults.fuse.arm`."""

    moment: str
    number: int
    delay: float = 0.0


@dataclass
class Started:
    """A command that runs.

    Attributes:
        printed: what it prints.
        events: how many operations on files there were, once it has ended by itself.
        waits: is there while it waits for the other processes of its run to join.
    """

    process: Any
    printed: Path
    events: Path
    waits: Path

    def wait(self, seconds: float | None = None) -> int | None:
        """Its exit code, negative for a signal; None where it still runs after so many seconds."""
        self.process.join(seconds)
        return self.process.exitcode

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.join()

    @property
    def text(self) -> str:
        """All that it printed."""
        return self.printed.read_text(encoding="utf-8", errors="replace")


@dataclass(frozen=True)
class Command:
    """A command of the project: ``module``'s main with ``words``; ``folder`` holds what it writes."""

    module: str
    words: Sequence[str]
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    before: Callable[[], object] | None = None  # is called in the process first; a function of a module

    def start(self, blown: Fuse | None = None, **environment: str) -> Started:
        """Starts it, to be killed by a fuse if one is given."""
        printed = self.folder / f"printed_{environment.get('RANK', '0')}.txt"
        printed.parent.mkdir(parents=True, exist_ok=True)
        printed.write_bytes(b"")
        files = printed, printed.with_suffix(".events"), printed.with_suffix(".waits")
        files[-1].unlink(missing_ok=True)
        process = CONTEXT.Process(target=_work, args=(self, blown, *files, {**self.environment, **environment}))
        process.start()
        return Started(process, *files)


def _work(
    command: Command, blown: Fuse | None, printed: Path, events: Path, waits: Path, environment: dict[str, str]
) -> None:
    with open(printed, "ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    sys.stdin = open(os.devnull)  # noqa: SIM115
    os.environ |= {"OMP_NUM_THREADS": "1", **environment}
    torch.set_num_threads(1)
    module = importlib.import_module(command.module)
    note = events.open("w")  # opened before the process gives up its rights
    distributed._join = _noted(distributed._join, waits)
    if command.before is not None:
        command.before()
    blown = blown or Fuse("file", 0)
    counted = fuse.arm(blown.moment, blown.number, blown.delay, str(command.folder))
    code = module.main(list(command.words))
    note.write(str(counted[0]))
    note.close()
    distributed.leave(code)


def _noted(join: Callable[[str], None], waits: Path) -> Callable[[str], None]:
    def noted(backend: str) -> None:
        waits.touch()
        join(backend)
        waits.unlink()

    return noted
