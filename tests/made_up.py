"""Stores of made-up skeletons of layouts that nobody named, as tools.convert would write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from feeders.lists import write_list
from feeders.store import Sample, SkeletonStore, StoreWriter
from shapmix import SkeletonLayout

DESK_JOINTS = (
    "belly left_hip right_hip chest neck head nose left_shoulder left_elbow left_wrist right_shoulder right_elbow "
    "right_wrist"
)
# A trunk with one arm on each side, as of a person at a desk: 13 joints in 3 parts.
DESK = SkeletonLayout(
    "desk13",
    tuple(DESK_JOINTS.split()),
    ((1, 0), (2, 0), (3, 0), (4, 3), (5, 4), (6, 5), (7, 3), (8, 7), (9, 8), (10, 3), (11, 10), (12, 11)),
    {"trunk": (0, 1, 2, 3, 4, 5, 6), "left": (7, 8, 9), "right": (10, 11, 12)},
)
FINGERS = ("thumb", "index", "middle", "ring", "little")
# A hand: wrist and five fingers of four joints, in 6 parts.
HAND = SkeletonLayout(
    "my_hand",
    ("wrist", *(f"{finger}_{place}" for finger in FINGERS for place in range(4))),
    tuple((joint, joint - 1 if (joint - 1) % 4 else 0) for joint in range(1, 21)),
    {"wrist": (0,), **{finger: tuple(range(4 * i + 1, 4 * i + 5)) for i, finger in enumerate(FINGERS)}},
)


def write_store(
    folder: Path,
    sequences: Mapping[str, np.ndarray],
    labels: Sequence[int],
    layout: SkeletonLayout = DESK,
    columns: Mapping[str, Sequence[int]] | None = None,
    lists: Mapping[str, Sequence[str]] | None = None,
    **meta: Any,
) -> SkeletonStore:
    """A store of sequences (L, M, V, 3) by id, of one label each; by default all are for training and the test."""
    folder.mkdir(parents=True)
    with StoreWriter(folder) as writer:
        for row, (name, frames) in enumerate(sequences.items()):
            facts = {key: int(values[row]) for key, values in (columns or {}).items()}
            writer.add(Sample(name, labels[row], np.asarray(frames, np.float32), columns=facts))
        known = {"layout": asdict(layout), "class_names": [f"class {k}" for k in range(max(labels) + 1)]}
        writer.close(folder.name, **{**known, **meta})
    whole = {"train": list(sequences), "test": list(sequences)}
    for split, names in (whole if lists is None else lists).items():
        write_list(folder / "splits" / f"{split}.txt", names)
    return SkeletonStore(folder)


def write_moving_parts(folder: Path, layout: SkeletonLayout, n_max: int = 40, imbalance: float = 8) -> SkeletonStore:
    """A store in which class k moves part k of a layout and nothing else: long-tailed training, eight tests a class.

    Each take begins anywhere, at any tempo, in any direction; all joints tremble. Joints rest at random places.
    """
    rng = np.random.default_rng(0)
    rest = rng.normal(size=(layout.num_joints, 3))
    sequences, labels, lists = {}, [], {"train": [], "test": []}  # type: ignore[var-annotated]
    for label, (part, joints) in enumerate(layout.parts.items()):
        count = int(n_max * imbalance ** -(label / (layout.num_parts - 1)))
        for number in range(count + 8):
            time = rng.uniform(0.2, 0.5) * np.arange(rng.integers(20, 40)) + rng.uniform(0, 6)
            frames = rest + 0.05 * rng.normal(size=(len(time), layout.num_joints, 3))
            frames[:, list(joints)] += 0.6 * np.sin(time)[:, None, None] * rng.normal(size=3)
            split, name = "train" if number < count else "test", f"{part} {number}"
            sequences[name] = frames[:, None] + rng.normal(size=3)
            lists[split].append(name)
            labels.append(label)
    names = [f"move {part}" for part in layout.parts]
    return write_store(folder, sequences, labels, layout, lists=lists, class_names=names)
