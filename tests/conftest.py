"""What several tests share: where real data lies, and small made-up runs."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def ucla(tmp_path_factory) -> str:
    """NW-UCLA's all_sqe: SHAPMIX_UCLA, else data/NW-UCLA of the checkout, else unpacked from shared/data beside it."""
    folder = Path(os.environ.get("SHAPMIX_UCLA") or ROOT / "data" / "NW-UCLA" / "all_sqe")
    if folder.is_dir():
        return str(folder)
    packed = ROOT.parent / "shared" / "data" / "nw_ucla" / "all_sqe.tar.xz"
    if not packed.is_file():
        pytest.skip(f"no NW-UCLA data in {folder} nor {packed}; set SHAPMIX_UCLA to the folder all_sqe")
    target = tmp_path_factory.mktemp("nw_ucla")
    with tarfile.open(packed) as archive:
        archive.extractall(target, filter="data")
    return str(target / "all_sqe")


def tiny_config(folder: Path, **changes: object) -> dict:
    """A run of seconds: the synthetic set at its smallest, CTR-GCN at its narrowest."""
    return {
        "feeder": "feeders.synthetic.Feeder",
        "feeder_args": {"window_size": 16, "cache_dir": str(folder / "cache")},
        "train_feeder_args": {"n_max": 8, "imbalance": 4},
        "test_feeder_args": {"num_test": 2},
        "model_args": {"base_channel": 4},
        "work_dir": str(folder / "run"),
        "device": "cpu",
        "num_epoch": 2,
        "batch_size": 8,
        "warm_up_epoch": 0,
        "naive_mix_epoch": 1,
        "naive_estimate_epoch": 1,
        **changes,
    }


@pytest.fixture
def write_config(tmp_path) -> Callable[..., str]:
    """Writes a tiny run's YAML with some keys changed (None takes one out) and returns its path."""

    def write(**changes: object) -> str:
        values = {key: value for key, value in tiny_config(tmp_path, **changes).items() if value is not None}
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(values))
        return str(path)

    return write


def write_ucla(folder: Path, **files: object) -> Path:
    """A folder of made-up NW-UCLA files: one sequence for each class and view, and ``files`` (name -> JSON value)."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for action in (1, 2, 3, 4, 5, 6, 8, 9, 11, 12):
        for view in (1, 2, 3):
            name = f"a{action:02d}_s01_e00_v{view:02d}"
            frames = rng.normal(size=(int(rng.integers(5, 20)), 20, 3)).round(3).tolist()
            (folder / f"{name}.json").write_text(json.dumps({"file_name": name, "skeletons": frames}))
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.json").write_text(text)
    return folder
