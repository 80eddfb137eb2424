"""Every recipe of the folder ``config`` in a form of a second: a narrow network and a few made-up sequences."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from feeders.feeder_ucla import CLASSES
from feeders.files import write_atomically
from feeders.lists import write_list
from feeders.ntu_protocols import parse_names
from feeders.store import Sample, StoreWriter
from processor.checkpoint import load_checkpoint
from processor.config import Config
from processor.config_files import load_config
from processor.methods import OVERLAYS
from processor.processor import Processor
from processor.run_folder import RunFolder
from shapmix import SkeletonLayout

from .case import ROOT

CONFIG = ROOT / "config"
DEMO = CONFIG / "demo.yaml"
OVERLAY_FILES = [CONFIG / folder / f"{name}.yaml" for folder, rows in OVERLAYS.items() for name in rows]
RECIPES = sorted(path for path in CONFIG.rglob("*.yaml") if path.parent.name not in (*OVERLAYS, "sweeps"))
SHORT: dict[str, Any] = {
    "feeder_args.window_size": 24, "model_args.base_channel": 4, "batch_size": 8, "test_batch_size": 8,
    "warm_up_epoch": 0, "naive_mix_epoch": 1, "naive_estimate_epoch": 0, "device": "cpu", "threads": 1,
    "report": False, "logger": "none", "print_log": False, "overwrite": True,
}  # fmt: skip
SYNTHETIC = {"train_feeder_args.n_max": 6, "train_feeder_args.imbalance": 6, "test_feeder_args.num_test": 1}
NAMES = [
    f"S{setup:03d}C{camera:03d}P{person:03d}R001A{action:03d}"
    for setup, camera, person, action in itertools.product((1, 2), (1, 2), (1, 3), (1, 2, 3))
]
LIST = "list.txt"
SPLITS = [f"{kind}_{part}" for kind in ("xsub", "xview", "xset") for part in ("train", "val")]


def all_recipes() -> list[list[Path]]:
    """What is laid over each other: each recipe, and the demo with each method."""
    return [[path] for path in RECIPES] + [[DEMO, path] for path in OVERLAY_FILES]


def short(paths: list[Path], folder: Path) -> dict[str, Any]:
    """Overrides that make a short run of a recipe on made-up data in a folder.

    Those of a second stage begin with weights of a short run of its first.
    """
    made: dict[str, Any] = {}
    first = OVERLAYS[paths[-1].parent.name][paths[-1].stem].starts_from if paths[-1] in OVERLAY_FILES else None
    if first is not None:
        stage = [*paths[:-1], CONFIG / "methods" / f"{first}.yaml"]
        train(stage, {**short(stage, folder), "work_dir": str(folder / "first")})
        made["weights"] = str(RunFolder(folder / "first").last)
    recipe = load_config([str(path) for path in paths], made)
    made |= {**SHORT, **_data(recipe, folder / "data")}
    made |= {"num_epoch": min(2, recipe.num_epoch), "work_dir": str(folder / "run")}
    if "num_clips" in recipe.test_feeder_args:
        made["test_feeder_args.num_clips"] = 2
    if "window" in recipe.mixing_args:
        made["mixing_args.window"] = [2, 4]
    if "long_tail" in recipe.train_feeder_args:
        made["train_feeder_args.long_tail"] = {"n_max": 2, "imbalance": 1}
    return made


def train(paths: list[Path], overrides: Mapping[str, Any]) -> dict[str, str]:
    """Trains in this process; digests of the ``weights``, the ``scores`` and the ``losses`` of all epochs."""
    config = load_config([str(path) for path in paths], overrides)
    with contextlib.redirect_stdout(io.StringIO()):
        code = Processor(config).start()
    if code != 0:
        raise ValueError(f"{paths}: not finished")
    folder = RunFolder(config.work_dir)
    lines = [[line["epoch"], line.get("train_loss"), line.get("train_mix_loss")] for line in folder.read_metrics()]
    return {"weights": weights_digest(folder.last), "scores": _scores(folder), "losses": json.dumps(lines)}


def weights_digest(checkpoint: Path) -> str:
    """Of the network's state."""
    state = load_checkpoint(checkpoint)["model"]
    return hashlib.blake2b(b"".join(state[key].numpy().tobytes() for key in sorted(state))).hexdigest()


def _scores(folder: RunFolder) -> str:
    with np.load(folder.scores()) as file:
        return hashlib.blake2b(file["scores"].tobytes()).hexdigest()


def _data(config: Config, folder: Path) -> dict[str, Any]:
    """Overrides that name made-up data for a recipe's feeder, which is written where it is missing."""
    module = config.feeder.split(".")[1]
    if module.startswith("synthetic"):
        return {**SYNTHETIC, "feeder_args.cache_dir": str(folder)}
    if not folder.is_dir():
        planar = config.train_feeder_args.get("split") == "train"
        pose = _kinetics if planar else _skeletons
        {"feeder_ucla": _ucla, "feeder_ntu": _ntu, "feeder_pose": pose, "feeder_store": _own}[module](folder)
    made: dict[str, Any] = {"feeder_args.data_path": str(folder), "train_feeder_args.repeat": 1}
    for key in ("feeder_args", "train_feeder_args"):
        if getattr(config, key).get("split_path"):
            made |= {f"{key}.split_path": str(folder / LIST), f"{key}.on_bad_sample": "skip"}  # names of other splits
    return made


def _frames(joints: int, people: int = 1) -> Iterator[np.ndarray]:
    """Endless sequences (L, M, V, 3) of noise, always the same."""
    rng = np.random.default_rng(0)
    while True:
        yield rng.normal(size=(int(rng.integers(20, 40)), people, joints, 3)).astype(np.float32)


def _ucla(folder: Path) -> None:
    for action, view, frames in zip(np.repeat(list(CLASSES), 3), itertools.cycle((1, 2, 3)), _frames(20), strict=False):
        name = f"a{action:02d}_s01_e00_v{view:02d}"
        text = json.dumps({"file_name": name, "skeletons": frames[:, 0].tolist()})
        write_atomically(folder / f"{name}.json", text.encode())


def _ntu(folder: Path) -> None:
    folder.mkdir(parents=True)
    with StoreWriter(folder) as writer:
        for name, frames in zip(sorted(NAMES), _frames(25, people=2), strict=False):
            columns = {key: int(values[0]) for key, values in parse_names([name]).items()}
            writer.add(Sample(name, columns["action"] - 1, frames, columns={**columns, "actors": 2}))
        writer.close("ntu120")
    write_list(folder / LIST, NAMES)


def _kinetics(folder: Path) -> None:
    sizes = {"height": 240, "width": 320}
    _packed(folder, "coco17", ["train", "val"], sizes)


def _skeletons(folder: Path) -> None:
    _packed(folder, "ntu25", SPLITS, {})


def _own(folder: Path) -> None:
    _packed(folder, "ntu25", ["train", "test"], {})


def _packed(folder: Path, layout: str, splits: list[str], columns: Mapping[str, int]) -> None:
    """A prepared store of three classes; every second sequence is in the first, third ... of the splits."""
    folder.mkdir(parents=True)
    joints = SkeletonLayout.get(layout).num_joints
    with StoreWriter(folder) as writer:
        for number, name, frames in zip(range(len(NAMES)), NAMES, _frames(joints), strict=False):
            inside = {f"in {split}": int(number // 3 % 2 == place % 2) for place, split in enumerate(splits)}
            writer.add(Sample(name, number % 3, frames, columns={**columns, **inside}))
        writer.close(folder.name, layout=layout, class_names=["a", "b", "c"], splits=splits)
    write_list(folder / LIST, NAMES)
