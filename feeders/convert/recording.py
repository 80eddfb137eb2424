"""What a reader makes of one take of somebody's own skeletons, before it becomes a sequence of a store.

Shapes: L frames, M people, V joints, D = 2 or 3 coordinates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .prepare import Source


@dataclass(frozen=True, eq=False)
class Recording:
    """One take, as its file has it.

    Attributes:
        frames: (L, M, V, D) floats in the file's units; NaN where a joint is not seen, a person all NaN where absent.
        score: (L, M, V) confidence of each joint, 0 .. 1; None where the file has none.
        joint_names: V names as the file has them; empty where it has none.
        bones: pairs (joint, neighbour nearer the centre), where the file has them.
        size: (height, width) of the image of 2D poses in pixels, (1, 1) where coordinates are shares of it; or None.
        facts: what the file itself says of the take: label, subject, view, split.
    """

    frames: np.ndarray
    score: np.ndarray | None = None
    joint_names: tuple[str, ...] = ()
    bones: tuple[tuple[int, int], ...] = ()
    size: tuple[int, int] | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Hints:
    """What the user says, or the other takes show, where one file alone can be read in several ways.

    Attributes:
        num_joints: V.
        dims: D.
        axes: of arrays, outermost first, such as TVC or MTVC (M people, T frames, V joints, C coordinates).
        joint_names: of the layout, as columns of a table may name them.
    """

    num_joints: int | None = None
    dims: int | None = None
    axes: str | None = None
    joint_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Form:
    """One way in which people store skeletons.

    Attributes:
        name: for messages, such as "BVH".
        recognises: (file name, its first bytes) -> is this file of this form?
        read: the files of one take, in order -> the take. Raises Unusable, "kind: reason", where they cannot be used.
        one_frame: each file is one frame, and a folder of them is a take; the first file that can be read decides.
        arrays: files may hold arrays, whose axes ``Hints.axes`` can name.
    """

    name: str
    recognises: Callable[[str, bytes], bool]
    read: Callable[[Sequence[Source], Hints], Recording]
    one_frame: Callable[[Source], bool] = lambda source: False
    arrays: bool = False
