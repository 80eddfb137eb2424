"""The pose feeder on a made-up set of full size, beside a Python pipeline of the same operations, sample by sample.

Each variant starts in a process of its own and says how long it took to be ready, what memory it added, and how many
samples a second it then delivers as training batches.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from feeders.feeder_pose import MIN_SCORE, Feeder
from feeders.loader import StoreLoader
from feeders.store import Sample, SkeletonStore
from feeders.uniform_sampling import published_clips, training_clips

from .startup import common_options, fresh, own_batches, plain_batches, run, startup_table

FRAMES = 60, 300  # of a sequence
HEIGHT, WIDTH, CLASSES, WINDOW = 256, 340, 400, 100


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of ``python -m tools.benchmark feeder_pose``."""
    command.add_argument("--clips", type=int, default=240_000, help="sequences of the made-up set")
    common_options(command)


class PlainDataset(Dataset):
    """The comparison: annotations of boxes in memory, as Kinetics-400's are, and PYSKL's steps for each sample."""

    def __init__(self, path: Path) -> None:
        store = SkeletonStore(path)
        self.labels = store.labels
        self.boxes = [store.sequence(number).reshape(-1, 17, 3).copy() for number in range(len(store))]
        self.frame_inds = [np.repeat(np.arange(length), 2).astype(np.int16) for length in store.lengths]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int, int]:
        rng = np.random.RandomState(int(torch.randint(2**31, ())))
        frames = published_clips(len(np.unique(self.frame_inds[row])), WINDOW, 1, rng, test=False)[0]
        return self.view(row, frames), int(self.labels[row]), row

    def people(self, row: int) -> np.ndarray:
        """Boxes by frame (M, T, V, C), each in the first free place of its frame."""
        number = {frame: place for place, frame in enumerate(np.unique(self.frame_inds[row]))}
        people = np.zeros((2, len(number), 17, 3), np.float16)
        taken = np.zeros(len(number), np.int16)
        for frame, box in zip(self.frame_inds[row], self.boxes[row], strict=True):
            place = number[frame]
            people[taken[place], place] = box
            taken[place] += 1
        return people

    def view(self, row: int, frames: np.ndarray) -> Tensor:
        """One training sample (C, T, V, M) of these frames."""
        people = self.people(row).astype(np.float32)
        keypoint, score = people[..., :2], people[..., 2]
        keypoint[..., 0] = (keypoint[..., 0] - WIDTH / 2) / (WIDTH / 2)
        keypoint[..., 1] = (keypoint[..., 1] - HEIGHT / 2) / (HEIGHT / 2)
        keypoint[score <= MIN_SCORE] = 0
        joined = np.concatenate([keypoint, score[..., None]], axis=-1)[:, frames]
        return torch.from_numpy(np.ascontiguousarray(joined.transpose(3, 1, 2, 0)))


def make(options: argparse.Namespace) -> Path:
    """The made-up set as a prepared store; made once."""
    rng = np.random.default_rng(0)
    pool = (rng.random((20_000, 2, 17, 3)) * [WIDTH, HEIGHT, 1]).astype(np.float16)

    def read() -> Iterator[Sample]:
        for number in tqdm(range(options.clips), "making sequences", disable=None):
            length = int(rng.integers(*FRAMES))
            start = int(rng.integers(len(pool) - length))
            columns = {"in train": 1, "height": HEIGHT, "width": WIDTH}
            yield Sample(f"clip_{number}", number % CLASSES, pool[start : start + length], columns=columns)

    meta = {"layout": "coco17", "class_names": [f"class {k}" for k in range(CLASSES)], "splits": ["train"]}
    return SkeletonStore.build([options.folder], f"pose_{options.clips}", "made-up", read, **meta).path


def start_plain(path: Path, batch: int, workers: int) -> tuple[int, Iterator[Any]]:
    """All sequences read into memory, a DataLoader over them."""
    dataset = PlainDataset(path)
    return len(dataset), plain_batches(dataset, batch, workers)


def start_ours(path: Path, batch: int, workers: int) -> tuple[int, Iterator[Any]]:
    """The feeder."""
    feeder = Feeder(str(path), window_size=WINDOW)
    return len(feeder), own_batches(StoreLoader(feeder, batch, 0, torch.device("cpu")))


def check(path: Path) -> None:
    """AssertionError where the two do not deliver the same for the same frames."""
    feeder, plain = Feeder(str(path), window_size=WINDOW), PlainDataset(path)
    draws = feeder.draw(8, torch.Generator().manual_seed(0))
    rows = np.linspace(0, len(feeder) - 1, 8).astype(int)
    frames = training_clips(feeder.store.lengths[rows], WINDOW, draws.frames.double().numpy())
    expected = torch.stack([plain.view(int(row), clip) for row, clip in zip(rows, frames, strict=True)])
    torch.testing.assert_close(feeder.batch(rows, draws=draws), expected, rtol=0, atol=1e-4)


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Figures of the variants, each in a fresh process."""
    path = make(options)
    fresh(check, path)
    variants = {"sample by sample": start_plain, "ours": start_ours}
    return {name: fresh(run, start, path, options) for name, start in variants.items()}


def table(figures: dict[str, dict[str, float]], options: argparse.Namespace) -> str:
    """One line for each variant."""
    return startup_table(figures, "sample by sample", "ours")
