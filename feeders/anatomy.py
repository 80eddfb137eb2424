"""What bones tell about sequences: the order of the joints, left and right, which way is up, units.

Samples are sequences (L, M, V, C) as a store has them: C = 3 is x, y, z (dims 3) or x, y, score (dims 2), a person who
is absent in a frame is 0, a joint without score is not looked at, and NaN is a joint that was not seen. A person with a
joint that is never seen is passed over. All is judged from at most SAMPLES sequences, evenly chosen, and FRAMES frames.

Shapes: L frames, M people, V joints, D = 2 or 3 coordinates (dims).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.sparse.csgraph import minimum_spanning_tree

from shapmix.skeleton import LAYOUTS, SkeletonLayout

SAMPLES, FRAMES = 32, 32
MARGIN = 0.15  # between the scores of two layouts: under it, bones do not tell
DOUBTFUL = 0.8  # a score: right orders came to 0.1 .. 0.6 in all data that we have, random ones to 1.4 and more
LONG_BONE = 1.5  # metres: the mean bone of no body
Units = Literal["metres", "centimetres", "millimetres", "pixels", "shares", "unknown"]
HEADS = ("head", "nose", "face", "neck", "lowerneck")
FEET = ("foot", "toes", "big_toe", "foot_index", "heel", "ankle")


@dataclass(frozen=True)
class Fit:
    """How well a layout's bones fit sequences; all are 0 for a perfect fit.

    Attributes:
        spread: how much lengths change over the frames: mean over bones of the median deviation from the median,
            times 1.4826 and divided by the median, each at most 1.
        asymmetry: mean over pairs of left and right bones of the absolute logarithm of the ratio of their lengths;
            0 where the layout has no sides.
        stretch: logarithm of the bones' summed length over the least that can join these joints.
    """

    spread: float
    asymmetry: float
    stretch: float

    @property
    def score(self) -> float:
        """The sum of the three: the lower, the better."""
        return self.spread + self.asymmetry + self.stretch


def fit(samples: Sequence[np.ndarray], layout: SkeletonLayout, dims: int = 3) -> Fit | None:
    """How well the bones of a layout of V joints fit; None where nobody is seen.

    In two dimensions lengths change with the view, so only :attr:`Fit.stretch` says much there.
    """
    joints, neighbours = np.array(layout.edges).T
    left, right = _pairs_of_bones(layout)
    found = []
    for body in _people(samples, dims):
        length = np.linalg.norm(body[:, joints] - body[:, neighbours], axis=-1)  # (L, V - 1)
        middle = np.nanmedian(length, axis=0)
        floor = max(float(middle.max()), 1e-12) * 1e-6
        spread = 1.4826 * np.nanmedian(np.abs(length - middle), axis=0) / np.maximum(middle, floor)
        ratio = np.log(np.maximum(middle[left], floor) / np.maximum(middle[right], floor))
        distance = np.nanmedian(np.linalg.norm(body[:, :, None] - body[:, None], axis=-1), axis=0)
        shortest = minimum_spanning_tree(np.maximum(distance, floor * (1 - np.eye(len(distance))))).sum()
        stretch = np.log(np.maximum(distance[joints, neighbours], floor).sum() / shortest)
        found.append((np.minimum(spread, 1).mean(), np.abs(ratio).mean() if len(ratio) else 0.0, stretch))
    return Fit(*(float(value) for value in np.median(found, axis=0))) if found else None


def choose_layout(
    samples: Sequence[np.ndarray], candidates: Sequence[SkeletonLayout], dims: int = 3
) -> tuple[SkeletonLayout, bool, dict[str, float]]:
    """The candidate whose bones fit best.

    Args:
        candidates: layouts of V joints, at least one.

    Returns:
        the layout; whether this is certain, which is so where its score is no sign of a wrong order (DOUBTFUL) and
        better than any other by MARGIN; and the score of each candidate's :class:`Fit`, none where nobody is seen.
        Left and right, and joints that lie together, cannot be judged in this way.
    """
    fits = {layout.name: fit(samples, layout, dims) for layout in candidates}
    scores = {name: one.score for name, one in fits.items() if one is not None}
    if not scores:
        return candidates[0], False, {}
    first, *others = sorted(candidates, key=lambda layout: scores[layout.name])
    certain = scores[first.name] < DOUBTFUL and all(scores[one.name] - scores[first.name] > MARGIN for one in others)
    return first, certain, scores


def order_problem(samples: Sequence[np.ndarray], layout: SkeletonLayout, dims: int = 3) -> str | None:
    """What bones say against this order of the joints, as a sentence; None where they say nothing."""
    others = [
        other for other in LAYOUTS.values() if other.num_joints == layout.num_joints and other.name != layout.name
    ]
    best, _, scores = choose_layout(samples, [layout, *others], dims)
    if not scores:
        return None
    if scores[layout.name] - scores[best.name] > MARGIN:
        far = "far " if scores[layout.name] - scores[best.name] > 2 * MARGIN else ""
        return f"the joint order does not look like {layout.name}; {best.name} fits {far}better"
    if scores[layout.name] > DOUBTFUL:
        return f"the joint order does not look like {layout.name}: its bones are too long, or change their lengths"
    return None


def sides_swapped(samples: Sequence[np.ndarray], layout: SkeletonLayout, dims: int = 3) -> float | None:
    """The share of the frames, 0 .. 1, in which the left joints are on the person's right.

    In three dimensions, what is ahead tells: toes of ankles, the nose of the ears, bent knees, and wrists of bent
    elbows. That presumes right-handed axes, as Kinect's are; a mirrored axis looks the same as swapped sides. In two,
    only a face that looks at the camera tells: frames whose nose and eyes have scores above 0.5, and differ from those
    of other frames; a mirrored picture looks the same.

    Returns:
        None where the data cannot tell: the layout has no such joints, or they are never ahead of each other.
    """
    if dims == 2:
        return _face_swapped(samples, layout)
    left, right = _sided(layout, "shoulder", "hip", "hipjoint")
    head, feet = _among(layout, HEADS), _both(layout, FEET)
    if not (left and head is not None and feet):
        return None
    votes = []
    for body in _people(samples, dims):
        ahead = _ahead(body, layout)
        if ahead is not None:
            up = body[:, head] - body[:, feet].mean(axis=1)
            across = body[:, left].mean(axis=1) - body[:, right].mean(axis=1)
            size = np.linalg.norm(up, axis=-1) * np.linalg.norm(across, axis=-1) * np.linalg.norm(up, axis=-1)
            votes.append(np.einsum("lc,lc->l", across, np.cross(up, ahead)) / np.maximum(size, 1e-12))
    vote = np.concatenate(votes) if votes else np.zeros(0)
    vote = vote[np.abs(vote) > 0.02]  # ahead by 2 % of the height
    return float((vote < 0).mean()) if len(vote) else None


def upright_axis(samples: Sequence[np.ndarray], layout: SkeletonLayout, dims: int = 3) -> tuple[int, int, float] | None:
    """Where the head is, as seen from the feet.

    Returns:
        axis: 0, 1 or 2, along which head and feet are farthest apart, on the whole;
        sign: +1 where the head has the larger coordinate, else -1. Expected are (1, +1) in three dimensions, as of
        Kinect, and (1, -1) in two, where y points down in an image;
        share of the frames, 0 .. 1, in which the sign is so. People who lie or turn head over heels lower it.
        None where the layout has no head or no feet, or nobody is seen.
    """
    head, feet = _among(layout, HEADS), _both(layout, FEET)
    if head is None or not feet:
        return None
    ups = [body[:, head] - body[:, feet].mean(axis=1) for body in _people(samples, dims)]
    if not ups:
        return None
    up = np.concatenate(ups)
    up = up[np.isfinite(up).all(axis=1)]
    axis = int(np.abs(np.median(up, axis=0)).argmax())
    sign = 1 if np.median(up[:, axis]) >= 0 else -1
    return axis, sign, float((np.sign(up[:, axis]) == sign).mean())


def height(samples: Sequence[np.ndarray], layout: SkeletonLayout, dims: int = 3) -> float | None:
    """The median person's height in the data's units: the lengths of the bones from a foot to the head, added up.

    In two dimensions a person who points at the camera is shorter. None where the layout has no head or no feet.
    """
    head, feet = _among(layout, HEADS), _both(layout, FEET)
    if head is None or not feet:
        return None
    nearer = layout.parents()
    found = []
    for body in _people(samples, dims):
        length = np.nanmedian(np.linalg.norm(body - body[:, nearer], axis=-1), axis=0)  # (V,), the centre's is 0
        found.append(np.mean([length[list(_way(head, foot, nearer))].sum() for foot in feet]))
    return float(np.median(found)) if found else None


def bone_length(samples: Sequence[np.ndarray], layout: SkeletonLayout, dims: int = 3) -> float | None:
    """The median person's mean bone in the data's units; None where nobody is seen."""
    nearer = layout.parents()
    sizes = [np.linalg.norm(body - body[:, nearer], axis=-1).sum(1) for body in _people(samples, dims)]
    return float(np.median([np.nanmedian(size) for size in sizes])) / len(layout.bones) if sizes else None


def units(size: float | None, dims: int = 3) -> Units:
    """What a person's :func:`height` looks like: 0.5 to 2.6 metres; in two dimensions pixels, or shares of an image."""
    if size is None or not size > 0:
        return "unknown"
    if dims == 2:
        return "shares" if size <= 3 else "pixels"
    names: dict[float, Units] = {1: "metres", 100: "centimetres", 1000: "millimetres"}
    return next((name for factor, name in names.items() if 0.5 * factor <= size <= 2.6 * factor), "unknown")


def _people(samples: Sequence[np.ndarray], dims: int) -> Iterator[np.ndarray]:
    """(L, V, D) of each person of some samples, in frames in which they are there; what is not seen is NaN."""
    for sample in (samples[place] for place in evenly(len(samples), SAMPLES)):
        x = np.asarray(sample, np.float64)
        seen = np.isfinite(x[..., :dims]).all(axis=-1) & (x != 0).any(axis=(2, 3))[..., None]
        if dims == 2 and x.shape[-1] > 2:
            seen &= x[..., 2] > 0
        for person in range(x.shape[1]):
            there = np.flatnonzero(seen[:, person].any(axis=1))
            frames = there[evenly(len(there), FRAMES)]
            body = np.where(seen[frames, person, :, None], x[frames, person, :, :dims], np.nan)
            if len(frames) and _joined(seen[frames, person]):
                yield body


def evenly(number: int, most: int) -> np.ndarray:
    """At most so many of 0 .. number - 1, evenly chosen."""
    return np.unique(np.linspace(0, max(number - 1, 0), min(number, most)).round().astype(int))


def _joined(seen: np.ndarray) -> bool:
    """Whether every two joints are seen (L, V) together in some frame."""
    return bool((seen.astype(np.float32).T @ seen.astype(np.float32) > 0).all())


def _pairs_of_bones(layout: SkeletonLayout) -> tuple[list[int], list[int]]:
    """Places in layout.edges of left bones, and of their right counterparts; both empty without sides."""
    try:
        other = layout.mirrored()
    except ValueError:
        return [], []
    place = {joint: number for number, (joint, _) in enumerate(layout.edges)}
    left = [joint for joint in place if layout.joint_names[joint].startswith("left_")]
    return [place[joint] for joint in left], [place[other[joint]] for joint in left]


def _among(layout: SkeletonLayout, names: Sequence[str]) -> int | None:
    """The first of these joints that the layout has."""
    return next((layout.joint(name) for name in names if name in layout.joint_names), None)


def _sided(layout: SkeletonLayout, *names: str) -> tuple[list[int], list[int]]:
    """The left and the right joints of these names, of those that the layout has on both sides."""
    has = [name for name in names if {f"left_{name}", f"right_{name}"} <= set(layout.joint_names)]
    return [layout.joint(f"left_{name}") for name in has], [layout.joint(f"right_{name}") for name in has]


def _both(layout: SkeletonLayout, names: Sequence[str]) -> list[int]:
    """The left and the right joint of the first of these names that the layout has on both sides; else empty."""
    return next(([*left, *right] for left, right in (_sided(layout, name) for name in names) if left), [])


def _way(start: int, end: int, nearer: Sequence[int]) -> set[int]:
    """The joints whose bones lead from one joint to another."""
    chains = []
    for joint in (start, end):
        chain = [joint]
        while nearer[chain[-1]] != chain[-1]:
            chain.append(nearer[chain[-1]])
        chains.append(set(chain))
    return chains[0] ^ chains[1]


def _ahead(body: np.ndarray, layout: SkeletonLayout) -> np.ndarray | None:
    """(L, D) roughly where a person (L, V, D) faces, not of length 1; None where no joints tell."""
    pieces = []
    for front, behind in (("big_toe", "heel"), ("foot_index", "heel"), ("foot", "ankle"), ("toes", "foot")):
        (fronts, _), (backs, _) = (_sided(layout, name) for name in (front, behind))
        if fronts and backs:
            sides = [_both(layout, [name]) for name in (front, behind)]
            pieces.append(body[:, sides[0]].mean(axis=1) - body[:, sides[1]].mean(axis=1))
            break
    ears = _both(layout, ["ear"])
    if ears and "nose" in layout.joint_names:
        pieces.append(body[:, layout.joint("nose")] - body[:, ears].mean(axis=1))
    for names, sign in ((("hip", "knee", "ankle"), 1), (("shoulder", "elbow", "wrist"), -1)):
        if all(_both(layout, [name]) for name in names):
            start, bend, end = (body[:, _both(layout, [name])] for name in names)
            line = end - start
            share = ((bend - start) * line).sum(-1) / np.maximum((line**2).sum(-1), 1e-12)
            pieces.append(sign * (bend - start - share[..., None] * line).mean(axis=1))
    return np.nansum(pieces, axis=0) if pieces else None


def _face_swapped(samples: Sequence[np.ndarray], layout: SkeletonLayout) -> float | None:
    """The share of frames with a face in which the left eye is left of the right one in the image."""
    (left, right), nose = _sided(layout, "eye"), _among(layout, ["nose"])
    if not left or nose is None:
        return None
    face = [nose, *left, *right]
    seen = [np.asarray(sample)[:, :, face] for sample in samples if np.asarray(sample).shape[-1] > 2]
    points = np.concatenate([one.reshape(-1, 3, 3) for one in seen]) if seen else np.zeros((0, 3, 3))
    clear = (points[:, :, 2] > 0.5).all(axis=1)
    if not clear.any() or clear.all():  # scores that are the same for all do not tell a face from a back
        return None
    return float((points[clear, 1, 0] < points[clear, 2, 0]).mean())
