"""Locks on files: who writes one, who reads it. A lock ends with its process, also after ``kill -9``.

They are those of ``flock``, which only programs that ask see. Where the system or a file system has none, asking is an
OSError.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from weakref import WeakSet

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

POLL = 0.1  # seconds between two looks at a lock that another process has


class OthersLockError(PermissionError):
    """A file of another user that may not be opened, so that nobody knows whether it is locked."""


class Lock:
    """A lock on a file that no other process has; see :func:`try_lock`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        _held.add(self)

    def is_on(self, path: Path) -> bool:
        """Is it the file at this path?"""
        try:
            return self._descriptor is not None and os.path.samestat(os.fstat(self._descriptor), path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Gives the file free."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_held: WeakSet[Lock] = WeakSet()


def _give_up_inherited() -> None:
    """A forked process, such as one that loads data, would keep its parent's locks after the parent's death."""
    for lock in _held:
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_give_up_inherited)


def try_lock(path: Path, create: bool = True) -> Lock | None:
    """Locks a file for this process alone; None where another one, or another part of this one, has it open for use.

    Raises:
        OthersLockError: the file is another user's, and may not be opened.
        OSError: there is no such file, it cannot be created, or there are no locks here.
    """
    descriptor = _open(path, create)
    try:
        _flock(descriptor, shared=False)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return Lock(descriptor)


def _open(path: Path, create: bool) -> int:
    """A descriptor of a file, for its lock. One of another user may perhaps only be read, which is enough."""
    try:
        return os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o666)
    except PermissionError:
        if not path.exists():
            raise
    try:
        return os.open(path, os.O_RDONLY)
    except PermissionError as error:
        what = "This lock belongs to another user, who must allow to read it, or remove it; or choose another folder"
        raise OthersLockError(error.errno, what, str(path)) from error


def use(file: BinaryIO) -> None:
    """Says that an open file is in use, until it is closed; any number of processes may use it."""
    with suppress(OSError):
        _flock(file.fileno(), shared=True)


def is_abandoned(path: Path) -> bool:
    """Does a file exist that no process holds or uses? False also where that cannot be known."""
    try:
        lock = try_lock(path, create=False)
    except OSError:
        return False
    if lock is None:
        return False
    lock.release()
    return True


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Holds the lock of a file, which is created, where there are locks."""
    lock = None
    with suppress(OSError):
        lock = try_lock(path)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


@contextmanager
def alone(path: Path, message: str) -> Iterator[None]:
    """Holds the lock of a file, which is created, and removed at the end; waits while another process has it.

    Where there are no locks, nothing is waited for. Now and then two are let in, when a third one ends: what was to be
    done may be done already, so that the block looks first.

    Args:
        message: for the log, when waiting begins.

    Raises:
        OthersLockError: it cannot be known whether another user's process has it.
    """
    lock = None
    try:
        lock = try_lock(path)
        if lock is None:
            log.info("%s", message)
        while lock is None:
            time.sleep(POLL)
            lock = try_lock(path)
    except OthersLockError:
        raise
    except OSError as error:
        log.debug("%s cannot be locked (%s)", path, error)
    try:
        yield
    finally:
        if lock is not None:
            with suppress(OSError):
                path.unlink()
            lock.release()


def tidy(path: Path) -> None:
    """Removes the file of :func:`alone` that a killed process left."""
    if is_abandoned(path):
        with suppress(OSError):
            path.unlink()


def _flock(descriptor: int, shared: bool) -> None:
    if fcntl is None:
        raise OSError(errno.ENOTSUP, "this system has no locks")
    fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
