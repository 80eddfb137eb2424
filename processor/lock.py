"""One process trains in a work_dir: an advisory lock, which the kernel takes back however its holder dies."""

from __future__ import annotations

import errno
import logging
import time
from pathlib import Path
from typing import IO

from .config import ConfigError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked there
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

NAME = ".lock"
PATIENCE = 1.0  # seconds: is_locked of another process holds the lock for an instant, which is no reason to give up
HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


def lock(work_dir: Path) -> IO[bytes] | None:
    """Locks a work_dir, which exists, for as long as the returned file stays open; None where files cannot be locked.

    Raises:
        ConfigError: another process holds the lock.
    """
    if fcntl is None:
        return None
    file = open(work_dir / NAME, "ab")  # noqa: SIM115, it stays open
    end = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError as error:
            if error.errno in HELD and time.monotonic() < end:
                time.sleep(0.05)
                continue
            file.close()
            if error.errno in HELD:
                raise ConfigError(refusal(work_dir)) from error
            log.warning("%s cannot be locked (%s); see that no other process trains there", work_dir, error)
            return None


def is_locked(work_dir: Path) -> bool:
    """Does a process train in this work_dir now?"""
    if fcntl is None:
        return False
    try:
        file = open(work_dir / NAME, "rb")  # noqa: SIM115, closed below
    except OSError:  # not there, or not for us to read: the training process will say
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in HELD
    return False


def refusal(work_dir: Path) -> str:
    """What the second process is told."""
    return f"another process is training in work_dir {work_dir}; wait for it, or choose another --work_dir"
