"""The sections about body parts: which carry each class, and whether that is true."""

from __future__ import annotations

import numpy as np

from .charts import carrying_parts, removal_curves
from .explain import CURVES, Explanation
from .open_run import OpenRun
from .page import Figure, Motion, Panel, Section, Table

PLAYED = 48  # classes of which a body is shown


def explained_sections(found: Explanation | None, live: OpenRun | None, reason: str) -> list[Section]:
    """Both sections; where there is no explanation, the reason."""
    if found is None:
        absent = f"This needs the network, the test data and a skeleton layout: {reason}"
        return [
            Section("parts", "What carries an action", absent=absent),
            Section("truth", "Is that true?", absent=absent),
        ]
    return [_parts(found, live), _truth(found)]


def _parts(found: Explanation, live: OpenRun | None) -> Section:
    values = found.by_class()
    known = np.flatnonzero(np.isfinite(values).all(axis=1))
    names = [found.class_names[label] for label in known]
    text = [
        "The Shapley value of a body part is how much it adds to the probability of the true class, averaged over all "
        f"orders in which parts can be added. Shown is the mean over {len(found.ids)} test sequences, evenly over the "
        "classes. A part that is not there is replaced by the mean sequence of the training set. The values of a class "
        "add up to its probability with all parts minus that without any: where the mean sequence alone looks like a "
        "class, parts can have values below 0."
    ]
    panels = []
    for label in known[:PLAYED] if live is not None else ():
        row = int(np.flatnonzero(found.labels == label)[0])
        sample, own = found.ids[row], found.shapley[row]
        motion: Motion | None = live.player(sample, f"part-{label}", sample, own.tolist()) if live is not None else None
        if motion is not None:
            best = found.part_names[int(own.argmax())]
            below = f"In this sequence {best} adds most: {own.max():.2f} of the probability."
            panels.append(Panel(found.class_names[label], [motion], "", below))
    whole, none = (found.curve("deletion", "shapley")[:, place] for place in (0, -1))
    rows = []
    for label in known:
        own = found.labels == label
        ends = [f"{whole[own].mean():.2f}", f"{none[own].mean():.2f}"]
        rows.append([found.class_names[label], *(f"{value:.3f}" for value in values[label]), *ends])
    table = Table(
        "Shapley values by class", ["class", *found.part_names, "all parts", "no part"], rows, searchable=True
    )
    chart = carrying_parts(values[known], names, found.part_names)
    return Section(
        "parts", "What carries an action", text, charts=[chart], tables=[table], panels=panels, choice_label="Class",
    )  # fmt: skip


def _truth(found: Explanation) -> Section:
    figures = []
    for kind in CURVES:
        for order, words in (("shapley", "Shapley order"), ("ablation", "single-part ablation")):
            gain = found.gain(kind, order)
            figures.append(
                Figure(
                    f"{kind}, {words}",
                    f"{gain.value:+.3f}",
                    f"better than random; 95 % interval {gain.low:+.3f} to {gain.high:+.3f}",
                )
            )
    text = [
        found.verdict(),
        "Body parts are removed (deletion) or put back (insertion) one after the other. If the Shapley values are "
        "true, the probability of the true class falls or rises faster in their order than in a random one. The "
        f"figures are differences of the areas under the curves, with intervals over {len(found.ids)} test sequences. "
        "Single-part ablation orders the parts by what removing each alone costs; reverse takes the smallest value "
        "first. All this is about the network, not about the action itself.",
    ]
    warnings = [] if found.is_better_than_chance() else ["The explanation is not better than chance for this network."]
    charts = [removal_curves(found, kind) for kind in CURVES]
    return Section("truth", "Is that true?", text, warnings=warnings, figures=figures, charts=charts)
