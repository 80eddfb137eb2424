"""Errors that the user can fix. A command turns every ValueError and OSError into exit code 2."""

import reprlib

UNREAD = 141  # as of a program that SIGPIPE ends
BUSY = 75  # "try again later", EX_TEMPFAIL of sysexits.h


class ConfigError(ValueError):
    """A configuration that the user can fix: the message names the file and key."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or used: the message names the file and says what to do."""


class UnreadError(Exception):
    """Nobody reads any more what a command prints, as after ``| head``."""


class BusyError(ConfigError):
    """Another process trains in the work_dir; a command then ends with the exit code ``BUSY``."""


def shown(value: object) -> str:
    """A value of the user's as a message shows it: in one line, and shortened where it is long, deep or nested."""
    return _SHORT.repr(value)


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxlong, self.maxother = 3, 200, 60, 200


_SHORT = _Short()
