"""What is in a prepared store, sequence by sequence, and what about it will make trouble in training.

Shapes: n sequences, L frames of one, M people, V joints, C channels.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np

from shapmix.skeleton import SkeletonLayout

from .anatomy import LONG_BONE, bone_length, height, order_problem, sides_swapped, units, upright_axis
from .convert.pyskl import is_training
from .feeder import BAD_VALUE_LIMIT
from .own_splits import split_names, split_rows
from .store import DataError, SkeletonStore

Level = Literal["error", "warning", "note"]
SHORT = 8  # frames
MOSTLY = 0.8  # share of frames
REPEATED = 0.5  # share of frames that equal the one before


@dataclass(frozen=True)
class Finding:
    """Something about the data that a person should know.

    Attributes:
        level: error: training would fail; warning: results would suffer; note: worth a look.
        code: a word for programs.
        what: a sentence.
        advice: what to do.
        ids: sequences that it is about.
    """

    level: Level
    code: str
    what: str
    advice: str
    ids: list[str] = field(default_factory=list)


class Inspection:
    """A store with facts of each sequence, all found in one pass over its frames.

    Attributes:
        store, layout: the store and its layout.
        splits: name -> rows.
        broken: name -> what is wrong with a split that cannot be read.
        digests: n words; equal where the frames are equal.
        repeated: (n,) share of frames that equal the one before.
        frozen: row -> joints that stay in one place while others of the person move.
        constant: (n,) whether nothing moves at all.

    Raises:
        DataError: no store of this kind, or frames that are damaged.
    """

    def __init__(self, store: SkeletonStore, progress: Callable[[Iterable[int]], Iterable[int]] = iter) -> None:
        if missing := {"layout", "class_names"} - store.meta.keys():
            raise DataError(
                f"{store.path} does not say its {' and '.join(sorted(missing))}: it was not written by tools.convert"
            )
        self.store, self.layout = store, SkeletonLayout.get(store.meta["layout"])
        self.class_names: list[str] = store.meta["class_names"]
        self.splits: dict[str, np.ndarray] = {}
        self.broken: dict[str, str] = {}
        for split in split_names(store):
            try:
                self.splits[split] = split_rows(store, split)
            except DataError as error:
                self.broken[split] = str(error)
        number = len(store)
        self.digests = [""] * number
        self.repeated, self.constant = np.zeros(number), np.zeros(number, bool)
        self.frozen: dict[int, list[int]] = {}
        for row in progress(range(number)):
            self._look(row, store.sequence(row))

    def _look(self, row: int, frames: np.ndarray) -> None:
        self.digests[row] = hashlib.blake2b(np.ascontiguousarray(frames).data, digest_size=16).hexdigest()
        if len(frames) < 2:
            return
        still = frames[1:] == frames[:-1]
        self.repeated[row] = still.all(axis=(1, 2, 3)).mean()
        self.constant[row] = bool(still.all())
        person = still[:, 0, :, : self.dims].all(axis=(0, 2))
        centre = self.layout.center
        if not self.constant[row] and (held := np.flatnonzero(person)).size > 0:
            self.frozen[row] = [joint for joint in held.tolist() if joint != centre]

    @property
    def dims(self) -> int:
        """How many of the C channels are coordinates."""
        return self.store.dims

    @cached_property
    def counts(self) -> dict[str, np.ndarray]:
        """Split -> sequences of each class (K,); ``all``: of the store."""
        rows = {"all": np.arange(len(self.store)), **self.splits}
        return {
            split: np.bincount(self.store.labels[members], minlength=len(self.class_names))
            for split, members in rows.items()
        }

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """Each training split with those that are held out of it: xsub_train with xsub_val, not with xset_val."""
        rest = {split: re.sub("train|valid|val|test", "", split) for split in self.splits}
        held_out = [split for split in self.splits if not is_training(split)]
        of = {split: [other for other in held_out if rest[other] == rest[split]] for split in self.splits}
        return [(one, other) for one in self.splits if is_training(one) for other in of[one] or held_out]

    def sample(self, number: int = 64) -> list[np.ndarray]:
        """Frames (L, M, V, C) of so many sequences, evenly spread over the store."""
        usable = [row for row, length in enumerate(self.store.lengths.tolist()) if length]
        places = np.linspace(0, len(usable) - 1, min(number, len(usable))).astype(int)
        return [self.store.sequence(usable[place]) for place in places]

    def as_dict(self) -> dict[str, Any]:
        """What is in the store, as plain data."""
        return {
            "store": str(self.store.path), "sequences": len(self.store), "layout": self.layout.name, "dims": self.dims,
            "people": self.store.frames.shape[1], "frames": [int(number) for number in self.store.lengths],
            "classes": {
                name: {split: int(counts[label]) for split, counts in self.counts.items()}
                for label, name in enumerate(self.class_names)
            },
        }  # fmt: skip

    def names(self, rows: Iterable[int]) -> list[str]:
        """Ids of rows."""
        return [self.store.ids[row] for row in rows]


def findings(data: Inspection) -> list[Finding]:
    """All that is to be said of a store, errors first."""
    order = ("error", "warning", "note")
    found = [finding for check in CHECKS for finding in check(data)]
    return sorted(found, key=lambda finding: order.index(finding.level))


def _of_splits(data: Inspection) -> Iterator[Finding]:
    by = "subject" if data.store.meta.get("subjects") else "random"
    make = f"python -m tools.split {data.store.path} --by {by} --test 0.2"
    for split, reason in data.broken.items():
        yield Finding("error", "broken_split", f"split {split} cannot be used: {reason}", f"write it again: {make}")
    if not data.pairs:
        what = f"there is no {'test' if any(map(is_training, data.splits)) else 'training'} split"
        yield Finding("error", "no_split", what, make)
    for one, other in data.pairs:
        if len(shared := np.intersect1d(data.splits[one], data.splits[other])):
            what = f"{len(shared)} sequences are in {one} and in {other}"
            yield Finding("error", "shared_samples", what, make, data.names(shared))
        yield from _subjects(data, one, other)


def _subjects(data: Inspection, one: str, other: str) -> Iterator[Finding]:
    """Subjects that are in both splits."""
    if "subject" not in data.store.columns or not data.store.meta.get("subjects"):
        return
    subjects = data.store.columns["subject"]
    both = np.intersect1d(subjects[data.splits[one]], subjects[data.splits[other]])
    both = both[both >= 0]
    if len(both):
        names = [data.store.meta["subjects"][number] for number in both]
        rows = data.splits[other][np.isin(subjects[data.splits[other]], both)]
        yield Finding(
            "warning", "shared_subjects",
            f"{len(names)} subjects are in {one} and in {other}: {', '.join(names[:5])}",
            f"results will be better than for new people: python -m tools.split {data.store.path} --by subject",
            data.names(rows),
        )  # fmt: skip


def _of_classes(data: Inspection) -> Iterator[Finding]:
    names = np.array(data.class_names)
    alone = np.flatnonzero(data.counts["all"] == 1)
    if len(alone):
        rows = np.flatnonzero(np.isin(data.store.labels, alone))
        what = f"{len(alone)} classes have a single sequence: {', '.join(names[alone][:5])}"
        yield Finding("warning", "single_sample", what, "record more, or leave the class out", data.names(rows))
    for split, counts in data.counts.items():
        empty = np.flatnonzero(counts == 0)
        if is_training(split) and (counts > 0).sum() < 2:
            yield Finding(
                "error", "one_class", f"split {split} has {(counts > 0).sum()} classes", "give it two at least"
            )
        elif split != "all" and len(empty):
            what = f"{len(empty)} classes have no sequence in {split}: {', '.join(names[empty][:5])}"
            means = "are never predicted" if is_training(split) else "are not tested"
            yield Finding("warning", "empty_class", what, f"they {means}; split again or record more")


def _of_frames(data: Inspection) -> Iterator[Finding]:
    store, lengths = data.store, data.store.lengths
    if store.problems:
        what = f"{len(store.problems)} sequences cannot be used, such as {next(iter(store.problems.items()))}"
        yield Finding("error", "unusable", what, "set on_bad_sample: skip, or convert again", list(store.problems))
    large = np.flatnonzero(store.largest > BAD_VALUE_LIMIT)
    if len(large):
        what = f"{len(large)} sequences have values above {BAD_VALUE_LIMIT:g}"
        advice = "remove them, or change the unit; bad_value_limit sets the limit"
        yield Finding("error", "large_values", what, advice, data.names(large))
    for code, rows, what, advice in (
        ("one_frame", lengths == 1, "have one frame only", "a recogniser of motion cannot tell them; leave them out"),
        ("short", (lengths > 1) & (lengths < SHORT), f"have fewer than {SHORT} frames", "check the frame rate"),
        ("no_motion", data.constant & (lengths > 1), "do not move at all", "recorded wrongly? leave them out"),
        (
            "repeated_frames", ~data.constant & (data.repeated > REPEATED),
            f"repeat more than {REPEATED:.0%} of their frames", "the tracker stood still, or frames were doubled",
        ),
    ):  # fmt: skip
        if rows.any():
            yield Finding("warning", code, f"{rows.sum()} sequences {what}", advice, data.names(np.flatnonzero(rows)))
    filled = store.columns.get("filled", np.zeros(len(store), np.int64))
    joints = (
        np.maximum(lengths * store.columns.get("people", np.ones(len(store), np.int64)), 1) * data.layout.num_joints
    )
    if (many := filled > 0.1 * joints).any():
        what = f"{many.sum()} sequences have more than 10 % of their joints filled in"
        rows = np.flatnonzero(many)
        yield Finding(
            "note",
            "filled",
            what,
            "python -m tools.convert with a smaller --max_missing leaves them out",
            data.names(rows),
        )


def _of_duplicates(data: Inspection) -> Iterator[Finding]:
    groups: dict[str, list[int]] = defaultdict(list)
    for row, digest in enumerate(data.digests):
        if digest:
            groups[digest].append(row)
    twice = [rows for rows in groups.values() if len(rows) > 1]
    if not twice:
        return
    inside = {split: set(rows.tolist()) for split, rows in data.splits.items()}
    across = [
        rows
        for rows in twice
        if any(inside[one] & set(rows) and inside[other] & set(rows) for one, other in data.pairs)
    ]
    other = [rows for rows in twice if len({int(data.store.labels[row]) for row in rows}) > 1]
    for code, groups_of, what in (
        ("duplicates_across_splits", across, "recordings are in two splits under two names"),
        ("duplicates_of_two_classes", other, "recordings have two labels"),
        ("duplicates", twice, "recordings occur more than once"),
    ):
        if groups_of:
            rows = [row for group in groups_of for row in group]
            yield Finding("warning", code, f"{len(groups_of)} {what}", "remove the copies", data.names(rows))
            return


def _of_joints(data: Inspection) -> Iterator[Finding]:
    held: dict[int, list[int]] = defaultdict(list)
    for row, joints in data.frozen.items():
        for joint in joints:
            held[joint].append(row)
    often = {joint: rows for joint, rows in held.items() if len(rows) > 0.1 * len(data.store)}
    if often:
        names = ", ".join(
            data.layout.joint_names[joint] for joint in sorted(often, key=lambda joint: -len(often[joint]))[:5]
        )
        rows = sorted({row for rows in often.values() for row in rows})
        what = f"{len(often)} joints do not move in more than a tenth of the sequences: {names}"
        yield Finding("warning", "frozen_joints", what, "not tracked? leave them out of the layout", data.names(rows))


def _of_bodies(data: Inspection) -> Iterator[Finding]:
    """What the bodies themselves tell: order of joints, sides, which way is up, units."""
    samples, layout, dims = data.sample(), data.layout, data.dims
    show = f"python -m tools.show {data.store.path} shows them; convert again with the right --layout"
    if problem := order_problem(samples, layout, dims):
        yield Finding("warning", "joint_order", problem, show)
        return
    swapped = sides_swapped(samples, layout, dims)
    if swapped is not None and swapped > MOSTLY:
        what = f"left and right look exchanged (in {swapped:.0%} of the frames that tell), or an axis is mirrored"
        yield Finding("warning", "sides", what, f"compare with the recordings; {show}")
    if (up := upright_axis(samples, layout, dims)) is not None:
        axis, sign, share = "xyz"[up[0]], up[1], up[2]
        wanted = ("y", 1) if dims == 3 else ("y", -1)
        if share > MOSTLY and (axis, sign) != wanted:
            what = f"heads are at the {'large' if sign > 0 else 'small'} end of {axis} ({share:.0%} of the frames)"
            usual = "3D skeletons usually have y up" if dims == 3 else "y usually points down in an image"
            turn = f"say up: {axis} in feeder_args where you use facing" if sign > 0 and dims == 3 else "turn them over"
            yield Finding("note", "upright", f"{what}; {usual}", f"{turn}, if it matters to you (mixing does not mind)")
    size = height(samples, layout, dims)
    if dims == 3 and (unit := units(size, dims)) not in ("metres", "unknown"):
        what = f"people are {size:.0f} high, so the coordinates look like {unit}"
        yield Finding("note", "units", what, "set scale: torso in feeder_args, or convert to metres")
    elif dims == 3 and size is None and (bone := bone_length(samples, layout) or 0.0) > LONG_BONE:
        what = f"bones are {bone:.0f} long on average, so the coordinates are not metres"
        yield Finding("note", "units", what, "set scale: bones in feeder_args, or convert to metres")


CHECKS: Sequence[Callable[[Inspection], Iterator[Finding]]] = (
    _of_splits, _of_classes, _of_frames, _of_duplicates, _of_joints, _of_bodies,
)  # fmt: skip
