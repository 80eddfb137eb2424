"""What several tests share: where real data lies, and small made-up data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def find_ucla() -> str:
    """NW-UCLA's all_sqe folder: SHAPMIX_UCLA, else data/NW-UCLA/all_sqe of the checkout; a skip where it is absent."""
    folder = Path(os.environ.get("SHAPMIX_UCLA") or Path(__file__).parents[1] / "data" / "NW-UCLA" / "all_sqe")
    if not folder.is_dir():
        pytest.skip(f"no NW-UCLA data in {folder}; set SHAPMIX_UCLA to the folder all_sqe")
    return str(folder)
