"""The golden folder: SHAPMIX_GOLDEN, else shared/golden beside the checkout. A file that is not there is a skip."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(os.environ.get("SHAPMIX_GOLDEN") or Path(__file__).parents[3] / "shared" / "golden")


def _present(name: str) -> Path:
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"golden file {name} is not in {FOLDER}; set SHAPMIX_GOLDEN to the folder that has it")
    return path


@pytest.fixture
def golden() -> Callable[[str], dict[str, np.ndarray]]:
    """Reads a golden file by name, without its suffix."""

    def read(name: str) -> dict[str, np.ndarray]:
        with np.load(_present(f"{name}.npz"), allow_pickle=False) as file:
            return dict(file)

    return read


@pytest.fixture(scope="session")
def golden_path() -> Callable[[str], Path]:
    """Path of a golden file or folder by its whole name."""
    return _present


@pytest.fixture
def golden_weights() -> ModuleType:
    """The module that fills a state dict from the names of its entries."""
    spec = importlib.util.spec_from_file_location("golden_weights", _present("weights.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
