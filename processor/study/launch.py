"""Trains the jobs of a sweep that are missing, several at a time, each in a process of its own."""

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
from .plan import Job

log = logging.getLogger(__name__)

POLL = 0.5  # seconds between two looks at the jobs
SHOWN = 12  # last lines of a failed job's output


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name, one word for each GPU that this process sees."""
    import torch

    number = torch.cuda.device_count()
    named = [word.strip() for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word.strip()]
    return (named or [str(index) for index in range(number)])[:number]


@dataclass(frozen=True)
class Child:
    """A job in training; ``before`` is the size of its output file when it began."""

    job: Job
    process: subprocess.Popen[bytes]
    began: float
    before: int


class Launcher:
    """Trains jobs, several at a time, each in a process of its own.

    Args:
        jobs: all of them, finished or not; what one needs is among them.
        plugins: for main.py.
        places: how many at a time.
        gpus: names for CUDA_VISIBLE_DEVICES, given to the places in turn. Where there are more places than GPUs, or no
            GPU, the CPU's cores are shared out, unless OMP_NUM_THREADS says how many each may use.
    """

    def __init__(self, jobs: Sequence[Job], plugins: Sequence[str], places: int, gpus: Sequence[str]) -> None:
        self.jobs, self.plugins, self.places, self.gpus = jobs, plugins, places, gpus
        self.failed: dict[str, str] = {}  # label -> why
        self._open = {job.label: job for job in jobs if job.status() != "finished"}  # neither finished nor failed
        self._children: dict[int, Child] = {}  # by place
        self._elsewhere: list[str] = []

    def run(self) -> int:
        """Trains until nothing is left to do.

        Returns:
            0; 1 where a job failed; 130 or 143 where a signal came, after the children have saved.
        """
        total = sum(job.config.num_epoch for job in self.jobs)
        with StopSignals() as signals, tqdm(total=total, initial=self._epochs(), unit="epoch", disable=None) as bar:
            try:
                while self._open and signals.received is None:
                    self._settle()
                    self._start()
                    self._show(bar)
                    if self._open:
                        time.sleep(POLL)
            finally:
                self._stop()
            if signals.received is not None and self._open:
                return 128 + signals.received
        return 1 if self.failed else 0

    def _start(self) -> None:
        """Fills the free places with jobs that are missing or cut off, and looks at those that run elsewhere."""
        self._elsewhere = []
        running = [child.job.label for child in self._children.values()]
        for job in [job for label, job in self._open.items() if label not in running]:
            if job.needs in self.failed:
                del self._open[job.label]
                self.failed[job.label] = f"needs {job.needs}"
                log.error("%s  skipped: it needs the weights of %s", job.label, job.needs)
                continue
            free = [place for place in range(self.places) if place not in self._children]
            if not free or job.needs in self._open:
                continue
            status = job.status()
            if status == "running elsewhere":
                self._elsewhere.append(job.label)
            elif status == "finished":
                del self._open[job.label]
                log.info("%s  %s  (trained elsewhere)", job.label, headline(job))
            else:
                self._children[free[0]] = self._spawn(job, free[0])

    def _spawn(self, job: Job, place: int) -> Child:
        """Starts one job, in a session of its own: the terminal's Ctrl-C is for the sweep."""
        environment = dict(os.environ)
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self.gpus[place % len(self.gpus)]
        if self.places > len(self.gpus):
            environment.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // self.places)))
        job.folder.path.mkdir(parents=True, exist_ok=True)
        with open(job.folder.output, "ab") as output:
            before = output.tell()
            process = subprocess.Popen(
                job.command(self.plugins), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env=environment, start_new_session=True,
            )  # fmt: skip
        return Child(job, process, time.monotonic(), before)

    def _settle(self) -> None:
        """Reports children that have ended. Where another sweep was quicker, the job stays open."""
        for place, child in list(self._children.items()):
            code, job = child.process.poll(), child.job
            if code is None:
                continue
            del self._children[place]
            if code == 0 and job.is_complete():
                del self._open[job.label]
                log.info("%s  %s  %s", job.label, headline(job), duration(time.monotonic() - child.began))
            elif code != BUSY:
                del self._open[job.label]
                lost = "its scores or last metrics are lost; delete its folder and those of runs that use its weights"
                self.failed[job.label] = reason = f"exit code {code}" if code else lost
                printed = job.folder.output.read_bytes()[child.before :].decode(errors="replace")
                last = "\n".join(f"    {line}" for line in printed.splitlines()[-SHOWN:])
                log.error("%s  failed: %s; %s ends with\n%s", job.label, reason, job.folder.output, last)

    def _stop(self) -> None:
        """Has the children save and end, and waits for them."""
        for child in self._children.values():
            child.process.terminate()
        for child in self._children.values():
            if child.process.wait() == 0 and child.job.is_complete():
                del self._open[child.job.label]

    def _epochs(self) -> int:
        """How many epochs of all jobs are done."""
        unfinished = self._open.keys() | self.failed
        return sum(job.epochs() if job.label in unfinished else job.config.num_epoch for job in self.jobs)

    def _show(self, bar: tqdm) -> None:
        """Brings the bar up to date."""
        bar.n = self._epochs()
        names = [child.job.label for child in self._children.values()]
        names += [f"{label} (elsewhere)" for label in self._elsewhere]
        finished = len(self.jobs) - len(self._open) - len(self.failed)
        bar.set_postfix_str(f"{finished} finished, {len(self.failed)} failed; {', '.join(names)}")


def headline(job: Job) -> str:
    """The last epoch's accuracies of a finished job."""
    last = (job.folder.read_metrics() or [{}])[-1]
    if "top1" not in last:
        return "finished"
    return f"top-1 {100 * last['top1']:5.1f} %  mean class {100 * last['mean_class_accuracy']:5.1f} %"


def duration(seconds: float) -> str:
    """3725.2 -> 1 h 2 min 5 s."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours} h " if hours else "") + (f"{minutes} min " if hours or minutes else "") + f"{rest} s"
