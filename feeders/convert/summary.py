"""What a conversion gave, in a few lines."""

from __future__ import annotations

import numpy as np

from shapmix.skeleton import SkeletonLayout

from ..anatomy import bone_length, evenly, height, units
from ..store import SkeletonStore

LOOKED_AT = 16  # sequences, for the units


def summary(store: SkeletonStore) -> str:
    """Classes, people, subjects, units and what was filled, as text."""
    counts, columns = np.bincount(store.labels, minlength=len(store.meta["class_names"])), store.columns
    lengths = store.lengths
    lines = [f"{len(store)} sequences of {len(counts)} classes ({_range(counts)} each), {_range(lengths)} frames"]
    if subjects := store.meta["subjects"]:
        lines.append(f"{len(subjects)} subjects")
    lines.append(_units(store))
    if more := int((columns["people"] > store.frames.shape[1]).sum()):
        lines.append(f"{more} sequences have more than {store.frames.shape[1]} people in a frame; --people keeps more")
    if "filled" in columns and columns["filled"].any():
        joints = int((lengths * columns["people"]).sum()) * store.frames.shape[2]
        share = columns["filled"].sum() / joints
        worst = store.ids[int(np.argmax(columns["filled"] / lengths))]
        lines.append(
            f"joints that were not seen are filled: {columns['filled'].sum()} ({share:.2%}), in "
            f"{(columns['filled'] > 0).sum()} of {len(store)} sequences, most in {worst}"
        )
    if "removed" in columns and columns["removed"].any():
        lines.append(f"frames without people are removed: {columns['removed'].sum()}")
    lines.append(f"next: python -m tools.validate {store.path}")
    return "\n".join(lines)


def _units(store: SkeletonStore) -> str:
    """What the coordinates look like: of 3D their units, of 2D whether the size of the image is known."""
    if store.meta["dims"] == 2:
        known = store.columns["height"] > 0
        if known.all():
            return "units: shares of the image" if (store.columns["height"] == 1).all() else "units: pixels"
        return (
            f"units: the size of the image is not known of {(~known).sum()} sequences; --img_shape H W says it, else "
            "the box around each sequence takes its place"
        )
    layout = SkeletonLayout.get(store.meta["layout"])
    samples = [store.sequence(int(row)) for row in evenly(len(store), LOOKED_AT)]
    size = height(samples, layout)
    if size is None:
        return f"units: not known; a bone has {bone_length(samples, layout) or 0.0:.3g} on average"
    looks = "metres, or shares of an image" if size < 1.2 else units(size)
    return f"units: {looks}; people are {size:.3g} high"


def _range(values: np.ndarray) -> str:
    low, high = int(np.min(values)), int(np.max(values))
    return f"{low}" if low == high else f"{low} to {high}"
