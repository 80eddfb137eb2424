"""What several tests share: where real data lies, and small made-up runs."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from feeders.ntu_protocols import parse_names
from feeders.store import Sample, StoreWriter
from processor.build import Parts, build
from processor.config import Config
from processor.data import Data, load_data
from processor.distributed import set_up
from processor.engine import Trainer
from processor.training import make_trainer
from tests.browser import browser  # noqa: F401  (a fixture)
from tools.faults.case import tiny_config

ROOT = Path(__file__).parents[1]


def pytest_configure() -> None:
    """Files of tests that run at once (-n) share the cores."""
    torch.set_num_threads(max(1, torch.get_num_threads() // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))))


@pytest.fixture(autouse=True)
def given_threads(monkeypatch) -> None:
    """Runs do not choose their threads by timing: two runs that are compared have the same number."""
    if not os.environ.get("OMP_NUM_THREADS"):
        monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))


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
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 and newer
        archive.extractall(target)
    return str(target / "all_sqe")


@pytest.fixture
def write_config(tmp_path) -> Callable[..., str]:
    """Writes a tiny run's YAML with some keys changed (None takes one out) and returns its path."""

    def write(**changes: object) -> str:
        values = {key: value for key, value in tiny_config(tmp_path, **changes).items() if value is not None}
        path = tmp_path / "run.yaml"
        path.write_text(yaml.safe_dump(values))
        return str(path)

    return write


def build_training(config: Config) -> tuple[Data, Parts, Trainer]:
    """What a run trains with."""
    device = set_up(config.device)
    data = load_data(config, device, ("train", "test"))
    parts = build(config, data, device)
    return data, parts, make_trainer(config, data, parts, device)


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


@pytest.fixture(scope="session")
def ntu_lt() -> Path:
    """BRL's published lists and NTU's names: SHAPMIX_NTU_LT, else shared/data/ntu_lt beside the checkout."""
    folder = Path(os.environ.get("SHAPMIX_NTU_LT") or ROOT.parent / "shared" / "data" / "ntu_lt")
    if not folder.is_dir():
        pytest.skip(
            f"no published lists in {folder}; set SHAPMIX_NTU_LT to the folder that has NTU120_xsub_exp_100.txt"
        )
    return folder


@pytest.fixture(scope="session")
def own_sets() -> Path:
    """Archives of small public sets: SHAPMIX_OWN, else shared/data/own beside the checkout."""
    folder = Path(os.environ.get("SHAPMIX_OWN") or ROOT.parent / "shared" / "data" / "own")
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder}; set SHAPMIX_OWN to the folder that has utd_mhad.tar.xz")
    return folder


def ntu_names(
    setups: Iterable[int] = (1,),
    cameras: Iterable[int] = (1, 2, 3),
    subjects: Iterable[int] = (1, 2, 3),
    actions: Iterable[int] = (1, 2, 3),
) -> list[str]:
    """Names of NTU sequences, one for each combination, sorted."""
    return sorted(
        f"S{setup:03d}C{camera:03d}P{subject:03d}R001A{action:03d}"
        for setup, camera, subject, action in itertools.product(setups, cameras, subjects, actions)
    )


def write_ntu_store(folder: Path, sequences: Mapping[str, np.ndarray], dataset: str = "ntu120") -> Path:
    """A store as tools.prepare_ntu writes it, of sequences (L, 1 or 2, 25, 3) by name; where there is one actor, the
    second is 0."""
    folder.mkdir(parents=True)
    with StoreWriter(folder) as writer:
        for name in sorted(sequences):
            columns = {key: int(values[0]) for key, values in parse_names([name]).items()}
            frames = np.asarray(sequences[name], np.float32)
            actors = frames.shape[1]
            frames = np.pad(frames, [(0, 0), (0, 2 - actors), (0, 0), (0, 0)])
            writer.add(Sample(name, columns["action"] - 1, frames, columns={**columns, "actors": actors}))
        writer.close(dataset)
    return folder


def annotations(number: int = 12, boxes: bool = False, people: int = 2, seed: int = 0) -> dict:
    """What a PYSKL pickle holds: made-up sequences of 17 joints in 3 classes, the first two thirds for training.

    ``boxes`` gives the compressed form of Kinetics-400, with 0 to ``people + 1`` boxes a frame.
    """
    rng = np.random.default_rng(seed)
    made = []
    for index in range(number):
        frames = int(rng.integers(20, 140))
        one = {"frame_dir": f"video_{index:03d}", "label": index % 3, "img_shape": (240, 320), "total_frames": frames}
        if boxes:
            place = np.repeat(np.arange(frames), rng.integers(0, people + 2, frames)).astype(np.int16)
            keypoint = np.concatenate([rng.random((len(place), 17, 2)) * 200, rng.random((len(place), 17, 1))], axis=-1)
            one |= {"frame_inds": place, "box_score": rng.random(len(place)), "keypoint": keypoint.astype(np.float16)}
        else:
            one["keypoint"] = (rng.random((people, frames, 17, 2)) * 200).astype(np.float16)
            one["keypoint_score"] = rng.random((people, frames, 17)).astype(np.float16)
        made.append(one)
    names = [one["frame_dir"] for one in made]
    return {"split": {"train": names[: 2 * number // 3], "val": names[2 * number // 3 :]}, "annotations": made}


def write_pickle(path: Path, content: object) -> Path:
    """A pickle, as other programs write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return path
