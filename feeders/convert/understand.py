"""What the takes of a set have in common: which skeleton, how many coordinates and people, which classes.

A sample of the takes is read; what it shows then holds for all of them.

Shapes: M people, V joints, D = 2 or 3 coordinates.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from shapmix.skeleton import LAYOUTS, SkeletonLayout

from ..anatomy import choose_layout, evenly
from ..store import DataError
from ..store_writer import FORMAT
from .axes import ORDERS
from .class_names import class_names
from .label_table import FACTS
from .names import draft_layout, find_layout
from .prepare import first_of, ordered_map
from .recording import Hints, Recording
from .sequences import Conversion, Plan, read_take
from .takes import Take, Takes, natural

PROBED = 64  # takes that are read to understand a set
FRAMES = 2000  # of such a take that are kept in memory
PEOPLE = 2  # kept where nobody said how many
UNLABELLED = "no label"  # the class of takes that are only looked at


class UnknownSkeleton(DataError):
    """Joints with names that no known layout has; ``draft`` is a layout for a person to check."""

    def __init__(self, message: str, draft: SkeletonLayout) -> None:
        super().__init__(message)
        self.draft = draft


@dataclass(frozen=True)
class Wishes:
    """What the user says of a set; None where it is to be found out.

    Attributes:
        to_look_at: no store is made: takes need no label, and joints that are not seen stay NaN.
        labelled: whether the labels of a pickle are asked for.
    """

    layout: SkeletonLayout | None = None
    axes: str | None = None
    dims: int | None = None
    people: int | None = None
    size: tuple[int, int] | None = None
    max_missing: float = 0.5
    min_frames: int = 1
    to_look_at: bool = False
    labelled: bool = True


def understand(found: Takes, wishes: Wishes, jobs: int, classes: Path | None = None) -> Conversion:
    """Reads a sample of the takes, and all of them where labels are in the files.

    Args:
        jobs: processes.
        classes: a file of the names of all classes, in the order of the labels.

    Raises:
        DataError: none can be read; nothing says the labels or the skeleton; a single class.
    """
    takes = found.takes
    probe = [takes[place] for place in np.linspace(0, len(takes) - 1, min(PROBED, len(takes))).astype(int)]
    hints, recordings = _read(probe, wishes)
    known = [recording for recording in recordings if recording.frames.shape[-1] == hints.dims]
    layout, how = _layout(known, hints, wishes.layout)
    more = {fact for fact in FACTS if any(fact in one.facts for one in recordings)}
    lacking = {fact for fact in more if not any(fact in take.facts for take in takes)}
    labelled_by = found.labelled_by or "the files"
    reasons: dict[str, str] = {}
    if lacking:
        takes, reasons = _with_facts(takes, replace(hints, num_joints=layout.num_joints), jobs)
    if wishes.to_look_at:
        takes = [replace(take, facts={"label": UNLABELLED, **take.facts}) for take in takes]
    unlabelled = {
        take.id: reasons.get(take.id, "nothing says its label") for take in takes if not take.facts.get("label")
    }
    takes = [take for take in takes if take.id not in unlabelled]
    labels = _named(takes, "label")
    if not labels:
        raise DataError(
            "nothing says the labels: put the takes of each class into a folder of its own, or write labels.csv with "
            f"the columns id and label beside them, or give --pattern; the takes are called {_some(found.takes)}"
        )
    if len(labels) < 2 and not wishes.to_look_at:
        raise DataError(f"all takes have the label {labels[0]!r}; two classes at least are needed")
    there = max(int(np.isfinite(one.frames).all(-1).any((0, 2)).sum()) for one in known)
    people = min(wishes.people or PEOPLE, there)
    plan = Plan(
        layout, int(hints.dims or 3), people, replace(hints, num_joints=layout.num_joints), tuple(labels),
        tuple(_named(takes, "subject")), tuple(_named(takes, "view")), tuple(_named(takes, "split")), wishes.size,
        wishes.max_missing, wishes.min_frames, wishes.to_look_at,
    )  # fmt: skip
    forms = Counter(take.form for take in takes)
    words = {
        "form": ", ".join(f"{number} x {form}" if len(forms) > 1 else form for form, number in forms.most_common()),
        "labels": labelled_by,
        "skeleton": f"{layout.name}, {layout.num_joints} joints ({how})",
        "coordinates": f"{plan.dims}" + (f", arrays read as {hints.axes}" if hints.axes else ""),
        "people": f"up to {people}" + (f" of {there}; --people keeps more" if there > people else ""),
    }
    left_out = {**found.left_out, **({"no label": unlabelled} if unlabelled else {})}
    meta = plan.meta(words["form"], class_names(labels, classes))
    ids, classes_of = [take.id for take in takes], [labels.index(take.facts["label"]) for take in takes]
    fingerprint = _fingerprint(plan, meta, takes)
    return Conversion(takes, plan.read, fingerprint, words, meta, left_out, ids, classes_of)


def _fingerprint(plan: Plan, meta: Mapping[str, Any], takes: Sequence[Take]) -> str:
    """A word that changes with the plan, the names of the classes, and the names, labels and contents of the takes."""
    known = [(take.id, [source.stamp for source in take.sources], sorted(take.facts.items())) for take in takes]
    return hashlib.blake2b(repr((FORMAT, plan, meta, known)).encode(), digest_size=8).hexdigest()


def _some(takes: Iterable[Take]) -> str:
    return ", ".join(take.id for take in list(takes)[:3])


def _named(takes: Iterable[Take], fact: str) -> list[str]:
    """What takes say of a fact, in natural order."""
    return sorted({take.facts[fact] for take in takes if fact in take.facts}, key=natural)


def _read(probe: Sequence[Take], wishes: Wishes) -> tuple[Hints, list[Recording]]:
    """The takes of a sample, and the hints with which they can be read.

    The numbers of joints and coordinates that most takes show help with the others. Where some can still be read in
    several ways, it is the order of axes by which most takes have these numbers; of several, that with fewest people.
    """
    hints = Hints(wishes.layout.num_joints if wishes.layout else None, wishes.dims, wishes.axes)
    found, problems = _attempt(probe, hints)
    if found:
        hints = _like_most(found, hints)
        found, problems = _attempt(probe, hints)
    if any(problem.startswith("ambiguous axes") for problem in problems.values()):
        orders = [order for orders in ORDERS.values() for order in orders]
        readings = [(replace(hints, axes=order), _attempt(probe, replace(hints, axes=order))[0]) for order in orders]
        alike = [one for one in readings if one[1] and len({take.frames.shape[2:] for take in one[1]}) == 1]
        if alike:
            hints, found = min(alike, key=lambda one: (-len(one[1]), sum(take.frames.shape[1] for take in one[1])))
            hints = _like_most(found, hints)
    if not found:
        raise DataError(f"none of {len(probe)} takes that were looked at can be used: {first_of(problems)}")
    return hints, found


def _like_most(recordings: Sequence[Recording], hints: Hints) -> Hints:
    """The hints with the numbers of joints and coordinates that most takes have."""
    (joints, dims), _ = Counter(one.frames.shape[2:] for one in recordings).most_common(1)[0]
    return replace(hints, num_joints=hints.num_joints or joints, dims=hints.dims or dims)


def _attempt(probe: Sequence[Take], hints: Hints) -> tuple[list[Recording], dict[str, str]]:
    """What can be read of takes, of long ones some frames; and what is wrong with the others."""
    found: list[Recording] = []
    problems: dict[str, str] = {}
    for take in probe:
        try:
            recording = read_take(take, hints)
            some = evenly(len(recording.frames), FRAMES)
            found.append(replace(recording, frames=recording.frames[some], score=None))
        except DataError as error:
            problems[take.id] = str(error)
    return found, problems


def _layout(recordings: Sequence[Recording], hints: Hints, wanted: SkeletonLayout | None) -> tuple[SkeletonLayout, str]:
    """The layout of the takes and how it is known: said, by names of joints, by their number, or by the bones."""
    if wanted is not None:
        return wanted, "as you said"
    names, bones = Counter((one.joint_names, one.bones) for one in recordings).most_common(1)[0][0]
    if names and (named := find_layout(names)):
        return named, "by the names of the joints"
    if names:
        some = f"{', '.join(names[:6])}{', ...' if len(names) > 6 else ''}"
        raise UnknownSkeleton(
            f"no known skeleton has these {len(names)} joints: {some}", draft_layout("mine", names, bones)
        )
    fitting = [layout for layout in LAYOUTS.values() if layout.num_joints == hints.num_joints]
    advice = "describe the skeleton in a YAML file (docs/data.md, Skeleton layouts) and name it with --layout"
    if not fitting:
        raise DataError(f"no known skeleton has {hints.num_joints} joints; {advice}")
    if len(fitting) == 1:
        return fitting[0], "the only known one with so many"
    samples = [one.frames for one in recordings]
    best, certain, _ = choose_layout(samples, fitting, int(hints.dims or 3))
    if not certain:
        raise DataError(
            f"{', '.join(layout.name for layout in fitting)} all have {hints.num_joints} joints, and the lengths of "
            f"the bones do not say which of them these are; name it with --layout, or {advice}"
        )
    others = " or ".join(layout.name for layout in fitting if layout is not best)
    return best, f"by the lengths of the bones, rather than {others}; tools.show draws it"


def _with_facts(takes: Sequence[Take], hints: Hints, jobs: int) -> tuple[list[Take], dict[str, str]]:
    """The takes with what their files say of them, and why some cannot be read; every file is read."""
    told = list(ordered_map(partial(_told, hints), takes, jobs))
    return [take for take, _ in told], {take.id: reason for take, reason in told if reason}


def _told(hints: Hints, take: Take) -> tuple[Take, str]:
    try:
        return replace(take, facts={**read_take(take, hints).facts, **take.facts}), ""
    except DataError as error:
        return take, str(error)
