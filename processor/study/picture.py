"""A moving picture of a run: one test sample of each class, every body part coloured by its contribution.

Shapes: K classes, T frames, V joints, M people, P parts.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from feeders.loader import Loader
from shapmix import SkeletonLayout

from .layout_picture import PARTS_ON_DARK, plain

CARD, INK, QUIET = "#161b22", "#e6edf3", "#9aa4af"  # background and text: readable on light and on dark pages
HEAT = LinearSegmentedColormap.from_list("heat", ["#4a5a70", "#8c5aa8", "#e8617c", "#ffa64d", "#fff0a0"])
COLOURS = ScalarMappable(Normalize(0.0, 1.0, clip=True), HEAT)
COLUMNS = 6  # panels in a row, most
FRAME_MS = 80  # milliseconds
HEADS = ("head", "nose")  # joints that are drawn as a disc: a short, thick line with round ends


@dataclass(frozen=True)
class Body:
    """One panel."""

    name: str  # such as that of the class
    below: str  # a line of text
    joints: np.ndarray  # (T, M, V, 3): x to the right, y up, z away from the viewer; NaN for a person who is absent
    parts: np.ndarray | None  # (P,) contribution of each body part; None: parts have the colours of layout_picture
    missing: np.ndarray | None = None  # (T, M, V) bool: joints that are dashed


def first_bodies(
    loader: Loader, class_counts: Sequence[int], parts: np.ndarray, names: Sequence[str], flat: bool = False
) -> list[Body]:
    """The first test sample of each named class, as the network sees it.

    Args:
        loader: the test split, in the joint stream.
        class_counts, parts: (K,) training samples and (K, P) Shapley values of the body parts.
        names: the classes, in the order of the panels.
        flat: the sequences are 2D poses: y points down, and the third channel is a score.

    Raises:
        ValueError: a class that the run does not have, or that has no test sample.
    """
    found: dict[str, Body] = {}
    for batch in loader.in_order(16):
        samples = batch.x[:: batch.clips].float().cpu().numpy().transpose(0, 2, 4, 3, 1)
        for joints, label in zip(samples, batch.y.tolist(), strict=True):
            shown = joints[:, np.abs(joints).sum(axis=(0, 2, 3)) > 0]  # people who are there
            shown = shown * ((1, -1, 0) if flat else (-1, 1, 1))  # a depth camera's x points to its left
            below = f"{class_counts[label]} training samples"
            body = Body(loader.class_names[label], below, shown, parts[label])
            found.setdefault(body.name, body)
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"no test sample of class {', '.join(missing)}; there are {', '.join(found)}")
    return [found[name] for name in names]


def moving_picture(bodies: Sequence[Body], layout: SkeletonLayout, explained: str = "its class") -> bytes:
    """A GIF that shows the bodies side by side, over and over; a panel is 150 pixels wide.

    A body with fewer frames than another begins again. What is ``explained`` stands over the scale of contributions.
    """
    rows = -(-len(bodies) // COLUMNS)
    columns = -(-len(bodies) // rows)
    width, height = max(3.4, 1.5 * columns), 2.46 * rows + 0.64  # inches
    figure = Figure(figsize=(width, height), dpi=100, facecolor=CARD)
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    figure.subplots_adjust(left=0.01, right=0.99, top=1 - 0.434 / height, bottom=0.65 / height, wspace=0.0, hspace=0.25)
    for axes in panels[len(bodies) :]:
        axes.set_axis_off()
    drawn = [_panel(axes, body) for axes, body in zip(panels, bodies, strict=False)]
    if any(body.parts is not None for body in bodies):
        _scale(figure, width, height, explained)
    else:
        _names(figure, layout)
    images: list[Image.Image] = []
    for frame in range(max(len(body.joints) for body in bodies)):
        for lines, body in zip(drawn, bodies, strict=True):
            _pose(lines, body, layout, frame % len(body.joints))
        canvas.draw()
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        palette = images[0] if images else None  # one for all frames, so that nothing flickers
        images.append(image.quantize(255, palette=palette, dither=Image.Dither.NONE))
    content = io.BytesIO()
    images[0].save(content, "GIF", save_all=True, append_images=images[1:], duration=FRAME_MS, loop=0)
    return content.getvalue()


def _scale(figure: Figure, width: float, height: float, explained: str) -> None:
    """What the colours of contributions mean."""
    scale = figure.add_axes((0.5 - 1.35 / width, 0.28 / height, 2.7 / width, 0.0775 / height))
    figure.colorbar(COLOURS, cax=scale, orientation="horizontal", ticks=[0, 0.5, 1]).outline.set_visible(False)
    scale.tick_params(colors=QUIET, labelsize=7, length=0, pad=2)
    title = f"contribution of a body part to the probability of {explained}"
    scale.set_title(title, color=QUIET, fontsize=7.5, pad=3)


def _names(figure: Figure, layout: SkeletonLayout) -> None:
    """The parts, in their colours."""
    keys = [Line2D([], [], color=PARTS_ON_DARK[part % len(PARTS_ON_DARK)], lw=4) for part in range(layout.num_parts)]
    names = [plain(name.replace("_", " ")) for name in layout.part_names]
    columns = min(len(names), max(2, int(figure.get_figwidth() / 0.9)))
    figure.legend(keys, names, loc="lower center", ncols=columns, frameon=False, labelcolor=QUIET, fontsize=7.5,
                  handlelength=1.0, columnspacing=1.2)  # fmt: skip


def _panel(axes: Axes, body: Body) -> LineCollection:
    """An empty panel with its text, as large as the body needs over all frames."""
    axes.plot(*body.joints[..., :2].reshape(-1, 2).T, alpha=0)  # sets the limits
    axes.margins(0.08)
    axes.set_aspect("equal", "datalim")
    axes.set_axis_off()
    axes.set_title(plain(body.name.replace("_", " ")), color=INK, fontsize=11, pad=14)
    axes.text(0.5, 1.02, plain(body.below), color=QUIET, fontsize=7.5, ha="center", transform=axes.transAxes)
    lines = LineCollection([], capstyle="round")
    axes.add_collection(lines)
    return lines


def _pose(lines: LineCollection, body: Body, layout: SkeletonLayout, frame: int) -> None:
    """Draws the edges of the skeleton in a frame, the farthest first."""
    people, joints = len(body.joints[frame]), layout.num_joints
    one = np.array([*layout.edges, *((layout.joint(name),) * 2 for name in HEADS if name in layout.joint_names)])
    ends = np.concatenate([one + person * joints for person in range(people)])
    bones = body.joints[frame].reshape(-1, 3)[ends]
    disc = ends[:, 0] == ends[:, 1]
    bones[disc, 0, 1] += 0.02  # a line without length would not be drawn
    part = layout.membership().int().argmax(0).numpy()[ends[:, 0] % joints]
    order = np.argsort(-bones[:, :, 2].mean(axis=1), kind="stable")
    if body.parts is None:
        colours = to_rgba_array(np.array(PARTS_ON_DARK)[part % len(PARTS_ON_DARK)])
    else:
        colours = COLOURS.to_rgba(body.parts[part])
    gaps = np.zeros(len(ends), bool) if body.missing is None else body.missing[frame].ravel()[ends].any(axis=1)
    widths, styles = np.where(disc, 15.0, np.where(gaps, 2.0, 5.5)), np.where(gaps & ~disc, "--", "-")
    lines.set(
        segments=bones[order, :, :2], color=colours[order], linewidths=widths[order], linestyles=list(styles[order])
    )
