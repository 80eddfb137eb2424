"""A take -> a sequence of a store: joints in the layout's order, people chosen, gaps filled.

Shapes: L frames, M people, V joints, D = 2 or 3 coordinates, C channels of the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shapmix.skeleton import SkeletonLayout

from ..gaps import fill_gaps
from ..store import DataError, Sample
from .forms import FORMS
from .names import match_names
from .prepare import LeftOut, Unusable
from .recording import Hints, Recording
from .takes import Take

READERS = {form.name: form for form in FORMS}


@dataclass(frozen=True)
class Plan:
    """What the takes of a set have in common, and what becomes of them.

    Attributes:
        layout: whose joints the store has.
        dims: D.
        people: M, most people that are kept.
        hints: for the readers.
        classes, subjects, views, splits: names; what a take says is one of them.
        size: (height, width) of the image where the files do not say it; None: unknown.
        max_missing: largest share (0 .. 1) of joints not seen that are filled; with more, a take is left out.
        min_frames: of a sequence.
        keeps_gaps: joints that are not seen stay NaN, in 2D with score 0.
    """

    layout: SkeletonLayout
    dims: int
    people: int
    hints: Hints
    classes: tuple[str, ...]
    subjects: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    max_missing: float = 0.5
    min_frames: int = 1
    keeps_gaps: bool = field(default=False, repr=False)  # no store is made of them, so fingerprints do not know it

    def meta(self, form: str, class_names: Sequence[str] | None = None) -> dict[str, Any]:
        """Entries of the ``meta.json`` of the store."""
        return {
            "layout": self.layout.plain(), "class_names": [*(class_names or self.classes)], "splits": [*self.splits],
            "dims": self.dims, "subjects": [*self.subjects], "views": [*self.views], "form": form,
        }  # fmt: skip

    def read(self, take: Take) -> Sample:
        """One take as a sequence of the store; an error in it becomes the sample's ``problem``."""
        columns = {"subject": _place(self.subjects, take, "subject"), "view": _place(self.views, take, "view")}
        columns |= {f"in {split}": int(take.facts.get("split") == split) for split in self.splits}
        columns |= {"people": 0, "filled": 0, "removed": 0}
        if self.dims == 2:
            columns |= {"height": 0, "width": 0}
        label = self.classes.index(take.facts["label"])
        try:
            frames, found = sequence(read_take(take, self.hints), self)
        except DataError as error:
            return Sample(take.id, label, problem=str(error), columns=columns)
        return Sample(take.id, label, frames, columns={**columns, **found})


@dataclass(frozen=True)
class Conversion:
    """A set that is understood, ready to be packed into a store.

    Attributes:
        items: one for each take, in order.
        read: item -> sequence; what cannot be used has a ``problem``.
        fingerprint: of the files and of what was asked for.
        words: what was understood.
        meta: entries of the ``meta.json`` of the store.
        left_out: what was left out before.
        ids, labels: of the items.
        recording: item -> the take as its file has it, or Unusable; None where items are takes, see :func:`read_take`.
    """

    items: Sequence[Any]
    read: Callable[[Any], Sample]
    fingerprint: str
    words: Mapping[str, str]
    meta: Mapping[str, Any]
    left_out: LeftOut = field(default_factory=dict)
    ids: Sequence[str] = ()
    labels: Sequence[int] = ()
    recording: Callable[[Any], Recording] | None = None


def read_take(take: Take, hints: Hints) -> Recording:
    """One take as its file has it; Unusable where it cannot be read."""
    with damage_named():
        return READERS[take.form].read(take.sources, hints)


@contextmanager
def damage_named() -> Iterator[None]:
    """Unusable, whatever a reader of files raises."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # a damaged file may raise anything
        raise Unusable(f"damaged: {type(error).__name__}: {error}") from error


def _place(names: tuple[str, ...], take: Take, fact: str) -> int:
    return names.index(take.facts[fact]) if fact in take.facts else -1


def sequence(recording: Recording, plan: Plan) -> tuple[np.ndarray, Mapping[str, int]]:
    """(L, M, V, C) float32, zero where a person is absent; and its columns.

    Frames in which nobody is seen are removed. 2D: C is x, y and the score, 1 where the file has none and 0 where the
    joint was filled. 3D: C is x, y, z.

    Raises:
        Unusable: other joints or coordinates, nobody in any frame, too few joints seen.
    """
    x, score = _ordered(recording, plan)
    seen = np.isfinite(x).all(axis=-1)
    if score is not None:
        seen &= score > 0
    seen &= (x != 0).any(axis=(2, 3))[:, :, None]  # a person of zeros is none
    there = seen.any(axis=2)  # (L, M)
    if not there.any():
        raise Unusable(f"no people: in none of {len(x)} frames")
    kept = _chosen(x, score, seen, there, plan.people)
    most = int(there.sum(axis=1).max())
    with_people = there[:, kept].any(axis=1)
    x, seen, there = x[with_people][:, kept], seen[with_people][:, kept], there[with_people][:, kept]
    score = None if score is None else score[with_people][:, kept]
    if len(x) < plan.min_frames:
        raise Unusable(f"too short: {len(x)} frames with people, wanted {plan.min_frames}")
    gaps = there[:, :, None] & ~seen
    share = gaps.sum() / (there.sum() * seen.shape[2])
    if share > plan.max_missing:
        raise Unusable(f"too few joints seen: {share:.0%} are missing, at most {plan.max_missing:.0%} are filled")
    x = np.where(seen[..., None], x, 0)
    if plan.keeps_gaps:
        x[gaps] = np.nan
    elif gaps.any():
        fill_gaps(x, seen, there, plan.layout)
    out = np.zeros((len(x), plan.people, x.shape[2], 3), np.float32)
    out[:, : len(kept), :, : plan.dims] = x
    columns = {"people": most, "filled": int(gaps.sum()), "removed": int((~with_people).sum())}
    if plan.dims == 2:
        out[:, : len(kept), :, 2] = np.where(seen, 1 if score is None else score, 0)
        columns["height"], columns["width"] = recording.size or plan.size or (0, 0)
    return out, columns


def _ordered(recording: Recording, plan: Plan) -> tuple[np.ndarray, np.ndarray | None]:
    """Coordinates and scores with the joints in the layout's order."""
    x, score, layout = np.asarray(recording.frames), recording.score, plan.layout
    if x.shape[-1] != plan.dims:
        raise Unusable(f"other coordinates: {x.shape[-1]}, the set has {plan.dims}")
    order = match_names(recording.joint_names, layout) if recording.joint_names else None
    if order is not None:
        return x[:, :, order], None if score is None else score[:, :, order]
    if recording.joint_names and len(recording.joint_names) != layout.num_joints:
        raise Unusable(
            f"other joints: {', '.join(recording.joint_names[:4])}, ... ({len(recording.joint_names)}) are not those "
            f"of {layout.name}"
        )
    if x.shape[2] != layout.num_joints:
        raise Unusable(f"other joints: {x.shape[2]}, layout {layout.name} has {layout.num_joints}")
    return x, score


def _chosen(x: np.ndarray, score: np.ndarray | None, seen: np.ndarray, there: np.ndarray, people: int) -> list[int]:
    """The people that are kept: those with the largest scores, or without scores those that move most.

    The one who is there in most frames comes first, else they stay in their order.
    """
    present = [person for person in range(there.shape[1]) if there[:, person].any()]
    if len(present) > people:
        if score is not None:
            weight = (score * seen).sum(axis=(0, 2))
        else:
            both = (seen[1:] & seen[:-1])[..., None]
            weight = np.where(both, np.abs(np.diff(x, axis=0)), 0).sum(axis=(0, 2, 3))
        present = sorted(sorted(present, key=lambda person: -weight[person])[:people])
    return sorted(present, key=lambda person: -there[:, person].sum())
