"""Made-up sets of the form and length of published ones, and Datasets in the usual form over them.

The sets hold noise, since what is measured does not depend on their content. The Datasets hold everything in memory and
make sample after sample: what our feeders are measured against.

Shapes: N sequences, F frames of one, T frames of a sample, M = 2 people, V joints, C coordinates, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from feeders.crop import CropDraws
from feeders.feeder_pose import PoseDraws
from feeders.files import replacing
from feeders.ntu_protocols import LAYOUT
from feeders.placement import MIN_SCORE
from feeders.store import Sample, SkeletonStore
from feeders.transforms import rotate, rotation_matrices
from feeders.uniform_sampling import published_clips, training_clips

NTU_WINDOW, POSE_WINDOW = 64, 100  # T
CENTRE = LAYOUT.center
POOL = 20_000  # frames that all sequences are cut from
NTU_FRAMES, SPREAD, SHORTEST, LONGEST = 74, 0.35, 40, 300  # of a log-normal distribution: median, deviation of its log
POSE_FRAMES, HEIGHT, WIDTH, POSE_CLASSES = (60, 300), 256, 340, 400  # as Kinetics-400


def ntu(folder: Path, sequences: int) -> Path:
    """CTR-GCN's .npz of NTU 60, its test set the training set again; one in four has a second actor. Made once."""
    path = folder / f"ntu_{sequences}.npz"
    if path.is_file():
        return path
    rng = np.random.default_rng(0)
    pool = rng.standard_normal((POOL, 150), np.float32)
    lengths = rng.lognormal(np.log(NTU_FRAMES), SPREAD, sequences).clip(SHORTEST, LONGEST).astype(int)
    x, y = np.zeros((sequences, LONGEST, 150), np.float32), np.eye(60)[np.arange(sequences) % 60]
    for number, length in enumerate(lengths):
        start, used = int(rng.integers(POOL - length)), 75 if number % 4 else 150
        x[number, :length, :used] = pool[start : start + length, :used]
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside, open(beside, "wb") as file:
        np.savez(file, x_train=x, y_train=y, x_test=x, y_test=y)
    return path


def pose(folder: Path, sequences: int) -> Path:
    """A prepared store of 2D poses of two people, float16. Made once."""
    rng = np.random.default_rng(0)
    pool = (rng.random((POOL, 2, 17, 3)) * [WIDTH, HEIGHT, 1]).astype(np.float16)

    def read() -> Iterator[Sample]:
        for number in range(sequences):
            length = int(rng.integers(*POSE_FRAMES))
            start = int(rng.integers(POOL - length))
            columns = {"in train": 1, "height": HEIGHT, "width": WIDTH}
            yield Sample(f"clip_{number}", number % POSE_CLASSES, pool[start : start + length], columns=columns)

    meta = {"layout": "coco17", "class_names": [f"class {k}" for k in range(POSE_CLASSES)], "splits": ["train"]}
    folder.mkdir(parents=True, exist_ok=True)
    return SkeletonStore.build([folder], f"pose_{sequences}", "made-up", read, **meta).path


def store(folder: Path, sequences: int) -> Path:
    """A prepared store of the sequences of :func:`ntu`, as of somebody's own. Made once."""
    frames, labels = _ntu_arrays(ntu(folder, sequences))

    def read() -> Iterator[Sample]:
        for number, (x, label) in enumerate(zip(frames, labels, strict=True)):
            length = _length(x)
            yield Sample(f"take_{number}", int(label), x[:, :length].transpose(1, 3, 2, 0), columns={"in train": 1})

    meta = {"layout": "ntu25", "class_names": [f"class {k}" for k in range(60)], "splits": ["train"]}
    return SkeletonStore.build([folder], f"store_{sequences}", "made-up", read, **meta).path


def _ntu_arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Sequences (N, C, F, V, M), padded with zeros, and labels (N,) of CTR-GCN's .npz."""
    with np.load(path) as arrays:
        x, labels = arrays["x_train"], arrays["y_train"].argmax(1)
    return x.reshape(*x.shape[:2], 2, 25, 3).transpose(0, 4, 1, 3, 2), labels


def _length(sequence: np.ndarray) -> int:
    """F of a padded sequence (C, F, V, M)."""
    return int((sequence.sum(0).sum(-1).sum(-1) != 0).sum())


class PlainNTU(Dataset):
    """CTR-GCN's way: the array of the training set read whole; crop, resize and rotation of each sample."""

    def __init__(self, path: Path) -> None:
        self.x, self.labels = _ntu_arrays(path)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int, int]:
        return self.view(row, torch.rand(2), torch.rand(3)), int(self.labels[row]), row

    def sequence(self, row: int) -> np.ndarray:
        """(C, F, V, M), perhaps with zeros at the end."""
        return self.x[row]

    def view(self, row: int, crop: Tensor, rotation: Tensor) -> Tensor:
        """One training sample (C, T, V, M), for uniform numbers of crop (2,) and rotation (3,)."""
        sequence = self.sequence(row)
        length = _length(sequence)
        share, place = crop.double().tolist()
        kept = min(max(int(np.floor(length * (share * 0.5 + 0.5))), 64), length)
        start = int(np.floor(place * (length - kept + 1)))
        clip = torch.from_numpy(np.ascontiguousarray(sequence[:, start : start + kept]))
        flat = clip.permute(0, 2, 3, 1).flatten(0, 2)[None, None]
        flat = F.interpolate(flat, size=(flat.shape[2], NTU_WINDOW), mode="bilinear", align_corners=False)
        clip = flat.view(*clip.shape[:1], *clip.shape[2:], NTU_WINDOW).permute(0, 3, 1, 2)[None]
        return rotate(clip, rotation_matrices((rotation[None] * 2 - 1) * 0.3))[0]

    def drawn(self, row: int, draws: CropDraws, place: int) -> Tensor:
        """The sample for the numbers that our feeder drew for a place of its batch."""
        return self.view(row, draws.crop[place], draws.rotation[place])


class PlainStore(PlainNTU):
    """The same of sequences that are centred when they are read, on a joint of the first person's first frame."""

    def __init__(self, path: Path) -> None:
        found = SkeletonStore(path)
        self.labels = found.labels
        self.takes = [found.sequence(number).transpose(3, 0, 2, 1).copy() for number in range(len(found))]

    def sequence(self, row: int) -> np.ndarray:
        x = self.takes[row]
        there = x.any((0, 2), keepdims=True)
        return (x - x[:, :1, CENTRE : CENTRE + 1, :1]) * there


class PlainPose(Dataset):
    """PYSKL's way: annotations in memory; normalise and sample frames of each sample."""

    def __init__(self, path: Path) -> None:
        store = SkeletonStore(path)
        self.labels = store.labels
        self.people = [store.sequence(number).transpose(1, 0, 2, 3).copy() for number in range(len(store))]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Tensor, int, int]:
        rng = np.random.RandomState(int(torch.randint(2**31, ())))
        frames = published_clips(self.people[row].shape[1], POSE_WINDOW, 1, rng, test=False)[0]
        return self.view(row, frames), int(self.labels[row]), row

    def view(self, row: int, frames: np.ndarray) -> Tensor:
        """One training sample (C, T, V, M) of these frames (T,)."""
        people = self.people[row].astype(np.float32)
        keypoint, score = people[..., :2], people[..., 2]
        keypoint[..., 0] = (keypoint[..., 0] - WIDTH / 2) / (WIDTH / 2)
        keypoint[..., 1] = (keypoint[..., 1] - HEIGHT / 2) / (HEIGHT / 2)
        keypoint[score <= MIN_SCORE] = 0
        joined = np.concatenate([keypoint, score[..., None]], axis=-1)[:, frames]
        return torch.from_numpy(np.ascontiguousarray(joined.transpose(3, 1, 2, 0)))

    def drawn(self, row: int, draws: PoseDraws, place: int) -> Tensor:
        """The sample for the numbers that our feeder drew for a place of its batch."""
        length = np.array([self.people[row].shape[1]])
        return self.view(row, training_clips(length, POSE_WINDOW, draws.frames[[place]].double().numpy())[0])
