"""Pictures of a run in training: confusion matrix, saliency table by body part, mixed samples.

Each is an image (height, width, 3) uint8. Shapes: n samples, K classes, P parts, S coalitions, C coordinates, T frames,
V joints, M people.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from shapmix import SkeletonLayout
from shapmix.saliency import SaliencyTable

from .mixed import MixedSample

LABELLED = 60  # classes; with more, their names would not be legible
FRAMES = 4  # of a mixed sample that are shown
OWN, PARTNER, BOTH = "#0072b2", "#d55e00", "#7a7a7a"  # colours that colour-blind people can distinguish


def confusion_picture(
    labels: np.ndarray, predicted: np.ndarray, class_names: Sequence[str], class_counts: Sequence[int]
) -> np.ndarray:
    """Rows are true classes, the most frequent in training first; each shows the shares of what was predicted."""
    order = np.argsort(-np.array(class_counts), kind="stable")
    counts = np.zeros((len(order), len(order)))
    np.add.at(counts, (labels, predicted), 1)
    shares = (counts / np.maximum(counts.sum(1, keepdims=True), 1))[np.ix_(order, order)]
    names = [class_names[label] for label in order]
    return _heat(shares, names, names, ("predicted class", "true class"), "share of a class's test samples", 1.0)


def table_picture(
    table: SaliencyTable, class_names: Sequence[str], class_counts: Sequence[int], part_names: Sequence[str]
) -> np.ndarray:
    """The saliency table: for each class, the most frequent first, and part the mean over the coalitions with it."""
    within = np.array([[part in members for part in range(len(part_names))] for members in table.coalitions])
    values = table.table.float().cpu().numpy() @ (within / within.sum(0))
    order = np.argsort(-np.array(class_counts), kind="stable")
    names = [class_names[label] for label in order]
    return _heat(values[order], names, part_names, ("body part", "class"), "mean of the saliency table's entries", None)


def mixed_picture(
    samples: Sequence[MixedSample], layout: SkeletonLayout, dims: int, class_names: Sequence[str]
) -> np.ndarray:
    """A row for each sample: the sample, its partner, the result; joints in the colour of who they are from."""
    figure = Figure(figsize=(11, 1.9 * len(samples) + 0.2), dpi=80, layout="constrained")
    panels = figure.subplots(len(samples), 3, squeeze=False)
    for row, sample in zip(panels, samples, strict=True):
        own, other = (class_names[label] for label in sample.labels)
        target = ", ".join(f"{class_names[label]} {100 * share:.0f} %" for label, share in sample.target.items())
        mask = sample.mask
        drawn = (
            (sample.own, OWN, f"own: {own}"),
            (sample.partner, PARTNER, f"partner: {other}"),
            (sample.result, BOTH, f"step {sample.step}, target: {target}"),
        )
        for axes, (frames, colour, title) in zip(row, drawn, strict=True):
            _bodies(axes, frames, layout, dims, colour, mask if frames is sample.result else None)
            axes.set_title(title.replace("$", r"\$"), fontsize=8)
    return _image(figure)


def _bodies(
    axes: Axes, frames: np.ndarray, layout: SkeletonLayout, dims: int, colour: str, mask: np.ndarray | None
) -> None:
    """Some frames (C, T, V, M) side by side, x to the right and up; where there is a mask (T, V), in two colours."""
    bones = np.array(layout.bones)
    places = np.linspace(0, frames.shape[1] - 1, FRAMES).round().astype(int)
    flat = frames[:2, places] * np.array([1, -1] if dims == 2 else [-1, 1])[:, None, None, None]
    width = 1.1 * max(float(np.ptp(flat[0])), 1e-3)
    segments, colours = [], []
    for number, place in enumerate(places):
        for person in range(frames.shape[3]):
            joints = flat[:, number, :, person].T + np.array([width * number, 0])
            if frames[:, place, :, person].any():
                segments.append(joints[bones])
                pasted = np.zeros(len(bones), bool) if mask is None else mask[place, bones[:, 0]]
                colours += [PARTNER if one else (OWN if mask is not None else colour) for one in pasted]
    if segments:
        axes.add_collection(LineCollection(list(np.concatenate(segments)), colors=colours, linewidths=1.5))
        axes.autoscale_view()
    axes.set_aspect("equal", "datalim")
    axes.set_axis_off()


def _heat(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    axis_names: tuple[str, str],
    title: str,
    most: float | None,
) -> np.ndarray:
    """Numbers (rows, columns) as colours; names where they are legible, and at least two pixels for each number."""
    named = [len(names) <= LABELLED for names in (columns, rows)]
    wide, high = (
        min(12.0, max(4.0, 0.22 * len(names) + 2)) if few else max(6.0, len(names) / 40)
        for names, few in zip((columns, rows), named, strict=True)
    )
    figure = Figure(figsize=(wide + 1.5, high), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(values, vmin=0, vmax=most, cmap="viridis", aspect="auto", interpolation="nearest")
    for axis, names, name, few in zip((axes.xaxis, axes.yaxis), (columns, rows), axis_names, named, strict=True):
        axis.set_label_text(name if few else f"{name} ({len(names)}, most frequent first)")
        if few:
            axis.set_ticks(range(len(names)), [text.replace("$", r"\$")[:24] for text in names], fontsize=7)
    if named[0]:
        axes.tick_params(axis="x", rotation=90)
    figure.colorbar(image).set_label(title)
    return _image(figure)


def _image(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
