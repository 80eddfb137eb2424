"""Did memory run out? Python, the system, torch and CUDA each say it in their own words."""

from __future__ import annotations

import re

import torch


def ran_out(error: BaseException) -> bool:
    """Does an error say that memory could not be had?"""
    if isinstance(error, (RuntimeError, OSError)) and re.search("allocate memory|out of memory", str(error)):
        return True
    return isinstance(error, (MemoryError, torch.OutOfMemoryError))
