"""What a run was made with: code, versions, machine. It is in environment.json and in every checkpoint."""

from __future__ import annotations

import logging
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shapmix import __version__
from shapmix.distributed import world

log = logging.getLogger(__name__)

KEY = "origin"  # of a checkpoint
CODE = ("git_commit", "git_dirty")
VERSIONS = ("python", "torch", "numpy", "shapmix")
MACHINE = ("device", "processes", "threads", "platform")


def origin(device: torch.device) -> dict[str, Any]:
    """CODE, VERSIONS and MACHINE of this process, as plain values.

    ``git_commit`` is the commit that was checked out when it was first asked for, None where that is not known;
    ``git_dirty`` says whether a file of that commit was changed.
    """
    commit, dirty = _commit()
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "shapmix": __version__,
        "git_commit": commit,
        "git_dirty": dirty,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "processes": world()[1],
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
    }


@cache
def _commit() -> tuple[str | None, bool | None]:
    """Of this copy of the code, where it is a git checkout; an installed copy may lie in another one."""
    words = ["git", "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"]
    folder = Path(__file__).parents[1]
    try:
        (folder / ".git").stat()
        found = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
        return found.removesuffix("-dirty"), found.endswith("-dirty")
    except (OSError, subprocess.CalledProcessError):
        log.info("no git commit is known for this copy of the code")
        return None, None
