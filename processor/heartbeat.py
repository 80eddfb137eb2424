"""Do all processes of a run still answer? They greet each other every few seconds, while the run does its work.

A process that was killed is noticed at once, one that was stopped or whose machine is gone after ``PATIENCE`` seconds.
Then this one ends too, with one line that says so, instead of waiting for it in the next collective.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from datetime import timedelta

import torch
import torch.distributed as dist

from .host import say

log = logging.getLogger(__name__)

BEAT = 2.0  # seconds between two greetings
PATIENCE = 20.0  # seconds to wait for an answer; torchrun then gives a process that is stopped 30 more
GRACE = 3.0  # seconds in which the process may end by itself, with a better reason
GOES_ON = "The same command continues from the last checkpoint; with max_restarts torchrun does so by itself"


class LostError(ValueError):
    """Another process of this run ended or does not answer."""


def lost(error: BaseException) -> LostError | None:
    """The error for the user, where torch says that a collective failed because of another process; else None."""
    text = str(error)
    if isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and re.search("[gG]loo|NCCL|TCPStore|monitoredBarrier", text)
    ):
        log.debug("a collective failed", exc_info=error)
        silent = re.search(r"Ranks? ([\d, ]+) failed to pass", text)
        if silent:
            return LostError(
                f"process {silent[1].strip(' ,')} does not answer: it hangs or its machine is gone. {GOES_ON}"
            )
        if "imed out" in text or "imeout" in text:
            return LostError(f"another process does not answer: it hangs or its machine is gone. {GOES_ON}")
        return LostError(f"another process of this run has ended; what it printed last says why. {GOES_ON}")
    return None


class Heartbeat:
    """The greetings of this process, in a thread; for all processes of the group at the same time."""

    def __init__(self) -> None:
        self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=PATIENCE))
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def end(self, together: bool) -> None:
        """No more greetings. ``together``: all processes say so, and each waits until the others know."""
        self._ending.set()
        if together:
            self._thread.join(PATIENCE)

    def _beat(self) -> None:
        ending = torch.zeros(1)
        while not ending:
            ending = torch.tensor([float(self._ending.wait(BEAT))])
            try:
                dist.monitored_barrier(self._group, timedelta(seconds=PATIENCE), wait_all_ranks=True)
                dist.all_reduce(ending, dist.ReduceOp.MAX, self._group)
            except Exception as error:  # also what a group raises that is destroyed meanwhile
                if not self._ending.wait(GRACE):
                    say(f"error: {lost(error) or error}", sys.stderr)
                    logging.shutdown()
                    sys.stderr.flush()
                    os._exit(2)
                return
