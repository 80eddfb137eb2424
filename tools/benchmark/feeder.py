"""The NTU feeder on a made-up set of full size, beside reading the .npz whole and sample by sample.

Each variant starts in a process of its own and says how long it took to be ready, what memory it added, and how many
samples a second it then delivers as training batches.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from feeders.body import ACTIONS
from feeders.convert.ctrgcn_npz import write_arrays
from feeders.feeder_ntu import Feeder
from feeders.loader import StoreLoader
from feeders.ntu_protocols import PROTOCOLS
from feeders.store import Sample, SkeletonStore
from feeders.synthetic import synthesize
from feeders.transforms import rotate, rotation_matrices

from .startup import common_options, fresh, own_batches, plain_batches, run, startup_table

SIZES = {"ntu60_lt": ("ntu60_xsub", 7892, 16487), "ntu120": ("ntu120_xsub", 63026, 50919)}
PERFORMANCES = 64  # different ones; the rest are copies, at other speeds
MEDIAN_FRAMES, SPREAD, SHORTEST, LONGEST = 74, 0.35, 40, 300  # of a log-normal distribution


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of ``python -m tools.benchmark feeder``."""
    command.add_argument("--size", choices=sorted(SIZES), default="ntu60_lt", help="of the made-up set")
    common_options(command)


class PlainDataset(Dataset):
    """The comparison: the arrays of the training set read whole, then crop, resize and rotation for each sample."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            x = arrays["x_train"]
            self.labels = arrays["y_train"].argmax(1)
        self.x = x.reshape(*x.shape[:2], 2, 25, 3).transpose(0, 4, 1, 3, 2)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int, int]:
        return self.view(row, torch.rand(2), torch.rand(3)), int(self.labels[row]), row

    def view(self, row: int, crop: Tensor, rotation: Tensor) -> Tensor:
        """One training sample (C, T, V, M), T = 64, for drawn crop and angles."""
        sequence = self.x[row]
        length = int((sequence.sum(0).sum(-1).sum(-1) != 0).sum())
        share, place = crop.double().tolist()
        kept = min(max(int(np.floor(length * (share * 0.5 + 0.5))), 64), length)
        start = int(np.floor(place * (length - kept + 1)))
        clip = torch.from_numpy(np.ascontiguousarray(sequence[:, start : start + kept]))
        channels, _, joints, actors = clip.shape
        flat = clip.permute(0, 2, 3, 1).reshape(1, 1, channels * joints * actors, kept)
        flat = F.interpolate(flat, size=(flat.shape[2], 64), mode="bilinear", align_corners=False)
        clip = flat.view(channels, joints, actors, 64).permute(0, 3, 1, 2)[None]
        return rotate(clip, rotation_matrices((rotation[None] * 2 - 1) * 0.3))[0]


def make(options: argparse.Namespace) -> Path:
    """The made-up set as CTR-GCN's arrays; made once."""
    protocol, *sizes = SIZES[options.size]
    rule = PROTOCOLS[protocol]
    path = options.folder / options.size / f"{rule.arrays}.npz"
    if path.is_file():
        return path
    rng = np.random.default_rng(0)
    performances = [synthesize(number % len(ACTIONS), rng)[:, 0] for number in range(PERFORMANCES)]
    subjects = rule.train[0], max(rule.train) + 1

    def read() -> Iterator[Sample]:
        for subject, size in zip(subjects, sizes, strict=True):
            for number in tqdm(range(size), "making sequences", disable=None):
                length = int(np.clip(rng.lognormal(np.log(MEDIAN_FRAMES), SPREAD), SHORTEST, LONGEST))
                source = performances[rng.integers(PERFORMANCES)]
                frames = np.zeros((length, 2, *source.shape[1:]), np.float32)
                frames[:, 0] = source[np.linspace(0, len(source) - 1, length).astype(int)]
                frames[:, 1] = frames[:, 0] if number % 4 == 0 else 0
                label = number % rule.num_class
                columns = {"setup": 1, "camera": 1, "subject": subject, "replication": number, "action": label + 1}
                yield Sample(f"{subject}_{number}", label, frames, columns={**columns, "actors": 2})

    store = SkeletonStore.build([options.folder], options.size, "made-up", read)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, store, protocol)
    return path


def start_plain(path: Path, batch: int, workers: int) -> tuple[int, Iterator[Any]]:
    """The arrays read whole, a DataLoader over them."""
    dataset = PlainDataset(path)
    return len(dataset), plain_batches(dataset, batch, workers)


def start_ours(path: Path, batch: int, workers: int, resident: bool = False) -> tuple[int, Iterator[Any]]:
    """The feeder, which packs the arrays where it has not yet."""
    feeder = Feeder(str(path), p_interval=[0.5, 1], random_rot=True)
    if resident:
        feeder.make_resident(torch.device("cpu"))
    return len(feeder), own_batches(StoreLoader(feeder, batch, 0, torch.device("cpu")))


def start_resident(path: Path, batch: int, workers: int) -> tuple[int, Iterator[Any]]:
    """The feeder with ``device_resident: true``: the training set in memory, as the plain one has it."""
    return start_ours(path, batch, workers, resident=True)


def check(path: Path) -> None:
    """AssertionError where the two do not deliver the same for the same draws."""
    plain, ours = PlainDataset(path), Feeder(str(path), p_interval=[0.5, 1], random_rot=True)
    draws = ours.draw(8, torch.Generator().manual_seed(0))
    rows = np.linspace(0, len(ours) - 1, 8).astype(int)
    expected = torch.stack(
        [
            plain.view(int(row), crop, rotation)
            for row, crop, rotation in zip(rows, draws.crop, draws.rotation, strict=True)
        ]
    )
    torch.testing.assert_close(ours.batch(rows, draws=draws), expected, rtol=0, atol=1e-4)


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Figures of the variants, each in a fresh process: own way, first start, later starts."""
    path = make(options)
    for old in path.parent.glob("*.store-*"):
        shutil.rmtree(old)
    figures = {}
    variants = {
        ".npz read whole": start_plain,
        "ours, first start": start_ours,
        "ours, from then on": start_ours,
        "ours, resident": start_resident,
    }
    for name, start in variants.items():
        figures[name] = fresh(run, start, path, options)
    fresh(check, path)
    store = next(path.parent.glob("*.store-*"))
    figures["on disk"] = {"npz_mb": _size([path]), "store_mb": _size(store.iterdir())}
    return figures


def _size(files: Iterable[Path]) -> float:
    return sum(file.stat().st_size for file in files) / 2**20


def table(figures: dict[str, dict[str, float]], options: argparse.Namespace) -> str:
    """One line for each variant, and the sizes on disk."""
    variants = {name: row for name, row in figures.items() if name != "on disk"}
    disk = figures["on disk"]
    sizes = f"on disk: .npz {disk['npz_mb']:.0f} MB, store {disk['store_mb']:.0f} MB"
    ours = ["ours, from then on", "ours, resident"]
    return f"{startup_table(variants, '.npz read whole', *ours)}\n{sizes}"
