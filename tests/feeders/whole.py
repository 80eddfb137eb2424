"""One feeder of each kind, for tests of what shows whole sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from feeders import feeder_ntu, feeder_pose, feeder_store, feeder_ucla, synthetic
from feeders.feeder import StoreFeeder
from shapmix import SkeletonLayout
from tests.conftest import annotations, ntu_names, write_ntu_store, write_pickle, write_ucla
from tests.made_up import DESK, write_store

LENGTHS = (4, 7, 23, 60)
KINDS = ("synthetic", "ntu120", "ntu120 normalised", "ucla", "store 3D", "store 3D facing", "store 2D", "poses",
         "poses 3D")  # fmt: skip


def people(length: int, number: int, joints: int, rng: np.random.Generator) -> np.ndarray:
    """(L, M, V, 3) in metres; the first person comes late, the last one leaves early."""
    frames = rng.normal([0, 0, 3], 0.4, size=(length, number, joints, 3)) + rng.normal(size=(1, number, 1, 3))
    frames[: length // 4, 0] = 0
    frames[3 * length // 4 :, number - 1] = 0
    return frames.astype(np.float32)


def poses(length: int, number: int, joints: int, rng: np.random.Generator) -> np.ndarray:
    """(L, M, V, 3) of x, y in pixels and score; some joints are not seen."""
    frames = people(length, number, joints, rng)
    there = frames.any((2, 3), keepdims=True)
    frames[..., :2] = 320 + 100 * frames[..., :2]
    frames[..., 2] = np.where(rng.random(frames.shape[:3]) < 0.2, 0, rng.random(frames.shape[:3]))
    return frames * there


def feeder_of(kind: str, folder: Path, **options: Any) -> StoreFeeder[Any]:
    """The test split of a made-up set; ``kind`` is one of KINDS."""
    rng = np.random.default_rng(0)
    if kind == "synthetic":
        return synthetic.Feeder("test", num_test=1, cache_dir=str(folder), **options)
    if kind.startswith("ntu"):
        names = ntu_names(setups=(1,), cameras=(1,), subjects=(1, 3), actions=(1, 2, 60))
        taken = {name: people(LENGTHS[row % 4], 1 + name.endswith("60"), 25, rng) for row, name in enumerate(names)}
        path, options["normalization"] = str(write_ntu_store(folder / "ntu", taken)), kind.endswith("normalised")
        train, test = (feeder_ntu.Feeder(path, split, "ntu120_xsub", **options) for split in ("train", "test"))
        for feeder in (train, test):
            feeder.agree({"train": train, "test": test})
        return test
    if kind == "ucla":
        files = {
            f"a{action:02d}_s01_e00_v03": {"skeletons": people(length, 1, 20, rng)[:, 0].tolist()}
            for action, length in enumerate(LENGTHS, start=1)
        }
        return feeder_ucla.Feeder(str(write_ucla(folder / "all_sqe", **files)), "test", **options)
    if kind == "poses":
        return feeder_pose.Feeder(ann_file=str(write_pickle(folder / "a.pkl", annotations())), split="val", **options)
    if kind == "poses 3D":
        taken, members = {f"s{n}": people(n, 2, 13, rng) for n in LENGTHS}, {"in test": [1] * 4}
        store = write_store(folder / "space", taken, [0, 1, 0, 1], DESK, members, splits=["test"])
        return feeder_pose.Feeder(data_path=str(store.path), split="test", **options)
    if kind == "store 2D":
        size = {"width": [640, 640, 0, 640], "height": [480, 360, 0, 480]}
        taken = {f"s{n}": poses(n, 2, 17, rng) for n in LENGTHS}
        store = write_store(folder / "flat", taken, [0, 1, 0, 1], SkeletonLayout.get("coco17"), size)
        return feeder_store.Feeder(str(store.path), "test", **options)
    own = {"facing": True, "scale": "torso", "up": "y"} if kind.endswith("facing") else {}
    store = write_store(folder / "mine", {f"s{n}": people(n, 2, 13, rng) for n in LENGTHS}, [0, 1, 0, 1], DESK)
    return feeder_store.Feeder(str(store.path), "test", **own, **options)
