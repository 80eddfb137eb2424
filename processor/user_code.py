"""Code of the user's own, a Dataset or a network: where it failed, and random numbers that it cannot disturb."""

from __future__ import annotations

import random
import re
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb

import numpy as np
import torch

from feeders.memory import ran_out

KILLED = r"DataLoader worker \(pid"  # begins what torch says of a loading process that ended
LESS = "try a smaller batch_size or test_batch_size, or fewer num_worker or jobs; the same command continues"
OURS = ("shapmix", "model", "feeders", "processor", "tools", "main", "shapmix_train")
INSTALLED = ("site-packages", "dist-packages")


class UserCodeError(ValueError):
    """An exception in the user's own code, as a message with its type, file and line."""


def place_of(error: BaseException, ours: bool = False) -> str | None:
    """The line that failed, "mine.py, line 12, in Feeder.__getitem__"; libraries that it called do not count.

    Args:
        ours: it may be a line of this project; else None where the project's code, called by the user's, failed.
    """
    if isinstance(error, SyntaxError):
        return f"{_short(str(error.filename))}, line {error.lineno}"
    found = None
    for frame, line in walk_tb(error.__traceback__):
        spec = frame.f_globals.get("__spec__")  # of python -m tools.show it has the name that __name__ has not
        code, package = frame.f_code, str(spec.name if spec else frame.f_globals.get("__name__")).partition(".")[0]
        if package in OURS and not ours:
            found = None
        elif package in OURS or not _is_library(code.co_filename):
            found = f"{_short(code.co_filename)}, line {line}, in {code.co_qualname}"
    return found


def described(error: BaseException, place: str | None = None) -> str:
    """Type, message and place of an exception in one sentence; the place is found where it is not given."""
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    place = place or place_of(error, ours=True)
    return f"{type(error).__name__}: {message}" + (f" ({place})" if place else "")


def explained(error: Exception) -> str | None:
    """What a command prints of an error that the user can fix; None: the fault is the project's."""
    place, scarce = place_of(error), _scarce(error)
    if place is None and scarce is None and not isinstance(error, (ValueError, OSError)):
        return None
    message = scarce or (str(error) if place is None else described(error, place))
    return ". ".join([message, *getattr(error, "__notes__", [])])


def _scarce(error: Exception) -> str | None:
    """What to do where memory ran out, or a process that loads data was killed, for which that is the usual reason."""
    killed = isinstance(error, RuntimeError) and re.match(KILLED, str(error))
    if not killed and not ran_out(error):
        return None
    what = "a process that loads data was killed, perhaps because memory ran out" if killed else "memory ran out"
    first = next(iter(str(error).splitlines()), type(error).__name__).rstrip(". ")
    return f"{what} ({first}): {LESS}"


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The global generators of Python, numpy and torch (CPU) begin at a seed; afterwards they are as they were.

    A Dataset may use them, as CTR-GCN's feeders do; nothing else here does.
    """
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])


def _is_library(file: str) -> bool:
    path = Path(file)
    standard = path.is_relative_to(sysconfig.get_path("stdlib"))
    return standard or not path.is_file() or not {*path.parts}.isdisjoint(INSTALLED)  # compiled code names no file here


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
