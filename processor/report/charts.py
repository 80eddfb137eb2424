"""The charts of a report, as plain data that plotly's script draws. Each has a text alternative.

Shapes: K classes, P parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from .explain import Explanation
from .run_data import RunData

BLUE, ORANGE, GREEN, PINK, SKY, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#7f7f7f"
COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, "#e69f00", GREY)  # colour-blind people can tell them (Okabe and Ito)
GROUPS = {"many": BLUE, "medium": GREEN, "few": ORANGE}
LABELLED, NAMED = 40, 20  # classes, up to which a matrix and dots have their names beside them


@dataclass(frozen=True)
class Chart:
    """One picture.

    Attributes:
        key: its id on the page.
        figure: plotly's data and layout.
        alt: what it shows, in words.
        height: pixels.
    """

    key: str
    figure: dict[str, Any]
    alt: str
    height: int = 340


def _chart(key: str, traces: Sequence[Any], alt: str, height: int = 340, **layout: Any) -> Chart:
    figure = go.Figure(list(traces), layout={"template": "none", **layout})
    return Chart(key, figure.to_plotly_json(), alt, height)


def _axis(title: str, **more: Any) -> dict[str, Any]:
    return {"title": {"text": title}, "automargin": True, **more}


def _line(lines: Sequence[Mapping[str, Any]], key: str, name: str, colour: str, scale: float = 1, **style: Any) -> Any:
    """A trace over the epochs that have the metric; None where none has."""
    points = [(line["epoch"], scale * line[key]) for line in lines if isinstance(line.get(key), (int, float))]
    if not points:
        return None
    epochs, values = zip(*points, strict=True)
    mode = "lines+markers" if len(points) < 60 else "lines"
    return go.Scatter(x=epochs, y=values, name=name, mode=mode, line={"color": colour, **style}, marker={"size": 4})


def curves(run: RunData) -> list[Chart]:
    """Losses, accuracy by group, learning rate, speed and guidance over the epochs."""
    lines = run.lines
    wanted: list[tuple[str, str, str, list[Any]]] = [
        (
            "losses", "Loss", "loss", [
                _line(lines, "train_loss", "training", BLUE), _line(lines, "train_mix_loss", "training, mixed", SKY),
                _line(lines, "test_loss", "test", ORANGE),
            ],
        ),
        (
            "accuracies", "Accuracy", "accuracy (%)", [
                _line(lines, "top1", "overall", GREY, 100),
                _line(lines, "mean_class_accuracy", "mean class", PINK, 100),
                *(_line(lines, group, f"{group} shot", colour, 100) for group, colour in GROUPS.items()),
                _line(lines, "val_top1", "validation", GREY, 100, dash="dot"),
            ],
        ),
        ("rate", "Learning rate", "learning rate", [_line(lines, "lr", "learning rate", BLUE)]),
        (
            "speed", "Speed", "samples a second",
            [_line(lines, "samples_per_s", "training samples a second", GREEN)],
        ),
        (
            "guidance", "Guidance of mixing", "guidance (0 to 1)", [
                _line(lines, "guidance", "all", GREY),
                *(_line(lines, f"guidance_{group}", f"{group} shot", colour) for group, colour in GROUPS.items()),
            ],
        ),
    ]  # fmt: skip
    found = []
    for key, title, unit, traces in wanted:
        traces = [trace for trace in traces if trace is not None]
        if traces:
            ends = "; ".join(f"{trace.name} ends at {trace.y[-1]:.4g}" for trace in traces)
            chart = _chart(
                key, traces, f"{title} by epoch: {ends}", title=title, xaxis=_axis("epoch"), yaxis=_axis(unit)
            )
            found.append(chart)
    return found


def accuracy_by_count(run: RunData) -> Chart:
    """Accuracy against training sequences, one dot a class."""
    values, counts = run.metrics["per_class"], run.counts
    mode = "markers+text" if len(counts) <= NAMED else "markers"
    traces = []
    for group, colour in GROUPS.items():
        labels = [k for k, own in run.group_of.items() if own == group and values[k] is not None]
        traces.append(
            go.Scatter(
                x=[counts[k] for k in labels], y=[100 * values[k] for k in labels], mode=mode,
                textposition="top center", cliponaxis=False,
                name=f"{group} shot",
                text=[run.class_names[k] for k in labels], marker={"color": colour, "size": 9, "opacity": 0.8},
                hovertemplate="%{text}<br>%{x} training sequences<br>%{y:.1f} %<extra></extra>",
            )
        )  # fmt: skip
    alt = "Accuracy of each class against its number of training sequences; the table below has the numbers"
    scale = "log" if counts and max(counts) > 10 * max(min(counts), 1) else "linear"
    return _chart(
        "by_count", traces, alt, 420, xaxis=_axis("training sequences", type=scale),
        yaxis=_axis("accuracy (%)", range=[-2, 106]), hovermode="closest",
    )  # fmt: skip


def confusion(run: RunData) -> Chart:
    """Share of each class's test sequences by prediction; classes by falling training count."""
    matrix = run.confusion
    order = np.argsort(-np.array(run.counts), kind="stable") if run.counts else np.arange(len(matrix))
    ordered = matrix[np.ix_(order, order)]
    share = 100 * ordered / np.maximum(ordered.sum(1, keepdims=True), 1)
    names = [run.class_names[k] for k in order]
    few = len(names) <= LABELLED
    ticks = {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": names, "showticklabels": few}
    heat = go.Heatmap(
        z=np.round(share, 1).tolist(), customdata=ordered.tolist(), text=None, colorscale="Blues", zmin=0, zmax=100,
        colorbar={"title": {"text": "% of the class"}},
        hovertemplate="%{y} taken for %{x}<br>%{customdata} sequences, %{z} %<extra></extra>",
        x=names if len(set(names)) == len(names) else None, y=names if len(set(names)) == len(names) else None,
    )  # fmt: skip
    ticks = {"showticklabels": few, "type": "category"} if heat.x is not None else ticks
    worst = "; ".join(f"{run.class_names[a]} is taken for {run.class_names[b]} ({n})" for a, b, n in run.confused(3))
    return _chart(
        "confusion", [heat], f"Confusion matrix. Most confused: {worst or 'nothing'}", 640,
        xaxis=_axis("predicted class", **ticks), yaxis=_axis("true class", autorange="reversed", **ticks),
    )  # fmt: skip


def carrying_parts(parts: np.ndarray, names: Sequence[str], part_names: Sequence[str]) -> Chart:
    """Heat map of Shapley values (K, P)."""
    largest = float(np.abs(parts).max(initial=1e-9))
    heat = go.Heatmap(
        z=np.round(parts, 4).tolist(), x=list(part_names), y=list(names), colorscale="RdBu_r", zmid=0,
        zmin=-largest, zmax=largest, colorbar={"title": {"text": "Shapley value"}},
        hovertemplate="%{y}: %{x}<br>%{z:.3f} of the probability<extra></extra>",
    )  # fmt: skip
    best = parts.argmax(1)
    alt = "; ".join(f"{name}: {part_names[k]}" for name, k in list(zip(names, best, strict=True))[:20])
    height = int(np.clip(60 + 22 * len(names), 260, 1400))
    return _chart(
        "parts", [heat], f"The part with the largest Shapley value of each class: {alt}", height,
        xaxis=_axis("body part", type="category"), yaxis=_axis("class", type="category", autorange="reversed"),
    )  # fmt: skip


def removal_curves(found: Explanation, kind: str) -> Chart:
    """Mean probability of the true class while parts are removed or put back, a line for each order."""
    names = {"shapley": "Shapley order", "ablation": "single-part ablation", "random": "random", "reverse": "reverse"}
    colours = {"shapley": BLUE, "ablation": GREEN, "random": GREY, "reverse": ORANGE}
    traces, areas = [], []
    for order, name in names.items():
        curve = found.curve(kind, order).mean(axis=0)
        x = list(range(len(curve)))
        traces.append(
            go.Scatter(x=x, y=curve.tolist(), name=name, mode="lines+markers", line={"color": colours[order]})
        )
        areas.append(f"{name} {found.area(kind, order).value:.3f}")
    done = "removed" if kind == "deletion" else "put back"
    return _chart(
        kind, traces, f"{kind.capitalize()}; areas under the curves: {', '.join(areas)}", 380, title=kind.capitalize(),
        xaxis=_axis(f"body parts {done}", dtick=1), yaxis=_axis("probability of the true class", range=[0, 1]),
    )  # fmt: skip


def groups_of_runs(summaries: Mapping[str, Mapping[str, tuple[float, float]]]) -> Chart:
    """Bars of the metrics of several methods: method -> metric -> (mean, half of the 95 % interval), in percent."""
    traces = [
        go.Bar(
            name=method, x=list(values), y=[mean for mean, _ in values.values()],
            error_y={"type": "data", "array": [half for _, half in values.values()]},
            marker={"color": COLOURS[place % len(COLOURS)]},
        )
        for place, (method, values) in enumerate(summaries.items())
    ]  # fmt: skip
    alt = "; ".join(
        f"{name}: {', '.join(f'{key} {mean:.1f}' for key, (mean, _) in has.items())}" for name, has in summaries.items()
    )
    return _chart("groups", traces, alt, 420, barmode="group", yaxis=_axis("accuracy (%)"), xaxis=_axis(""))


def curves_of_runs(runs: Sequence[RunData]) -> list[Chart]:
    """Loss and accuracy over the epochs, a line for each run."""
    found = []
    for key, title, unit, scale in (
        ("train_loss", "Training loss", "loss", 1), ("top1", "Test accuracy", "accuracy (%)", 100),
        ("few", "Test accuracy, few shot", "accuracy (%)", 100),
    ):  # fmt: skip
        traces = [
            trace
            for place, run in enumerate(runs)
            if (trace := _line(run.lines, key, run.name, COLOURS[place % len(COLOURS)], scale)) is not None
        ]
        if traces:
            ends = "; ".join(f"{trace.name} ends at {trace.y[-1]:.4g}" for trace in traces)
            alt = f"{title} by epoch: {ends}"
            found.append(_chart(f"runs_{key}", traces, alt, title=title, xaxis=_axis("epoch"), yaxis=_axis(unit)))
    return found
