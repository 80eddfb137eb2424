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
