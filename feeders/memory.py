"""Did memory run out? Python, the system, torch and CUDA each say it in their own words."""

from __future__ import annotations

import re

import torch

WORDS = "allocate memory|out of memory|size calculation overflowed|Overflow when unpacking"  # the last two: of a shape


def ran_out(error: BaseException) -> bool:
    """Does an error say that memory could not be had?"""
    if isinstance(error, (RuntimeError, OSError, ValueError)) and re.search(WORDS, str(error)):
        return True
    return isinstance(error, (MemoryError, torch.OutOfMemoryError))
