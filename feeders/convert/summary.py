"""What a conversion gave, in a few lines."""

from __future__ import annotations

import numpy as np

from ..store import SkeletonStore


def summary(store: SkeletonStore) -> str:
    """Classes, people, subjects and what was filled, as text."""
    counts, columns = np.bincount(store.labels, minlength=len(store.meta["class_names"])), store.columns
    lengths = store.lengths
    lines = [f"{len(store)} sequences of {len(counts)} classes ({_range(counts)} each), {_range(lengths)} frames"]
    if subjects := store.meta["subjects"]:
        lines.append(f"{len(subjects)} subjects")
    if more := int((columns["people"] > store.frames.shape[1]).sum()):
        lines.append(f"{more} sequences have more than {store.frames.shape[1]} people in a frame; --people keeps more")
    if "filled" in columns and columns["filled"].any():
        joints = int((lengths * columns["people"]).sum()) * store.frames.shape[2]
        share = columns["filled"].sum() / joints
        worst = store.ids[int(np.argmax(columns["filled"] / lengths))]
        lines.append(
            f"{columns['filled'].sum()} joints that were not seen are filled ({share:.1%}), in "
            f"{(columns['filled'] > 0).sum()} sequences, most in {worst}"
        )
    if "removed" in columns and columns["removed"].any():
        lines.append(f"{columns['removed'].sum()} frames without people are removed")
    lines.append(f"next: python -m tools.validate {store.path}")
    return "\n".join(lines)


def _range(values: np.ndarray) -> str:
    low, high = int(np.min(values)), int(np.max(values))
    return f"{low}" if low == high else f"{low} to {high}"
