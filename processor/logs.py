"""The log: on the console, above progress bars, and in a run's log.txt."""

from __future__ import annotations

import contextlib
import logging
import sys
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from feeders.files import WriteError, kind_of

from .host import plain

log = logging.getLogger(__name__)
Stream = Literal["stdout", "stderr"]


class _Plain(logging.Formatter):
    """Lines without control characters, which names in a user's files may hold."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(plain, super().format(record).split("\n")))


class _Console(logging.Handler):
    """Prints above a progress bar, where there is one, and at once, also into a file or a pipe.

    A console that is gone ends no run.
    """

    def __init__(self, stream: Stream) -> None:
        super().__init__(logging.INFO)
        self.stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        stream = getattr(sys, self.stream)
        with contextlib.suppress(OSError):
            tqdm.write(self.format(record), file=stream)
            stream.flush()


class _File(logging.FileHandler):
    """log.txt; where it cannot be written, the console says so once and the run goes on.

    Raises:
        WriteError: it is a pipe, which would wait for a reader.
    """

    def __init__(self, path: Path) -> None:
        if path.is_fifo():
            raise WriteError(f"{path} {kind_of(path)}; remove it and run the same command again")
        super().__init__(path, encoding="utf-8", errors="backslashreplace")

    def handleError(self, record: logging.LogRecord) -> None:
        if self.level <= logging.CRITICAL:
            self.setLevel(logging.CRITICAL + 1)
            log.warning("%s cannot be written (%s); what follows is not in it", self.baseFilename, sys.exc_info()[1])

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


def open_log(path: Path | None, console: bool, stream: Stream = "stdout") -> None:
    """Sends the project's log to the console and, given its path, to a run's log.txt (appended).

    Until there is a path, lines are kept, so that log.txt begins with what was said about the config.

    Args:
        stream: of the console: stderr for commands whose output other programs read.
    """
    root = logging.getLogger()
    early = [line for handler in root.handlers if isinstance(handler, MemoryHandler) for line in handler.buffer]
    close_log()
    root.setLevel(logging.INFO)
    logging.getLogger("processor").setLevel(logging.DEBUG)
    handlers: list[logging.Handler] = [logging.NullHandler()]
    if console:
        handlers.append(_Console(stream))
        handlers[-1].setFormatter(_Plain("%(message)s"))
    if path is None:
        handlers.append(MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1))
    else:
        handlers.append(_File(path))
        handlers[-1].setFormatter(_Plain("%(asctime)s %(levelname)s %(message)s"))
        for line in early:
            handlers[-1].handle(line)
    for handler in handlers:
        handler.set_name("shapmix")
        root.addHandler(handler)


def log_file() -> Path | None:
    """The log.txt that is open."""
    return next((Path(one.baseFilename) for one in logging.getLogger().handlers if isinstance(one, _File)), None)


def close_log() -> None:
    """Takes back what :func:`open_log` opened."""
    for handler in list(logging.getLogger().handlers):
        if handler.get_name() == "shapmix":
            logging.getLogger().removeHandler(handler)
            handler.close()
