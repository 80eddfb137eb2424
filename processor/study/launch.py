"""Trains the runs of a sweep that are missing, several at a time, each in a process of its own."""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from ..errors import BUSY
from ..host import StopSignals, usable_cores
from ..run_folder import RunFolder
from .plan import Run

log = logging.getLogger(__name__)

POLL = 0.5  # seconds between two looks at the runs
SHOWN = 12  # last lines of a failed run's output


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name, one word for each GPU that this process sees."""
    import torch

    number = torch.cuda.device_count()
    named = [word.strip() for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word.strip()]
    return (named or [str(index) for index in range(number)])[:number]


@dataclass
class Child:
    """A run in training."""

    run: Run
    process: subprocess.Popen[bytes]
    began: float
    output_before: int

    def output(self) -> str:
        """What it has printed."""
        with open(self.run.folder / "output.txt", "rb") as file:
            file.seek(self.output_before)
            return file.read().decode(errors="replace")


class Scheduler:
    """Trains runs, several at a time, each in a process of its own.

    Args:
        runs: all of them, finished or not; what one needs is among them.
        plugins: for main.py.
        jobs: how many at a time.
        gpus: names for CUDA_VISIBLE_DEVICES, dealt out to the jobs in turn. Where there are none, the CPU's cores are
            shared out, unless OMP_NUM_THREADS says how many each may use.
    """

    def __init__(self, runs: Sequence[Run], plugins: Sequence[str], jobs: int, gpus: Sequence[str]) -> None:
        self.runs, self.plugins, self.jobs, self.gpus = list(runs), list(plugins), jobs, list(gpus)
        self.pending = list(runs)
        self.children: dict[int, Child] = {}
        self.elsewhere: list[Run] = []
        self.finished: set[str] = set()
        self.failed: dict[str, str] = {}
        self.epochs: dict[str, int] = {}

    def run(self) -> int:
        """Trains until nothing is left to do.

        Returns:
            0; 1 where a run failed; 130 or 143 where a signal came, after the children have saved.
        """
        for run in list(self.pending):
            if run.status() == "finished":
                self.finish(run)
        for run in self.runs:
            self.epochs[run.label] = run.epochs()
        total, done = sum(run.config.num_epoch for run in self.runs), sum(self.epochs.values())
        with StopSignals() as signals, tqdm(total=total, initial=done, unit="epoch", disable=None) as bar:
            try:
                while (self.pending or self.children) and signals.received is None:
                    self.settle()
                    self.start()
                    self.show(bar)
                    if self.pending or self.children:
                        time.sleep(POLL)
            finally:
                self.stop()
            if signals.received is not None and (self.pending or self.children):
                return 128 + signals.received
        return 1 if self.failed else 0

    def start(self) -> None:
        """Fills the free places with runs that are missing or cut off, and looks at those that run elsewhere."""
        self.elsewhere = []
        for run in list(self.pending):
            if run.needs in self.failed:
                self.pending.remove(run)
                self.failed[run.label] = f"needs {run.needs}"
                log.error("%s  skipped: it needs the weights of %s", run.label, run.needs)
                continue
            free = [place for place in range(self.jobs) if place not in self.children]
            if not free or (run.needs is not None and run.needs not in self.finished):
                continue
            status = run.status()
            if status == "running elsewhere":
                self.elsewhere.append(run)
            elif status == "finished":
                self.finish(run)
                log.info("%s  %s  (trained elsewhere)", run.label, headline(run))
            else:
                self.pending.remove(run)
                self.children[free[0]] = self.spawn(run, free[0])

    def spawn(self, run: Run, place: int) -> Child:
        """Starts one run, in a session of its own: the terminal's Ctrl-C is the sweep's."""
        environment = dict(os.environ)
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[place % len(self.gpus)]
        else:
            environment.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // self.jobs)))
        run.folder.mkdir(parents=True, exist_ok=True)
        with open(run.folder / "output.txt", "ab") as output:
            before = output.tell()
            process = subprocess.Popen(
                run.command(self.plugins),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            return Child(run, process, time.monotonic(), before)

    def settle(self) -> None:
        """Reports children that have ended."""
        for place, child in list(self.children.items()):
            code, run = child.process.poll(), child.run
            if code is None:
                continue
            del self.children[place]
            if code == 0 and run.is_complete():
                self.finish(run)
                log.info("%s  %s  %s", run.label, headline(run), duration(time.monotonic() - child.began))
                continue
            output = child.output()
            if code == BUSY:  # another sweep was quicker
                self.pending.append(run)
                continue
            lost = "its scores or last figures are lost; delete its folder and those of runs that came from its weights"
            self.failed[run.label] = f"exit code {code}" if code else lost
            last = "\n".join(f"    {line}" for line in output.splitlines()[-SHOWN:])
            log.error(
                "%s  failed: %s; %s ends with\n%s",
                run.label,
                self.failed[run.label],
                run.folder / "output.txt",
                last,
            )

    def finish(self, run: Run) -> None:
        """Notes that a run is finished."""
        if run in self.pending:
            self.pending.remove(run)
        self.finished.add(run.label)

    def stop(self) -> None:
        """Has the children save and end, and waits for them."""
        for child in self.children.values():
            child.process.terminate()
        for place, child in list(self.children.items()):
            if child.process.wait() == 0 and child.run.is_complete():
                self.finish(child.run)
                del self.children[place]

    def show(self, bar: tqdm) -> None:
        """Brings the bar up to date."""
        active = [child.run for child in self.children.values()]
        for run in [*active, *self.elsewhere]:
            self.epochs[run.label] = run.epochs()
        for run in self.runs:
            if run.label in self.finished:
                self.epochs[run.label] = run.config.num_epoch
        bar.n = sum(self.epochs.values())
        names = ", ".join([run.label for run in active] + [f"{run.label} (elsewhere)" for run in self.elsewhere])
        bar.set_postfix_str(f"{len(self.finished)} finished, {len(self.failed)} failed; {names}")


def headline(run: Run) -> str:
    """The figures of a finished run's last epoch."""
    lines = RunFolder(run.folder).read_metrics()
    if not lines or "top1" not in lines[-1]:
        return "finished"
    return "top-1 {top1:5.1f} %  mean class {mean_class_accuracy:5.1f} %".format(
        **{name: 100 * lines[-1][name] for name in ("top1", "mean_class_accuracy")}
    )


def duration(seconds: float) -> str:
    """3725.2 -> 1 h 2 min 5 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours} h " if hours else "") + (f"{minutes} min " if hours or minutes else "") + f"{rest} s"
