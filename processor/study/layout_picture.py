"""Pictures by which a person checks what was understood: joints, numbers, bones and parts of a layout, and frames.

Each part has one of the colours that colour-blind people can tell (Okabe and Ito); its name has the same colour.

Shapes: L frames, M people, V joints; C = 3 coordinates: x, y, z, or x, y, score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure

from feeders.anatomy import evenly
from feeders.gaps import filled_joints, seen_joints
from feeders.store import DataError
from shapmix import SkeletonLayout

PARTS = ("#595959", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
PARTS_ON_DARK = ("#b4b4b4", "#3f9fe0", "#f0804a", "#22bf92", "#e29cc3", "#8fd2f7", "#f2b33d", "#ffffff")
VALUES = LinearSegmentedColormap.from_list("values", ["#a9b3c1", "#c08bb4", "#d2537f", "#ad1f4f", "#5c0a2e"])
CROWDED = 40  # joints, from which on a picture is larger and its numbers are smaller
UPWARDS = ("head", "neck", "nose", "face", "eye", "ear", "mouth")
View = tuple[str, tuple[int, int], tuple[int, int]]  # its name, the axes to the right and up, their signs
SKETCH: tuple[View, ...] = (("no data: a sketch by the names, seen from the front", (0, 1), (1, 1)),)
VIEWS: Mapping[int, tuple[View, ...]] = {
    2: (("as in the image", (0, 1), (1, -1)),),
    3: (
        ("from the front: x to the left, y up", (0, 1), (-1, 1)),
        ("from the side: z to the right, y up", (2, 1), (1, 1)),
    ),
}


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    content = BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    return content.getvalue()


def layout_picture(layout: SkeletonLayout, frames: np.ndarray | None = None, dims: int = 3) -> Figure:
    """A layout with the number of each joint, and its parts with the joints' names.

    Args:
        frames: a sequence (L, M, V, C), of which one person is shown, in three dimensions (dims) from the front and
            from the side, in two as in the image; or None: places that follow from the tree and the names.

    Raises:
        DataError: nobody is there in any frame, or they have another number of joints than the layout.
    """
    if frames is None:
        joints, views = rest_pose(layout), SKETCH
    else:
        joints, views = first_person(frames, layout, dims), VIEWS[dims]
    crowded = layout.num_joints > CROWDED
    height = 12.0 if crowded else 7.0
    figure = Figure(
        figsize=((len(views) + 0.8) * height * 0.75, height), dpi=120, facecolor="white", layout="constrained"
    )
    *panels, text = figure.subplots(1, len(views) + 1, width_ratios=[1.0] * len(views) + [0.8])
    for axes, (title, places, signs) in zip(panels, views, strict=True):
        points = joints[:, places] * signs
        _skeletons(axes, points[None], layout)
        axes.set_title(title, fontsize=9, color="#595959")
        for joint, (x, y) in enumerate(points):
            if np.isfinite(x):
                axes.annotate(str(joint), (x, y), (3, 3), textcoords="offset points", fontsize=5 if crowded else 9)
    _legend(text, layout, 6 if crowded else 9, height)
    figure.suptitle(f"{plain(layout.name)}: {layout.num_joints} joints, {layout.num_parts} parts")
    return figure


def frames_picture(
    layout: SkeletonLayout,
    sequences: Mapping[str, np.ndarray],
    dims: int = 3,
    columns: int = 8,
    notes: Mapping[str, str] | None = None,
    values: Mapping[str, np.ndarray] | None = None,
) -> Figure:
    """A row of frames (so many, evenly chosen, with their numbers) for each sequence (L, M, V, C), by its name.

    Joints that are not seen are put between their places before and after; their bones are dashed.

    Args:
        notes: a line for a sequence, by its name.
        values: (P,) a number for each part, from 0 to 1, by which its colour is darker; else parts have their own.

    Raises:
        DataError: a sequence without people, or with another number of joints than the layout.
    """
    size = len(sequences), columns
    figure = Figure(figsize=(1.6 * columns, 1.9 * len(sequences)), dpi=120, facecolor="white", layout="constrained")
    panels = figure.subplots(*size, squeeze=False)
    _, places, signs = VIEWS[dims][0]
    for row, (name, frames) in zip(panels, sequences.items(), strict=True):
        _check(frames, layout)
        joints, missing = filled_joints(frames, layout, dims)
        points = joints[..., places] * signs
        if not np.isfinite(points).any():
            raise DataError(f"{name}: nobody is there in any frame")
        low, high = np.nanmin(points, axis=(0, 1, 2)), np.nanmax(points, axis=(0, 1, 2))
        low, high = low - 0.05 * (high - low).max(), high + 0.05 * (high - low).max()
        chosen = evenly(len(frames), columns)
        for axes, frame in zip(row, [*chosen, *[None] * (columns - len(chosen))], strict=True):
            if frame is None:
                axes.set_axis_off()
                continue
            _skeletons(axes, points[frame], layout, missing[frame], (values or {}).get(name))
            axes.set_xlim(low[0], high[0])
            axes.set_ylim(low[1], high[1])
            lines = [name, *([notes[name]] if notes and name in notes else [])] if frame == chosen[0] else []
            title = "\n".join([*map(plain, lines), str(frame)])
            axes.set_title(title, fontsize=7, loc="left")
    return figure


def first_person(frames: np.ndarray, layout: SkeletonLayout, dims: int = 3) -> np.ndarray:
    """(V, C) of the first person in a sequence (L, M, V, C) of whom most joints are seen; the others are NaN.

    Raises:
        DataError: nobody is there.
    """
    _check(frames, layout)
    seen = seen_joints(frames, dims)
    if not seen.any():
        raise DataError("nobody is there in any frame")
    place = np.unravel_index(seen.sum(axis=-1).argmax(), seen.shape[:2])
    return np.where(seen[place][:, None], frames[place], np.nan)


def rest_pose(layout: SkeletonLayout) -> np.ndarray:
    """(V, 2) plausible places, x to the right and y up, seen from the front: the person's left is on the right.

    Arms lead sideways, legs down, a head up, by the names of parts and joints; joints on one neighbour fan out.
    """
    nearer = layout.parents()
    kinds = {joint: part for part, joints in layout.parts.items() for joint in joints}
    places, headings = np.zeros((layout.num_joints, 2)), np.zeros(layout.num_joints)
    below = {
        joint: {kinds[other] for other in range(layout.num_joints) if joint in _chain(other, nearer)} for joint in kinds
    }
    todo = [layout.center]
    while todo:
        joint = todo.pop()
        fans: dict[float, list[int]] = {}
        for child in (other for other, its in enumerate(nearer) if its == joint and other != joint):
            fans.setdefault(_heading(layout, child, kinds[child], below[child], headings[joint]), []).append(child)
        for heading, children in fans.items():
            for child, turn in zip(children, np.linspace(-0.5, 0.5, len(children) + 2)[1:-1], strict=True):
                headings[child] = heading
                side = -1 if layout.joint_names[child].startswith("right_") else 1  # both sides fan out alike
                angle = heading + side * turn * min(2.0, 0.9 * (len(children) - 1))
                reach = 1.0 / (1 + len(_chain(child, nearer)) * 0.25)
                places[child] = places[joint] + reach * np.array([np.cos(angle), np.sin(angle)])
                todo.append(child)
    return places


def _heading(layout: SkeletonLayout, joint: int, part: str, below: set[str], before: float) -> float:
    """In which direction, in radians, a joint lies from its neighbour nearer the centre."""
    name = layout.joint_names[joint]
    right = {"left": 0.0, "right": np.pi}.get(name.partition("_")[0])  # where its side is
    if "arm" in part or "hand" in part:
        return before if right is None else right
    if "leg" in part:
        return -np.pi / 2 if right is None else -np.pi / 2 + (0.3 if right == 0 else -0.3)
    if any(word in name for word in UPWARDS):
        return np.pi / 2 if right is None else np.pi / 2 + (-0.6 if right == 0 else 0.6)
    if any("leg" in other for other in below):
        return -np.pi / 2
    return np.pi / 2 if right is None else right


def _chain(joint: int, nearer: Sequence[int]) -> list[int]:
    """The joint and all on its way to the centre."""
    chain = [joint]
    while nearer[chain[-1]] != chain[-1]:
        chain.append(nearer[chain[-1]])
    return chain


def _check(frames: np.ndarray, layout: SkeletonLayout) -> None:
    if frames.ndim != 4 or frames.shape[2] != layout.num_joints:
        raise DataError(f"frames {frames.shape} are not (L, M, {layout.num_joints}, C), as {layout.name} wants")


def plain(name: str) -> str:
    """A name as matplotlib shows it: a dollar would begin a formula."""
    return name.replace("$", r"\$")


def _skeletons(
    axes: Axes,
    people: np.ndarray,
    layout: SkeletonLayout,
    missing: np.ndarray | None = None,
    values: np.ndarray | None = None,
) -> None:
    """Draws people (M, V, 2): bones and joints in the colour of the joint's part.

    Where joints (M, V) are missing, bones are dashed and joints small. Values (P,) give the parts other colours.
    """
    missing = np.zeros(people.shape[:2], bool) if missing is None else missing
    part = layout.membership().int().argmax(0).numpy()
    of_parts = PARTS if values is None else [to_hex(VALUES(min(1.0, max(0.0, float(value))))) for value in values]
    colours = np.array(of_parts)[part % len(of_parts)]
    ends = np.array(layout.edges)
    small = layout.num_joints > CROWDED
    axes.set_aspect("equal")
    axes.set_axis_off()
    for points, absent in zip(people, missing, strict=True):
        dashed = ["--" if gap else "-" for gap in absent[ends].any(axis=1)]
        width = 1.0 if small else 2.0
        lines = LineCollection(
            list(points[ends]), colors=list(colours[ends[:, 0]]), linewidths=width, linestyles=dashed
        )
        axes.add_collection(lines)
        sizes = np.where(absent, 2, 6 if small else 14)
        axes.scatter(points[:, 0], points[:, 1], s=sizes, c=list(colours), zorder=2)
    axes.margins(0.08)


def _legend(axes: Axes, layout: SkeletonLayout, size: int, height: float) -> None:
    """The parts with numbers and names of their joints, from the top."""
    axes.set_axis_off()
    lines = []
    for number, (part, joints) in enumerate(layout.parts.items()):
        colour = PARTS[number % len(PARTS)]
        names = ", ".join(f"{joint} {layout.joint_names[joint]}".replace(" ", "\N{NO-BREAK SPACE}") for joint in joints)
        lines += [
            (part, colour, "bold"),
            *((line, colour, "normal") for line in wrap(names, int(56 * height / size))),
            ("", colour, "normal"),
        ]
    step = size * 1.35 / 72 / height
    for number, (line, colour, weight) in enumerate(lines):
        axes.text(
            0, 1 - number * step, line, color=colour, fontsize=size, weight=weight, va="top", transform=axes.transAxes
        )
