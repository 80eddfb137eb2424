"""The machine that a run is on: how many cores, what the allocator does with freed memory, signals, the console."""

from __future__ import annotations

import ctypes
import io
import os
import re
import signal
import sys
from typing import Any, TextIO

from .errors import UnreadError

KEEP = {-4: 0, -1: 2**31 - 1, -2: 64 * 2**20}  # of glibc's mallopt: no MMAP_MAX, largest TRIM_THRESHOLD, TOP_PAD

# What acts on a terminal instead of being shown: C0, C1, and marks that turn the direction of text around. And halves
# of characters, which no text file takes: they stand for bytes of a file's name that are no UTF-8.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def take_any_console() -> None:
    """Characters that the console's encoding lacks are printed as ``\\xe4``, and end no run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def drop_output() -> None:
    """What is left of standard output goes nowhere, so that Python does not complain at its end where nobody reads."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def plain(text: str) -> str:
    """One line of text with its control characters written out, such as ``\\x1b``: names come from a user's files."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def say(text: str, file: TextIO | None = None) -> None:
    """Prints lines without control characters; raises what :func:`put` does."""
    put("\n".join(map(plain, text.split("\n"))), file or sys.stdout)


def put(text: str, file: TextIO) -> None:
    """Prints a text and a line break at once.

    Raises:
        UnreadError: nobody reads what is printed.
        OSError: it cannot be written.
    """
    try:
        print(text, file=file, flush=True)
    except BrokenPipeError as error:
        raise UnreadError from error
    except OSError as error:
        if file is not sys.stdout:  # whoever opened a file knows its name
            raise
        drop_output()
        raise OSError(f"standard output cannot be written ({error.strerror})") from error


def spreadsheet_text(cell: str) -> str:
    """A cell for spreadsheets, which take a text that begins with = + - @ for a formula, unless it is a number."""
    cell = plain(cell)
    try:
        float(cell)
    except ValueError:
        return f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell
    return cell


def keep_freed_memory() -> bool:
    """Tells glibc's allocator to keep what is freed, for this process.

    By default blocks of 32 MB and more, such as the activations of a large batch, go back to the kernel whenever they
    are freed, and each of their pages costs a fault when the next step asks for them again. Kept, the process stays as
    large as it ever was; it takes some allocations (steps) until the kept memory fits what is asked for.

    Returns:
        Did an allocator take it? False without glibc (macOS, musl), where nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    return mallopt is not None and {mallopt(name, value) for name, value in KEEP.items()} == {1}


class Stopped(Exception):
    """The run was asked to stop and is between two steps."""


class StopSignals:
    """Ctrl-C and SIGTERM as a note that the loop reads between two steps.

    As a context: the first signal is only noted, in ``received``; a second one acts as it always does.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def check(self) -> None:
        """Raises Stopped where a signal came."""
        if self.received is not None:
            raise Stopped

    def _note(self, number: int, frame: object) -> None:
        self.received = number
        signal.signal(number, self._before[number])

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
