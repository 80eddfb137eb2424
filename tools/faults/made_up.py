"""Made-up files to prepare and to convert.

Shapes: L frames, B bodies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np


def skeleton_text(
    joints: np.ndarray, ids: Sequence[str] = ("72057594037927931", "72057594037927932"), end: str = "\n"
) -> str:
    """A raw NTU file of bodies (L, B, 25, 3) under these ids; a body is not in frames where it is NaN."""
    lines = [str(len(joints))]
    for frame in joints:
        there = [body for body in range(len(frame)) if not np.isnan(frame[body]).any()]
        lines.append(str(len(there)))
        for body in there:
            lines += [f"{ids[body]} 0 1 1 0 0 0 0.01 -0.02 2", str(len(frame[body]))]
            lines += [
                f"{x:.8g} {y:.8g} {z:.8g} 260.7 209.9 973.7 533.8 0.3 -0.1 -0.9 -0.2 2" for x, y, z in frame[body]
            ]
    return end.join(lines) + end


def write_ntu_raw(
    folder: Path, names: Iterable[str], lengths: tuple[int, int] = (12, 40), end: str = "\n", seed: int = 0
) -> Path:
    """A folder of made-up raw NTU files of ``lengths`` frames: people who wave as their action's number has it.

    There are two of them in NTU's actions for two (50 to 60, 106 to 120), else one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        rng = np.random.default_rng([seed, *name.encode()])
        action = int(name[-3:])
        length, people = int(rng.integers(lengths[0], lengths[1] + 1)), 2 if 50 <= action <= 60 or action > 105 else 1
        joints = rng.normal([0, 0, 3], [0.1, 0.4, 0.1], size=(1, people, 25, 3))
        joints[:, :, 0, 1], joints[:, :, 3, 1] = -0.8, 0.8
        joints = joints + rng.normal(scale=0.005, size=(length, people, 25, 3))
        wave = np.sin(np.arange(length) * (0.1 + 0.05 * (action % 7)))
        for person in range(people):
            joints[:, person, :, 0] += person - 0.5 * (people - 1)
            joints[:, person, 4 + action % 8, 1] += (0.5 - 0.2 * person) * wave
        (folder / f"{name}.skeleton").write_text(skeleton_text(joints, end=end), newline="")
    return folder


def write_arrays(folder: Path, classes: int = 3, takes: int = 4) -> Path:
    """A folder for each class, with sequences of 25 joints as numpy arrays."""
    rng = np.random.default_rng(0)
    for name in (f"action_{number}" for number in range(classes)):
        (folder / name).mkdir(parents=True)
        for take in range(takes):
            np.save(folder / name / f"take_{take}.npy", rng.normal(size=(int(rng.integers(8, 30)), 25, 3)))
    return folder
